"""Events and their deliveries: signed, complete, retried, and disturbed on request."""

from __future__ import annotations

import time
from typing import Any

import pytest
import stripe

from tests.connectors.simulator.test_payment_intents import MULTI, make
from tests.connectors.simulator.world import SECRET, World, world


def test_a_hold_and_its_capture(sim: World, sdk: stripe.StripeClient) -> None:
    intent = make(sdk)
    sdk.v1.payment_intents.capture(intent.id, {"amount_to_capture": 400}, {"idempotency_key": "capture-1"})
    sim.drain()
    assert sorted(sim.receiver.types()) == [
        "charge.captured",
        "charge.succeeded",
        "charge.updated",
        "payment_intent.amount_capturable_updated",
        "payment_intent.created",
        "payment_intent.succeeded",
    ]
    held = sim.receiver.one("payment_intent.amount_capturable_updated")["data"]["object"]
    assert (held["status"], held["amount_capturable"]) == ("requires_capture", 1_000), "as it was then"
    done = sim.receiver.one("payment_intent.succeeded")
    assert (done["data"]["object"]["status"], done["data"]["object"]["amount_received"]) == ("succeeded", 400)
    assert done["request"]["idempotency_key"] == "capture-1"
    assert done["request"]["id"].startswith("req_")
    assert (done["object"], done["livemode"], done["pending_webhooks"]) == ("event", False, 1)
    assert done["api_version"]
    captured = sim.receiver.one("charge.captured")["data"]
    assert captured["previous_attributes"] == {"amount_captured": 0, "captured": False}
    assert sim.receiver.one("charge.updated")["data"]["previous_attributes"] == {"balance_transaction": None}


def test_several_captures_are_each_told(sim: World, sdk: stripe.StripeClient) -> None:
    intent = make(sdk, payment_method_options=MULTI)
    sdk.v1.payment_intents.capture(intent.id, {"amount_to_capture": 300, "final_capture": False})
    sdk.v1.payment_intents.capture(intent.id, {"amount_to_capture": 700})
    sim.drain()
    updates = [e["data"] for e in sim.receiver.events() if e["type"] == "payment_intent.amount_capturable_updated"]
    told = sorted((d["object"]["amount_received"], d.get("previous_attributes")) for d in updates)
    assert told == [
        (0, None),
        (300, {"amount_capturable": 1_000, "amount_received": 0}),
        (1_000, {"amount_capturable": 700, "amount_received": 300}),
    ]
    assert len([kind for kind in sim.receiver.types() if kind == "charge.captured"]) == 1, "only the last"


def test_the_signature_is_over_the_very_bytes(sim: World, sdk: stripe.StripeClient) -> None:
    make(sdk)
    sim.drain()
    received = sim.receiver.received[0]
    assert received.body.startswith(b'{\n  "id": "evt_'), "indented, as Stripe's"
    assert abs(int(received.signature.split(",")[0].removeprefix("t=")) - time.time()) < 5
    construct: Any = stripe.Webhook.construct_event
    construct(received.body, received.signature, SECRET)
    for body, secret in ((received.body + b" ", SECRET), (received.body, "whsec_other")):
        with pytest.raises(stripe.SignatureVerificationError):
            construct(body, received.signature, secret)


def test_every_secret_signs_and_only_chosen_types_are_sent() -> None:
    flags = ("--events", "payment_intent.succeeded,charge.captured", "--webhook-secret", "whsec_old,whsec_new")
    with world(*flags) as sim:
        sdk = sim.sdk()
        sdk.v1.payment_intents.capture(make(sdk).id)
        sim.drain()
        kinds = sorted(received.event("whsec_old")["type"] for received in sim.receiver.received)
        assert kinds == ["charge.captured", "payment_intent.succeeded"]
        assert len([received.event("whsec_new") for received in sim.receiver.received]) == 2
        assert "payment_intent.created" in {event.type for event in sdk.v1.events.list({"limit": 100}).data}


def test_events_can_be_listed(sim: World, sdk: stripe.StripeClient) -> None:
    intent = make(sdk)
    listed = sdk.v1.events.list({"limit": 100}).data
    assert [event.type for event in listed] == [
        "payment_intent.amount_capturable_updated",
        "charge.succeeded",
        "payment_intent.created",
    ], "newest first"
    assert [e.type for e in sdk.v1.events.list({"type": "charge.succeeded"}).data] == ["charge.succeeded"]
    assert len(sdk.v1.events.list({"types": ["charge.succeeded", "payment_intent.created"]}).data) == 2
    one: Any = sdk.v1.events.retrieve(listed[0].id)
    assert one.data.object["id"] == intent.id


