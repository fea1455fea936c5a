"""Idempotency keys as docs.stripe.com/api/idempotent_requests has them."""

from __future__ import annotations

import threading
import time

import httpx
import pytest
import stripe

from tests.connectors.simulator.world import KEY, World

FORM = {
    "amount": "1000",
    "currency": "usd",
    "payment_method": "pm_card_visa",
    "confirm": "true",
    "metadata[payment_id]": "pay_1",
    "expand[0]": "latest_charge",
}


def send(sim: World, key: str = "key-1", path: str = "payment_intents", **form: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {KEY}", "Idempotency-Key": key}
    return httpx.post(f"{sim.url}/v1/{path}", data={**FORM, **form}, headers=headers, timeout=20)


def charges(sim: World) -> int:
    count: int = sim.get("book/sums").get("pay_1", {}).get("authorized_count", 0)
    return count


def test_the_first_answer_again(sim: World) -> None:
    first, again = send(sim), send(sim)
    assert first.status_code == again.status_code == 200
    assert first.content == again.content
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["original-request"] == first.headers["request-id"] == first.headers["original-request"]
    assert again.headers["request-id"] != first.headers["request-id"]
    assert again.headers["idempotency-key"] == "key-1"
    assert charges(sim) == 1


def test_the_first_answer_stays_as_it_was(sim: World, sdk: stripe.StripeClient) -> None:
    first = send(sim, capture_method="manual")
    intent = first.json()
    sdk.v1.payment_intents.capture(intent["id"])
    sdk.v1.refunds.create({"payment_intent": intent["id"]})
    assert send(sim, capture_method="manual").content == first.content, "the charge in it as well"


def test_a_decline_is_saved(sim: World) -> None:
    first = send(sim, payment_method="pm_sim_declineTimes1_insufficient_funds")
    again = send(sim, payment_method="pm_sim_declineTimes1_insufficient_funds")
    assert first.status_code == again.status_code == 402
    assert first.content == again.content
    other = send(sim, key="key-2", payment_method="pm_sim_declineTimes1_insufficient_funds")
    assert other.status_code == 200


def test_other_parameters(sim: World) -> None:
    send(sim)
    other = send(sim, amount="1001")
    error = other.json()["error"]
    assert (other.status_code, error["type"]) == (400, "idempotency_error")
    assert "same parameters" in error["message"]
    assert send(sim).status_code == 200, "the saved answer is still there"


def test_another_endpoint(sim: World) -> None:
    intent = send(sim).json()
    other = send(sim, path=f"payment_intents/{intent['id']}/cancel")
    error = other.json()["error"]
    assert (other.status_code, error["type"]) == (400, "idempotency_error")
    assert f"('/v1/payment_intents/{intent['id']}/cancel' vs '/v1/payment_intents')" in error["message"]


def test_the_sdk_knows_the_error(sdk: stripe.StripeClient) -> None:
    sdk.v1.payment_intents.create({"amount": 1_000, "currency": "usd"}, {"idempotency_key": "k"})
    with pytest.raises(stripe.IdempotencyError):
        sdk.v1.payment_intents.create({"amount": 2_000, "currency": "usd"}, {"idempotency_key": "k"})


def test_the_key_is_in_use(sim: World) -> None:
    sim.fault("latency", operation="authorize", seconds=3.0)
    answers: list[httpx.Response] = []
    first = threading.Thread(target=lambda: answers.append(send(sim)))
    first.start()
    time.sleep(1.0)
    second = send(sim)
    first.join()
    assert answers[0].status_code == 200
    error = second.json()["error"]
    assert (second.status_code, error["code"]) == (409, "idempotency_key_in_use")
    assert second.headers["stripe-should-retry"] == "true"
    assert send(sim).content == answers[0].content
    assert charges(sim) == 1


def test_what_is_refused_before_it_began_is_not_saved(sim: World) -> None:
    refused = send(sim, amount="ten")
    assert refused.status_code == 400
    assert send(sim).status_code == 200, "the key is free"


def test_what_is_refused_afterwards_is_saved(sim: World, sdk: stripe.StripeClient) -> None:
    intent = sdk.v1.payment_intents.create({"amount": 1_000, "currency": "usd"})
    headers = {"Authorization": f"Bearer {KEY}", "Idempotency-Key": "capture-1"}
    url = f"{sim.url}/v1/payment_intents/{intent.id}/capture"
    first = httpx.post(url, headers=headers)
    assert first.json()["error"]["code"] == "payment_intent_unexpected_state"
    sdk.v1.payment_intents.confirm(intent.id, {"payment_method": "pm_card_visa", "capture_method": "manual"})
    again = httpx.post(url, headers=headers)
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize(("kind", "done"), [("server_error", 0), ("server_error_after", 1)])
def test_a_500_is_saved(sim: World, kind: str, done: int) -> None:
    sim.fault(kind, operation="authorize")
    first, again = send(sim), send(sim)
    assert first.status_code == again.status_code == 500
    assert first.content == again.content
    assert again.headers["idempotent-replayed"] == "true"
    assert charges(sim) == done


def test_a_rate_limit_is_not_saved(sim: World) -> None:
    sim.fault("rate_limit", retry_after=7)
    first = send(sim)
    assert (first.status_code, first.headers["retry-after"]) == (429, "7")
    assert first.json()["error"]["code"] == "rate_limit"
    assert send(sim).status_code == 200


def test_a_key_is_forgotten_after_a_day_and_not_before(sim: World) -> None:
    """The trap: then the same request is a new one."""
    first = send(sim).json()
    sim.post("clock", {"advance_seconds": 24 * 3600 - 10})
    assert send(sim).json()["id"] == first["id"]
    sim.post("clock", {"advance_seconds": 10})
    assert send(sim).json()["id"] != first["id"]
    assert charges(sim) == 2


def test_keys_can_be_forgotten_at_once(sim: World) -> None:
    first = send(sim).json()
    young = sim.control.delete("/_sim/keys", params={"older_than_seconds": 60})
    assert young.json() == {"pruned": 0}
    assert sim.control.delete("/_sim/keys").json() == {"pruned": 1}
    assert send(sim).json()["id"] != first["id"]


def test_a_key_that_is_too_long(sim: World) -> None:
    assert send(sim, key="k" * 256).status_code == 400
    assert send(sim, key="k" * 255).status_code == 200


def test_a_key_means_nothing_to_a_get(sim: World) -> None:
    intent = send(sim).json()
    headers = {"Authorization": f"Bearer {KEY}", "Idempotency-Key": "key-1"}
    answer = httpx.get(f"{sim.url}/v1/payment_intents/{intent['id']}", headers=headers)
    assert answer.status_code == 200
    assert "idempotent-replayed" not in answer.headers


def test_many_at_once_charge_once(sim: World) -> None:
    """Whatever the interleaving: one charge, and every answer is that charge or says that it is under way."""
    sim.fault("latency", operation="authorize", count=None, seconds=0.05)
    answers: list[httpx.Response] = []
    threads = [threading.Thread(target=lambda: answers.append(send(sim))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = [answer for answer in answers if answer.status_code == 200]
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert len({answer.content for answer in done}) == 1
    assert charges(sim) == 1
