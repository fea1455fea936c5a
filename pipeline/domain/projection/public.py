"""What consumer teams learn of a fact, on the `payments.*` topics."""

from __future__ import annotations

from typing import Final

from pipeline import ids
from pipeline.domain.projection.views import PaymentView
from pipeline.messages.facts import (
    CaptureFailed,
    DisputeFact,
    DisputeLost,
    DisputeOpened,
    DisputeWon,
    Fact,
    HoldExpired,
    HoldExpiring,
    IntentCreated,
    PaymentAuthorized,
    PaymentCanceled,
    PaymentCaptured,
    PaymentFailed,
    PaymentRefunded,
    PaymentVoided,
)
from pipeline.messages.public import DisputeSnapshot, PaymentEvent, PaymentSnapshot
from pipeline.topics import PublicTopic

_PUBLIC: Final[dict[type[Fact], PublicTopic]] = {
    IntentCreated: PublicTopic.CREATED,
    PaymentAuthorized: PublicTopic.AUTHORIZED,
    PaymentCaptured: PublicTopic.CAPTURED,
    PaymentVoided: PublicTopic.VOIDED,
    PaymentCanceled: PublicTopic.VOIDED,
    HoldExpiring: PublicTopic.EXPIRING,
    HoldExpired: PublicTopic.VOIDED,
    PaymentRefunded: PublicTopic.REFUNDED,
    PaymentFailed: PublicTopic.FAILED,
    CaptureFailed: PublicTopic.FAILED,
    DisputeOpened: PublicTopic.DISPUTED,
    DisputeWon: PublicTopic.DISPUTED,
    DisputeLost: PublicTopic.DISPUTED,
}


def public_event(view: PaymentView, fact: Fact) -> PaymentEvent | None:
    """What consumer teams learn of a fact, `view` being the payment right after it; None for what is internal."""
    topic = _PUBLIC.get(type(fact))
    if topic is None or (isinstance(fact, CaptureFailed) and not fact.after_success):
        return None
    amount, subject = _moved(fact)
    return PaymentEvent(
        event_id=ids.outbox_id(fact.fact_id),
        type=topic,
        payment_id=fact.payment_id,
        sequence=fact.sequence,
        occurred_at=fact.occurred_at,
        amount=amount,
        subject_id=subject,
        decline=fact.decline if isinstance(fact, PaymentFailed | CaptureFailed) else None,
        dispute=_disputed(view, fact) if isinstance(fact, DisputeFact) else None,
        payment=_snapshot(view),
    )


def _moved(fact: Fact) -> tuple[int | None, str | None]:
    """What a fact moved, and the attempt, capture, void or refund that moved it."""
    match fact:
        case PaymentAuthorized() | PaymentFailed():
            return fact.amount, fact.attempt_id
        case PaymentCaptured() | CaptureFailed():
            return fact.amount, fact.capture_id
        case PaymentVoided():
            return fact.hold_released, fact.void_id
        case HoldExpiring():
            return fact.remaining, fact.attempt_id
        case HoldExpired():
            return fact.hold_released, None
        case PaymentRefunded():
            return fact.amount, fact.refund_id
        case DisputeFact():
            return fact.amount, fact.dispute_id
    return None, None


def _disputed(view: PaymentView, fact: DisputeFact) -> DisputeSnapshot | None:
    found = next((d for d in view.disputes if d.dispute_id == fact.dispute_id), None)
    if found is None:
        return None
    return DisputeSnapshot(
        dispute_id=found.dispute_id,
        dispute_reference=found.dispute_reference,
        status=found.status,
        amount=found.amount,
        reason=found.reason,
        evidence_due_at=found.evidence_due_at,
    )


def _snapshot(view: PaymentView) -> PaymentSnapshot:
    return PaymentSnapshot(
        payment_id=view.payment_id,
        merchant_id=view.merchant_id,
        status=view.status,
        amount=view.amount,
        currency=view.currency,
        provider=view.provider,
        capture_method=view.capture_method,
        customer_id=view.customer_id,
        merchant_reference=view.merchant_reference,
        order_id=view.order_id,
        metadata=view.metadata,
        amount_authorized=view.hold.amount if view.hold else 0,
        amount_captured=view.amount_captured,
        amount_refunded=view.amount_refunded,
        provider_reference=view.hold.provider_reference if view.hold else None,
        hold_expires_at=view.hold.expires_at if view.hold else None,
    )
