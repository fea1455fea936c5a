"""What consumer teams read on `payments.created`, `payments.authorized`, ...: one contract for all public topics."""

from __future__ import annotations

from typing import Annotated

import msgspec

from pipeline.messages.base import Millis, Minor, Record
from pipeline.messages.values import CaptureMethod, Decline


class PaymentSnapshot(Record, frozen=True, kw_only=True):
    """The payment as it stood right after the event."""

    payment_id: str
    merchant_id: str
    status: str
    amount: Minor
    currency: str
    provider: str
    capture_method: CaptureMethod
    customer_id: str | None = None
    merchant_reference: str | None = None
    order_id: str | None = None
    metadata: dict[str, str] = {}
    amount_authorized: Minor
    amount_captured: Minor
    amount_refunded: Minor
    provider_reference: str | None = None
    hold_expires_at: Millis | None = None


class DisputeSnapshot(Record, frozen=True, kw_only=True):
    """A dispute as it stood right after the event. `status`: open, won or lost."""

    dispute_id: str
    dispute_reference: str
    status: str
    amount: Minor
    reason: str | None = None
    evidence_due_at: Millis | None = None


class PaymentEvent(Record, frozen=True, kw_only=True):
    """Something consumers may act on. Its journal entry is committed before it appears. Deduplicate by `event_id`."""

    event_id: str
    type: Annotated[str, msgspec.Meta(description="payments.created, payments.authorized, ...; also the topic")]
    payment_id: Annotated[str, msgspec.Meta(description="the record's key")]
    sequence: Annotated[int, msgspec.Meta(description="grows within the payment; gaps are normal")]
    occurred_at: Millis
    amount: Annotated[int | None, msgspec.Meta(description="what this event moved, in minor units")] = None
    subject_id: Annotated[str | None, msgspec.Meta(description="attempt, capture, void, refund or dispute")] = None
    decline: Decline | None = None
    dispute: DisputeSnapshot | None = None
    payment: PaymentSnapshot
