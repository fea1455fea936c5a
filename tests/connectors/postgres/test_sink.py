"""The sink's transaction on the real Postgres: duplicates, gaps, fences, and what a batch writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Consumer, Producer, TopicPartition
from msgspec.structs import replace

from connectors.postgres.fence import FencedError
from connectors.postgres.sink import Sink
from pipeline import clock, topics
from pipeline.codec import Codec, LocalIds
from pipeline.domain.postings import journal_record
from pipeline.headers import trace_of
from pipeline.kafka import consumer_config
from pipeline.messages.deadletters import DeadLetter
from pipeline.messages.facts import Fact
from pipeline.messages.journal import JournalRecord
from pipeline.settings import Settings
from tests.connectors.journal import captured, moved
from tests.domain.samples import PAYMENT

pytestmark = pytest.mark.stack
CODEC = Codec(LocalIds()).require()
CARD = b"card 4242 4242 4242 4242"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


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

    def headers(self) -> list[tuple[str, bytes]]:
        return [("traceparent", TRACE.encode())]

    def timestamp(self) -> tuple[int, int]:
        return (TIMESTAMP_LOG_APPEND_TIME, clock.now())


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


def conflicts(connection: psycopg.Connection) -> list[tuple[Any, ...]]:
    return connection.execute("SELECT sequence, fact_id::text FROM payments.conflicts ORDER BY 1").fetchall()


@pytest.mark.parametrize("when", ["in a later batch", "in the same batch", "while the place is parked"])
def test_another_fact_in_a_taken_place_is_put_aside(
    books: Settings, sink_connection: psycopg.Connection, when: str
) -> None:
    """It is not lost, it is not in the books, and neither its own payment nor another one waits for a person."""
    facts, other = captured(), moved(captured(), "22222222-2222-5222-9222-222222222222")
    forged = replace(facts[2], fact_id="11111111-1111-5111-9111-111111111111")
    writer = sink(books, sink_connection)
    match when:
        case "in a later batch":
            writer.write(delivered(facts[:4]))
            writer.write(delivered([forged, facts[4], *other], 4))
        case "in the same batch":
            writer.write(delivered([*facts[:3], forged, *facts[3:], *other]))
        case _:
            writer.write(delivered([facts[0], facts[2]]))
            writer.write(delivered([forged, facts[1], *facts[3:], *other], 2))
    assert conflicts(sink_connection) == [(3, forged.fact_id)]
    assert facts_written(sink_connection) == sorted([1, 2, 3, 4, 5] * 2)
    known = sink_connection.execute("SELECT fact_id::text FROM payments.facts WHERE payment_id = %s", [PAYMENT])
    assert {row[0] for row in known} == {fact.fact_id for fact in facts}
    writer.write(delivered([forged], 20))
    assert len(conflicts(sink_connection)) == 1, "said again, it is the same conflict"


def test_a_partition_that_was_taken_away_is_left_alone(books: Settings, sink_connection: psycopg.Connection) -> None:
    """The consumer hands out what it has read before it says that the partition is gone."""
    writer = sink(books, sink_connection)
    writer._revoked(writer.consumer, [TopicPartition(topics.JOURNAL, 0)])
    writer.write(delivered(captured()))
    assert facts_written(sink_connection) == []
    assert sink_connection.execute("SELECT next_offset FROM sink.offsets").fetchall() == [(0,)]


def test_offsets_never_go_back(books: Settings, sink_connection: psycopg.Connection) -> None:
    facts = captured()
    writer = sink(books, sink_connection)
    writer.write(delivered(facts[:3], 7))
    with pytest.raises(FencedError):
        writer.write(delivered(facts[:2], 7))
    assert sink_connection.execute("SELECT next_offset FROM sink.offsets").fetchall() == [(10,)]


def test_an_instance_that_lost_its_partition_writes_nothing(
    books: Settings, sink_connection: psycopg.Connection
) -> None:
    facts = captured()
    old = sink(books, sink_connection)
    sink(books, sink_connection).write(delivered(facts[:2]))
    with pytest.raises(FencedError):
        old.write(delivered(facts))
    assert facts_written(sink_connection) == [1, 2]


def letters(settings: Settings, since: int) -> list[DeadLetter]:
    """The dead letters of the journal from a time on."""
    consumer = Consumer({**consumer_config(settings, f"test-{uuid4()}", "test"), "enable.partition.eof": True})
    place = TopicPartition(topics.dlq(topics.JOURNAL), 0)
    try:
        consumer.assign(consumer.offsets_for_times([TopicPartition(place.topic, 0, since)], 10))
        found, ended = list[DeadLetter](), False
        while not ended:
            for message in consumer.consume(100, 10):
                ended = message.error() is not None
                if not ended:
                    letter = CODEC.decode(message.value())
                    assert isinstance(letter, DeadLetter)
                    assert trace_of(message.headers()) == TRACE, "it belongs to the trace of the record"
                    found.append(letter)
        return found
    finally:
        consumer.close()


def crooked(message: Any) -> Delivered:
    """A journal record whose entry has one leg too few."""
    record = CODEC.decode(message.value())
    assert isinstance(record, JournalRecord)
    assert record.entry is not None
    entry = replace(record.entry, postings=record.entry.postings[:1])
    return Delivered(CODEC.encode(replace(record, entry=entry)), message.offset())


def swapped(message: Any) -> Delivered:
    """A journal record that says it is of another fact than it carries."""
    record = CODEC.decode(message.value())
    assert isinstance(record, JournalRecord)
    return Delivered(CODEC.encode(replace(record, sequence=record.sequence + 1)), message.offset())


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (crooked, "unwritable"),
        (swapped, "undecodable"),
        (lambda message: Delivered(b"not avro", message.offset()), "undecodable"),
        (lambda message: Delivered(CARD, message.offset()), "undecodable"),
    ],
)
def test_a_record_that_cannot_be_written_is_dead_lettered_alone(
    topics_there: Settings, sink_connection: psycopg.Connection, spoil: Callable[[Any], Delivered], reason: str
) -> None:
    """Its payment waits for it; the others in its batch go on; when it comes whole, nothing is missing."""
    began = clock.now() - 1
    facts, other = captured(), moved(captured(), "22222222-2222-5222-9222-222222222222")
    messages = delivered([fact for pair in zip(facts, other, strict=True) for fact in pair])
    whole = messages[4]
    messages[4] = spoil(whole)
    writer = sink(topics_there, sink_connection)
    writer.write(messages)
    rows = sink_connection.execute("SELECT payment_id::text, count(*) FROM payments.facts GROUP BY 1").fetchall()
    assert dict(rows) == {PAYMENT: 2, other[0].payment_id: 5}
    assert sink_connection.execute("SELECT count(*) FROM payments.parked").fetchall() == [(2,)]
    assert sink_connection.execute("SELECT next_offset FROM sink.offsets").fetchall() == [(10,)]
    (letter,) = letters(topics_there, began)
    assert (letter.reason, letter.topic, letter.partition, letter.offset) == (reason, topics.JOURNAL, 0, 4)
    assert letter.value == (None if messages[4].value() == CARD else messages[4].value())
    writer.write([Delivered(whole.body, 10)])
    assert facts_written(sink_connection) == sorted([1, 2, 3, 4, 5] * 2)
    assert sink_connection.execute("SELECT count(*) FROM ledger.entries").fetchall() == [(4,)]


@pytest.mark.parametrize("changes", [{"metadata": {"note": "\x00"}}, {"occurred_at": 2**60}, {"payment_id": "x"}])
def test_what_postgres_cannot_hold_stops_nobody_else(
    topics_there: Settings, sink_connection: psycopg.Connection, changes: dict[str, Any]
) -> None:
    began = clock.now() - 1
    poison = replace(captured()[0], **changes)
    good = moved(captured(), "22222222-2222-5222-9222-222222222222")
    sink(topics_there, sink_connection).write(delivered([poison, *good]))
    assert facts_written(sink_connection) == [1, 2, 3, 4, 5]
    (letter,) = letters(topics_there, began)
    assert letter.reason == "unwritable"
    assert "note" not in letter.detail, "the detail quotes nothing"


def test_a_connection_that_fails_is_nobodys_fault(books: Settings, sink_connection: psycopg.Connection) -> None:
    """Nothing is dead-lettered, nothing is written: the process ends and the next one goes on from the offsets."""
    writer = sink(books, sink_connection)
    facts = captured()
    writer.write(delivered(facts[:2]))
    sink_connection.close()
    with pytest.raises(psycopg.OperationalError):
        writer.write(delivered(facts[2:], 2))
    with psycopg.connect(books.reveal("postgres_sink_url")) as fresh:
        assert facts_written(fresh) == [1, 2]
        assert fresh.execute("SELECT next_offset FROM sink.offsets").fetchall() == [(2,)]
