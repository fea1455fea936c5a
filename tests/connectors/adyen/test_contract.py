"""Adyen under the contract, against the simulator in a process of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import httpx
import pytest

from connectors.adyen.client import DAY, AdyenProvider
from pipeline.messages.requests import ProviderRequest
from pipeline.messages.values import Operation, Outcome
from tests.connectors import contract, requests
from tests.connectors.contract import Books, Case, Method, Trouble
from tests.connectors.edges import FAST, LOST, SimulatedEdge, check_a_repeat, check_an_early_repeat, patiently, switch
from tests.connectors.simulators import ADYEN, Simulator, simulator

KEY, ACCOUNT = ADYEN["PAYMENTS_ADYEN_API_KEY"], ADYEN["PAYMENTS_ADYEN_MERCHANT_ACCOUNT"]
TOKENS = {
    Method.GOOD: "adyen_ok",
    Method.NO_FUNDS: "adyen_refused_12",
    Method.STOLEN: "adyen_refused_5_raw43",
    Method.EXPIRED: "adyen_refused_6",
    Method.ISSUER_ERROR: "adyen_refused_9",
    Method.CHALLENGED: "adyen_redirect",
    Method.UNKNOWN: "adyen_that_nobody_knows",
    Method.REFUND_PENDING: "adyen_ok",
    Method.REFUND_FAILS: "adyen_refund_failed",
}
LATER = frozenset({Operation.CAPTURE, Operation.VOID, Operation.REFUND})
SECOND_OUTCOME = {
    Trouble.SERVER_ERROR: Outcome.UNKNOWN,
    Trouble.SERVER_ERROR_AFTER: Outcome.UNKNOWN,
}
"""What the repeat under the same key comes to, where it is not what the operation comes to: errors are kept."""


def provider_at(url: str, key: str = KEY, **options: object) -> AdyenProvider:
    return AdyenProvider(
        f"{url}/checkout",
        key,
        ACCOUNT,
        timeouts=FAST,
        return_url="https://shop.example/back/{payment_id}",
        **options,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    with simulator(flags=["--adyen-modification-seconds", "600"]) as running:
        yield running


@pytest.fixture
async def edge(sim: Simulator) -> AsyncIterator[SimulatedEdge]:
    def settle() -> None:
        httpx.post(f"{sim.url}/_sim/adyen/settle").raise_for_status()

    async with switch(provider_at, sim) as provider:
        yield SimulatedEdge(provider, sim, TOKENS, LATER, settle)


@pytest.mark.parametrize("case", contract.CASES, ids=lambda case: case.name)
async def test_the_contract(edge: SimulatedEdge, case: Case) -> None:
    """Adyen cannot be asked: every look-up asks for the request again, under the key that Adyen still knows. So what a
    look-up of another provider says, here the repeat says; and it does nothing twice.
    """
    result = await contract.run(edge, case)
    contract.check(edge, replace(case, after=Outcome.NOT_FOUND), result)
    again = await patiently(edge, result.request)
    assert again.outcome is _repeated(case)
    assert len(edge.simulator.book(result.request.payment_id)) == (0 if _never_began(case) else 1)
    done = again.outcome in {Outcome.APPROVED, Outcome.PENDING}
    expected = contract.expected_books(replace(case, moved=True)) if done else result.books
    assert edge.books(result.request.payment_id) == expected


def _repeated(case: Case) -> Outcome:
    """What the repeat comes to, in the end the operation itself."""
    if case.trouble in SECOND_OUTCOME:
        return SECOND_OUTCOME[case.trouble]
    if case.trouble is Trouble.NONE and case.outcome is not Outcome.APPROVED:
        return case.outcome
    return Outcome.APPROVED if case.operation is Operation.AUTHORIZE else Outcome.PENDING


def _never_began(case: Case) -> bool:
    """Whether Adyen never made a payment of it, and keeps that answer."""
    kept = case.trouble is Trouble.SERVER_ERROR or case.method is Method.UNKNOWN
    return case.operation is Operation.AUTHORIZE and kept


@pytest.mark.parametrize("trouble", LOST)
async def test_a_repeat_is_the_same_call(edge: SimulatedEdge, trouble: Trouble) -> None:
    await check_a_repeat(edge, trouble)


async def test_a_call_while_the_first_is_under_way_waits_for_its_answer(edge: SimulatedEdge) -> None:
    await check_an_early_repeat(edge)


async def test_after_the_keys_are_gone_an_old_request_charges_nothing_twice(edge: SimulatedEdge) -> None:
    """The trap: Adyen forgets the key, and the repeat would be a new charge."""
    request = requests.authorize("adyen_ok", provider="adyen")
    assert (await edge.provider.call(request)).outcome is Outcome.APPROVED
    edge.simulator.forget_keys()
    days_later = provider_at(edge.simulator.url, now=lambda: request.issued_at + 8 * DAY)
    answer = await days_later.call(request)
    looked_up = await days_later.call(requests.lookup(request))
    await days_later.close()
    assert (answer.outcome, looked_up.outcome) == (Outcome.UNKNOWN, Outcome.UNKNOWN)
    assert len(edge.simulator.book(request.payment_id)) == 1


async def test_a_final_capture_gives_the_rest_back(edge: SimulatedEdge) -> None:
    request = requests.authorize("adyen_ok", 1_000, provider="adyen")
    reference = (await edge.provider.call(request)).provider_reference
    assert reference is not None
    for amount in (300, 100):
        capture = requests.capture(reference, amount, provider="adyen", payment_id=request.payment_id)
        assert (await edge.provider.call(capture)).outcome is Outcome.PENDING
        assert edge.books(request.payment_id) == Books(1_000, 300), "nothing is left for the second"


async def test_wrong_credentials_decline_nobody(edge: SimulatedEdge) -> None:
    stranger = provider_at(edge.simulator.url, "wrong")
    answer = await stranger.call(requests.authorize("adyen_ok", provider="adyen"))
    await stranger.close()
    assert (answer.outcome, answer.reachable) == (Outcome.TEMPORARY_FAILURE, False)


async def test_an_unknown_payment_is_refused(edge: SimulatedEdge) -> None:
    answer = await edge.provider.call(requests.capture("QFQTPCQ8HXSKGK82", provider="adyen"))
    assert answer.decline is not None
    assert (answer.outcome, answer.decline.code) == (Outcome.DECLINED, "unexpected_state")


@pytest.mark.parametrize(("outcome", "comes_to"), [("success", Outcome.APPROVED), ("fail", Outcome.DECLINED)])
async def test_a_shopper_who_comes_back_decides_the_payment(
    edge: SimulatedEdge, outcome: str, comes_to: Outcome
) -> None:
    request, result = await _returned(edge, outcome)
    question = requests.lookup(request, action_result=result)
    first, again = [await edge.provider.call(question) for _ in range(2)]
    assert (first.outcome, again) == (comes_to, first)
    assert edge.books(request.payment_id) == Books(1_050 if outcome == "success" else 0, 0)


async def test_another_payments_result_decides_nothing_here(edge: SimulatedEdge) -> None:
    """A browser may bring what it likes: an approved payment's result must not authorize a dearer one."""
    dear = requests.authorize("adyen_redirect", 99_000, provider="adyen")
    assert (await edge.provider.call(dear)).outcome is Outcome.REQUIRES_ACTION
    _, result = await _returned(edge, "success")
    answer = await edge.provider.call(requests.lookup(dear, action_result=result))
    assert (answer.outcome, answer.provider_reference) == (Outcome.REQUIRES_ACTION, None)
    assert edge.books(dear.payment_id) == Books()


async def test_a_result_that_is_none_decides_nothing(edge: SimulatedEdge) -> None:
    request, result = await _returned(edge, "success")
    nonsense = await edge.provider.call(requests.lookup(request, action_result="nonsense"))
    assert (nonsense.outcome, nonsense.decline) == (Outcome.REQUIRES_ACTION, None)
    assert (await edge.provider.call(requests.lookup(request, action_result=result))).outcome is Outcome.APPROVED


async def _returned(edge: SimulatedEdge, outcome: str) -> tuple[ProviderRequest, str]:
    """A payment whose shopper did what was asked, and the result that they bring to the return URL."""
    request = requests.authorize("adyen_redirect", provider="adyen")
    action = (await edge.provider.call(request)).next_action
    assert action is not None
    async with httpx.AsyncClient() as browser:
        sent = await browser.post(action.url, data={"outcome": outcome})
    where = httpx.URL(sent.headers["location"])
    assert where.path == f"/back/{request.payment_id}"
    return request, where.params["redirectResult"]
