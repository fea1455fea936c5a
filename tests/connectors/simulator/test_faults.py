"""What goes wrong on request does, exactly as often as asked, and to nobody else."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import stripe

from connectors.simulator.faults import Facts, Fault, Faults, Kind
from tests.connectors.simulator.test_payment_intents import make
from tests.connectors.simulator.world import KEY, World

FORM = {
    "amount": "1000",
    "currency": "usd",
    "payment_method": "pm_card_visa",
    "confirm": "true",
    "metadata[payment_id]": "pay_1",
}
BODY = "&".join(f"{name}={value}" for name, value in FORM.items()).encode()


def send(sim: World, key: str = "k", timeout: float = 0.4) -> httpx.Response:
    headers = {"Authorization": f"Bearer {KEY}", "Idempotency-Key": key}
    return httpx.post(f"{sim.url}/v1/payment_intents", data=FORM, headers=headers, timeout=timeout)


def charged(sim: World) -> int:
    count: int = sim.get("book/sums").get("pay_1", {}).get("authorized_count", 0)
    return count


@pytest.mark.parametrize(("kind", "done"), [("timeout_before", 0), ("timeout_after", 1)])
def test_no_answer_in_time(sim: World, kind: str, done: int) -> None:
    sim.fault(kind, operation="authorize")
    with pytest.raises(httpx.ReadTimeout):
        send(sim)
    assert charged(sim) == done
    again = send(sim, timeout=10)
    assert again.status_code == 200
    assert ("idempotent-replayed" in again.headers) == bool(done)
    assert charged(sim) == 1
    sim.drain()
    assert sim.receiver.types().count("payment_intent.succeeded") == 1


@pytest.mark.parametrize(("kind", "done"), [("reset_before", 0), ("reset_after", 1)])
def test_the_connection_is_reset(sim: World, kind: str, done: int) -> None:
    sim.fault(kind, operation="authorize")
    address = sim.url.removeprefix("http://").split(":")
    head = f"POST /v1/payment_intents HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nIdempotency-Key: k\r\n"
    with socket.create_connection((address[0], int(address[1])), timeout=5) as connection:
        connection.sendall(f"{head}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY)
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    assert charged(sim) == done
    assert send(sim, timeout=10).status_code == 200
    assert charged(sim) == 1


def test_a_hang_ends_in_a_reset(sim: World) -> None:
    sim.fault("timeout_after", operation="authorize", seconds=0.2)
    started = time.monotonic()
    with pytest.raises(httpx.ReadError):
        send(sim, timeout=10)
    assert 0.2 <= time.monotonic() - started < 5


def test_the_sdk_sees_a_lost_connection(sim: World, sdk: stripe.StripeClient) -> None:
    sim.fault("reset_after", operation="authorize")
    with pytest.raises(stripe.APIConnectionError):
        make(sdk)


def test_the_sdk_retries_into_the_first_answer(sim: World) -> None:
    """Reset after charging: the SDK's own retry goes under the same key and charges nothing twice."""
    sim.fault("reset_after", operation="authorize")
    patient = stripe.StripeClient(KEY, base_addresses={"api": sim.url}, max_network_retries=2)
    intent = make(patient)
    assert intent.status == "requires_capture"
    assert charged(sim) == 1


def test_latency(sim: World, sdk: stripe.StripeClient) -> None:
    sim.fault("latency", operation="capture", seconds=0.3)
    intent = make(sdk)
    started = time.monotonic()
    sdk.v1.payment_intents.capture(intent.id)
    assert time.monotonic() - started >= 0.3
    stats = sim.get("stats")
    assert stats["asked_seconds"] > 0.29
    assert stats["seconds"] < 0.3, "its own work only"
    assert stats["operations"]["stripe.capture_payment_intent"]["statuses"] == {"200": 1}


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_proxy_says_no(sim: World, status: int) -> None:
    sim.fault("unavailable", status=status, retry_after=2)
    first = send(sim)
    assert (first.status_code, first.headers["retry-after"]) == (status, "2")
    assert send(sim, timeout=5).status_code == 200, "nothing was saved"


def test_the_sdk_knows_a_rate_limit(sim: World, sdk: stripe.StripeClient) -> None:
    sim.fault("rate_limit")
    with pytest.raises(stripe.RateLimitError) as caught:
        make(sdk)
    headers: Any = caught.value.headers
    assert headers["Retry-After"] == "1"


