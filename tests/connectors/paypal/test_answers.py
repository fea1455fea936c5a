"""What PayPal's orders and errors mean: exactly one outcome each."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.paypal import answers
from connectors.paypal.objects import Card, Movement, Order, PaymentSource, parse
from connectors.transport import Reply
from pipeline.messages.values import DeclineCategory, Operation, Outcome

OK, NO, PENDING, MAYBE = Outcome.APPROVED, Outcome.DECLINED, Outcome.PENDING, Outcome.UNKNOWN
ACTION, NOT_DONE = Outcome.REQUIRES_ACTION, Outcome.TEMPORARY_FAILURE


def order(status: str, intent: str = "AUTHORIZE", **payments: Any) -> Order:
    body = {
        "id": "5O190127TN364715T",
        "status": status,
        "intent": intent,
        "purchase_units": [{"custom_id": "x", "payments": payments}],
        "links": [{"rel": "self", "href": "https://a"}, {"rel": "payer-action", "href": "https://paypal.example/pay"}],
    }
    return parse(json.dumps(body), Order)


def movement(status: str, **fields: Any) -> dict[str, Any]:
    return {"id": "0AW2184448108334S", "status": status, "amount": {"currency_code": "EUR", "value": "10.50"}, **fields}


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("CREATED", ACTION),
        ("SAVED", ACTION),
        ("PAYER_ACTION_REQUIRED", ACTION),
        ("APPROVED", PENDING),
        ("VOIDED", NO),
        ("COMPLETED", MAYBE),
        ("A_STATUS_OF_TOMORROW", MAYBE),
    ],
)
def test_an_order_of_which_nothing_is_paid(status: str, outcome: Outcome) -> None:
    answer = answers.of_order(order(status))
    assert (answer.outcome, answer.provider_reference) == (outcome, "5O190127TN364715T")
    assert (answer.next_action is not None) == (outcome is ACTION)
    assert (answer.decline is not None) == (outcome is NO)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("CREATED", OK),
        ("PENDING", PENDING),
        ("DENIED", NO),
        ("CAPTURED", OK),
        ("PARTIALLY_CAPTURED", OK),
        ("VOIDED", NO),
        ("EXPIRED", NO),
        ("A_STATUS_OF_TOMORROW", MAYBE),
    ],
)
def test_an_authorization(status: str, outcome: Outcome) -> None:
    held = movement(status, expiration_time="2026-12-22T16:00:00Z")
    answer = answers.of_order(order("CREATED", authorizations=[held]))
    assert (answer.outcome, answer.operation_reference) == (outcome, "0AW2184448108334S")
    assert answer.hold_expires_at == 1_797_955_200_000
    assert (answer.amount, answer.currency) == ((1_050, "EUR") if outcome is OK else (None, None))


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("COMPLETED", OK),
        ("PENDING", PENDING),
        ("DECLINED", NO),
        ("FAILED", NO),
        ("REFUNDED", OK),
        ("PARTIALLY_REFUNDED", OK),
        ("A_STATUS_OF_TOMORROW", MAYBE),
    ],
)
def test_an_automatic_capture(status: str, outcome: Outcome) -> None:
    answer = answers.of_order(order("COMPLETED", "CAPTURE", captures=[movement(status)]))
    assert (answer.outcome, answer.operation_reference) == (outcome, "0AW2184448108334S")
    assert answer.hold_expires_at is None


def test_the_processor_says_why() -> None:
    said = {"response_code": "5120", "payment_advice_code": "02"}
    answer = answers.of_order(order("CREATED", authorizations=[movement("DENIED", processor_response=said)]))
    assert answer.decline is not None
    assert (answer.decline.raw_code, answer.decline.network_advice_code) == ("5120", "02")
    assert answer.decline.code == "insufficient_funds"


@pytest.mark.parametrize(
    ("brand", "advice", "category"),
    [
        ("VISA", "02", DeclineCategory.HARD),
        ("MASTERCARD", "02", DeclineCategory.SOFT),
        ("MASTERCARD", "03", DeclineCategory.HARD),
        ("", "02", DeclineCategory.SOFT),
    ],
)
def test_a_networks_advice_is_read_in_its_own_words(brand: str, advice: str, category: DeclineCategory) -> None:
    """Visa's 02: the cardholder stopped this payment. Mastercard's: later."""
    said = {"response_code": "5120", "payment_advice_code": advice}
    declined = order("CREATED", authorizations=[movement("DENIED", processor_response=said)])
    paid_with = PaymentSource(card=Card(brand=brand))
    answer = answers.of_order(msgspec.structs.replace(declined, payment_source=paid_with))
    assert answer.decline is not None
    assert (answer.decline.category, answer.decline.code) == (category, "insufficient_funds")


def test_the_status_says_why_where_the_processor_approved() -> None:
    said = {"processor_response": {"response_code": "0000"}, "status_details": {"reason": "PENDING_REVIEW"}}
    answer = answers.of_order(order("CREATED", authorizations=[movement("DENIED", **said)]))
    assert answer.decline is not None
    assert answer.decline.raw_code == "PENDING_REVIEW"


@pytest.mark.parametrize(
    ("status", "outcome"), [("COMPLETED", OK), ("PENDING", PENDING), ("FAILED", NO), ("CANCELLED", NO), ("X", MAYBE)]
)
def test_a_refund(status: str, outcome: Outcome) -> None:
    answer = answers.of_movement(parse(json.dumps(movement(status)), Movement), Operation.REFUND, "order")
    assert answer.outcome is outcome
    assert (answer.decline is not None) == (outcome is NO)


def error(status: int, issue: str = "", name: str = "UNPROCESSABLE_ENTITY", **headers: str) -> Reply:
    details = [{"issue": issue, "description": "words"}] if issue else []
    body = {"name": name, "message": "words", "debug_id": "b1d1f06c7246c", "details": details}
    return Reply(status=status, body=json.dumps(body).encode(), headers=headers)


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (Reply(status=0, sent=True), MAYBE),
        (Reply(status=0, sent=False), NOT_DONE),
        (error(401, name="invalid_token"), NOT_DONE),
        (error(403, "PERMISSION_DENIED", "NOT_AUTHORIZED"), NOT_DONE),
        (error(400, "MISSING_REQUIRED_PARAMETER", "INVALID_REQUEST"), NO),
        (error(404, "INVALID_RESOURCE_ID", "RESOURCE_NOT_FOUND"), NO),
        (error(422, "INSTRUMENT_DECLINED"), NO),
        (error(422, "A_REASON_OF_TOMORROW"), NO),
        (error(422, "PREVIOUS_REQUEST_IN_PROGRESS"), MAYBE),
        (error(409, name="RESOURCE_CONFLICT"), MAYBE),
        (error(429, name="RATE_LIMIT_REACHED", **{"retry-after": "7"}), NOT_DONE),
        (error(500, name="INTERNAL_SERVER_ERROR"), MAYBE),
        (Reply(status=502, body=b"<html>"), MAYBE),
        (Reply(status=422, body=b"<html>"), MAYBE),
        (Reply(status=302), MAYBE),
    ],
)
def test_failures(reply: Reply, outcome: Outcome) -> None:
    answer = answers.of_failure(reply)
    assert answer.outcome is outcome
    assert (answer.decline is not None) == (outcome is NO)
    assert answer.retry_after == (7 if reply.status == 429 else None)


def test_an_unknown_reason_is_final() -> None:
    """An error is about the request: the same one again would come to the same."""
    answer = answers.of_failure(error(422, "A_REASON_OF_TOMORROW"))
    assert answer.decline is not None
    assert (answer.decline.category, answer.decline.raw_code) == (DeclineCategory.HARD, "A_REASON_OF_TOMORROW")


@given(st.integers(0, 599), st.booleans(), st.binary(max_size=80))
def test_every_reply_has_a_meaning(status: int, sent: bool, body: bytes) -> None:
    reply = Reply(status=status, sent=sent, body=body)
    assert answers.of_failure(reply).outcome in {NO, MAYBE, NOT_DONE}
    assert answers.unanswered(reply).outcome is MAYBE
    assert answers.not_asked(reply).outcome in {NO, NOT_DONE}
