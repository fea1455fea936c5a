"""The outbox relay on the real Postgres, Connect and Kafka: each event once, as the bytes it is, whatever dies."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from time import monotonic, sleep
from typing import Any
from uuid import uuid4

import httpx
import psutil
import psycopg
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from pydantic import SecretStr
from typer.testing import CliRunner

from connectors.kafka_connect import cli, connector
from connectors.postgres import migrate
from pipeline import admin, topics
from pipeline.codec import Codec, Registry
from pipeline.kafka import consumer_config
from pipeline.messages.facts import Fact
from pipeline.messages.public import PaymentEvent
from pipeline.settings import Settings
from pipeline.stack.local import LocalStack
from tests.connectors.journal import fresh, post, public_events
from tests.fixtures.stack import Stack
from tests.topologies.processes import Processes, Writer

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

REUSED = "PAYMENTS_TEST_STACK" in os.environ
CUT = """
SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 'payments_outbox' AND active
"""


@dataclass(frozen=True)
class Seen:
    """A committed record of a public topic."""

    topic: str
    key: bytes
    value: bytes
    headers: dict[str, bytes]


@pytest.fixture(scope="module")
def settings(stack: Stack) -> Settings:
    there = AdminClient({"bootstrap.servers": stack.settings.kafka_bootstrap}).list_topics(timeout=30).topics
    partitions = len(there[topics.INTAKE].partitions) if topics.INTAKE in there else 3
    made = stack.settings.model_copy(update={"partitions": partitions})
    migrate.upgrade(made)
    admin.apply_topics(made)
    admin.register_schemas(made)
    connector.apply(made)
    return made


@pytest.fixture
def processes(stack: Stack, settings: Settings, tmp_path: Path) -> Iterator[Processes]:
    running = Processes(settings, {**stack.env, "PAYMENTS_HOME": str(tmp_path)}, tmp_path)
    yield running
    running.stop()


class Subscriber:
    """Reads the public topics from their present end on, committed records only, as a consumer team does."""

    def __init__(self, settings: Settings) -> None:
        self._consumer = Consumer({**consumer_config(settings, f"test-{uuid4()}", "test")})
        known = self._consumer.list_topics(timeout=10).topics
        places = [TopicPartition(t.value, p) for t in topics.PublicTopic for p in known[t.value].partitions]
        for place in places:
            place.offset = self._consumer.get_watermark_offsets(place, timeout=10)[1]
        self._consumer.assign(places)
        self._seen: list[Seen] = []

    def wait(self, keys: set[bytes], count: int, seconds: float = 120) -> list[Seen]:
        """The records under these keys once there are `count`, and after a moment for one too many to show up."""
        deadline = monotonic() + seconds
        while len(found := self._of(keys)) < count:
            assert monotonic() < deadline, f"{len(found)} of {count} events after {seconds:.0f} s"
            self._read(0.5)
        self._read(2)
        return self._of(keys)

    def close(self) -> None:
        self._consumer.close()

    def _of(self, keys: set[bytes]) -> list[Seen]:
        return [seen for seen in self._seen if seen.key in keys]

    def _read(self, seconds: float) -> None:
        for message in self._consumer.consume(10_000, seconds):
            assert message.error() is None, message.error()
            headers = dict(message.headers() or [])
            self._seen.append(Seen(message.topic(), message.key(), message.value(), headers))


@pytest.fixture
def subscriber(settings: Settings) -> Iterator[Subscriber]:
    made = Subscriber(settings)
    yield made
    made.close()


@dataclass(frozen=True)
class Way:
    """From ledger.journal through the sink and the relay to a subscriber."""

    settings: Settings
    processes: Processes
    subscriber: Subscriber

    def send(self, lives: list[list[Fact]], disturb: Callable[[int], None] = lambda _: None) -> list[Seen]:
        """Send payments in batches of 20, disturb after each, and compare every event with what it must be."""
        writer = Writer(self.settings)
        self.processes.start("sink")
        for number in range(0, len(lives), 20):
            post(writer, (fact for life in lives[number : number + 20] for fact in life))
            disturb(number // 20)
        events = [event for life in lives for event in public_events(life)]
        expected = [(event.type, event.payment_id.encode(), writer.codec.encode(event)) for event in events]
        seen = self.subscriber.wait({key for _, key, _ in expected}, len(expected))
        assert sorted((s.topic, s.key, s.value) for s in seen) == sorted(expected), "each once, as the bytes it is"
        with psycopg.connect(self.settings.reveal("postgres_debezium_url")) as reader:
            assert reader.execute("SELECT count(*) FROM outbox.events").fetchall() == [(0,)]
        return seen


@pytest.fixture
def way(settings: Settings, processes: Processes, subscriber: Subscriber) -> Way:
    return Way(settings, processes, subscriber)


def test_each_event_arrives_once_as_its_bytes_with_its_headers(settings: Settings, way: Way) -> None:
    (life,) = lives = fresh(1)
    seen = {s.topic: s for s in way.send(lives)}
    codec = Codec(Registry(settings.registry_url))
    assert set(seen) == {"payments.created", "payments.authorized", "payments.captured"}
    for event in public_events(life):
        found = seen[event.type]
        decoded = codec.decode(found.value)
        assert isinstance(decoded, PaymentEvent)
        assert decoded == event
        assert found.headers["ce_id"].decode() == event.event_id
        assert found.headers["ce_type"] == b"payments.v1.PaymentEvent"
        assert found.headers["ce_source"] == b"/payments/sink"
        assert found.headers["ce_subject"].decode() == event.payment_id
        assert found.headers["ce_time"].decode().startswith("20")
        assert found.headers["traceparent"].count(b"-") == 3


def test_events_survive_a_lost_replication_connection(settings: Settings, way: Way, stack: Stack) -> None:
    cut = []

    def disturb(_: int) -> None:
        with psycopg.connect(stack.env["PAYMENTS_POSTGRES_ADMIN_URL"], autocommit=True) as superuser:
            cut.extend(superuser.execute(CUT).fetchall())
        sleep(0.5)

    way.send(fresh(200), disturb)
    assert cut, "the connection was cut at least once"
    connector.wait_running(settings)


@pytest.mark.faults
@pytest.mark.skipif(REUSED, reason="a stack that others may be using is not broken")
def test_events_survive_kill_9_of_connect_and_sink(settings: Settings, way: Way, stack: Stack) -> None:
    service = stack.home / "run" / "connect.json"
    if not service.exists():
        pytest.skip("Connect is not a process of this machine")
    random = Random(11)

    def disturb(number: int) -> None:
        sleep(random.random() * 0.3)
        way.processes["sink"].kill()
        way.processes["sink"].start()
        if number in {2, 6}:
            psutil.Process(_pid(service)).kill()
            LocalStack(stack.home).up()

    way.send(fresh(200), disturb)
    connector.wait_running(settings)


def _pid(service: Path) -> int:
    return int(json.loads(service.read_text())["pid"])


def test_applying_it_again_changes_nothing(settings: Settings) -> None:
    """The same configuration does not restart the task, and each setting that loses events is as it must be."""
    before = httpx.get(f"{settings.connect_url}/connectors/{connector.NAME}/config").json()
    connector.apply(settings)
    after = httpx.get(f"{settings.connect_url}/connectors/{connector.NAME}/config").json()
    assert after == before
    assert _states(connector.status(settings)) == ["RUNNING", "RUNNING"]


def test_every_topic_it_writes_is_in_the_catalogue() -> None:
    """One that is missing at the broker blocks the relay in silence."""
    assert set(connector.topics_written()) <= set(topics.Catalogue(1).topics)
    assert topics.HEARTBEAT in connector.topics_written()


def test_the_slot_follows_the_log_while_the_outbox_is_idle(settings: Settings, stack: Stack) -> None:
    """Else what others write would pile up behind it until the disk is full."""
    moved = "SELECT confirmed_flush_lsn >= %s::pg_lsn FROM pg_replication_slots WHERE slot_name = 'payments_outbox'"
    with (
        psycopg.connect(settings.reveal("postgres_owner_url"), autocommit=True) as owner,
        psycopg.connect(stack.env["PAYMENTS_POSTGRES_ADMIN_URL"], autocommit=True) as superuser,
    ):
        owner.execute("COMMENT ON SCHEMA sink IS 'where the sink stands'")
        here = superuser.execute("SELECT pg_current_wal_lsn()::text").fetchone()
        deadline = monotonic() + 60
        while superuser.execute(moved, here).fetchone() != (True,):
            assert monotonic() < deadline
            sleep(0.5)


def test_a_connector_that_cannot_run_says_why(settings: Settings) -> None:
    with pytest.raises(connector.ConnectorError, match="no_such_database"):
        connector.apply(settings.model_copy(update={"postgres_debezium_url": _elsewhere(settings)}), 30)
    connector.apply(settings)


def _elsewhere(settings: Settings) -> SecretStr:
    return SecretStr(settings.reveal("postgres_debezium_url").rsplit("/", 1)[0] + "/no_such_database")


def test_the_command_line(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "settings", lambda: settings)
    assert CliRunner().invoke(cli.app, ["apply"]).exit_code == 0
    shown = CliRunner().invoke(cli.app, ["status"])
    assert shown.exit_code == 0
    assert shown.output.count("RUNNING") == 2
    monkeypatch.setattr(connector, "NAME", "no-such-connector")
    assert CliRunner().invoke(cli.app, ["status"]).exit_code == 1


def _states(found: dict[str, Any]) -> list[str]:
    return [found["connector"]["state"], *(task["state"] for task in found["tasks"])]