@pytest.mark.parametrize("operation", ["authorize", "capture", "void", "refund", "retrieve"])
def test_only_the_operation_that_was_meant(sim: World, sdk: stripe.StripeClient, operation: str) -> None:
    captured, held = make(sdk, capture_method="automatic"), make(sdk)
    third = make(sdk)
    sim.fault("server_error", operation=operation, count=None)
    calls: dict[str, Callable[[], object]] = {
        "authorize": lambda: make(sdk),
        "capture": lambda: sdk.v1.payment_intents.capture(held.id),
        "void": lambda: sdk.v1.payment_intents.cancel(third.id),
        "refund": lambda: sdk.v1.refunds.create({"payment_intent": captured.id}),
        "retrieve": lambda: sdk.v1.payment_intents.retrieve(captured.id),
    }
    for name, call in calls.items():
        if name == operation:
            with pytest.raises(stripe.APIError):
                call()
        else:
            call()


@pytest.mark.parametrize(
    "rule",
    [
        {"payment_id": "pay_7"},
        {"metadata": {"payment_id": "pay_7"}},
        {"payment_method": "pm_card_mastercard"},
        {"idempotency_key": "the-key"},
        {"path": "/v1/payment_intents/*/capture", "method": "POST"},
    ],
)
def test_only_the_payment_that_was_meant(sim: World, sdk: stripe.StripeClient, rule: dict[str, Any]) -> None:
    meant = make(sdk, metadata={"payment_id": "pay_7"}, payment_method="pm_card_mastercard")
    other = make(sdk, metadata={"payment_id": "pay_8"})
    sim.fault("server_error", **rule)
    if "path" not in rule:
        sdk.v1.payment_intents.capture(other.id, {}, {"idempotency_key": "another"})
    with pytest.raises(stripe.APIError):
        sdk.v1.payment_intents.capture(meant.id, {}, {"idempotency_key": "the-key"})
    (state,) = sim.get("faults")["faults"]
    assert (state["met"], state["happened"]) == (1, 1)


def test_a_fault_is_over(sim: World, sdk: stripe.StripeClient) -> None:
    name = sim.post("faults", {"kind": "server_error", "count": None})["id"]
    with pytest.raises(stripe.APIError):
        make(sdk)
    assert sim.control.delete(f"/_sim/faults/{name}").status_code == 200
    assert sim.control.delete(f"/_sim/faults/{name}").status_code == 404
    make(sdk)


@pytest.mark.parametrize(
    "rule", [{"kind": "explode"}, {"kind": "latency", "colour": "red"}, {}, {"kind": "latency", "count": "many"}]
)
def test_a_rule_that_is_none(sim: World, rule: dict[str, Any]) -> None:
    answer = sim.control.post("/_sim/faults", json=rule)
    assert answer.status_code == 400
    assert answer.json()["error"]


def facts(**known: Any) -> Facts:
    return Facts(provider="stripe", operation="authorize", method="POST", path="/v1/payment_intents", **known)


def test_probability_is_repeatable() -> None:
    def draws(seed: int) -> list[bool]:
        faults = Faults()
        faults.add(Fault(kind=Kind.RESET_AFTER, probability=0.3, seed=seed, count=None))
        return [faults.meet(facts()).call is not None for _ in range(1_000)]

    assert draws(1) == draws(1)
    assert draws(1) != draws(2)
    assert 250 < sum(draws(1)) < 350


def test_skip_and_count() -> None:
    faults = Faults()
    faults.add(Fault(kind=Kind.SERVER_ERROR, skip=2, count=3))
    assert [faults.meet(facts()).call is not None for _ in range(8)] == [False] * 2 + [True] * 3 + [False] * 3


def test_one_fault_of_the_call_and_all_of_its_webhooks() -> None:
    faults = Faults()
    for kind in (Kind.RESET_AFTER, Kind.SERVER_ERROR, Kind.WEBHOOK_DELAY, Kind.WEBHOOK_DUPLICATE):
        faults.add(Fault(kind=kind))
    first, second, third = faults.meet(facts()), faults.meet(facts()), faults.meet(facts())
    assert first.call is not None
    assert second.call is not None
    assert (first.call.kind, second.call.kind) == (Kind.RESET_AFTER, Kind.SERVER_ERROR)
    assert [fault.kind for fault in first.webhooks] == [Kind.WEBHOOK_DELAY, Kind.WEBHOOK_DUPLICATE]
    assert (second.webhooks, third.call, third.webhooks) == ((), None, ())


def test_a_connection_that_is_cut_off_is_noticed(sim: World) -> None:
    """The caller goes away while it waits: the simulator does not keep the connection for a minute."""
    sim.fault("timeout_before", operation="authorize", seconds=60)
    address = sim.url.removeprefix("http://").split(":")
    head = f"POST /v1/payment_intents HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
    connection = socket.create_connection((address[0], int(address[1])), timeout=5)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.sendall(f"{head}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY)
    time.sleep(0.2)
    connection.close()
    time.sleep(0.2)
    assert sim.get("stats")["operations"]["stripe.create_payment_intent"]["statuses"] == {"0": 1}
