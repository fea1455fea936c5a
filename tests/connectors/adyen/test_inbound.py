"""The simulator's signed webhooks, as they come over HTTP: verified, read, and one report a fact."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from aiohttp import web

from connectors.adyen.client import AdyenProvider
from connectors.adyen.webhook import Endpoint, translate, verify
from connectors.provider import Announced, Translated, Unrouted
from pipeline import clock
from pipeline.messages.inputs import ProviderReport
from pipeline.messages.requests import ProviderRequest
from pipeline.messages.values import Operation, Outcome
from tests.connectors import requests
from tests.connectors.adyen.test_contract import provider_at
from tests.connectors.simulators import ADYEN, Simulator, simulator

SETUP = Endpoint(
    keys=[bytes.fromhex(ADYEN["PAYMENTS_ADYEN_WEBHOOK_HMAC_KEYS"])],
    username=ADYEN["PAYMENTS_ADYEN_WEBHOOK_USERNAME"],
    password=ADYEN["PAYMENTS_ADYEN_WEBHOOK_PASSWORD"],
)


@dataclass(slots=True)
class Receiver:
    """A webhook endpoint that keeps what genuine deliveries say. `answers` are given first, one a delivery."""

    said: list[Translated] = field(default_factory=list)
    deliveries: int = 0
    answers: list[bytes] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def receive(self, request: web.Request) -> web.Response:
        raw, now = await request.read(), clock.now()
        headers = {name.lower(): value for name, value in request.headers.items()}
        verify(raw, headers, SETUP)
        self.said += translate(raw, now)
        self.deliveries += 1
        self.arrived.set()
        return web.Response(body=self.answers.pop(0) if self.answers else b"[accepted]")

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

    async def other(self, count: int) -> list[Translated]:
        """What names no operation of ours, once there is so much."""
        async with asyncio.timeout(20):
            while len(found := [i for i in self.said if getattr(i, "subject_id", None) is None]) < count:
                self.arrived.clear()
                await self.arrived.wait()
        return found


@dataclass(frozen=True, slots=True)
class Bench:
    """Adyen's edge, the simulator, and where its webhooks go."""

    provider: AdyenProvider
    simulator: Simulator
    receiver: Receiver

    async def authorized(self, token: str = "adyen_ok", **fields: Any) -> tuple[ProviderRequest, str]:
        """An authorization, and the provider's reference."""
        request = requests.authorize(token, provider="adyen", **fields)
        answer = await self.provider.call(request)
        assert answer.provider_reference is not None
        return request, answer.provider_reference

    async def control(self, path: str, **params: str) -> None:
        """Ask the simulator's own API."""
        async with httpx.AsyncClient(base_url=f"{self.simulator.url}/_sim/adyen/") as client:
            (await client.post(path, params=params)).raise_for_status()


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    """Where webhooks go: one address for all tests, so that one simulator does for all."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[:2]


@pytest.fixture(scope="module")
def sim(address: tuple[str, int]) -> Iterator[Simulator]:
    url = f"http://{address[0]}:{address[1]}/webhooks/adyen"
    flags = ["--adyen-webhook-url", url, "--adyen-modification-seconds", "0.05", "--webhook-first-retry", "0.05"]
    with simulator(flags=flags) as running:
        yield running


@pytest.fixture
async def bench(sim: Simulator, address: tuple[str, int]) -> AsyncIterator[Bench]:
    async with httpx.AsyncClient() as client:
        (await client.post(f"{sim.url}/_sim/reset")).raise_for_status()
    receiver, app = Receiver(), web.Application()
    app.router.add_post("/webhooks/adyen", receiver.receive)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, *address, reuse_port=True).start()
    provider = provider_at(sim.url)
    yield Bench(provider, sim, receiver)
    await provider.close()
    await runner.cleanup()


async def test_captures_and_refunds_are_decided_by_webhook(bench: Bench) -> None:
    authorize, reference = await bench.authorized(amount=1_000)
    payment = authorize.payment_id
    capture = requests.capture(reference, 500, provider="adyen", payment_id=payment)
    taken = await bench.provider.call(capture)
    (captured,) = await bench.receiver.wait(capture)
    refund = requests.refund(reference, 200, provider="adyen", payment_id=payment)
    await bench.provider.call(refund)
    (refunded,) = await bench.receiver.wait(refund)
    (held,) = await bench.receiver.wait(authorize)
    assert taken.outcome is Outcome.PENDING
    assert {held.payment_id, captured.payment_id, refunded.payment_id} == {payment}
    assert [(r.operation, r.outcome, r.amount) for r in (held, captured, refunded)] == [
        (Operation.AUTHORIZE, Outcome.APPROVED, 1_000),
        (Operation.CAPTURE, Outcome.APPROVED, 500),
        (Operation.REFUND, Outcome.APPROVED, 200),
    ]
    assert (captured.provider_reference, captured.operation_reference) == (reference, taken.operation_reference)


async def test_a_void(bench: Bench) -> None:
    authorize, reference = await bench.authorized()
    void = requests.void(reference, provider="adyen", payment_id=authorize.payment_id)
    await bench.provider.call(void)
    (report,) = await bench.receiver.wait(void)
    assert (report.operation, report.outcome) == (Operation.VOID, Outcome.APPROVED)


@pytest.mark.parametrize("token", ["adyen_refused_12", "adyen_refused_2_raw43_mac03", "adyen_refused_4"])
async def test_a_webhook_refuses_as_the_answer_does(bench: Bench, token: str) -> None:
    request = requests.authorize(token, provider="adyen")
    answer = await bench.provider.call(request)
    (report,) = await bench.receiver.wait(request)
    assert (report.outcome, report.decline) == (Outcome.DECLINED, answer.decline)
    assert report.provider_reference == answer.provider_reference


@pytest.mark.parametrize(
    ("token", "operation", "outcomes"),
    [
        ("adyen_capture_refused", Operation.CAPTURE, [Outcome.DECLINED]),
        ("adyen_capture_failed", Operation.CAPTURE, [Outcome.APPROVED, Outcome.DECLINED]),
        ("adyen_cancel_refused", Operation.VOID, [Outcome.DECLINED]),
        ("adyen_refund_refused", Operation.REFUND, [Outcome.DECLINED]),
        ("adyen_refund_failed", Operation.REFUND, [Outcome.APPROVED, Outcome.DECLINED]),
        ("adyen_refund_reversed", Operation.REFUND, [Outcome.APPROVED, Outcome.DECLINED]),
    ],
)
async def test_what_comes_to_nothing(bench: Bench, token: str, operation: Operation, outcomes: list[Outcome]) -> None:
    authorize, reference = await bench.authorized(token, manual=operation is not Operation.REFUND)
    common: dict[str, Any] = {"provider": "adyen", "payment_id": authorize.payment_id}
    request: ProviderRequest
    match operation:
        case Operation.CAPTURE:
            request = requests.capture(reference, **common)
        case Operation.VOID:
            request = requests.void(reference, **common)
        case _:
            request = requests.refund(reference, **common)
    assert (await bench.provider.call(request)).outcome is Outcome.PENDING
    reports = await bench.receiver.wait(request, len(outcomes))
    assert sorted(r.outcome for r in reports) == sorted(outcomes), "in any order"
    assert len({r.report_id for r in reports}) == len(outcomes)


@pytest.mark.parametrize(("back", "outcome"), [("success", Outcome.APPROVED), ("fail", Outcome.DECLINED)])
async def test_a_redirect_is_decided_once_the_shopper_is_back(bench: Bench, back: str, outcome: Outcome) -> None:
    request = requests.authorize("adyen_redirect", provider="adyen")
    asked = await bench.provider.call(request)
    assert asked.next_action is not None
    async with httpx.AsyncClient() as browser:
        sent_back = await browser.get(asked.next_action.url, params={"outcome": back})
        assert bench.receiver.about(request) == [], "nothing is decided before /payments/details"
        result = httpx.URL(sent_back.headers["location"]).params["redirectResult"]
        details = await browser.post(
            f"{bench.simulator.url}/checkout/v72/payments/details",
            json={"details": {"redirectResult": result}},
            headers={"X-API-Key": ADYEN["PAYMENTS_ADYEN_API_KEY"]},
        )
    (report,) = await bench.receiver.wait(request)
    assert report.outcome is outcome
    assert report.provider_reference == details.json()["pspReference"]


async def test_a_shopper_who_never_comes_back(bench: Bench) -> None:
    request = requests.authorize("adyen_redirect", provider="adyen")
    await bench.provider.call(request)
    (page,) = bench.simulator.book(request.payment_id)
    await bench.control(f"payments/{page['psp_reference']}/close")
    (report,) = await bench.receiver.wait(request)
    assert report.outcome is Outcome.DECLINED


@pytest.mark.parametrize("token", ["adyen_pending", "adyen_received"])
async def test_a_payment_that_is_decided_later(bench: Bench, token: str) -> None:
    request, reference = await bench.authorized(token)
    assert (await bench.provider.call(request)).outcome is Outcome.PENDING
    await bench.control(f"payments/{reference}/decide", outcome="success")
    (report,) = await bench.receiver.wait(request)
    assert (report.outcome, report.provider_reference) == (Outcome.APPROVED, reference)


async def test_a_webhook_may_come_before_the_answer(bench: Bench) -> None:
    authorize, reference = await bench.authorized()
    for operation in ("capture", "refund"):
        bench.simulator.fault("webhook_first", operation)
        make = requests.capture if operation == "capture" else requests.refund
        request = make(reference, provider="adyen", payment_id=authorize.payment_id)
        answer = await bench.provider.call(request)
        (report,) = bench.receiver.about(request)
        assert (answer.outcome, report.outcome) == (Outcome.PENDING, Outcome.APPROVED)


async def test_a_duplicate_is_the_same_report(bench: Bench) -> None:
    bench.simulator.fault("webhook_duplicate", "authorize")
    request, _ = await bench.authorized()
    first, second = await bench.receiver.wait(request, 2)
    assert first.report_id == second.report_id


async def test_a_batch_with_mixed_items(bench: Bench) -> None:
    authorize, reference = await bench.authorized("adyen_chargeback")
    capture = requests.capture(reference, provider="adyen", payment_id=authorize.payment_id)
    await bench.provider.call(capture)
    await bench.receiver.wait(capture)
    await bench.receiver.other(2)
    before, said = bench.receiver.deliveries, len(bench.receiver.said)
    await bench.control("webhooks/batch", reference=reference)
    await bench.receiver.wait(capture, 2)
    assert (bench.receiver.deliveries, len(bench.receiver.said)) == (before + 1, 2 * said)


async def test_what_others_do(bench: Bench) -> None:
    """A dispute and a report are kept; a refund in the Customer Area and an expiry name the payment only."""
    authorize, reference = await bench.authorized(manual=False)
    await bench.control(f"payments/{reference}/chargeback")
    await bench.control("batches")
    await bench.control("reports/invoice_1.pdf")
    await bench.control(f"payments/{reference}/refund")
    held, other = await bench.authorized()
    await bench.control(f"payments/{other}/expire")
    found = await bench.receiver.other(6)
    kept = {item.event_type: item.reference for item in found if isinstance(item, Unrouted)}
    assert kept == {
        "NOTIFICATION_OF_CHARGEBACK": reference,
        "CHARGEBACK": reference,
        "REPORT_AVAILABLE": "invoice_1.pdf",
    }
    (announced,) = [item for item in found if isinstance(item, Announced)]
    assert announced.reference == "settlement_detail_report_batch_1.csv"
    assert announced.url is not None
    assert announced.url.startswith(f"{bench.simulator.url}/reports/download/MerchantAccount/")
    reports = {item.operation: item for item in found if isinstance(item, ProviderReport)}
    refund, expiry = reports[Operation.REFUND], reports[Operation.VOID]
    assert (refund.payment_id, refund.outcome, refund.amount) == (authorize.payment_id, Outcome.APPROVED, 1_050)
    assert (expiry.payment_id, expiry.outcome, expiry.provider_reference) == (held.payment_id, Outcome.APPROVED, other)


async def test_only_the_right_words_acknowledge(bench: Bench) -> None:
    bench.receiver.answers += [b"ok", b""]
    request, _ = await bench.authorized()
    reports = await bench.receiver.wait(request, 3)
    assert len({report.report_id for report in reports}) == 1
