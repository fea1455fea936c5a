"""Money that goes back: refunds now and later, and disputes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import stripe

from tests.connectors.simulator.test_payment_intents import MULTI, make, refusal
from tests.connectors.simulator.world import World


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not true():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


def paid(sdk: stripe.StripeClient, method: str = "pm_card_visa") -> stripe.PaymentIntent:
    return make(sdk, capture_method="automatic", payment_method=method)


def test_partial_and_full_refunds(sim: World, sdk: stripe.StripeClient) -> None:
    intent = paid(sdk)
    first = sdk.v1.refunds.create(
        {"payment_intent": intent.id, "amount": 300, "metadata": {"refund_id": "r1"}, "reason": "duplicate"}
    )
    assert (first.status, first.amount, first.charge, first.payment_intent, first.reason) == (
        "succeeded",
        300,
        intent.latest_charge,
        intent.id,
        "duplicate",
    )
    over = refusal(sdk.v1.refunds.create, {"payment_intent": intent.id, "amount": 701})
    assert (over.param, "greater than unrefunded" in str(over)) == ("amount", True)
    rest = sdk.v1.refunds.create({"charge": str(intent.latest_charge)})
    assert rest.amount == 700
    charge = sdk.v1.charges.retrieve(str(intent.latest_charge))
    assert (charge.amount_refunded, charge.refunded) == (1_000, True)
    assert refusal(sdk.v1.refunds.create, {"payment_intent": intent.id}).code == "charge_already_refunded"
    assert [r.id for r in sdk.v1.refunds.list({"payment_intent": intent.id}).data] == [rest.id, first.id]
    assert sdk.v1.refunds.list({"payment_intent": "pi_other"}).data == []
    transaction = sdk.v1.balance_transactions.retrieve(str(first.balance_transaction))
    assert (transaction.type, transaction.amount, transaction.fee) == ("refund", -300, 0)
    assert sim.sums("pay_1")["refunded"] == 1_000
    sim.drain()
    refunded = [e["data"] for e in sim.receiver.events() if e["type"] == "charge.refunded"]
    totals = sorted(
        (data["object"]["amount_refunded"], data["previous_attributes"]["amount_refunded"]) for data in refunded
    )
    assert totals == [(300, 0), (1_000, 300)], "cumulative"


@pytest.mark.parametrize(
    ("params", "code", "param"),
    [
        ({}, None, None),
        ({"payment_intent": "pi_none"}, "resource_missing", "payment_intent"),
        ({"charge": "ch_none"}, "resource_missing", "charge"),
        ({"amount": 0}, "parameter_invalid_integer", "amount"),
        ({"reason": "whim"}, None, "reason"),
    ],
)
def test_what_cannot_be_refunded(sdk: stripe.StripeClient, params: dict[str, Any], code: str, param: str) -> None:
    intent = paid(sdk)
    given = (
        params
        if not params or "payment_intent" in params or "charge" in params
        else {
            "payment_intent": intent.id,
            **params,
        }
    )
    error = refusal(sdk.v1.refunds.create, given)
    assert (error.code, error.param) == (code, param)


def test_a_hold_cannot_be_refunded(sdk: stripe.StripeClient) -> None:
    assert refusal(sdk.v1.refunds.create, {"payment_intent": make(sdk).id}).code == "charge_not_refundable"


def test_part_of_several_captures_can_be_refunded(sdk: stripe.StripeClient) -> None:
    intent = make(sdk, payment_method_options=MULTI)
    sdk.v1.payment_intents.capture(intent.id, {"amount_to_capture": 300, "final_capture": False})
    assert "greater than" in str(refusal(sdk.v1.refunds.create, {"payment_intent": intent.id, "amount": 301}))
    assert sdk.v1.refunds.create({"payment_intent": intent.id}).amount == 300
    assert sdk.v1.charges.retrieve(str(intent.latest_charge)).refunded is False, "not before the last capture"
    sdk.v1.payment_intents.capture(intent.id, {"amount_to_capture": 0, "final_capture": True})
    assert sdk.v1.charges.retrieve(str(intent.latest_charge)).refunded is True


def test_a_pending_refund_succeeds_later(sim: World, sdk: stripe.StripeClient) -> None:
    refund = sdk.v1.refunds.create({"payment_intent": paid(sdk, "pm_card_pendingRefund").id})
    assert refund.status == "pending"
    until(lambda: sdk.v1.refunds.retrieve(refund.id).status == "succeeded")
    sim.drain()
    updated = sim.receiver.one("refund.updated")
    assert updated["data"]["object"]["status"] == "succeeded"
    assert updated["data"]["previous_attributes"] == {"status": "pending"}
    assert updated["request"]["id"] is None


def test_a_refund_fails_later(sim: World, sdk: stripe.StripeClient) -> None:
    intent = paid(sdk, "pm_card_refundFail")
    refund = sdk.v1.refunds.create({"payment_intent": intent.id, "amount": 400})
    assert refund.status == "succeeded"
    until(lambda: sdk.v1.refunds.retrieve(refund.id).status == "failed")
    failed = sdk.v1.refunds.retrieve(refund.id)
    assert (failed.failure_reason, bool(failed.failure_balance_transaction)) == ("unknown", True)
    assert sdk.v1.charges.retrieve(str(intent.latest_charge)).amount_refunded == 0
    sums = sim.sums("pay_1")
    assert (sums["refunded"], sums["refund_failed"]) == (400, 400)
    (page,) = sim.get("book", payment_id="pay_1")
    assert page["refunded"] == 0, "the page says what is gone in the end"
    sim.drain()
    assert sim.receiver.one("refund.failed")["data"]["object"]["id"] == refund.id


def test_any_refund_can_be_made_to_fail(sim: World, sdk: stripe.StripeClient) -> None:
    refund = sdk.v1.refunds.create({"payment_intent": paid(sdk).id})
    assert sim.post(f"refunds/{refund.id}", outcome="fail")["status"] == "failed"
    assert sim.control.post(f"/_sim/refunds/{refund.id}", params={"outcome": "fail"}).status_code == 404
    assert sim.control.post(f"/_sim/refunds/{refund.id}", params={"outcome": "maybe"}).status_code == 400


@pytest.mark.parametrize(
    ("evidence", "status", "last"),
    [
        ("winning_evidence", "won", "charge.dispute.funds_reinstated"),
        ("losing_evidence", "lost", "charge.dispute.closed"),
        ("see attached", "under_review", "charge.dispute.updated"),
    ],
)
def test_a_dispute(sim: World, sdk: stripe.StripeClient, evidence: str, status: str, last: str) -> None:
    intent = paid(sdk, "pm_card_createDispute")
    until(lambda: len(sdk.v1.disputes.list().data) == 1)
    (dispute,) = sdk.v1.disputes.list({"payment_intent": intent.id}).data
    assert (dispute.status, dispute.reason, dispute.amount) == ("needs_response", "fraudulent", 1_000)
    assert refusal(sdk.v1.refunds.create, {"payment_intent": intent.id}).code == "charge_disputed"
    answered = sdk.v1.disputes.update(dispute.id, {"evidence": {"uncategorized_text": evidence}})
    assert answered.status == status
    sim.drain()
    types = [kind for kind in sim.receiver.types() if "dispute" in kind]
    assert {"charge.dispute.created", "charge.dispute.funds_withdrawn", last} <= set(types)
    sums = sim.sums("pay_1")
    assert (sums["disputed"], sums["dispute_won"]) == (1_000, 1_000 if status == "won" else 0)


def test_an_inquiry_withdraws_nothing(sim: World, sdk: stripe.StripeClient) -> None:
    intent = paid(sdk, "pm_card_createDisputeInquiry")
    until(lambda: len(sdk.v1.disputes.list().data) == 1)
    (dispute,) = sdk.v1.disputes.list().data
    assert dispute.status == "warning_needs_response"
    assert sim.sums("pay_1")["disputed"] == 0
    assert sdk.v1.refunds.create({"payment_intent": intent.id}).status == "succeeded"
    assert sdk.v1.disputes.close(dispute.id).status == "warning_closed"


def test_any_charge_can_be_disputed(sim: World, sdk: stripe.StripeClient) -> None:
    intent = paid(sdk)
    made = sim.post(f"charges/{intent.latest_charge}/dispute", {"reason": "product_not_received"})
    assert sdk.v1.disputes.retrieve(made["id"]).reason == "product_not_received"
    assert sdk.v1.disputes.close(made["id"]).status == "lost"
    assert sim.control.post(f"/_sim/charges/{intent.latest_charge}/dispute", json={}).status_code == 400


def test_a_captured_hold_of_a_disputing_card_is_disputed(sdk: stripe.StripeClient) -> None:
    intent = make(sdk, payment_method="pm_card_createDispute")
    time.sleep(0.15)
    assert sdk.v1.disputes.list().data == [], "there is nothing to dispute in a hold"
    sdk.v1.payment_intents.capture(intent.id)
    until(lambda: len(sdk.v1.disputes.list().data) == 1)
