"""What Stripe's objects and errors mean. Pure: the calls are in `client`, the webhooks in `webhook`.

Stripe has no object for a single capture, only the payment intent's running total. So each capture leaves a tag in the
intent's metadata, `capture_<id>`: what it claimed, in Stripe's units. It is set by the capture call itself, so whoever
reads the intent later knows which captures were done, and what somebody else captured at Stripe's own console.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from connectors import declines
from connectors.failures import failed, unanswered
from connectors.provider import Answer
from connectors.stripe.amounts import from_stripe
from connectors.stripe.objects import (
    Charge,
    ErrorBody,
    IntentStatus,
    PaymentError,
    PaymentIntent,
    Refund,
    RefundStatus,
    parse,
)
from connectors.transport import Reply
from pipeline.messages.values import Decline, NextAction, Outcome

NAME: Final = "stripe"
DECLINES: Final = declines.load(NAME, Path(__file__).with_name("declines.toml"))

PAYMENT: Final = "payment_id"
ATTEMPT: Final = "attempt_id"
REFUND: Final = "refund_id"
LAST_CAPTURE: Final = "capture_id"
_CAPTURE: Final = "capture_"
_INVALID: Final = "invalid_request_error"


class StripeReply(Reply, frozen=True, kw_only=True):
    """What Stripe answered."""

    @property
    def replayed(self) -> bool:
        """Whether Stripe only repeats what it saved for the idempotency key."""
        return self.headers.get("idempotent-replayed") == "true"

    @property
    def error(self) -> PaymentError | None:
        """The error that the body describes, if it does."""
        try:
            return parse(self.body, ErrorBody).error
        except msgspec.MsgspecError:
            return None


# Payment intents


def of_authorization(intent: PaymentIntent) -> Answer:
    """What an intent says of its authorization."""
    match intent.status:
        case IntentStatus.REQUIRES_CAPTURE | IntentStatus.SUCCEEDED:
            return _authorized(intent)
        case IntentStatus.REQUIRES_ACTION:
            return _of_intent(intent, Outcome.REQUIRES_ACTION, next_action=_next_action(intent))
        case IntentStatus.PROCESSING:
            return _of_intent(intent, Outcome.PENDING)
        case IntentStatus.REQUIRES_PAYMENT_METHOD if intent.last_payment_error:
            return _of_intent(intent, Outcome.DECLINED, decline=decline_of(intent.last_payment_error))
        case IntentStatus.CANCELED:
            return _of_intent(intent, Outcome.DECLINED, decline=DECLINES.decline("canceled"))
    return _of_intent(intent, Outcome.UNKNOWN)


def found_authorization(intent: PaymentIntent) -> Answer:
    """What an intent that was looked up says of its authorization. We create and confirm in one call, so one that was
    never confirmed is what a refused call left behind: nothing was asked of the issuer.
    """
    unconfirmed = {IntentStatus.REQUIRES_CONFIRMATION, IntentStatus.REQUIRES_PAYMENT_METHOD}
    answer = of_authorization(intent)
    if answer.outcome is Outcome.UNKNOWN and intent.status in unconfirmed:
        return msgspec.structs.replace(answer, outcome=Outcome.NOT_FOUND)
    return answer


def _authorized(intent: PaymentIntent) -> Answer:
    """Automatic capture: what was received. Manual: the hold, also when part of it was captured since."""
    automatic = intent.capture_method != "manual"
    amount = (intent.amount_received if automatic else None) or intent.amount
    return _of_intent(
        intent,
        Outcome.APPROVED,
        operation_reference=intent.charge_id,
        amount=_minor(amount, intent),
        hold_expires_at=None if automatic else _hold_expires_at(intent),
    )


def capture_tags(capture_id: str, amount: int) -> dict[str, str]:
    """The metadata by which a capture of `amount` (Stripe's units) is known again. A key has at most 40 characters."""
    return {_tag(capture_id): str(amount), LAST_CAPTURE: capture_id}


def captures_of(intent: PaymentIntent) -> dict[str, int]:
    """Our captures of the intent, by tag: what each claimed, in Stripe's units."""
    return {
        name: int(value)
        for name, value in (intent.metadata or {}).items()
        if name.startswith(_CAPTURE) and name != LAST_CAPTURE and value.isascii() and value.isdigit()
    }


def captured(intent: PaymentIntent, capture_id: str, amount: int | None) -> Answer:
    """What a capture that Stripe accepted came to; `amount` (ISO minor units) is what it claimed if no tag says."""
    match intent.status:
        case IntentStatus.SUCCEEDED | IntentStatus.REQUIRES_CAPTURE:
            claimed = _claimed(intent, capture_id)
            return _of_intent(intent, Outcome.APPROVED, amount=amount if claimed is None else claimed)
        case IntentStatus.PROCESSING:
            return _of_intent(intent, Outcome.PENDING)
    return _of_intent(intent, Outcome.UNKNOWN)


def of_capture(intent: PaymentIntent, capture_id: str) -> Answer:
    """What an intent says of one capture, asked later."""
    claimed = _claimed(intent, capture_id)
    if claimed is not None:
        return _of_intent(intent, Outcome.APPROVED, amount=claimed)
    if _tag(capture_id) in captures_of(intent) and intent.amount_received:
        # The tag is there, but less money than the tags speak of: somebody has to look.
        return _of_intent(intent, Outcome.UNKNOWN)
    match intent.status:
        case IntentStatus.PROCESSING:
            return _of_intent(intent, Outcome.PENDING)
        case IntentStatus.SUCCEEDED:
            foreign = foreign_capture(intent)
            if foreign:
                # Somebody captured the hold for us: the money is claimed, whoever asked for it.
                return _of_intent(intent, Outcome.APPROVED, amount=foreign)
            return _of_intent(intent, Outcome.DECLINED, decline=DECLINES.decline("charge_already_captured"))
        case IntentStatus.CANCELED:
            return _of_intent(intent, Outcome.DECLINED, decline=DECLINES.decline("canceled"))
    return _of_intent(intent, Outcome.NOT_FOUND)


def foreign_capture(intent: PaymentIntent) -> int | None:
    """What was captured without our asking, in ISO minor units; None if nothing was."""
    beyond = (intent.amount_received or 0) - sum(captures_of(intent).values())
    return _minor(beyond, intent) if beyond > 0 else None


def voided(intent: PaymentIntent) -> Answer:
    """The answer to a cancel call that Stripe accepted: what was captured stays captured, the rest is released."""
    return _of_intent(intent, Outcome.PENDING if intent.status == IntentStatus.PROCESSING else Outcome.APPROVED)


def of_void(intent: PaymentIntent) -> Answer:
    """What an intent says of giving its hold back, asked later."""
    match intent.status:
        case IntentStatus.CANCELED:
            return _of_intent(intent, Outcome.APPROVED)
        case IntentStatus.SUCCEEDED:
            return _of_intent(intent, Outcome.DECLINED, decline=DECLINES.decline("charge_already_captured"))
        case IntentStatus.PROCESSING:
            return _of_intent(intent, Outcome.PENDING)
    return _of_intent(intent, Outcome.NOT_FOUND)


def _claimed(intent: PaymentIntent, capture_id: str) -> int | None:
    """What our capture claimed (ISO minor units), if the money received bears its tag out."""
    ours = captures_of(intent)
    amount = ours.get(_tag(capture_id))
    if amount is None or (intent.amount_received or 0) < sum(ours.values()):
        return None
    return _minor(amount, intent)


def _tag(capture_id: str) -> str:
    return _CAPTURE + capture_id.replace("-", "")


def _of_intent(
    intent: PaymentIntent,
    outcome: Outcome,
    *,
    operation_reference: str | None = None,
    amount: int | None = None,
    decline: Decline | None = None,
    next_action: NextAction | None = None,
    hold_expires_at: int | None = None,
) -> Answer:
    return Answer(
        outcome=outcome,
        provider_reference=intent.id,
        operation_reference=operation_reference,
        amount=amount,
        currency=intent.currency.upper() or None,
        decline=decline,
        next_action=next_action,
        hold_expires_at=hold_expires_at,
        detail=" ".join(filter(None, (intent.status, intent.cancellation_reason))) or None,
    )


def _minor(amount: int | None, intent: PaymentIntent) -> int | None:
    return None if amount is None else from_stripe(amount, intent.currency.upper())


def _hold_expires_at(intent: PaymentIntent) -> int | None:
    charge = intent.latest_charge
    if not isinstance(charge, Charge) or not charge.payment_method_details or not charge.payment_method_details.card:
        return None
    before = charge.payment_method_details.card.capture_before
    return None if before is None else before * 1000


def _next_action(intent: PaymentIntent) -> NextAction | None:
    action = intent.next_action
    if action is None:
        return None
    url = (action.redirect_to_url and action.redirect_to_url.url) or (
        action.use_stripe_sdk and action.use_stripe_sdk.stripe_js
    )
    return NextAction(url=url) if url else None


# Refunds


def of_refund(refund: Refund) -> Answer:
    """What a refund says of itself. `requires_action` waits for the customer's bank details: nothing for us to do."""
    match refund.status:
        case RefundStatus.SUCCEEDED:
            return _of_refund(refund, Outcome.APPROVED)
        case RefundStatus.PENDING | RefundStatus.REQUIRES_ACTION:
            return _of_refund(refund, Outcome.PENDING)
        case RefundStatus.FAILED | RefundStatus.CANCELED:
            raw = f"refund_{refund.failure_reason or refund.status}"
            return _of_refund(refund, Outcome.DECLINED, DECLINES.decline(raw, otherwise="refund_failed"))
    return _of_refund(refund, Outcome.UNKNOWN)


def _of_refund(refund: Refund, outcome: Outcome, decline: Decline | None = None) -> Answer:
    currency = refund.currency.upper()
    return Answer(
        outcome=outcome,
        provider_reference=refund.intent_id,
        operation_reference=refund.id,
        amount=None if refund.amount is None else from_stripe(refund.amount, currency),
        currency=currency or None,
        decline=decline,
        detail=" ".join(filter(None, (refund.status, refund.failure_reason))) or None,
    )


# Errors


def decline_of(error: PaymentError) -> Decline:
    """Why a card was refused. The issuer's `decline_code` says more than Stripe's `code`, where there is one."""
    return DECLINES.decline(
        error.decline_code or error.code or error.type or "",
        advice=error.advice_code,
        network_code=error.network_decline_code,
        network_advice_code=error.network_advice_code,
    )


def of_failure(reply: StripeReply) -> Answer:
    """What it means that Stripe did not do as asked. Source: docs.stripe.com/api/errors, /error-low-level.

    Statuses 500 and above are indeterminate by Stripe's own word. In front of the API stand proxies (502 to 504) whose
    answers are not saved under the key, so those may be repeated; a 500 is saved and would only be replayed.
    """
    if reply.status == 0:
        return unanswered(reply)
    error = reply.error
    match reply.status:
        case 401 | 403:
            return _failed(reply, Outcome.TEMPORARY_FAILURE, reachable=False)
        case 429:
            return _failed(reply, Outcome.TEMPORARY_FAILURE, repeat=True)
        case 408 | 409:
            # The key is in use: the first call is still under way, and the repeat will get its answer.
            return _failed(reply, Outcome.UNKNOWN, repeat=True)
        case status if status >= 500:
            return _failed(reply, Outcome.UNKNOWN, repeat=status in {502, 503, 504}, reachable=False)
        case status if status >= 400 and error is not None:
            return _refused(reply, error)
    return _failed(reply, Outcome.UNKNOWN)


def _refused(reply: StripeReply, error: PaymentError) -> Answer:
    if error.code in {"rate_limit", "lock_timeout"}:
        return _failed(reply, Outcome.TEMPORARY_FAILURE, repeat=True)
    if error.type == "card_error" or reply.status == 402:
        return _failed(reply, Outcome.DECLINED, decline=decline_of(error))
    if error.type in {"idempotency_error", "api_error"}:
        # Another body under the key: whatever the first one did stands, and a look-up finds it.
        return _failed(reply, Outcome.UNKNOWN)
    return _failed(reply, Outcome.DECLINED, decline=DECLINES.decline(error.code or _INVALID, otherwise=_INVALID))


def _failed(
    reply: StripeReply,
    outcome: Outcome,
    *,
    decline: Decline | None = None,
    repeat: bool = False,
    reachable: bool = True,
) -> Answer:
    error = reply.error
    said = (error.type, error.code, error.decline_code, error.param, error.message) if error else ()
    answer = failed(
        reply, outcome, reply.headers.get("request-id"), *said, decline=decline, repeat=repeat, reachable=reachable
    )
    intent = error.payment_intent if error else None
    if intent is None:
        return answer
    return msgspec.structs.replace(answer, provider_reference=intent.id, operation_reference=intent.charge_id)
