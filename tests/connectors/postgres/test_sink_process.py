"""The sink as a process on the real Kafka and Postgres: kill -9 at any moment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from time import monotonic, sleep

import psycopg
import pytest

from pipeline.messages.facts import Fact
from pipeline.settings import Settings
from tests.connectors.journal import fresh, post
from tests.fixtures.stack import Stack
from tests.topologies.processes import Processes, Writer

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


@pytest.fixture
def processes(stack: Stack, topics_there: Settings, tmp_path: Path) -> Iterator[Processes]:
    """The sink, on books of the test's own."""
    url = topics_there.reveal("postgres_sink_url")
    env = {**stack.env, "PAYMENTS_HOME": str(tmp_path), "PAYMENTS_POSTGRES_SINK_URL": url}
    running = Processes(topics_there, env, tmp_path)
    yield running
    running.stop()


def count(reader: psycopg.Connection, query: str, payments: list[str]) -> int:
    row = reader.execute(query.encode(), [payments]).fetchone()
    assert row is not None
    return int(row[0])


FACTS = "SELECT count(*) FROM payments.facts WHERE payment_id = ANY (%s::uuid[])"
ENTRIES = "SELECT count(*) FROM ledger.entries WHERE payment_id = ANY (%s::uuid[])"


def wait_for_facts(reader: psycopg.Connection, payments: list[str], wanted: int, seconds: float = 90) -> None:
    deadline = monotonic() + seconds
    while count(reader, FACTS, payments) < wanted:
        assert monotonic() < deadline, f"{count(reader, FACTS, payments)} of {wanted} facts after {seconds:.0f} s"
        sleep(0.02)


def shuffled(lives: list[list[Fact]], random: Random) -> list[Fact]:
    """All facts in some order that keeps each payment's own, a tenth of them twice."""
    waiting, mixed = [list(life) for life in lives], list[Fact]()
    while waiting:
        life = random.choice(waiting)
        mixed.append(life.pop(0))
        if random.random() < 0.1:
            mixed.append(random.choice(mixed[-50:]))
        if not life:
            waiting.remove(life)
    return mixed


def test_kill_9_at_any_moment_writes_everything_once(topics_there: Settings, processes: Processes) -> None:
    random = Random(7)
    lives = fresh(600)
    payments = [life[0].payment_id for life in lives]
    records = shuffled(lives, random)
    writer = Writer(topics_there)
    with psycopg.connect(topics_there.reveal("postgres_reader_url"), autocommit=True) as reader:
        processes.start("sink")
        post(writer, records[:1])
        wait_for_facts(reader, payments, 1)
        killed = 0
        for start in range(1, len(records), 60):
            post(writer, records[start : start + 60])
            if random.random() < 0.25:
                sleep(random.random() * 0.1)
                processes["sink"].kill()
                processes["sink"].start()
                killed += 1
        wait_for_facts(reader, payments, 3_000)
        assert killed > 5
        assert processes["sink"].stop() == 0
        assert count(reader, FACTS, payments) == 3_000
        assert count(reader, ENTRIES, payments) == 1_200
        views = "SELECT count(*) FROM payments.payments WHERE status = 'captured' AND sequence = 5"
        assert count(reader, f"{views} AND payment_id = ANY (%s::uuid[])", payments) == 600
        assert reader.execute(
            "SELECT DISTINCT balance FROM ledger.trial_balance WHERE accounts = 'total'"
        ).fetchall() == [(0,)]
        for table in ("payments.parked", "payments.conflicts"):
            query = f"SELECT count(*) FROM {table} WHERE payment_id = ANY (%s::uuid[])"
            assert count(reader, query, payments) == 0, table
    with psycopg.connect(topics_there.reveal("postgres_debezium_url")) as relay:
        assert relay.execute("SELECT count(*) FROM outbox.events").fetchall() == [(0,)]
