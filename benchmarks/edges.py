"""The edges alone: calls to a provider by one worker's client, and webhooks taken by the gateway.

The calls stand beside a bare httpx loop that sends the same form to the same simulator; the webhooks are signed, and
acknowledged when every in-sync replica has what they say. CPU is this process's for the calls, the gateway's for the
webhooks.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable
from hashlib import sha256
from time import perf_counter, process_time, time
from typing import Any, Final

import aiohttp
import httpx
import uvloop

from benchmarks.processes import usage
from connectors.provider import open_provider
from pipeline import clock, ids
from pipeline.messages.requests import AuthorizeRequest
from pipeline.messages.values import CaptureMethod, Outcome, PaymentMethod
from pipeline.settings import Settings, listed

CALLS: Final = 2_000
WEBHOOKS: Final = 4_000
AT_ONCE: Final = 64
_FORM: Final = {
    "amount": "1050",
    "currency": "usd",
    "payment_method": "pm_card_visa",
    "confirm": "true",
    "capture_method": "manual",
}


def measure(settings: Settings, home: str, run: str) -> dict[str, Any]:
    """Calls and webhooks a second, and milliseconds of CPU for each."""
    return {
        "provider_calls": uvloop.run(_calls(settings, run)),
        "bare_httpx_calls": uvloop.run(_bare(settings)),
        "webhooks": _webhooks(settings, home, run),
    }


async def _fan(count: int, one: Callable[[int], Awaitable[None]]) -> float:
    """Seconds for `count` calls, AT_ONCE under way at any time."""
    numbers, started = iter(range(count)), perf_counter()

    async def work() -> None:
        for number in numbers:
            await one(number)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return perf_counter() - started


async def _calls(settings: Settings, run: str) -> dict[str, float]:
    provider = open_provider("stripe", settings)

    async def call(number: int) -> None:
        answer = await provider.call(_request(f"{run}-{number}"))
        assert answer.outcome is Outcome.APPROVED, answer

    try:
        cpu = process_time()
        seconds = await _fan(CALLS, call)
        return _figures(CALLS, seconds, process_time() - cpu)
    finally:
        await provider.close()


async def _bare(settings: Settings) -> dict[str, float]:
    headers = {"Authorization": f"Bearer {settings.reveal('stripe_api_key')}"}
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=AT_ONCE), headers=headers, timeout=30) as client:

        async def call(_number: int) -> None:
            (await client.post(f"{settings.stripe_api_url}/v1/payment_intents", data=_FORM)).raise_for_status()

        cpu = process_time()
        seconds = await _fan(CALLS, call)
        return _figures(CALLS, seconds, process_time() - cpu)


def _webhooks(settings: Settings, home: str, run: str) -> dict[str, float]:
    before = usage(home)["gateway"].cpu
    seconds = uvloop.run(_deliver(settings, run))
    return _figures(WEBHOOKS, seconds, usage(home)["gateway"].cpu - before)


async def _deliver(settings: Settings, run: str) -> float:
    url = f"http://{settings.gateway_host}:{settings.gateway_port}/webhooks/stripe"
    secret = listed(settings.reveal("stripe_webhook_secrets"))[0]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE)) as session:

        async def deliver(number: int) -> None:
            body = _event(f"{run}-{number}")
            async with session.post(url, data=body, headers=_signed(body, secret)) as answer:
                assert answer.status == 200, await answer.text()

        return await _fan(WEBHOOKS, deliver)


def _request(name: str) -> AuthorizeRequest:
    payment = ids.payment_id("bench", name)
    attempt = ids.attempt_id(payment, 1)
    return AuthorizeRequest(
        request_id=ids.request_id(attempt, "AuthorizeRequest", 0),
        payment_id=payment,
        merchant_id="bench",
        provider="stripe",
        subject_id=attempt,
        issued_at=clock.now(),
        amount=1_050,
        currency="USD",
        capture_method=CaptureMethod.MANUAL,
        payment_method=PaymentMethod(token="pm_card_visa"),  # noqa: S106 - a test token
        attempt_number=1,
    )


def _event(name: str) -> bytes:
    """A hold of a payment that is nobody's: it goes all the way to the state machine, which has nothing to move."""
    payment = ids.payment_id("bench", name)
    intent = {
        "id": f"pi_{name}",
        "status": "requires_capture",
        "amount": 1_050,
        "amount_received": 0,
        "currency": "usd",
        "latest_charge": "ch_1",
        "metadata": {"payment_id": payment, "attempt_id": ids.attempt_id(payment, 1)},
    }
    kind = "payment_intent.amount_capturable_updated"
    return json.dumps({"id": f"evt_{name}", "type": kind, "data": {"object": intent}}).encode()


def _signed(body: bytes, secret: str) -> dict[str, str]:
    at = str(int(time()))
    signature = hmac.new(secret.encode(), at.encode() + b"." + body, sha256).hexdigest()
    return {"Stripe-Signature": f"t={at},v1={signature}", "Content-Type": "application/json"}


def _figures(count: int, seconds: float, cpu: float) -> dict[str, float]:
    return {"per_second": round(count / seconds), "cpu_ms": round(1000 * cpu / count, 3)}
