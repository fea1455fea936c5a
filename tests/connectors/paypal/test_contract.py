"""PayPal under the contract, against the simulator in a process of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import msgspec
import pytest

from connectors.paypal.client import HOUR, PayPalProvider
from pipeline.messages.values import Operation, Outcome, PaymentMethod
from tests.connectors import contract, requests
from tests.connectors.contract import Books, Case, Method, Trouble
from tests.connectors.edges import FAST, LOST, SimulatedEdge, check_a_repeat, patiently, switch
from tests.connectors.simulators import PAYPAL, Simulator, simulator

CREDENTIALS = (PAYPAL["PAYMENTS_PAYPAL_CLIENT_ID"], PAYPAL["PAYMENTS_PAYPAL_CLIENT_SECRET"])
TOKENS = {
    Method.GOOD: "paypal_ok",
    Method.NO_FUNDS: "paypal_declined_5120",
    Method.STOLEN: "paypal_declined_9520",
    Method.EXPIRED: "paypal_declined_5400",
    Method.ISSUER_ERROR: "paypal_declined_5920",
    Method.CHALLENGED: "paypal_payer_action",
    Method.UNKNOWN: "paypal_that_nobody_knows",
    Method.REFUND_PENDING: "paypal_refund_pending",
    Method.REFUND_FAILS: "paypal_refund_failed",
}


def provider_at(url: str, credentials: tuple[str, str] = CREDENTIALS, **options: object) -> PayPalProvider:
    return PayPalProvider(url, *credentials, timeouts=FAST, return_url="https://shop.example/", **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    with simulator() as running:
        yield running


@pytest.fixture
async def edge(sim: Simulator) -> AsyncIterator[SimulatedEdge]:
    async with switch(provider_at, sim) as provider:
        yield SimulatedEdge(provider, sim, TOKENS)


@pytest.mark.parametrize("case", contract.CASES, ids=lambda case: case.name)
async def test_the_contract(edge: SimulatedEdge, case: Case) -> None:
    """An order that never answered has no name to ask for: its look-up asks for the request again, under its key."""
    nameless = case.operation is Operation.AUTHORIZE and case.trouble is not Trouble.NONE
    expected = replace(case, after=Outcome.NOT_FOUND) if nameless else case
    if case.method is Method.REFUND_PENDING:
        expected = replace(case, moved=False)  # in PayPal's book once it is completed
    result = await contract.run(edge, case)
    contract.check(edge, expected, result)
    if nameless:
        again = await patiently(edge, result.request)
        assert again.outcome is Outcome.APPROVED
        assert edge.books(result.request.payment_id) == Books(contract.AMOUNT)
        assert len(edge.simulator.book(result.request.payment_id)) == 1


@pytest.mark.parametrize("trouble", LOST)
async def test_a_repeat_is_the_same_call(edge: SimulatedEdge, trouble: Trouble) -> None:
    await check_a_repeat(edge, trouble)


async def test_after_the_keys_are_gone_an_old_request_charges_nothing_twice(edge: SimulatedEdge) -> None:
    """The trap: PayPal forgets the key of an order after 6 hours, and the repeat would be a new charge."""
    request = requests.authorize("paypal_ok", provider="paypal")
    assert (await edge.provider.call(request)).outcome is Outcome.APPROVED
    edge.simulator.forget_keys()
    later = provider_at(edge.simulator.url, now=lambda: request.issued_at + 4 * HOUR)
    answer = await later.call(request)
    looked_up = await later.call(requests.lookup(request))
    await later.close()
    assert (answer.outcome, looked_up.outcome) == (Outcome.UNKNOWN, Outcome.UNKNOWN)
    assert len(edge.simulator.book(request.payment_id)) == 1


@pytest.mark.parametrize("manual", [True, False])
async def test_an_order_that_its_payer_approved_is_completed_by_its_look_up(edge: SimulatedEdge, manual: bool) -> None:
    request = requests.authorize("paypal_payer_action", manual=manual, provider="paypal")
    asked = await edge.provider.call(request)
    assert asked.next_action is not None
    question = requests.lookup(request, reference=asked.provider_reference)
    assert (await edge.provider.call(question)).outcome is Outcome.REQUIRES_ACTION
    edge.simulator.approve(asked.next_action.url)
    answers = [await edge.provider.call(question) for _ in range(2)]
    assert {answer.outcome for answer in answers} == {Outcome.APPROVED}
    assert edge.books(request.payment_id) == Books(1_050, 0 if manual else 1_050)


async def test_an_order_that_was_given_up_is_never_paid(edge: SimulatedEdge) -> None:
    """Its payer may still approve it; what was paid before stays paid."""
    request = requests.authorize("paypal_payer_action", provider="paypal")
    asked = await edge.provider.call(request)
    assert asked.next_action is not None
    question = requests.lookup(request, reference=asked.provider_reference)
    given_up = msgspec.structs.replace(question, given_up=True)
    assert (await edge.provider.call(given_up)).outcome is Outcome.DECLINED
    edge.simulator.approve(asked.next_action.url)
    assert (await edge.provider.call(given_up)).outcome is Outcome.DECLINED
    assert edge.books(request.payment_id) == Books()
    assert (await edge.provider.call(question)).outcome is Outcome.APPROVED
    assert (await edge.provider.call(given_up)).outcome is Outcome.APPROVED


async def test_a_wallet_that_is_not_saved_sends_its_payer_to_paypal(edge: SimulatedEdge) -> None:
    method = PaymentMethod(kind="paypal_checkout", token="once")
    request = msgspec.structs.replace(requests.authorize("once", provider="paypal"), payment_method=method)
    answer = await edge.provider.call(request)
    assert (answer.outcome, answer.next_action is not None) == (Outcome.REQUIRES_ACTION, True)


async def test_several_captures_and_refunds_each_of_one_of_them(edge: SimulatedEdge) -> None:
    """The smallest capture that has enough left; and no refund that would be two."""
    request = requests.authorize("paypal_ok", 1_000, provider="paypal")
    reference = (await edge.provider.call(request)).provider_reference
    assert reference is not None
    for amount, final in ((300, False), (700, True)):
        capture = requests.capture(reference, amount, final=final, provider="paypal", payment_id=request.payment_id)
        assert (await edge.provider.call(capture)).outcome is Outcome.APPROVED
    outcomes = []
    for amount in (250, 300, 500, 50, 200):
        refund = requests.refund(reference, amount, provider="paypal", payment_id=request.payment_id)
        outcomes.append((await edge.provider.call(refund)).outcome)
    assert outcomes == [Outcome.APPROVED, Outcome.APPROVED, Outcome.DECLINED, Outcome.APPROVED, Outcome.APPROVED]
    assert edge.books(request.payment_id) == Books(1_000, 1_000, 800)


async def test_a_token_that_ended_is_renewed(edge: SimulatedEdge) -> None:
    first = await edge.provider.call(requests.authorize("paypal_ok", provider="paypal"))
    edge.simulator.expire_tokens()
    second = await edge.provider.call(requests.authorize("paypal_ok", provider="paypal"))
    assert (first.outcome, second.outcome) == (Outcome.APPROVED, Outcome.APPROVED)


async def test_wrong_credentials_decline_nobody(edge: SimulatedEdge) -> None:
    stranger = provider_at(edge.simulator.url, ("nobody", "wrong"))
    answer = await stranger.call(requests.authorize("paypal_ok", provider="paypal"))
    await stranger.close()
    assert (answer.outcome, answer.reachable) == (Outcome.TEMPORARY_FAILURE, False)


async def test_an_unknown_payment_is_refused(edge: SimulatedEdge) -> None:
    answer = await edge.provider.call(requests.capture("5O190127TN364715T", provider="paypal"))
    assert answer.decline is not None
    assert (answer.outcome, answer.decline.code) == (Outcome.DECLINED, "unexpected_state")


async def test_an_amount_that_paypal_cannot_move_is_refused_here(edge: SimulatedEdge) -> None:
    before = edge.simulator.calls()
    answer = await edge.provider.call(requests.authorize("paypal_ok", 1_050, "HUF", provider="paypal"))
    assert (answer.outcome, edge.simulator.calls()) == (Outcome.DECLINED, before)
