"""The sink's transaction on the real Postgres: duplicates, gaps, fences, and what a batch writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from msgspec.structs import replace

from connectors.postgres.sink import FencedError, ForgedSequenceError, Sink
from pipeline import topics
from pipeline.codec import Codec, LocalIds
from pipeline.domain.postings import journal_record
from pipeline.messages.commands import Capture
from pipeline.messages.facts import Fact
from pipeline.messages.journal import JournalRecord
from pipeline.messages.values import Operation, Outcome
from pipeline.settings import Settings
from tests.domain.samples import PAYMENT, report
from tests.domain.test_postings import authorized, command

pytestmark = pytest.mark.stack
CODEC = Codec(LocalIds()).require()


@dataclass(frozen=True)
class Delivered:
    """A journal record as the consumer hands it over."""

    body: bytes
    at: int

    def value(self) -> bytes:
        return self.body

    def key(self) -> bytes:
        return PAYMENT.encode()

    def topic(self) -> str:
        return topics.JOURNAL

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.at


def captured() -> list[Fact]:
    """The facts of a payment that was authorized and captured."""
    chain = authorized()
    (request,) = chain.feed(Capture(**command("capture"))).requests
    chain.feed(report(Operation.CAPTURE, Outcome.APPROVED, request.subject_id))
    return chain.facts


def delivered(facts: list[Fact], start: int = 0) -> list[Any]:
    records = [journal_record(fact, CODEC.encode(fact)) for fact in facts]
    return [Delivered(CODEC.encode(record), start + number) for number, record in enumerate(records)]


class Assigned(Consumer):  # type: ignore[misc]
    """A consumer that was given partition 0 and needs no broker: only the assignment's bookkeeping is asked of it."""

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        self.given = partitions


def sink(books: Settings, connection: psycopg.Connection) -> Sink:
    """A sink that holds partition 0."""
    nowhere = {"bootstrap.servers": books.kafka_bootstrap, "group.id": "test-sink"}
    made = Sink(Assigned(nowhere), connection, CODEC, Producer({"bootstrap.servers": books.kafka_bootstrap}))
    made._assigned(made.consumer, [TopicPartition(topics.JOURNAL, 0)])
    return made


def facts_written(connection: psycopg.Connection) -> list[int]:
    return [row[0] for row in connection.execute("SELECT sequence FROM payments.facts ORDER BY 1")]


def test_a_batch_is_books_projection_and_offsets_together(books: Settings, sink_connection: psycopg.Connection) -> None:
    sink(books, sink_connection).write(delivered(captured()))
    assert facts_written(sink_connection) == [1, 2, 3, 4, 5]
    status = sink_connection.execute("SELECT status, sequence FROM payments.payments").fetchall()
    assert status == [("captured", 5)]
    assert sink_connection.execute("SELECT count(*) FROM ledger.entries").fetchall() == [(2,)]
    operations = sink_connection.execute("SELECT kind, state FROM payments.operations ORDER BY 1").fetchall()
    assert operations == [("Authorize", "completed"), ("Capture", "completed"), ("CreateIntent", "completed")]
    assert sink_connection.execute("SELECT count(*) FROM outbox.events").fetchall() == [(0,)]
    assert sink_connection.execute("SELECT next_offset FROM sink.offsets").fetchall() == [(5,)]


def test_the_same_records_again_change_nothing(books: Settings, sink_connection: psycopg.Connection) -> None:
    """Within a batch, in a later batch, and after a restart without the cache."""
    facts = captured()
    first = sink(books, sink_connection)
    first.write(delivered([*facts, *facts]))
    first.write(delivered(facts, 10))
    sink(books, sink_connection).write(delivered(facts, 15))
    assert facts_written(sink_connection) == [1, 2, 3, 4, 5]
    assert sink_connection.execute("SELECT count(*) FROM ledger.entries").fetchall() == [(2,)]


def test_a_fact_beyond_a_gap_waits_for_the_missing_one(books: Settings, sink_connection: psycopg.Connection) -> None:
    facts = captured()
    writer = sink(books, sink_connection)
    writer.write(delivered([facts[0], facts[2], facts[3]]))
    assert facts_written(sink_connection) == [1]
    assert sink_connection.execute("SELECT count(*) FROM payments.parked").fetchall() == [(2,)]
    writer.write(delivered([facts[4]], 3))
    writer.write(delivered([facts[1]], 4))
    assert facts_written(sink_connection) == [1, 2, 3, 4, 5]
    assert sink_connection.execute("SELECT count(*) FROM payments.parked").fetchall() == [(0,)]
    assert sink_connection.execute("SELECT status FROM payments.payments").fetchall() == [("captured",)]


def test_another_fact_in_the_same_place_stops_the_sink(books: Settings, sink_connection: psycopg.Connection) -> None:
    facts = captured()
    writer = sink(books, sink_connection)
    writer.write(delivered(facts))
    forged = replace(facts[2], fact_id="11111111-1111-5111-9111-111111111111")
    with pytest.raises(ForgedSequenceError):
        writer.write(delivered([forged], 5))
    assert sink_connection.execute("SELECT next_offset FROM sink.offsets").fetchall() == [(5,)]


def test_an_instance_that_lost_its_partition_writes_nothing(
    books: Settings, sink_connection: psycopg.Connection
) -> None:
    facts = captured()
    old = sink(books, sink_connection)
    sink(books, sink_connection).write(delivered(facts[:2]))
    with pytest.raises(FencedError):
        old.write(delivered(facts))
    assert facts_written(sink_connection) == [1, 2]


def test_a_batch_that_fails_leaves_no_trace(books: Settings, sink_connection: psycopg.Connection) -> None:
    """An entry that the database refuses takes facts, views and offsets with it."""
    facts = captured()
    good = delivered(facts)
    record = CODEC.decode(good[2].value())
    assert isinstance(record, JournalRecord)
    assert record.entry is not None
    crooked = replace(record, entry=replace(record.entry, postings=record.entry.postings[:1]))
    with pytest.raises(psycopg.errors.CheckViolation):
        sink(books, sink_connection).write([*good[:2], Delivered(CODEC.encode(crooked), 2)])
    assert facts_written(sink_connection) == []
    assert sink_connection.execute("SELECT next_offset FROM sink.offsets").fetchall() == [(0,)]
