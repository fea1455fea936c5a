"""Stripe under the contract, against the simulator in a process of its own, through the official SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from connectors.stripe.client import StripeProvider
from pipeline.messages.values import Operation, Outcome
from tests.connectors import contract, requests
from tests.connectors.contract import Books, Case, Method, Trouble
from tests.connectors.edges import FAST, LOST, SimulatedEdge, check_a_repeat, check_an_early_repeat, switch
from tests.connectors.simulators import KEY, Simulator, simulator

TOKENS = {
    Method.GOOD: "pm_card_visa",
    Method.NO_FUNDS: "pm_card_visa_chargeDeclinedInsufficientFunds",
    Method.STOLEN: "pm_card_visa_chargeDeclinedStolenCard",
    Method.EXPIRED: "pm_card_chargeDeclinedExpiredCard",
    Method.ISSUER_ERROR: "pm_card_chargeDeclinedProcessingError",
    Method.CHALLENGED: "pm_card_threeDSecure2Required",
    Method.UNKNOWN: "pm_card_that_nobody_knows",
    Method.REFUND_PENDING: "pm_card_pendingRefund",
    Method.REFUND_FAILS: "pm_card_refundFail",
}


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    with simulator() as running:
        yield running


def provider_at(url: str) -> StripeProvider:
    return StripeProvider(url, KEY, timeouts=FAST)


@pytest.fixture
async def edge(sim: Simulator) -> AsyncIterator[SimulatedEdge]:
    async with switch(provider_at, sim) as provider:
        yield SimulatedEdge(provider, sim, TOKENS)


@pytest.mark.parametrize("case", contract.CASES, ids=lambda case: case.name)
async def test_the_contract(edge: SimulatedEdge, case: Case) -> None:
    contract.check(edge, case, await contract.run(edge, case))


@pytest.mark.parametrize("trouble", LOST)
async def test_a_repeat_is_the_same_call(edge: SimulatedEdge, trouble: Trouble) -> None:
    await check_a_repeat(edge, trouble)


async def test_a_call_while_the_first_is_under_way_waits_for_its_answer(edge: SimulatedEdge) -> None:
    await check_an_early_repeat(edge)


async def test_after_the_keys_are_gone_an_old_request_charges_nothing_twice(edge: SimulatedEdge) -> None:
    """The trap: Stripe forgets the key, and the repeat would be a new charge."""
    request = requests.authorize("pm_card_visa")
    assert (await edge.provider.call(request)).outcome is Outcome.APPROVED
    edge.simulator.forget_keys()
    a_day_later = StripeProvider(edge.simulator.url, KEY, now=lambda: request.issued_at + 25 * 3_600_000)
    answer = await a_day_later.call(request)
    await a_day_later.close()
    assert (answer.outcome, answer.looked_up) == (Outcome.APPROVED, True)
    assert len(edge.simulator.book(request.payment_id)) == 1


async def test_the_saved_500_has_a_way_out(edge: SimulatedEdge) -> None:
    request = requests.authorize("pm_card_visa")
    edge.trouble(Trouble.SERVER_ERROR, Operation.AUTHORIZE)
    assert (await edge.provider.call(request)).outcome is Outcome.UNKNOWN
    again = await edge.provider.call(request)
    assert again.outcome is Outcome.TEMPORARY_FAILURE, "the key is burnt, and nothing was done under it"
    assert edge.books(request.payment_id) == Books()


async def test_a_saved_500_of_a_charge_that_was_made_is_that_charge(edge: SimulatedEdge) -> None:
    request = requests.authorize("pm_card_visa", manual=False)
    edge.trouble(Trouble.SERVER_ERROR_AFTER, Operation.AUTHORIZE)
    assert (await edge.provider.call(request)).outcome is Outcome.UNKNOWN
    again = await edge.provider.call(request)
    assert (again.outcome, again.looked_up) == (Outcome.APPROVED, True)
    assert edge.books(request.payment_id) == Books(1_050, 1_050)


async def test_several_captures_then_a_void_of_the_rest(edge: SimulatedEdge) -> None:
    request = requests.authorize("pm_card_visa", 1_000)
    reference = (await edge.provider.call(request)).provider_reference
    assert reference is not None
    captures = [
        requests.capture(reference, amount, final=False, payment_id=request.payment_id) for amount in (300, 200)
    ]
    answers = [await edge.provider.call(capture) for capture in captures]
    assert [(a.outcome, a.amount) for a in answers] == [(Outcome.APPROVED, 300), (Outcome.APPROVED, 200)]
    found = [await edge.provider.call(requests.lookup(capture)) for capture in captures]
    assert [(a.outcome, a.amount) for a in found] == [(Outcome.APPROVED, 300), (Outcome.APPROVED, 200)]
    too_much = await edge.provider.call(requests.capture(reference, 501, payment_id=request.payment_id))
    assert (too_much.outcome, too_much.decline and too_much.decline.code) == (Outcome.DECLINED, "invalid_amount")
    last = await edge.provider.call(requests.capture(reference, 100, payment_id=request.payment_id))
    assert (last.outcome, last.amount) == (Outcome.APPROVED, 100)
    assert edge.books(request.payment_id) == Books(1_000, 600)


async def test_a_refund_that_is_decided_later(edge: SimulatedEdge) -> None:
    request = requests.authorize("pm_card_pendingRefund", manual=False)
    reference = (await edge.provider.call(request)).provider_reference
    assert reference is not None
    for outcome, expected in (("success", Outcome.APPROVED), ("fail", Outcome.DECLINED)):
        refund = requests.refund(reference, 100, payment_id=request.payment_id)
        pending = await edge.provider.call(refund)
        assert pending.outcome is Outcome.PENDING
        assert pending.operation_reference is not None
        edge.simulator.settle_refund(pending.operation_reference, outcome)
        question = requests.lookup(refund, operation_reference=pending.operation_reference)
        assert (await edge.provider.call(question)).outcome is expected
        assert (await edge.provider.call(requests.lookup(refund))).outcome is expected


@pytest.mark.parametrize(("back", "expected"), [("success", Outcome.APPROVED), ("fail", Outcome.DECLINED)])
async def test_authentication_ends_either_way(edge: SimulatedEdge, back: str, expected: Outcome) -> None:
    request = requests.authorize("pm_card_threeDSecure2Required")
    asked = await edge.provider.call(request)
    assert asked.next_action is not None
    edge.simulator.authenticate(asked.next_action.url, back)
    found = await edge.provider.call(requests.lookup(request, reference=asked.provider_reference))
    assert found.outcome is expected


async def test_wrong_credentials_decline_nobody(edge: SimulatedEdge) -> None:
    stranger = StripeProvider(edge.simulator.url, "sk_test_wrong")
    answer = await stranger.call(requests.authorize("pm_card_visa"))
    await stranger.close()
    assert (answer.outcome, answer.reachable) == (Outcome.TEMPORARY_FAILURE, False)


def test_the_simulator_is_there(sim: Simulator) -> None:
    assert httpx.get(f"{sim.url}/_sim/stats").status_code == 200