def test_retried_until_taken(sim: World, sdk: stripe.StripeClient) -> None:
    sim.receiver.statuses = [500, 400, 302, 204]
    make(sdk, confirm=None)
    sim.drain()
    assert len(sim.receiver.received) == 4
    assert len({received.event()["id"] for received in sim.receiver.received}) == 1
    assert len({received.body for received in sim.receiver.received}) == 1
    gaps = [b.at - a.at for a, b in zip(sim.receiver.received, sim.receiver.received[1:], strict=False)]
    assert gaps == sorted(gaps), "the pauses grow"
    statuses = [attempt["status"] for attempt in sim.get("webhooks")["latest"]]
    assert statuses == [500, 400, 302, 204]
    counts = sim.get("stats")
    assert (counts["webhooks_sent"], counts["webhooks_failed"], counts["webhooks_waiting"]) == (1, 0, 0)


def test_an_endpoint_that_is_away(sim: World, sdk: stripe.StripeClient) -> None:
    with world("--webhook-first-retry", "0.05") as other:
        # Its own endpoint is gone before anything is sent.
        url = other.receiver.url
    assert url != sim.receiver.url
    with world("--webhook-first-retry", "0.05", "--webhook-url", url) as lonely:
        make(lonely.sdk(), confirm=None)
        assert lonely.post("webhooks/drain", {"seconds": 0.5}) == {"drained": False}
        assert lonely.get("stats")["webhooks_waiting"] == 1
        assert lonely.get("webhooks")["latest"][0]["status"] == 0


def test_twice(sim: World, sdk: stripe.StripeClient) -> None:
    sim.fault("webhook_duplicate", operation="authorize", times=3, events=["charge.*"])
    make(sdk)
    sim.drain()
    kinds = sim.receiver.types()
    assert (kinds.count("charge.succeeded"), kinds.count("payment_intent.created")) == (3, 1)
    assert len({e["id"] for e in sim.receiver.events() if e["type"] == "charge.succeeded"}) == 1, "the same event"


def test_out_of_order(sim: World, sdk: stripe.StripeClient) -> None:
    sim.fault("webhook_disorder", operation="authorize")
    make(sdk)
    sim.drain()
    assert sim.receiver.types() == [
        "payment_intent.amount_capturable_updated",
        "charge.succeeded",
        "payment_intent.created",
    ]


def test_before_the_answer(sim: World, sdk: stripe.StripeClient) -> None:
    sim.fault("webhook_first", operation="authorize", events=["payment_intent.*"])
    intent = make(sdk)
    answered = time.monotonic()
    early = [received for received in list(sim.receiver.received) if received.at < answered]
    assert {r.event()["type"] for r in early} >= {
        "payment_intent.created",
        "payment_intent.amount_capturable_updated",
    }
    assert {r.event()["data"]["object"]["id"] for r in early} >= {intent.id}
    sim.drain()
    assert len(sim.receiver.received) == 3


def test_late(sim: World, sdk: stripe.StripeClient) -> None:
    sim.fault("webhook_delay", operation="authorize", seconds=0.4)
    started = time.monotonic()
    make(sdk)
    sim.drain()
    assert len(sim.receiver.received) == 3
    assert min(received.at for received in sim.receiver.received) - started >= 0.4


def test_days_late(sim: World, sdk: stripe.StripeClient) -> None:
    """The event is days old, the signature is not: Stripe signs every attempt anew."""
    sim.fault("webhook_delay", operation="authorize", seconds=0.0, age_seconds=3 * 24 * 3600)
    make(sdk)
    sim.drain()
    for received in sim.receiver.received:
        assert time.time() - received.event()["created"] >= 3 * 24 * 3600


def test_never_and_then_after_all(sim: World, sdk: stripe.StripeClient) -> None:
    sim.fault("webhook_never", operation="authorize", events=["payment_intent.amount_capturable_updated"])
    intent = make(sdk)
    make(sdk, metadata={"payment_id": "pay_2"})
    sim.drain()
    about = [e for e in sim.receiver.events() if e["data"]["object"]["id"] == intent.id]
    assert [e["type"] for e in about] == ["payment_intent.created"]
    sim.receiver.clear()
    assert sim.post("webhooks/resend", payment_id="pay_1", type="payment_intent.amount_capturable_updated") == {
        "sent": 1
    }
    sim.drain()
    assert sim.receiver.one("payment_intent.amount_capturable_updated")["data"]["object"]["id"] == intent.id
    assert sim.post("webhooks/resend", payment_id="pay_1") == {"sent": 3}
    assert sim.post("webhooks/resend", event="evt_none") == {"sent": 0}


def test_many_at_once_all_arrive(sim: World, sdk: stripe.StripeClient) -> None:
    sim.receiver.statuses = [503] * 40
    made = {make(sdk, confirm=None).id for _ in range(100)}
    sim.drain()
    assert {e["data"]["object"]["id"] for e in sim.receiver.events()} == made
    assert len(sim.receiver.received) == 140
