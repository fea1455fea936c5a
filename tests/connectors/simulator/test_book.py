"""The book says what really happened, whatever the answers said."""

from __future__ import annotations

import stripe

from tests.connectors.simulator.test_payment_intents import make
from tests.connectors.simulator.world import World


def test_a_page_for_each_intent(sim: World, sdk: stripe.StripeClient) -> None:
    intent = make(sdk, metadata={"payment_id": "pay_1", "attempt_id": "att_1"})
    sdk.v1.payment_intents.capture(intent.id, {"amount_to_capture": 700})
    sdk.v1.refunds.create({"payment_intent": intent.id, "amount": 200})
    unconfirmed = make(sdk, confirm=None, metadata={"payment_id": "pay_2"})
    first, second = sim.get("book")
    assert {
        "payment_intent": intent.id,
        "payment_id": "pay_1",
        "attempt_id": "att_1",
        "status": "succeeded",
        "currency": "USD",
        "authorized": 1_000,
        "captured": 700,
        "voided": 300,
        "refunded": 200,
    }.items() <= first.items()
    assert (second["payment_intent"], second["authorized"]) == (unconfirmed.id, 0)
    assert sim.get("book", payment_id="pay_2") == [second]
    assert sim.get("book", reference=intent.id) == [first]


def test_sums_and_entries(sim: World, sdk: stripe.StripeClient) -> None:
    intent = make(sdk)
    sdk.v1.payment_intents.capture(intent.id, {}, {"idempotency_key": "capture-1"})
    again = make(sdk)
    sums = sim.sums("pay_1")
    assert (sums["authorized"], sums["authorized_count"]) == (2_000, 2), "charged twice: a test would see it"
    assert sums["references"] == [intent.id, again.id]
    by_key = sim.get("book/sums", by="idempotency_key", idempotency_key="capture-1")
    assert by_key["capture-1"]["captured"] == 1_000
    entries = sim.get("book/entries", reference=intent.id)
    assert [(entry["movement"], entry["amount"]) for entry in entries] == [("authorized", 1_000), ("captured", 1_000)]
    assert sim.control.get("/_sim/book/sums", params={"by": "colour"}).status_code == 400
    assert sim.control.get("/_sim/book", params={"colour": "red"}).status_code == 400


def test_reset_forgets_everything(sim: World, sdk: stripe.StripeClient) -> None:
    make(sdk)
    sim.fault("server_error", count=None)
    sim.post("reset")
    assert sim.get("book") == []
    assert sim.get("book/entries") == []
    assert sim.get("faults") == {"faults": []}
    assert sdk.v1.payment_intents.list().data == []
    assert sdk.v1.events.list().data == []
    assert sim.get("stats")["calls"] == 2, "the two lists"
