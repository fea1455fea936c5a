"""Idempotency-Key: one answer for one key, whatever happens in between."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from gateway.app import create_app
from gateway.database import Database
from gateway.idempotency import KEEP_DAYS, Requests
from gateway.keys import Mode
from gateway.limits import Limits
from pipeline import ids
from pipeline.messages.commands import CreateIntent
from pipeline.settings import Settings
from tests.gateway.chain import APPROVED, DECLINED, Chain
from tests.gateway.conftest import Client, MakeClient, Running, intent
from tests.gateway.test_intents import eventually, settle

pytestmark = pytest.mark.stack

INTENTS = "/api/v1/intents"
REPLAYED = "Idempotent-Replayed"


def same(first: httpx.Response, second: httpx.Response) -> None:
    assert first.status_code == second.status_code
    assert first.content == second.content
    for name in ("Location", "Content-Type", "Content-Location", "Preference-Applied"):
        assert first.headers.get(name) == second.headers.get(name)
    assert REPLAYED not in first.headers
    assert second.headers[REPLAYED] == "true"


def kinds(chain: Chain, payment_id: str) -> list[str]:
    return [type(item).__name__ for item in chain.of(payment_id)]


def test_the_same_request_gets_the_same_answer_and_is_carried_out_once(client: Client, chain: Chain) -> None:
    first = client.post(INTENTS, intent(APPROVED), key="k1")
    second = client.post(INTENTS, intent(APPROVED), key="k1")
    same(first, second)
    made = first.json()["payment_id"]
    authorized = [client.post(f"{INTENTS}/{made}/authorize", key="k2", Prefer="wait=10") for _ in range(3)]
    same(authorized[0], authorized[1])
    same(authorized[0], authorized[2])
    assert authorized[0].json()["status"] == "authorized"
    assert kinds(chain, made) == ["CreateIntent", "Authorize"]


def test_a_problem_that_is_an_outcome_is_kept_too(client: Client, chain: Chain) -> None:
    made = client.create(DECLINED)["payment_id"]
    answers = [client.post(f"{INTENTS}/{made}/authorize", key="a", Prefer="wait=10") for _ in range(2)]
    same(*answers)
    assert answers[1].status_code == 402
    answers = [client.post(f"{INTENTS}/{made}/capture", key="b", Prefer="wait=10") for _ in range(2)]
    same(*answers)
    assert answers[1].status_code == 409


def test_how_json_is_written_makes_no_other_body(client: Client) -> None:
    headers = {"Idempotency-Key": "k", "Content-Type": "application/json"}
    first = client.http.post(INTENTS, content=b'{"amount":"1","currency":"USD","provider":"stripe"}', headers=headers)
    written = b'{ "provider" : "stripe", "currency":"\\u0055SD",\n"amount":"1" }'
    same(first, client.http.post(INTENTS, content=written, headers=headers))


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", INTENTS, intent(amount="10.51")),
        ("POST", INTENTS, intent(APPROVED)),
        ("POST", INTENTS + "/{id}/authorize", None),
        ("PUT", INTENTS + "/{id}/method", {"payment_method": {"token": "pm_x"}}),
    ],
)
def test_another_request_under_the_same_key_is_422(
    client: Client, chain: Chain, method: str, path: str, body: Any
) -> None:
    made = client.create(key="k")["payment_id"]
    answer = client.send(method, path.format(id=made), body, key="k")
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/idempotency_key_reused")
    settle(client, chain)
    assert kinds(chain, made) == ["CreateIntent"]


def test_a_request_that_is_still_running_is_409(client: Client, chain: Chain) -> None:
    made = client.create(APPROVED)["payment_id"]
    chain.held.set()
    try:
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(client.post, f"{INTENTS}/{made}/authorize", key="k", Prefer="wait=20")
            time.sleep(0.3)
            second = client.post(f"{INTENTS}/{made}/authorize", key="k")
            other = client.post(f"{INTENTS}/{made}/authorize", {"payment_method": {"token": "x"}}, key="k")
            chain.held.clear()
            assert first.result().status_code == 200
    finally:
        chain.held.clear()
    assert (second.status_code, second.json()["type"]) == (409, "/problems/idempotency_in_progress")
    assert second.headers["Retry-After"] == "1"
    assert other.status_code == 422
    same(first.result(), client.post(f"{INTENTS}/{made}/authorize", key="k"))


def test_many_at_once_are_one(client: Client, chain: Chain) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: client.post(INTENTS, intent(), key="k"), range(48)))
    statuses = {answer.status_code for answer in answers}
    assert statuses <= {201, 409}
    made = {answer.json()["payment_id"] for answer in answers if answer.status_code == 201}
    assert len(made) == 1
    same(
        next(a for a in answers if a.status_code == 201 and REPLAYED not in a.headers),
        client.post(INTENTS, intent(), key="k"),
    )


def test_keys_are_the_merchants_and_the_modes_own(
    make_client: MakeClient, gateway_settings: Settings, limits: Limits
) -> None:
    any_mode = limits.model_copy(update={"mode": "any"})
    gateway = Running(create_app(gateway_settings, any_mode), gateway_settings, any_mode)
    try:
        one, other = make_client(gateway=gateway), make_client(gateway=gateway)
        live = make_client(merchant=one.merchant, mode=Mode.LIVE, gateway=gateway)
        made = {client.create(key="k")["payment_id"] for client in (one, other, live)}
        assert len(made) == 3
    finally:
        gateway.stop()


def test_ids_are_derived_from_the_key(client: Client, chain: Chain) -> None:
    made = client.create(key="my key")
    command_id = ids.command_id(client.merchant, "test:my key")
    assert made["payment_id"] == ids.payment_id(client.merchant, command_id)


@pytest.mark.parametrize("text", ['"8e03978e-40d5-43dd-bc93-6894a57f9324"', "8e03978e-40d5-43dd-bc93-6894a57f9324"])
def test_a_structured_string_is_the_same_key_as_its_text(client: Client, text: str) -> None:
    client.create(key="8e03978e-40d5-43dd-bc93-6894a57f9324")
    assert client.post(INTENTS, intent(), key=text).headers[REPLAYED] == "true"


@pytest.mark.parametrize("text", ["a" * 256, '""', "", "ä"])
def test_a_malformed_key_is_400(client: Client, text: str) -> None:
    headers = [(b"Idempotency-Key", text.encode("latin-1"))]
    answer = client.http.request("POST", INTENTS, json=intent(), headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/idempotency_key_invalid")


def test_a_long_key_is_taken(client: Client) -> None:
    client.create(key="a" * 255)


def test_two_keys_are_none(client: Client) -> None:
    answer = client.http.request(
        "POST", INTENTS, json=intent(), headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    )
    assert answer.json()["type"] == "/problems/idempotency_key_invalid"


ACTIONS = ("authorize", "capture", "void", "refund", "retry-now", "cancel", "complete-action")
COMMANDS = [("POST", INTENTS), ("PUT", INTENTS + "/{id}/method"), *(("POST", f"{INTENTS}/{{id}}/{a}") for a in ACTIONS)]


@pytest.mark.parametrize(("method", "path"), COMMANDS)
def test_a_missing_key_is_400(client: Client, method: str, path: str) -> None:
    answer = client.http.request(method, path.format(id=uuid4()), json={})
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/idempotency_key_missing")


def test_an_invalid_request_does_not_use_the_key_up(client: Client) -> None:
    assert client.post(INTENTS, intent(amount="0"), key="k").status_code == 422
    assert client.post(INTENTS, intent(), key="k").status_code == 201


def test_an_answer_survives_a_restart(
    client: Client, gateway_settings: Settings, limits: Limits, make_client: MakeClient, chain: Chain
) -> None:
    first = client.post(INTENTS, intent(), key="k")
    second = Running(create_app(gateway_settings, limits), gateway_settings, limits)
    try:
        again = make_client(merchant=client.merchant, gateway=second)
        same(first, again.post(INTENTS, intent(), key="k"))
        assert again.post(INTENTS, intent(amount="1"), key="k").status_code == 422
    finally:
        second.stop()


def test_two_gateways_carry_a_request_out_once(
    client: Client, gateway_settings: Settings, limits: Limits, make_client: MakeClient, chain: Chain
) -> None:
    second = Running(create_app(gateway_settings, limits), gateway_settings, limits)
    try:
        other = make_client(merchant=client.merchant, gateway=second)
        for number in range(20):
            barrier = threading.Barrier(2)

            def ask(who: Client, key: str = f"k{number}", barrier: threading.Barrier = barrier) -> httpx.Response:
                barrier.wait()
                return who.post(INTENTS, intent(), key=key)

            with ThreadPoolExecutor(2) as pool:
                answers = list(pool.map(ask, (client, other)))
            fresh = [a for a in answers if a.status_code == 201 and REPLAYED not in a.headers]
            assert len(fresh) == 1
            assert {a.status_code for a in answers} <= {201, 409}
    finally:
        second.stop()


def test_what_a_dead_gateway_left_is_done_by_the_next_same_request(
    client: Client, gateway_settings: Settings, chain: Chain
) -> None:
    """As after a death between the row and the answer: the row is there, leased, without an answer."""
    first = client.post(INTENTS, intent(), key="k")
    lost = (
        "UPDATE gateway.requests SET response_status = NULL, response_headers = NULL, response_body = NULL,"
        " locked_until = now() + interval '1 second' WHERE merchant_id = %s"
    )
    with psycopg.connect(gateway_settings.reveal("postgres_gateway_url")) as connection:
        assert connection.execute(lost, (client.merchant,)).rowcount == 1
    assert client.post(INTENTS, intent(), key="k").status_code == 409
    assert client.post(INTENTS, intent(amount="1"), key="k").status_code == 422
    time.sleep(1.1)
    again = client.post(INTENTS, intent(), key="k")
    assert (again.status_code, again.json()) == (201, first.json())
    assert REPLAYED not in again.headers
    same(again, client.post(INTENTS, intent(), key="k"))
    repeated = eventually(lambda: (found := chain.of(first.json()["payment_id"])) and len(found) == 2 and found)
    assert [item.input_id for item in repeated] == [repeated[0].input_id] * 2
    assert repeated[0] == repeated[1]
    assert client.get(f"{INTENTS}/{first.json()['payment_id']}").json()["sequence"] == 1


def test_old_keys_are_forgotten(client: Client, running: Running, gateway_settings: Settings) -> None:
    client.create(key="old")
    client.create(key="new")
    with psycopg.connect(gateway_settings.reveal("postgres_gateway_url")) as connection:
        connection.execute(
            "UPDATE gateway.requests SET created_at = now() - %s * interval '1 day'"
            " WHERE merchant_id = %s AND idempotency_key = 'old'",
            (KEEP_DAYS + 1, client.merchant),
        )

    async def prune() -> int:
        database = Database(gateway_settings.reveal("postgres_gateway_url"))
        await database.open()
        try:
            return await Requests(database).prune()
        finally:
            await database.close()

    assert asyncio.run(prune()) >= 1
    with psycopg.connect(gateway_settings.reveal("postgres_gateway_url")) as connection:
        left = connection.execute(
            "SELECT idempotency_key FROM gateway.requests WHERE merchant_id = %s", (client.merchant,)
        )
        assert left.fetchall() == [("new",)]


# A gateway in a process of its own


class Process:
    """`python -m gateway`."""

    def __init__(self, settings: Settings, tmp: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.log = tmp / f"gateway-{self.port}.log"
        env = os.environ | {
            "PAYMENTS_HOME": str(tmp),
            "PAYMENTS_GATEWAY_PORT": str(self.port),
            "PAYMENTS_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
            "PAYMENTS_REGISTRY_URL": settings.registry_url,
            "PAYMENTS_POSTGRES_GATEWAY_URL": settings.reveal("postgres_gateway_url"),
        }
        self.process = subprocess.Popen([sys.executable, "-m", "gateway"], env=env, stderr=self.log.open("wb"))
        self.url = f"http://127.0.0.1:{self.port}"
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.url}/ready").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())


@pytest.fixture
def process(gateway_settings: Settings, tmp_path: Path) -> Iterator[Process]:
    made = Process(gateway_settings, tmp_path)
    yield made
    if made.process.poll() is None:
        made.process.kill()
    made.process.wait()


def test_every_answer_given_before_a_kill_is_given_again_after_it(
    process: Process, client: Client, chain: Chain, gateway_settings: Settings, tmp_path: Path
) -> None:
    given: dict[str, httpx.Response] = {}
    asked: list[str] = []
    stop = threading.Event()

    def ask(worker: int) -> None:
        with httpx.Client(base_url=process.url, headers=client.http.headers) as http:
            for number in range(10_000):
                if stop.is_set():
                    return
                key = f"{worker}-{number}"
                asked.append(key)
                try:
                    given[key] = http.post(INTENTS, json=intent(), headers={"Idempotency-Key": key})
                except httpx.TransportError:
                    return

    with ThreadPoolExecutor(8) as pool:
        for worker in range(8):
            pool.submit(ask, worker)
        time.sleep(1.5)
        process.process.kill()
        stop.set()
    assert len(given) > 50
    unanswered = [key for key in asked if key not in given]
    assert unanswered
    for key, answer in given.items():
        assert answer.status_code == 201
        same(answer, client.post(INTENTS, intent(), key=key))
    deadline = time.monotonic() + 25
    for key in unanswered:
        while (again := client.post(INTENTS, intent(), key=key)).status_code == 409 and time.monotonic() < deadline:
            time.sleep(0.5)
        assert again.status_code == 201
        given[key] = again
    wanted = {answer.json()["payment_id"] for answer in given.values()}
    time.sleep(1)
    created = [item for item in chain.inputs if isinstance(item, CreateIntent) and item.merchant_id == client.merchant]
    assert {item.payment_id for item in created} == wanted


def test_sigterm_lets_waiting_requests_go_and_ends_cleanly(process: Process, client: Client, chain: Chain) -> None:
    made = client.create(APPROVED)["payment_id"]
    chain.held.set()
    try:
        with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=process.url, headers=client.http.headers) as http:
            waiting = pool.submit(
                http.post,
                f"{INTENTS}/{made}/authorize",
                headers={"Idempotency-Key": "k", "Prefer": "wait=30"},
                timeout=40,
            )
            time.sleep(0.5)
            process.process.send_signal(signal.SIGTERM)
            begun = time.monotonic()
            assert waiting.result().status_code == 202
            assert process.process.wait(15) == 0
            assert time.monotonic() - begun < 10
    finally:
        chain.held.clear()
    same(waiting.result(), client.post(f"{INTENTS}/{made}/authorize", key="k"))
    assert "Traceback" not in process.log.read_text()
