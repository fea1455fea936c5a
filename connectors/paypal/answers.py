"""What PayPal's orders, authorizations, captures, refunds and errors mean. Pure: the calls are in `client`, the
webhooks in `webhook`.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from connectors import declines, failures
from connectors.failures import detail_of
from connectors.paypal.amounts import from_paypal
from connectors.paypal.objects import Movement, Order, ServiceError, parse
from connectors.provider import Answer
from connectors.transport import Reply
from pipeline.messages.values import Decline, NextAction, Operation, Outcome

NAME: Final = "paypal"
DECLINES: Final = declines.load(NAME, Path(__file__).with_name("declines.toml"))

_ERROR: Final = "error"
_APPROVED_BY_PROCESSOR: Final = "0000"

IN_PROGRESS: Final = {"PREVIOUS_REQUEST_IN_PROGRESS", "ORDER_COMPLETION_IN_PROGRESS"}
"""The first call under this key is not done yet."""
DONE_BEFORE: Final = {
    "ORDER_ALREADY_AUTHORIZED",
    "ORDER_ALREADY_CAPTURED",
    "ORDER_ALREADY_COMPLETED",
    "AUTHORIZATION_ALREADY_CAPTURED",
    "AUTHORIZATION_VOIDED",
    "PREVIOUSLY_CAPTURED",
    "PREVIOUSLY_VOIDED",
    "CAPTURE_FULLY_REFUNDED",
    "DUPLICATE_INVOICE_ID",
    "PAYER_ACTION_REQUIRED",
    "ORDER_NOT_APPROVED",
}
"""Refused because of how the order stands, perhaps through an earlier call of ours: the order says."""

_STATUSES: Final[dict[Operation, dict[str, Outcome]]] = {
    Operation.AUTHORIZE: {
        "CREATED": Outcome.APPROVED,
        "CAPTURED": Outcome.APPROVED,
        "PARTIALLY_CAPTURED": Outcome.APPROVED,
        "PENDING": Outcome.PENDING,
        "DENIED": Outcome.DECLINED,
        "VOIDED": Outcome.DECLINED,
        "EXPIRED": Outcome.DECLINED,
    },
    Operation.CAPTURE: {
        "COMPLETED": Outcome.APPROVED,
        "PARTIALLY_REFUNDED": Outcome.APPROVED,
        "REFUNDED": Outcome.APPROVED,
        "PENDING": Outcome.PENDING,
        "DECLINED": Outcome.DECLINED,
        "DENIED": Outcome.DECLINED,
        "FAILED": Outcome.DECLINED,
    },
    Operation.REFUND: {
        "COMPLETED": Outcome.APPROVED,
        "PENDING": Outcome.PENDING,
        "FAILED": Outcome.DECLINED,
        "CANCELLED": Outcome.DECLINED,
    },
}
_ORDERS: Final = {
    "CREATED": Outcome.REQUIRES_ACTION,
    "SAVED": Outcome.REQUIRES_ACTION,
    "PAYER_ACTION_REQUIRED": Outcome.REQUIRES_ACTION,
    "APPROVED": Outcome.PENDING,
    "VOIDED": Outcome.DECLINED,
}
"""Of an order of which nothing was authorized or captured yet."""
_FAILED: Final = {
    Operation.AUTHORIZE: "authorization_failed",
    Operation.CAPTURE: "capture_failed",
    Operation.REFUND: "refund_failed",
    Operation.VOID: "void_failed",
}


# Orders


def of_order(order: Order) -> Answer:
    """What became of the authorization (with automatic capture: of the capture) that an order was made for.

    What was authorized or captured says more than the order's own status, which stays CREATED after a decline.
    """
    captures = order.intent == "CAPTURE"
    movements = order.payments.captures if captures else order.payments.authorizations
    if movements:
        status = Operation.CAPTURE if captures else Operation.AUTHORIZE
        return _of(movements[-1], status, Operation.AUTHORIZE, order.id, order.brand)
    return _unpaid(order)


def _unpaid(order: Order) -> Answer:
    url = order.action_url
    outcome = _ORDERS.get(order.status, Outcome.UNKNOWN)
    return Answer(
        outcome=outcome,
        provider_reference=order.id,
        decline=DECLINES.decline("ORDER_VOIDED") if outcome is Outcome.DECLINED else None,
        next_action=NextAction(url=url) if url and outcome is Outcome.REQUIRES_ACTION else None,
        detail=f"order {order.status}",
    )


def of_movement(movement: Movement, operation: Operation, order_id: str | None) -> Answer:
    """What became of a capture or refund."""
    return _of(movement, operation, operation, order_id)


def outcome_of(movement: Movement, operation: Operation) -> Outcome:
    """What the status of an authorization, capture or refund says; of one that nobody knows: UNKNOWN."""
    return _STATUSES[operation].get(movement.status, Outcome.UNKNOWN)


def decline_of(movement: Movement, operation: Operation, asked: Operation | None = None, brand: str = "") -> Decline:
    """Why it came to nothing: the processor's code, else the status's reason, else that it failed.

    An advice code is another word in each card network: Visa's 02 stops this payment, Mastercard's puts it off. Source:
    developer.paypal.com/docs/checkout/advanced/customize/handle-processor-errors, payment advice codes.
    """
    processor = movement.processor_response
    code = processor.response_code if processor.response_code != _APPROVED_BY_PROCESSOR else None
    if not code and movement.status in {"VOIDED", "EXPIRED"}:
        code = f"AUTHORIZATION_{movement.status}"
    failed = _FAILED[asked or operation]
    return DECLINES.decline(
        code or movement.status_details.reason or failed,
        advice=f"{brand}_{processor.payment_advice_code}",
        network_advice_code=processor.payment_advice_code,
        otherwise=None if code else failed,
    )


def _of(movement: Movement, status: Operation, asked: Operation, order_id: str | None, brand: str = "") -> Answer:
    outcome = outcome_of(movement, status)
    amount = movement.amount if outcome is Outcome.APPROVED else None
    return Answer(
        outcome=outcome,
        provider_reference=order_id,
        operation_reference=movement.id,
        amount=from_paypal(amount.value, amount.currency_code) if amount else None,
        currency=amount.currency_code if amount else None,
        decline=decline_of(movement, status, asked, brand) if outcome is Outcome.DECLINED else None,
        hold_expires_at=millis(movement.expiration_time) if status is Operation.AUTHORIZE else None,
        detail=detail_of(status.value, movement.status, movement.status_details.reason),
    )


def voided(order_id: str) -> Answer:
    """The hold is gone."""
    return Answer(outcome=Outcome.APPROVED, provider_reference=order_id, detail="authorization VOIDED")


def millis(time: str | None) -> int | None:
    """Milliseconds of an RFC 3339 time; None for what is none."""
    try:
        return round(datetime.fromisoformat(time).timestamp() * 1000) if time else None
    except ValueError:
        return None


# Errors


def error_of(reply: Reply) -> ServiceError | None:
    """The error that the body describes, if it does."""
    try:
        error = parse(reply.body, ServiceError)
    except msgspec.MsgspecError:
        return None
    return error if error.issue else None


def of_failure(reply: Reply) -> Answer:
    """What it means that PayPal did not do as asked.

    Sources: developer.paypal.com/api/rest/responses, /reference/idempotency, /reference/rate-limiting. After a 5xx or
    none at all a repeat under the same `PayPal-Request-Id` answers what the first call came to.
    """
    if reply.status == 0:
        return failures.unanswered(reply)
    error = error_of(reply)
    match reply.status:
        case 401 | 403:
            return _failed(reply, Outcome.TEMPORARY_FAILURE, reachable=False)
        case 429:
            return _failed(reply, Outcome.TEMPORARY_FAILURE, repeat=True)
        case 408 | 409:
            return _failed(reply, Outcome.UNKNOWN, repeat=True)
        case status if status >= 500:
            return _failed(reply, Outcome.UNKNOWN, repeat=True, reachable=False)
        case _ if error is not None and error.issue in IN_PROGRESS:
            return _failed(reply, Outcome.UNKNOWN, repeat=True)
        case _ if error is not None:
            return _failed(reply, Outcome.DECLINED, decline=DECLINES.decline(error.issue, otherwise=_ERROR))
    return _failed(reply, Outcome.UNKNOWN)


def unanswered(reply: Reply) -> Answer:
    """A question that got no answer says nothing of the operation it was about."""
    return msgspec.structs.replace(of_failure(reply), outcome=Outcome.UNKNOWN, decline=None)


def not_asked(reply: Reply) -> Answer:
    """The question before the operation got no answer: the operation itself was not sent."""
    failure = of_failure(reply)
    if failure.outcome is Outcome.DECLINED:
        return failure
    return msgspec.structs.replace(failure, outcome=Outcome.TEMPORARY_FAILURE)


def invalid(detail: str, code: str = _ERROR) -> Answer:
    """A request that cannot be made."""
    return Answer(outcome=Outcome.DECLINED, decline=DECLINES.decline(code), detail=detail)


def _failed(
    reply: Reply, outcome: Outcome, *, decline: Decline | None = None, repeat: bool = False, reachable: bool = True
) -> Answer:
    error = error_of(reply)
    said = (error.name, error.issue, error.message, error.debug_id) if error else ()
    return failures.failed(reply, outcome, *said, decline=decline, repeat=repeat, reachable=reachable)
