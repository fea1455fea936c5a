"""Card numbers in every place that a request has: refused, and nowhere afterwards."""

from __future__ import annotations

import io
import json
from typing import Any

import httpx
import psycopg
import pytest

from pipeline.settings import Settings
from tests.gateway.chain import Chain
from tests.gateway.conftest import Client, Running, intent
from tests.gateway.test_intents import eventually
from tests.gateway.test_webhooks import event, sign

pytestmark = pytest.mark.stack

CARDS = (
    "4242424242424242", "5555555555554444", "378282246310005", "6011111111111117", "3056930009020004",
    "3566002020360505", "6205500000000000004", "2223003122003222", "4000056655665556", "4222222222222",
)  # fmt: skip
"""Published test numbers of every network and length."""


def spellings(card: str) -> list[str]:
    groups = [card[place : place + 4] for place in range(0, len(card), 4)]
    return [card, " ".join(groups), "-".join(groups), ".".join(groups), f"x{card}y", f"card: {card}, thanks"]


VARIANTS = [spelling for card in CARDS for spelling in spellings(card)]
TELLING = {"".join(filter(str.isdigit, card)) for card in CARDS}


def digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))


def holds_a_card(text: str) -> bool:
    """Whether a card's digits stand in a row, whatever is between them."""
    return any(card in digits(text) for card in TELLING)


def bodies(card: str) -> list[dict[str, Any]]:
    return [
        intent(customer_id=card),
        intent(merchant_reference=card),
        intent(order_id=card),
        intent(metadata={"note": card}),
        intent(metadata={card: "x"}),
        intent(payment_method={"token": card.replace(" ", "")}),
        intent(payment_method={"token": "x", "kind": card}),
        intent(amount=card),
        intent(currency=card),
        intent(provider=card),
        intent(capture_method=card),
        intent() | {card: 1},
        intent(unknown=[{"deep": [card]}]),
        intent(amount=int(digits(card)) if len(digits(card)) < 17 else card),
    ]


def test_card_numbers_are_refused_everywhere_and_kept_nowhere(
    running: Running, client: Client, chain: Chain, gateway_settings: Settings, logged: io.StringIO
) -> None:
    made = client.create()["payment_id"]
    asked = 0
    for card in VARIANTS:
        answers = [client.post("/api/v1/intents", body) for body in bodies(card)]
        answers += [client.post(f"/api/v1/intents/{made}/{a}", {"reason": card}) for a in ("void", "refund")]
        answers += [client.post(f"/api/v1/intents/{made}/authorize", {"payment_method": {"token": card}})]
        answers += [client.post("/api/v1/intents", intent(), key=card)]
        answers += [client.get("/api/v1/intents", customer_id=card), client.get("/api/v1/intents", **{card: "x"})]
        answers += [client.get(f"/api/v1/intents/{card}"), client.get(f"/{card}")]
        answers += [client.get(f"/api/v1/intents/{made}/operations/{card}")]
        for answer in answers:
            asked += 1
            assert (answer.status_code, answer.json()["type"]) == (422, "/problems/card_data"), (card, answer.text)
            assert not holds_a_card(answer.text)
    assert asked >= 200
    for card in CARDS:
        for header in ("Authorization", "Prefer", "traceparent", "User-Agent", "X-Forwarded-For", "Content-Type"):
            client.http.get("/api/v1/intents", headers={header: f"Bearer {card}"})
        body = event("charge.dispute.created", id="dp_1", note=card)
        assert httpx.post(f"{running.url}/webhooks/stripe", content=body, headers=sign(body)).status_code == 200
        assert httpx.post(f"{running.url}/webhooks/stripe", content=body).status_code == 400
    last = client.create()["payment_id"]
    eventually(lambda: chain.of(last))
    of_merchant = [item for item in chain.inputs if getattr(item, "merchant_id", None) == client.merchant]
    assert [type(item).__name__ for item in of_merchant] == ["CreateIntent"] * 2
    assert not [item for item in chain.inputs if any(card in str(item) for card in TELLING)]
    assert logged.getvalue()
    assert not [line for line in logged.getvalue().splitlines() if any(s in line for s in VARIANTS)]
    with psycopg.connect(gateway_settings.reveal("postgres_gateway_url")) as connection:
        kept = "SELECT command, coalesce(response_body, ''), idempotency_key::bytea FROM gateway.requests"
        rows = connection.execute(kept).fetchall()
    assert rows
    assert not [row for row in rows if any(spelling.encode() in b" ".join(row) for spelling in VARIANTS)]


def test_the_gateways_own_lines_name_ids_and_no_more(client: Client, chain: Chain, logged: io.StringIO) -> None:
    made = client.create(customer_id="somebody", metadata={"name": "someone"})["payment_id"]
    client.get("/api/v1/intents", customer_id="somebody")

    def lines() -> list[dict[str, Any]]:
        events = [json.loads(line) for line in logged.getvalue().splitlines()]
        return [found for found in events if found["event"] == "request"]

    first, second = eventually(lambda: lines() if len(lines()) >= 2 else None)
    assert first["payment_id"] == made
    assert first["merchant_id"] == second["merchant_id"] == client.merchant
    assert (first["route"], first["status"], first["method"]) == ("/api/v1/intents", 201, "POST")
    assert len(first["request_id"]) == 32
    assert first["ms"] > 0
    assert "payment_id" not in second
    for secret in ("somebody", "someone", client.key):
        assert secret not in logged.getvalue()
