"""Disputes: each report counts once, in whatever order; the books end the same."""

from __future__ import annotations

from functools import reduce
from itertools import permutations

import pytest

from pipeline.domain.chain import PaymentChain
from pipeline.domain.projection import DisputeStatus, PaymentView, apply, public_event
from pipeline.messages.commands import Capture
from pipeline.messages.facts import DisputeOpened, Fact
from pipeline.messages.inputs import DisputeReport
from pipeline.messages.values import DisputeStep, Operation, Outcome
from pipeline.topics import PublicTopic
from tests.domain.samples import dispute_report, report
from tests.domain.test_postings import authorized, balances, command

CAPTURED = {"provider_receivable:stripe:USD": 10_000, "merchant_payable:acme:USD": -10_000}
OPENED = dispute_report(DisputeStep.OPENED, reason="fraudulent", evidence_due_at=1_790_500_000_000)
WITHDRAWN = dispute_report(DisputeStep.FUNDS_WITHDRAWN, fee=1_500)
REINSTATED = dispute_report(DisputeStep.FUNDS_REINSTATED)
WON = dispute_report(DisputeStep.WON)
LOST = dispute_report(DisputeStep.LOST)


def captured() -> PaymentChain:
    chain = authorized()
    (request,) = chain.feed(Capture(**command("capture"))).requests
    chain.feed(report(Operation.CAPTURE, Outcome.APPROVED, request.subject_id))
    return chain


def after(*reports: DisputeReport) -> list[Fact]:
    chain = captured()
    for item in reports:
        chain.feed(item)
    return chain.facts


def view(facts: list[Fact]) -> PaymentView:
    found = reduce(apply, facts, None)
    assert isinstance(found, PaymentView)
    return found


def test_nothing_moves_before_the_funds_do() -> None:
    facts = after(OPENED)
    assert balances(facts) == CAPTURED
    (dispute,) = view(facts).disputes
    assert (dispute.status, dispute.withdrawn, dispute.reason) == (DisputeStatus.OPEN, 0, "fraudulent")
    assert dispute.evidence_due_at == 1_790_500_000_000


def test_withdrawn_funds_are_a_claim_and_the_fee_is_a_cost() -> None:
    assert balances(after(OPENED, WITHDRAWN)) == {
        "provider_receivable:stripe:USD": -1_500,
        "merchant_payable:acme:USD": -10_000,
        "disputes_receivable:stripe:USD": 10_000,
        "dispute_fees:stripe:USD": 1_500,
    }


@pytest.mark.parametrize("order", [*permutations([OPENED, WITHDRAWN, LOST, WITHDRAWN])])
def test_a_lost_dispute_is_the_merchants_loss_in_every_order(order: tuple[DisputeReport, ...]) -> None:
    facts = after(*order)
    assert balances(facts) == {"provider_receivable:stripe:USD": -1_500, "dispute_fees:stripe:USD": 1_500}
    (dispute,) = view(facts).disputes
    assert (dispute.status, dispute.withdrawn) == (DisputeStatus.LOST, 10_000)


@pytest.mark.parametrize("order", [*permutations([OPENED, WITHDRAWN, REINSTATED, WON])])
def test_a_won_dispute_costs_only_its_fee_in_every_order(order: tuple[DisputeReport, ...]) -> None:
    facts = after(*order, *order)
    assert balances(facts) == {
        "provider_receivable:stripe:USD": 8_500,
        "merchant_payable:acme:USD": -10_000,
        "dispute_fees:stripe:USD": 1_500,
    }
    (dispute,) = view(facts).disputes
    assert (dispute.status, dispute.withdrawn) == (DisputeStatus.WON, 0)


def test_an_appeal_takes_the_loss_back() -> None:
    facts = after(OPENED, WITHDRAWN, LOST, WON, REINSTATED)
    assert balances(facts)["merchant_payable:acme:USD"] == -10_000


def test_a_second_chargeback_withdraws_again() -> None:
    again = dispute_report(DisputeStep.FUNDS_WITHDRAWN, "second")
    facts = after(OPENED, WITHDRAWN, REINSTATED, again)
    assert balances(facts)["disputes_receivable:stripe:USD"] == 10_000


def test_two_disputes_of_a_payment_are_two() -> None:
    other = dispute_report(DisputeStep.OPENED, "other", dispute_reference="dp_2", amount=500)
    facts = after(OPENED, other)
    assert sum(isinstance(fact, DisputeOpened) for fact in facts) == 2
    assert [d.amount for d in view(facts).disputes] == [10_000, 500]


def test_consumers_learn_of_it_with_its_state() -> None:
    current: PaymentView | None = None
    seen = []
    for fact in after(OPENED, WITHDRAWN, LOST):
        current = apply(current, fact)
        event = public_event(current, fact)
        if event and event.dispute:
            assert event.type == PublicTopic.DISPUTED
            seen.append(event.dispute.status)
    assert seen == ["open", "lost"]
