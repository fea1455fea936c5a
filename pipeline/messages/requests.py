"""What a provider is asked: the committed record is the durable intent, the worker makes the call.

`subject_id` (attempt, capture, void or refund) is the idempotency key at the provider, so that a repeated call is
the same call.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from pipeline.messages.base import Millis, Minor, Record
from pipeline.messages.values import CaptureMethod, Operation, PaymentMethod


class ProviderRequest(Record, frozen=True, kw_only=True):
    """One call to a provider."""

    request_id: str
    payment_id: str
    merchant_id: str
    provider: str
    subject_id: Annotated[
        str, msgspec.Meta(description="attempt, capture, void or refund; the provider's idempotency key")
    ]
    issued_at: Millis
    merchant_reference: str | None = None


class AuthorizeRequest(ProviderRequest, frozen=True, kw_only=True):
    """Authorize; with automatic capture, authorize and capture."""

    amount: Minor
    currency: str
    capture_method: CaptureMethod
    payment_method: PaymentMethod
    customer_id: str | None = None
    attempt_number: int


class CaptureRequest(ProviderRequest, frozen=True, kw_only=True):
    """Claim `amount` of the hold behind `provider_reference`."""

    provider_reference: str
    amount: Minor
    currency: str
    final: bool


class VoidRequest(ProviderRequest, frozen=True, kw_only=True):
    """Release the hold behind `provider_reference`."""

    provider_reference: str


class RefundRequest(ProviderRequest, frozen=True, kw_only=True):
    """Give `amount` of the captured money behind `provider_reference` back."""

    provider_reference: str
    amount: Minor
    currency: str
    reason: str | None = None


class LookupRequest(ProviderRequest, frozen=True, kw_only=True):
    """Ask what became of `operation` `subject_id`; `provider_reference` is null when the call never answered."""

    operation: Operation
    provider_reference: str | None = None
    operation_reference: str | None = None
    asked_at: Annotated[
        int,
        msgspec.Meta(description="when the operation was first sent", extra={"logicalType": "timestamp-millis"}),
    ]
    amount: Minor | None = None
    currency: str | None = None
    given_up: Annotated[
        bool, msgspec.Meta(description="the attempt is no longer wanted: what waits for us there must not be completed")
    ] = False
    action_result: Annotated[
        str | None,
        msgspec.Meta(
            description="what the provider handed the customer's browser; to be given to it, under a key of its own"
        ),
    ] = None
    """The customer is back: whatever has to follow at the provider (submit the result, authorize the approved order)
    is done by this look-up, so that made twice it is done once.
    """


REQUESTS: tuple[type[ProviderRequest], ...] = (
    AuthorizeRequest,
    CaptureRequest,
    VoidRequest,
    RefundRequest,
    LookupRequest,
)
