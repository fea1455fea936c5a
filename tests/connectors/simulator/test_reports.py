"""The reports that the simulated account publishes, read as ours reads Stripe's."""

from __future__ import annotations

import io

import stripe

from connectors.settlement.report import Origin
from connectors.stripe.settlement import read
from pipeline import ids
from pipeline.messages.settlement import LineKind, SettlementLine
from tests.connectors.simulator.test_payment_intents import make
from tests.connectors.simulator.test_refunds_and_disputes import paid, until
from tests.connectors.simulator.world import World

PAYMENT = ids.payment_id("acme", "reported")


def lines(sim: World, report: str) -> list[SettlementLine]:
    text = sim.control.get(f"/_sim/stripe/{report}.csv").raise_for_status().text
    return list(read(io.StringIO(text), Origin(ids.derive("report", report))))


def test_a_payment_and_its_refund_are_in_the_report(sim: World, sdk: stripe.StripeClient) -> None:
    intent = make(sdk, capture_method="manual", metadata={"payment_id": PAYMENT})
    sdk.v1.payment_intents.capture(intent.id, {"amount_to_capture": 600})
    sdk.v1.refunds.create({"payment_intent": intent.id, "amount": 100})
    charge, refund = lines(sim, "balance_report")
    assert (charge.kind, charge.gross, charge.fee, charge.net, charge.currency) == (
        LineKind.CHARGE,
        600,
        47,
        553,
        "USD",
    )
    assert (refund.kind, refund.gross, refund.fee) == (LineKind.REFUND, -100, 0)
    assert {line.payment_id for line in (charge, refund)} == {PAYMENT}
    assert {line.payment_reference for line in (charge, refund)} == {intent.id}
    assert charge.payment_currency is None
    retrieved = sdk.v1.payment_intents.retrieve(intent.id)
    assert {line.operation_reference for line in (charge, refund)} == {retrieved.latest_charge}


def test_a_dispute_and_its_end_are_in_the_report(sim: World, sdk: stripe.StripeClient) -> None:
    intent = paid(sdk)
    dispute = sim.post(f"charges/{intent.latest_charge}/dispute", {})["id"]
    until(lambda: len(lines(sim, "balance_report")) == 2)
    sdk.v1.disputes.update(dispute, {"evidence": {"uncategorized_text": "winning_evidence"}, "submit": True})
    until(lambda: len(lines(sim, "balance_report")) == 3)
    _, out, back = lines(sim, "balance_report")
    assert [(one.kind, one.gross) for one in (out, back)] == [
        (LineKind.DISPUTE, -1_000),
        (LineKind.DISPUTE_REVERSED, 1_000),
    ]
    assert out.net + back.net == 0
    assert out.payment_reference == intent.id


def test_a_payout_is_what_its_lines_earned(sim: World, sdk: stripe.StripeClient) -> None:
    paid(sdk)
    paid(sdk)
    (payout,) = sim.post("stripe/payouts")
    paid(sdk)
    activity = lines(sim, "balance_report")
    assert [line.payout_id for line in activity] == [payout["id"], payout["id"], None]
    (out,) = lines(sim, "payouts_report")
    assert (out.kind, out.gross, out.payout_id) == (LineKind.PAYOUT, -payout["amount"], payout["id"])
    assert sum(line.net for line in [*activity, out] if line.payout_id) == 0
    sim.post(f"stripe/payouts/{payout['id']}", outcome="paid")
    _, arrived = lines(sim, "payouts_report")
    assert (arrived.kind, arrived.gross) == (LineKind.PAYOUT_ARRIVED, payout["amount"])


def test_a_payout_that_comes_back_is_paid_out_again(sim: World, sdk: stripe.StripeClient) -> None:
    paid(sdk)
    (payout,) = sim.post("stripe/payouts")
    assert sim.post("stripe/payouts") == [], "the balance is empty"
    sim.post(f"stripe/payouts/{payout['id']}", outcome="failed")
    out, back = lines(sim, "payouts_report")
    assert [(one.kind, one.gross) for one in (out, back)] == [
        (LineKind.PAYOUT, -payout["amount"]),
        (LineKind.PAYOUT_FAILED, payout["amount"]),
    ]
    (again,) = sim.post("stripe/payouts")
    assert again["amount"] == payout["amount"]
