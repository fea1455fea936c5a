"""Webhooks: signed by the provider, kept by every replica, or not acknowledged."""

from __future__ import annotations

import hmac
import json
import time
from hashlib import sha256
from typing import Any
from uuid import uuid4

import httpx
import pytest
import stripe
from confluent_kafka import Consumer, TopicPartition

from gateway.app import create_app
from gateway.limits import Limits
from pipeline import ids, topics
from pipeline.codec import Codec, Registry
from pipeline.kafka import consumer_config
from pipeline.messages.inputs import ProviderReport
from pipeline.messages.routing import UnroutedEvent
from pipeline.messages.values import Operation, Outcome, ReportSource
from pipeline.settings import Settings
from tests.gateway.chain import SILENT, Chain
from tests.gateway.conftest import OLD_WEBHOOK_SECRET, WEBHOOK_SECRET, Client, Running
from tests.gateway.test_intents import eventually, settle

pytestmark = pytest.mark.stack

PAN = "4242424242424242"


def event(kind: str, **thing: Any) -> bytes:
    made = {"id": f"evt_{uuid4().hex}", "object": "event", "type": kind, "created": int(time.time())}
    return json.dumps(made | {"data": {"object": thing}}).encode()


def authorized(payment_id: str) -> bytes:
    return event(
        "payment_intent.amount_capturable_updated",
        id="pi_1",
        object="payment_intent",
        status="requires_capture",
        amount=1050,
        amount_capturable=1050,
        amount_received=0,
        currency="usd",
        capture_method="manual",
        latest_charge="ch_1",
        metadata={"payment_id": payment_id, "attempt_id": ids.attempt_id(payment_id, 1)},
    )


def sign(body: bytes, secret: str = WEBHOOK_SECRET, at: float | None = None) -> dict[str, str]:
    signed_at = int(at if at is not None else time.time())
    return {
        "Stripe-Signature": stripe.WebhookSignature.generate_signature_header(body.decode(), secret, signed_at),
        "Content-Type": "application/json; charset=utf-8",
    }


def deliver(running: Running, body: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
    return httpx.post(
        f"{running.url}/webhooks/stripe", content=body, headers=sign(body) if headers is None else headers
    )


def test_a_webhook_moves_the_payment(running: Running, client: Client, chain: Chain) -> None:
    made = client.create(SILENT)["payment_id"]
    client.post(f"/api/v1/intents/{made}/authorize", Prefer="wait=1")
    body = authorized(made)
    for _ in range(3):  # delivered three times
        answer = deliver(running, body)
        assert (answer.status_code, answer.json()) == (200, {"received": 1})
    intent = eventually(lambda: (i := client.get(f"/api/v1/intents/{made}").json())["status"] == "authorized" and i)
    assert len(intent["attempts"]) == 1
    reports = [item for item in chain.of(made) if isinstance(item, ProviderReport)]
    assert len({report.report_id for report in reports}) == 1
    assert (reports[0].operation, reports[0].outcome) == (Operation.AUTHORIZE, Outcome.APPROVED)
    assert reports[0].source is ReportSource.WEBHOOK
    headers = chain.headers[reports[0].input_id]
    assert (headers["ce_type"], headers["ce_source"]) == (b"payments.v1.ProviderReport", b"/payments/gateway")


def test_every_active_secret_is_taken(running: Running) -> None:
    body = authorized(str(uuid4()))
    assert deliver(running, body, sign(body, OLD_WEBHOOK_SECRET)).status_code == 200


def test_forged_stale_and_unsigned_are_refused_and_counted(running: Running, client: Client, chain: Chain) -> None:
    made = client.create(SILENT)["payment_id"]
    body = authorized(made)
    signed = sign(body)
    refused = [
        (body, {}, "missing_signature"),
        (body, {"Stripe-Signature": "t=1,v1="}, "wrong_signature"),
        (body, {"Stripe-Signature": "x"}, "malformed_signature"),
        (body, sign(body, "whsec_of_somebody_else"), "wrong_signature"),
        (body, sign(body, at=time.time() - 301), "stale"),
        (body, sign(body, at=time.time() + 600), "stale"),
        (body.replace(b"1050", b"1051"), signed, "wrong_signature"),
        (body + b" ", signed, "wrong_signature"),
    ]
    for content, headers, reason in refused:
        before = counted(running, reason)
        answer = deliver(running, content, headers)
        assert (answer.status_code, answer.json()["type"]) == (400, "/problems/signature_invalid")
        assert answer.json()["detail"] == reason.replace("_", " ")
        assert counted(running, reason) == before + 1
    settle(client, chain)
    assert {type(item).__name__ for item in chain.of(made)} <= {"CreateIntent"}


def counted(running: Running, result: str) -> float:
    name = f'gateway_webhooks_total{{provider="stripe",result="{result}"}} '
    lines = httpx.get(f"{running.url}/metrics").text.splitlines()
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"{", b'{"id": 1}', b"\xff", b'"x"'])
def test_a_signed_body_that_is_no_event_is_refused(running: Running, body: bytes) -> None:
    signed_at = int(time.time())
    signature = hmac.new(WEBHOOK_SECRET.encode(), f"{signed_at}.".encode() + body, sha256).hexdigest()
    answer = deliver(running, body, {"Stripe-Signature": f"t={signed_at},v1={signature}"})
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/event_invalid")


