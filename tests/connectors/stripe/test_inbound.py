"""The simulator's signed webhooks, as they come over HTTP: verified, read, and one report a fact."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from connectors.provider import Translated
from connectors.stripe import webhook
from connectors.stripe.client import StripeProvider
from pipeline import clock
from pipeline.messages.inputs import ProviderReport
from pipeline.messages.requests import ProviderRequest
from pipeline.messages.values import Operation, Outcome
from tests.connectors import requests
from tests.connectors.simulators import KEY, SECRET, Simulator, simulator


@dataclass(slots=True)
class Endpoint:
    """A webhook endpoint that keeps what genuine deliveries say."""

    said: list[Translated] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def receive(self, request: web.Request) -> web.Response:
        raw, now = await request.read(), clock.now()
        headers = {name.lower(): value for name, value in request.headers.items()}
        webhook.verify(raw, headers, [SECRET], now)
        self.said += webhook.translate(raw, now)
        self.arrived.set()
        return web.Response()

    def about(self, request: ProviderRequest) -> list[ProviderReport]:
        """The reports on one operation."""
        return [
            item for item in self.said if isinstance(item, ProviderReport) and item.subject_id == request.subject_id
        ]

    async def wait(self, request: ProviderRequest, count: int = 1) -> list[ProviderReport]:
        """The same, once there are so many."""
        async with asyncio.timeout(20):
            while len(self.about(request)) < count:
                self.arrived.clear()
                await self.arrived.wait()
        return self.about(request)


@dataclass(frozen=True, slots=True)
class Bench:
    """Stripe's edge, the simulator, and where its webhooks go."""

    provider: StripeProvider
    simulator: Simulator
    endpoint: Endpoint

    async def authorized(self, request: ProviderRequest) -> str:
        """Authorize; the provider's reference."""
        answer = await self.provider.call(request)
        assert answer.provider_reference is not None
        return answer.provider_reference


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    endpoint, app = Endpoint(), web.Application()
    app.router.add_post("/webhooks/stripe", endpoint.receive)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    with simulator(webhook_url=f"http://{host}:{port}/webhooks/stripe") as sim:
        provider = StripeProvider(sim.url, KEY)
        yield Bench(provider, sim, endpoint)
        await provider.close()
    await runner.cleanup()


async def test_a_webhook_says_what_the_answer_says(bench: Bench) -> None:
    """Manual capture in two parts, the second of which lets the rest go; then a refund."""
    authorize = requests.authorize("pm_card_visa", 1_000)
    payment, reference = authorize.payment_id, await bench.authorized(authorize)
    first = requests.capture(reference, 300, final=False, payment_id=payment)
    second = requests.capture(reference, 500, payment_id=payment)
    refund = requests.refund(reference, 200, payment_id=payment)
    answers = [await bench.provider.call(request) for request in (first, second, refund)]
    for request, answer, operation in zip(
        (first, second, refund), answers, (Operation.CAPTURE, Operation.CAPTURE, Operation.REFUND), strict=True
    ):
        (report,) = await bench.endpoint.wait(request)
        assert (report.payment_id, report.operation) == (payment, operation)
        assert (report.outcome, report.amount, report.currency) == (answer.outcome, answer.amount, answer.currency)
        assert (report.provider_reference, report.operation_reference) == (
            answer.provider_reference,
            answer.operation_reference,
        )
    (held,) = await bench.endpoint.wait(authorize)
    assert (held.operation, held.outcome, held.amount) == (Operation.AUTHORIZE, Outcome.APPROVED, 1_000)


async def test_automatic_capture_is_one_report(bench: Bench) -> None:
    request = requests.authorize("pm_card_visa", manual=False)
    await bench.authorized(request)
    (report,) = await bench.endpoint.wait(request)
    assert (report.operation, report.outcome, report.amount) == (Operation.AUTHORIZE, Outcome.APPROVED, 1_050)


async def test_a_void(bench: Bench) -> None:
    authorize = requests.authorize("pm_card_visa")
    void = requests.void(await bench.authorized(authorize), payment_id=authorize.payment_id)
    await bench.provider.call(void)
    (report,) = await bench.endpoint.wait(void)
    assert (report.operation, report.outcome) == (Operation.VOID, Outcome.APPROVED)


async def test_a_decline(bench: Bench) -> None:
    request = requests.authorize("pm_card_visa_chargeDeclinedInsufficientFunds")
    answer = await bench.provider.call(request)
    (report,) = await bench.endpoint.wait(request)
    assert (report.outcome, report.decline) == (Outcome.DECLINED, answer.decline)


@pytest.mark.parametrize(("back", "outcome"), [("success", Outcome.APPROVED), ("fail", Outcome.DECLINED)])
async def test_authentication(bench: Bench, back: str, outcome: Outcome) -> None:
    request = requests.authorize("pm_card_threeDSecure2Required")
    asked = await bench.provider.call(request)
    (required,) = await bench.endpoint.wait(request)
    assert required.outcome is Outcome.REQUIRES_ACTION
    assert required.next_action == asked.next_action
    assert asked.next_action is not None
    await asyncio.to_thread(bench.simulator.authenticate, asked.next_action.url, back)
    _, decided = await bench.endpoint.wait(request, 2)
    assert decided.outcome is outcome


async def test_a_refund_that_fails_after_all(bench: Bench) -> None:
    authorize = requests.authorize("pm_card_visa", manual=False)
    refund = requests.refund(await bench.authorized(authorize), payment_id=authorize.payment_id)
    answer = await bench.provider.call(refund)
    assert answer.operation_reference is not None
    await asyncio.to_thread(bench.simulator.settle_refund, answer.operation_reference, "fail")
    reports = await bench.endpoint.wait(refund, 3)
    assert reports[0].outcome is Outcome.APPROVED
    assert {report.outcome for report in reports[1:]} == {Outcome.DECLINED}
    assert {report.operation_reference for report in reports} == {answer.operation_reference}


async def test_a_duplicate_is_the_same_report(bench: Bench) -> None:
    bench.simulator.fault("webhook_duplicate", "authorize")
    request = requests.authorize("pm_card_visa")
    await bench.authorized(request)
    first, second = await bench.endpoint.wait(request, 2)
    assert first.report_id == second.report_id


async def test_a_webhook_may_come_before_the_answer(bench: Bench) -> None:
    bench.simulator.fault("webhook_first", "authorize")
    request = requests.authorize("pm_card_visa")
    answer = await bench.provider.call(request)
    (report,) = bench.endpoint.about(request)
    assert report.provider_reference == answer.provider_reference
