"""Stripe's webhooks: whether they are genuine, and what they say. Source: docs.stripe.com/webhooks/signature.

Neither order nor uniqueness is guaranteed, and an event may come before the answer to the call that caused it. One
event makes at most one report, and the fact behind it is told apart from its repeats further on, by the subject.

A capture has no object of its own and `charge.refunded` and `amount_received` are running totals. So captures are read
from the payment intent, whose metadata holds a tag for each of ours, and refunds from the `refund.*` events only.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, TypeGuard

import msgspec

from connectors.provider import (
    Announced,
    Answer,
    Ignored,
    Refusal,
    Translated,
    Unrouted,
    UnroutedReason,
    WebhookRefused,
)
from connectors.stripe import answers
from connectors.stripe.amounts import from_stripe
from connectors.stripe.objects import Dispute, Event, IntentStatus, PaymentIntent, Payout, Pointer, Refund, parse
from pipeline import ids
from pipeline.messages.inputs import DisputeReport, ProviderReport
from pipeline.messages.values import DisputeStep, Operation, Outcome, ReportSource
from pipeline.settings import Settings, listed

ANNOUNCED_BY: Final = frozenset({"payout.reconciliation_completed", "payout.paid", "payout.failed"})
"""A payout's transactions are complete, it arrived, or it came back: each is a reason to read it again."""
SIGNATURE: Final = "stripe-signature"
TOLERANCE: Final = 300
"""Seconds between the signed time and now, either way."""
_SCHEME: Final = "v1"
_OUR_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
"""A UUIDv5, as all our ids are; the SDKs make up keys of version 4."""


class StripeWebhooks:
    """The deliveries to one endpoint."""

    acknowledgement: bytes | None = None

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = secrets

    async def verify(self, raw: bytes, headers: Mapping[str, str], now: int) -> None:
        """See `verify`."""
        verify(raw, headers, self._secrets, now)

    def translate(self, raw: bytes, now: int, payment_id: str | None = None) -> list[Translated]:
        """See `translate`."""
        return translate(raw, now, payment_id)

    async def close(self) -> None:
        """Nothing is open."""


def webhooks(settings: Settings) -> StripeWebhooks:
    """With the secrets of the settings."""
    return StripeWebhooks(listed(settings.reveal("stripe_webhook_secrets")))