def test_an_event_of_no_payment_of_ours_is_kept_raw(running: Running, gateway_settings: Settings) -> None:
    consumer = Consumer(consumer_config(gateway_settings, f"test-{uuid4().hex}", "test"))
    try:
        found = consumer.list_topics(topics.UNROUTED, timeout=10).topics[topics.UNROUTED].partitions
        places = [TopicPartition(topics.UNROUTED, partition) for partition in found]
        for place in places:
            place.offset = consumer.get_watermark_offsets(place, timeout=10)[1]
        consumer.assign(places)
        reference = f"pi_{uuid4().hex}"
        body = event("charge.dispute.created", id="dp_1", payment_intent=reference, note=f"card {PAN} said")
        answer = deliver(running, body)
        assert (answer.status_code, answer.json()) == (200, {"received": 1})
        message = consumer.poll(10)
        while message is not None and message.key() != f"stripe:{reference}".encode():
            message = consumer.poll(10)
        assert message is not None
        kept = Codec(Registry(gateway_settings.registry_url)).decode(message.value())
        assert isinstance(kept, UnroutedEvent)
        assert (kept.event_id, kept.event_type) == (json.loads(body)["id"], "charge.dispute.created")
        assert json.loads(kept.body)["type"] == "charge.dispute.created"
        assert PAN.encode() not in message.value()
        headers = dict(message.headers() or [])
        assert headers["ce_id"].decode() == kept.event_id
    finally:
        consumer.close()


def test_an_event_that_says_nothing_new_is_acknowledged(running: Running) -> None:
    before = counted(running, "ignored")
    answer = deliver(running, event("payment_intent.created", id="pi_1", object="payment_intent"))
    assert (answer.status_code, answer.json()) == (200, {"received": 0})
    assert counted(running, "ignored") == before + 1


def test_a_large_webhook_is_taken_and_a_larger_one_is_not(running: Running) -> None:
    large = event("payment_intent.created", id="pi_1", padding="x" * (1024 * 1024 - 300))
    assert len(large) <= 1024 * 1024
    assert deliver(running, large).status_code == 200
    larger = event("payment_intent.created", id="pi_1", padding="x" * (1024 * 1024))
    answer = deliver(running, larger)
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/body_too_large")


@pytest.mark.parametrize("provider", ["nobody", "Stripe", "../stripe", "x" * 300])
def test_an_unknown_provider_is_404(running: Running, provider: str) -> None:
    assert httpx.post(f"{running.url}/webhooks/{provider}", content=b"{}").status_code == 404


def test_a_compressed_webhook_is_refused(running: Running) -> None:
    body = authorized(str(uuid4()))
    assert deliver(running, body, sign(body) | {"Content-Encoding": "gzip"}).status_code == 415


def test_without_a_secret_nothing_is_verified_and_nothing_taken(gateway_settings: Settings, limits: Limits) -> None:
    without = gateway_settings.model_copy(update={"stripe_webhook_secrets": type(gateway_settings.stripe_api_key)("")})
    gateway = Running(create_app(without, limits), without, limits)
    try:
        body = authorized(str(uuid4()))
        assert deliver(gateway, body, sign(body, "")).status_code == 503
    finally:
        gateway.stop()


def test_no_acknowledgement_before_the_broker_has_it(gateway_settings: Settings, limits: Limits) -> None:
    """A broker that does not answer: the provider must deliver again."""
    unreachable = gateway_settings.model_copy(update={"kafka_bootstrap": "127.0.0.1:9"})
    gateway = Running(create_app(unreachable, limits), unreachable, limits)
    try:
        body = authorized(str(uuid4()))
        url = f"{gateway.url}/webhooks/stripe"
        answer = httpx.post(url, content=body, headers=sign(body), timeout=30)
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
    finally:
        gateway.stop()
