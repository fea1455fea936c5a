"""What every provider's edge implements, in the pipeline's own words: no provider's field name leaves its package.

Two halves. `Provider` makes the calls and lives in the worker; `Webhooks` reads what the provider sends and lives in
the gateway. A provider's package opens them with `client.provider(settings)` and `webhook.webhooks(settings)`. Both
speak of the same fact in the same way: an answer and its webhook are told apart by `source` only.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from importlib import import_module
from typing import Any, Final, Protocol, cast

import msgspec

from pipeline import ids
from pipeline.messages.inputs import DisputeReport, ProviderReport
from pipeline.messages.requests import (
    AuthorizeRequest,
    CaptureRequest,
    LookupRequest,
    ProviderRequest,
    RefundRequest,
    VoidRequest,
)
from pipeline.messages.values import Decline, NextAction, Operation, Outcome, ReportSource
from pipeline.settings import Settings
from pipeline.topics import PROVIDERS


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What one call came to: exactly one outcome, with what the provider said about it.

    `amount` is in minor units of `currency` (ISO 4217), `hold_expires_at` in milliseconds. The last four fields are for
    the worker and go no further.
    """

    outcome: Outcome
    provider_reference: str | None = None
    operation_reference: str | None = None
    amount: int | None = None
    currency: str | None = None
    decline: Decline | None = None
    next_action: NextAction | None = None
    hold_expires_at: int | None = None
    detail: str | None = None
    looked_up: bool = False
    """The provider was asked what became of it, instead of being asked to do it."""
    repeat: bool = False
    """The same call may be made again at once under the same idempotency key."""
    retry_after: float | None = None
    """Seconds the provider asks to be left alone for."""
    reachable: bool = True
    """The provider spoke for itself. False: refused connections, time-outs, server errors, refused credentials."""


class Provider(Protocol):
    """One provider's API, through one connection pool."""

    name: str

    async def call(self, request: ProviderRequest) -> Answer:
        """Make the call that `request` asks for, once, under `request.subject_id` as the idempotency key.

        Never raises for anything the provider or the network does: that is an outcome. TEMPORARY_FAILURE says that
        this call has certainly not been done, UNKNOWN that it may have been.
        """

    async def close(self) -> None:
        """Close the connections."""


class Refusal(StrEnum):
    """Why a webhook is refused: a stable code, for the response and the metric."""

    MISSING_SIGNATURE = "missing_signature"
    MALFORMED_SIGNATURE = "malformed_signature"
    WRONG_SIGNATURE = "wrong_signature"
    STALE = "stale"
    WRONG_CREDENTIALS = "wrong_credentials"
    WRONG_ENVIRONMENT = "wrong_environment"
    """Of the provider's test system on a live endpoint, or the other way round."""
    NOT_CONFIGURED = "not_configured"
    MALFORMED_BODY = "malformed_body"
    UNAVAILABLE = "unavailable"
    """What it takes to verify it cannot be had now: the provider is to deliver it again."""


class WebhookRefused(Exception):  # noqa: N818 - a verdict on a delivery, not a fault of the program
    """A delivery that is not the provider's, is stale, or cannot be read. `status` is the HTTP status to answer."""

    def __init__(self, reason: Refusal, status: int = 400) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.status = status


class UnroutedReason(StrEnum):
    """Why a genuine event moves no payment yet."""

    UNKNOWN_TYPE = "unknown_type"
    """Its type means nothing to this version: kept so that a later one can replay it."""
    UNKNOWN_PAYMENT = "unknown_payment"
    """It names no payment of ours, but perhaps a reference that belongs to one."""


class Unrouted(msgspec.Struct, frozen=True, kw_only=True):
    """A genuine event that is kept raw in `providers.unrouted`, under `provider_reference` or else its own id."""

    reason: UnroutedReason
    event_id: str
    event_type: str
    provider_reference: str | None = None
    raw: bytes | None = None
    """The part of the delivery that is this event; None is all of it."""

    @property
    def reference(self) -> str:
        """What it is kept under."""
        return self.provider_reference or self.event_id


class Ignored(msgspec.Struct, frozen=True, kw_only=True):
    """A genuine event that says only what another event says as well: acknowledged and counted, without effect."""

    event_id: str
    event_type: str


class Announced(msgspec.Struct, frozen=True, kw_only=True):
    """A genuine event that says that a settlement report can be fetched. `reference`: the provider's name of it."""

    event_id: str
    event_type: str
    reference: str
    url: str | None = None


Translated = ProviderReport | DisputeReport | Announced | Unrouted | Ignored


class Webhooks(Protocol):
    """How a provider's deliveries are read. One for the gateway's life; it holds the secrets and any connections."""

    acknowledgement: bytes | None
    """The plain-text body that tells the provider it was received; None where any 2xx will do."""

    async def verify(self, raw: bytes, headers: Mapping[str, str], now: int) -> None:
        """Raise WebhookRefused unless the provider signed exactly these bytes; header names in lower case.

        `now` is in milliseconds. Every secret is compared, without early exit: several are active during a rotation.
        """

    def translate(self, raw: bytes, now: int, payment_id: str | None = None) -> list[Translated]:
        """What a verified delivery says, in the pipeline's words; `now` (milliseconds) is when it was received.
        `payment_id`: whose it is, when the routing stage has found it out by the provider's reference.

        Raises WebhookRefused for a body that is no event at all.
        """

    async def close(self) -> None:
        """Close the connections, if there are any."""


_OPERATIONS: Final[dict[type[ProviderRequest], Operation]] = {
    AuthorizeRequest: Operation.AUTHORIZE,
    CaptureRequest: Operation.CAPTURE,
    VoidRequest: Operation.VOID,
    RefundRequest: Operation.REFUND,
}


def operation_of(request: ProviderRequest) -> Operation:
    """The operation that a request is about."""
    return request.operation if isinstance(request, LookupRequest) else _OPERATIONS[type(request)]


def report_of(request: ProviderRequest, answer: Answer, now: int) -> ProviderReport:
    """The worker's report on a request; `now` in milliseconds. Made again after a crash it has the same id."""
    looked_up = answer.looked_up or isinstance(request, LookupRequest)
    return ProviderReport(
        payment_id=request.payment_id,
        occurred_at=now,
        report_id=ids.report_id(request.request_id, answer.outcome),
        provider=request.provider,
        source=ReportSource.LOOKUP if looked_up else ReportSource.ANSWER,
        operation=operation_of(request),
        outcome=answer.outcome,
        subject_id=request.subject_id,
        provider_reference=answer.provider_reference,
        operation_reference=answer.operation_reference,
        amount=answer.amount,
        currency=answer.currency,
        decline=answer.decline,
        next_action=answer.next_action,
        hold_expires_at=answer.hold_expires_at,
        detail=answer.detail,
    )


class UnknownProviderError(LookupError):
    """No such provider."""


def open_provider(name: str, settings: Settings) -> Provider:
    """The provider of that name, ready to be called. Raises UnknownProviderError."""
    return cast(Provider, _module(name, "client").provider(settings))


def open_webhooks(name: str, settings: Settings) -> Webhooks:
    """How the provider's deliveries are read. Raises UnknownProviderError."""
    return cast(Webhooks, _module(name, "webhook").webhooks(settings))


def _module(name: str, part: str) -> Any:
    """A part of the provider's package, imported late: the gateway can do without the SDKs."""
    if name not in PROVIDERS:
        raise UnknownProviderError(f"no provider is called {name!r}")
    return import_module(f"connectors.{name}.{part}")