def verify(raw: bytes, headers: Mapping[str, str], secrets: Sequence[str], now: int) -> None:
    """Raise WebhookRefused unless one of `secrets` signed exactly `raw`, within TOLERANCE of `now` (milliseconds)."""
    active = [secret for secret in secrets if secret]
    if not active:
        raise WebhookRefused(Refusal.NOT_CONFIGURED, status=503)
    header = headers.get(SIGNATURE)
    if not header:
        raise WebhookRefused(Refusal.MISSING_SIGNATURE)
    signed_at, signatures = _parts(header)
    expected = [hmac.new(secret.encode(), signed_at.encode() + b"." + raw, sha256).hexdigest() for secret in active]
    # Every pair is compared: how long it takes tells nothing about which secret or signature came close.
    matches = [hmac.compare_digest(e.encode(), given.encode()) for e in expected for given in signatures]
    if not any(matches):
        raise WebhookRefused(Refusal.WRONG_SIGNATURE)
    if abs(now // 1000 - int(signed_at)) > TOLERANCE:
        raise WebhookRefused(Refusal.STALE)


def translate(raw: bytes, now: int, payment_id: str | None = None) -> list[Translated]:
    """What a verified delivery says; `now` (milliseconds) is when it was received, and the reports' time.
    `payment_id`: whose it is, if that is known from elsewhere.

    Raises WebhookRefused for a body that is no event.
    """
    try:
        event = parse(raw, Event)
        reader = _READERS.get(event.type)
        if reader is not None:
            return [reader(event, Received(now, payment_id))]
        if event.type in ANNOUNCED_BY:
            return [_announced(event)]
    except msgspec.MsgspecError as error:
        raise WebhookRefused(Refusal.MALFORMED_BODY) from error
    if event.type in _WITHOUT_EFFECT:
        return [Ignored(event_id=event.id, event_type=event.type)]
    return [_unrouted(event, UnroutedReason.UNKNOWN_TYPE, _reference(event))]


def _announced(event: Event) -> Announced:
    payout = parse(event.data.object, Payout)
    return Announced(event_id=event.id, event_type=event.type, reference=payout.id)


def _parts(header: str) -> tuple[str, list[str]]:
    """The signed time as it was signed, and every signature of the scheme; other schemes (`v0`) are ignored."""
    items = [item.partition("=") for item in header.split(",")]
    times = [value for name, _, value in items if name.strip() == "t"]
    signatures = [value.strip() for name, _, value in items if name.strip() == _SCHEME]
    if len(times) != 1 or not (times[0].isascii() and times[0].isdigit() and len(times[0]) <= 12) or not signatures:
        raise WebhookRefused(Refusal.MALFORMED_SIGNATURE)
    return times[0], signatures


# Readers: one a kind of event


@dataclass(frozen=True, slots=True)
class Received:
    """When a delivery came, in milliseconds, and whose payment it is about, if that is known from elsewhere."""

    at: int
    payment_id: str | None = None

    def payment(self, tagged: str | None) -> str | None:
        """Our payment: the one that the object's metadata names, else the one that is known."""
        return tagged if _is_ours(tagged) else self.payment_id


Reader = Callable[[Event, Received], Translated]


def _authorization(event: Event, received: Received) -> Translated:
    """`processing`, `requires_action`, `payment_failed`: the intent's status says it."""
    intent = parse(event.data.object, PaymentIntent)
    return _of_attempt(event, intent, answers.of_authorization(intent), received)


def _failed(event: Event, received: Received) -> Translated:
    """The event is the refusal, whatever the intent's status has become by the time the event is made."""
    intent = parse(event.data.object, PaymentIntent)
    answer = answers.of_authorization(intent)
    if answer.outcome is not Outcome.DECLINED:
        decline = answers.decline_of(intent.last_payment_error) if intent.last_payment_error else None
        answer = msgspec.structs.replace(
            answer, outcome=Outcome.DECLINED, decline=decline or answers.DECLINES.decline("card_declined")
        )
    return _of_attempt(event, intent, answer, received)


def _capturable(event: Event, received: Received) -> Translated:
    """The hold stands. Also sent when a capture or a cancel changes what can be captured: of those, only a capture
    that leaves something has no other event.
    """
    intent = parse(event.data.object, PaymentIntent)
    if intent.status in {IntentStatus.SUCCEEDED, IntentStatus.CANCELED}:
        return Ignored(event_id=event.id, event_type=event.type)
    if intent.amount_received:
        return _capture(event, intent, received)
    return _of_attempt(event, intent, answers.of_authorization(intent), received)


def _succeeded(event: Event, received: Received) -> Translated:
    """All is captured: by the authorization itself, or by the last capture."""
    intent = parse(event.data.object, PaymentIntent)
    if intent.capture_method == "manual":
        return _capture(event, intent, received)
    return _of_attempt(event, intent, answers.of_authorization(intent), received)


def _canceled(event: Event, received: Received) -> Translated:
    """The hold is given back. An intent without a charge never held anything: its authorization came to nothing."""
    intent = parse(event.data.object, PaymentIntent)
    if intent.charge_id is None:
        return _of_attempt(event, intent, answers.of_authorization(intent), received)
    return _report(event, intent, Operation.VOID, answers.of_void(intent), subject=_our_key(event), received=received)


def _refund(event: Event, received: Received) -> Translated:
    refund = parse(event.data.object, Refund)
    payment = received.payment(refund.tag(answers.PAYMENT))
    if payment is None:
        return _unrouted(event, UnroutedReason.UNKNOWN_PAYMENT, refund.intent_id)
    subject = _ours(refund.tag(answers.REFUND))
    return _of_payment(event, payment, Operation.REFUND, answers.of_refund(refund), subject=subject, received=received)


def _dispute(event: Event, received: Received) -> Translated:
    """A dispute names its payment intent only, never our payment. Its funds have events of their own."""
    dispute = parse(event.data.object, Dispute)
    step = _STEPS.get(event.type) or _DECISIONS.get(dispute.status)
    if step is None:
        return Ignored(event_id=event.id, event_type=event.type)
    payment, currency = received.payment(None), dispute.currency.upper()
    if payment is None:
        return _unrouted(event, UnroutedReason.UNKNOWN_PAYMENT, dispute.intent_id)
    return DisputeReport(
        payment_id=payment,
        occurred_at=received.at,
        report_id=ids.derive("stripe-event", event.id),
        provider=answers.NAME,
        step=step,
        dispute_reference=dispute.id,
        amount=from_stripe(dispute.amount, currency),
        currency=currency,
        fee=_fee(dispute, step),
        reason=dispute.reason,
        evidence_due_at=dispute.due_at,
        detail=f"{event.type} {dispute.status}",
    )


def _fee(dispute: Dispute, step: DisputeStep) -> int:
    if step not in {DisputeStep.FUNDS_WITHDRAWN, DisputeStep.FUNDS_REINSTATED}:
        return 0
    return from_stripe(dispute.fee(withdrawn=step is DisputeStep.FUNDS_WITHDRAWN), dispute.currency.upper())


_STEPS: Final = {
    "charge.dispute.created": DisputeStep.OPENED,
    "charge.dispute.funds_withdrawn": DisputeStep.FUNDS_WITHDRAWN,
    "charge.dispute.funds_reinstated": DisputeStep.FUNDS_REINSTATED,
}
_DECISIONS: Final = {"won": DisputeStep.WON, "lost": DisputeStep.LOST, "warning_closed": DisputeStep.WON}
"""An inquiry that is closed came to nothing: no money had been withdrawn."""

_READERS: Final[dict[str, Reader]] = {
    "payment_intent.amount_capturable_updated": _capturable,
    "payment_intent.succeeded": _succeeded,
    "payment_intent.processing": _authorization,
    "payment_intent.requires_action": _authorization,
    "payment_intent.payment_failed": _failed,
    "payment_intent.canceled": _canceled,
    "refund.created": _refund,
    "refund.updated": _refund,
    "refund.failed": _refund,
    # What endpoints of API versions before 2024-10-28 are sent instead.
    "charge.refund.updated": _refund,
    **dict.fromkeys(_STEPS, _dispute),
    "charge.dispute.closed": _dispute,
}

ACTED_ON: Final = frozenset({*_READERS, *ANNOUNCED_BY})
"""The event types that a webhook endpoint at Stripe needs: the others are acknowledged and have no effect."""

_WITHOUT_EFFECT: Final = frozenset(
    {
        "payment_intent.created",
        "payout.created",
        "payout.updated",
        # The charge's view of what the payment intent's events say.
        "charge.succeeded",
        "charge.pending",
        "charge.failed",
        "charge.captured",
        "charge.updated",
        "charge.expired",
        # Evidence was handed in: the decision has its own event.
        "charge.dispute.updated",
        # A running total; the refund's own events have the single amounts.
        "charge.refunded",
    }
)
"""Event types that repeat what another event of the same fact says."""


def _capture(event: Event, intent: PaymentIntent, received: Received) -> Translated:
    """One capture of an intent, of which the event gives totals only.

    Ours: the one whose key caused the event, or else the last one, if all money received is ours. A foreign one: what
    was received beyond ours.
    """
    ours = sum(answers.captures_of(intent).values())
    key = _our_key(event)
    if key is None and ours and ours == intent.amount_received:
        key = _ours(intent.tag(answers.LAST_CAPTURE))
    # Ours without its tag: the event has an older view of the intent, and the amount is known from the request.
    amount = answers.foreign_capture(intent) if key is None else None
    answer = answers.captured(intent, key or "", amount)
    return _report(event, intent, Operation.CAPTURE, answer, subject=key, received=received)


def _of_attempt(event: Event, intent: PaymentIntent, answer: Answer, received: Received) -> Translated:
    subject = _ours(intent.tag(answers.ATTEMPT))
    return _report(event, intent, Operation.AUTHORIZE, answer, subject=subject, received=received)


def _report(
    event: Event,
    intent: PaymentIntent,
    operation: Operation,
    answer: Answer,
    *,
    subject: str | None,
    received: Received,
) -> Translated:
    payment = received.payment(intent.tag(answers.PAYMENT))
    if payment is None:
        return _unrouted(event, UnroutedReason.UNKNOWN_PAYMENT, intent.id)
    return _of_payment(event, payment, operation, answer, subject=subject, received=received)


def _of_payment(
    event: Event,
    payment: str,
    operation: Operation,
    answer: Answer,
    *,
    subject: str | None,
    received: Received,
) -> ProviderReport:
    return ProviderReport(
        payment_id=payment,
        occurred_at=received.at,
        report_id=ids.derive("stripe-event", event.id),
        provider=answers.NAME,
        source=ReportSource.WEBHOOK,
        operation=operation,
        outcome=answer.outcome,
        subject_id=subject,
        provider_reference=answer.provider_reference,
        operation_reference=answer.operation_reference,
        amount=answer.amount,
        currency=answer.currency,
        decline=answer.decline,
        next_action=answer.next_action,
        hold_expires_at=answer.hold_expires_at,
        detail=" ".join(filter(None, (event.type, answer.detail))),
    )


def _unrouted(event: Event, reason: UnroutedReason, reference: str | None) -> Unrouted:
    return Unrouted(reason=reason, event_id=event.id, event_type=event.type, provider_reference=reference)


def _our_key(event: Event) -> str | None:
    """The subject whose call caused the event. The console and other programs have keys that are none of ours."""
    return _ours(event.idempotency_key)


def _ours(value: str | None) -> str | None:
    return value if _is_ours(value) else None


def _is_ours(value: str | None) -> TypeGuard[str]:
    return value is not None and _OUR_ID.fullmatch(value) is not None


def _reference(event: Event) -> str | None:
    """The payment intent that an object belongs to, or the object itself."""
    try:
        pointer = parse(event.data.object, Pointer)
    except msgspec.MsgspecError:
        return None
    return pointer.intent_id or pointer.id
