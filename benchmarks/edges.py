"""The edges alone: calls to a provider by one worker's client, and webhooks taken by the gateway.

The calls stand beside a bare httpx loop that sends the same form to the same simulator; the webhooks are signed, and
acknowledged when every in-sync replica has what they say. CPU is this process's for the calls, the gateway's for the
webhooks.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from base64 import b64encode
from collections.abc import Awaitable, Callable
from hashlib import sha256
from time import perf_counter, process_time, time
from typing import Any, Final

import aiohttp
import httpx
import msgspec
import uvloop

from benchmarks.processes import usage
from connectors.adyen import webhook as adyen
from connectors.adyen.objects import Item
from connectors.provider import open_provider
from connectors.references import Reference
from pipeline import clock, ids, topics
from pipeline.messages.requests import AuthorizeRequest
from pipeline.messages.values import CaptureMethod, Operation, Outcome, PaymentMethod
from pipeline.settings import Settings, listed

CALLS: Final = 2_000
WEBHOOKS: Final = 4_000
AT_ONCE: Final = 64
TOKENS: Final = {"stripe": "pm_card_visa", "adyen": "adyen_ok", "paypal": "paypal_ok"}
_FORM: Final = {
    "amount": "1050",
    "currency": "usd",
    "payment_method": "pm_card_visa",
    "confirm": "true",
    "capture_method": "manual",
}


def measure(settings: Settings, home: str, run: str) -> dict[str, Any]:
    """Calls and webhooks a second, and milliseconds of CPU for each."""
    calls = {f"calls to {name}": uvloop.run(_calls(settings, name, run)) for name in topics.PROVIDERS}
    bare = {"bare httpx calls": uvloop.run(_bare(settings))}
    return calls | bare | {f"webhooks of {name}": _webhooks(settings, home, name, run) for name in DELIVERIES}


async def _fan(count: int, one: Callable[[int], Awaitable[None]]) -> float:
    """Seconds for `count` calls, AT_ONCE under way at any time."""
    numbers, started = iter(range(count)), perf_counter()

    async def work() -> None:
        for number in numbers:
            await one(number)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return perf_counter() - started


async def _calls(settings: Settings, name: str, run: str) -> dict[str, float]:
    provider = open_provider(name, settings)

    async def call(number: int) -> None:
        answer = await provider.call(_request(name, f"{run}-{number}"))
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


def _webhooks(settings: Settings, home: str, name: str, run: str) -> dict[str, float]:
    before = usage(home)["gateway"].cpu
    seconds = uvloop.run(_deliver(settings, name, run))
    return _figures(WEBHOOKS, seconds, usage(home)["gateway"].cpu - before)


async def _deliver(settings: Settings, name: str, run: str) -> float:
    url = f"http://{settings.gateway_host}:{settings.gateway_port}/webhooks/{name}"
    delivery = DELIVERIES[name](settings)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE)) as session:

        async def deliver(number: int) -> None:
            body, headers = delivery(f"{run}-{number}")
            async with session.post(url, data=body, headers=headers) as answer:
                assert answer.status == 200, await answer.text()

        return await _fan(WEBHOOKS, deliver)


def _request(provider: str, name: str) -> AuthorizeRequest:
    payment = ids.payment_id("bench", name)
    attempt = ids.attempt_id(payment, 1)
    return AuthorizeRequest(
        request_id=ids.request_id(attempt, "AuthorizeRequest", 0),
        payment_id=payment,
        merchant_id="bench",
        provider=provider,
        subject_id=attempt,
        issued_at=clock.now(),
        amount=1_050,
        currency="USD",
        capture_method=CaptureMethod.MANUAL,
        payment_method=PaymentMethod(token=TOKENS[provider]),
        attempt_number=1,
    )


Delivery = Callable[[str], tuple[bytes, dict[str, str]]]
"""The body and headers of a webhook by its name: the hold of a payment that is nobody's, which goes all the way to the
state machine and has nothing to move there.
"""


def _of_stripe(settings: Settings) -> Delivery:
    secret = listed(settings.reveal("stripe_webhook_secrets"))[0].encode()

    def delivery(name: str) -> tuple[bytes, dict[str, str]]:
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
        body = json.dumps({"id": f"evt_{name}", "type": kind, "data": {"object": intent}}).encode()
        at = str(int(time()))
        signature = hmac.new(secret, at.encode() + b"." + body, sha256).hexdigest()
        return body, {"Stripe-Signature": f"t={at},v1={signature}"}

    return delivery


def _of_adyen(settings: Settings) -> Delivery:
    key = bytes.fromhex(listed(settings.reveal("adyen_webhook_hmac_keys"))[0])
    credentials = f"{settings.adyen_webhook_username}:{settings.reveal('adyen_webhook_password')}"
    headers = {"Authorization": "Basic " + b64encode(credentials.encode()).decode()}

    def delivery(name: str) -> tuple[bytes, dict[str, str]]:
        payment = ids.payment_id("bench", name)
        item: dict[str, Any] = {
            "eventCode": "AUTHORISATION",
            "success": "true",
            "pspReference": name,
            "merchantAccountCode": settings.adyen_merchant_account,
            "merchantReference": str(Reference(payment, Operation.AUTHORIZE, ids.attempt_id(payment, 1))),
            "amount": {"value": 1_050, "currency": "USD"},
        }
        signature = adyen.signature(key, msgspec.convert(item, Item))
        item["additionalData"] = {"hmacSignature": b64encode(signature).decode()}
        wrapped = {"live": "false", "notificationItems": [{"NotificationRequestItem": item}]}
        return json.dumps(wrapped).encode(), headers

    return delivery


DELIVERIES: Final[dict[str, Callable[[Settings], Delivery]]] = {"stripe": _of_stripe, "adyen": _of_adyen}
"""Whose deliveries can be made here: PayPal's are signed with a key that only its simulator has."""


def _figures(count: int, seconds: float, cpu: float) -> dict[str, float]:
    return {"per_second": round(count / seconds), "cpu_ms": round(1000 * cpu / count, 3)}
