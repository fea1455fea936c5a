"""The books made anew from the log, on the real Kafka and Postgres."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from msgspec.structs import replace

from connectors.postgres.fence import FencedError
from connectors.postgres.rebuild import MADE_OF_THE_LOG, Rebuild
from connectors.postgres.sink import Sink
from pipeline import ids, topics
from pipeline.messages.journal import JournalRecord
from pipeline.settings import Settings
from tests.connectors.journal import captured, moved
from tests.connectors.postgres.tables import digest, superuser
from tests.connectors.postgres.test_sink import CODEC, Assigned
from tests.connectors.postgres.test_verify import PARTITIONS, Written, posted, some_books
from tests.fixtures.stack import Stack

pytestmark = pytest.mark.stack


@pytest.fixture
def written(topics_there: Settings, sink_connection: psycopg.Connection) -> Iterator[Written]:
    with some_books(topics_there, sink_connection) as there:
        yield there


@contextmanager
def damaged(stack: Stack, written: Written) -> Iterator[psycopg.Connection]:
    """Books in which a superuser changed, dropped and added rows."""
    with superuser(stack, written.log.settings) as owner:
        owner.execute("UPDATE ledger.postings SET amount = amount + 1 WHERE leg = 0")
        owner.execute("DELETE FROM payments.facts WHERE type = 'PaymentCaptured'")
        owner.execute("DELETE FROM payments.payments")
        owner.execute("INSERT INTO ledger.postings VALUES (gen_random_uuid(), 0, 'bank:USD', 'debit', 7, 'USD')")
        owner.execute("UPDATE settlement.lines SET fee = fee + 1, net = net - 1")
        yield owner


def stands(written: Written) -> list[tuple[int, int]]:
    rows = written.connection.execute("SELECT next_offset, epoch FROM sink.offsets ORDER BY partition")
    return rows.fetchall()


def test_damaged_books_are_what_they_were(stack: Stack, written: Written) -> None:
    """Byte for byte, up to where the sink stood; `verify` says so, too."""
    right, stood = digest(written.log.settings), stands(written)
    with damaged(stack, written):
        assert digest(written.log.settings) != right
        done = Rebuild(written.log, CODEC).run()
    assert digest(written.log.settings) == right
    assert stands(written) == [(offset, epoch + 1) for offset, epoch in stood]
    assert (done.counts.facts, done.counts.lines, done.passed_over) == (49, 4, 0)
    assert written.verify().counts == done.counts


def test_books_that_are_right_are_sealed_as_before(written: Written) -> None:
    done = Rebuild(written.log, CODEC).run()
    assert done.is_same
    found = written.verify()
    there = [*found.heads.values(), *found.line_heads.values()]
    assert [link for link in done.after if link] == [link for link in there if link.position]


def test_a_dry_run_tells_and_changes_nothing(stack: Stack, written: Written) -> None:
    with damaged(stack, written):
        before, stood = digest(written.log.settings), stands(written)
        done = Rebuild(written.log, CODEC).run(keep=False)
        assert done.counts.facts == 49
        assert (digest(written.log.settings), stands(written)) == (before, stood)


def test_a_rebuild_that_fails_leaves_the_old_books(written: Written) -> None:
    before, stood = digest(written.log.settings), stands(written)

    def fail(records: int) -> None:
        raise RuntimeError("the machine went down")

    with pytest.raises(RuntimeError, match="went down"):
        Rebuild(written.log, CODEC, advance=fail).run()
    assert (digest(written.log.settings), stands(written)) == (before, stood)


def test_nothing_is_announced(stack: Stack, written: Written) -> None:
    with superuser(stack, written.log.settings) as owner:
        owner.execute("ALTER TABLE outbox.events ADD CONSTRAINT nothing_more CHECK (false) NOT VALID")
    assert Rebuild(written.log, CODEC).run().counts.facts == 49


def test_the_sink_that_ran_meanwhile_is_fenced_and_its_successor_goes_on(written: Written) -> None:
    bootstrap = {"bootstrap.servers": written.log.settings.kafka_bootstrap}
    earlier = Sink(Assigned({**bootstrap, "group.id": "test"}), written.connection, CODEC, Producer(bootstrap))
    earlier._assigned(earlier.consumer, [TopicPartition(topics.JOURNAL, number) for number in range(PARTITIONS)])
    Rebuild(written.log, CODEC).run()
    written.both(*moved(captured(), ids.derive("later")))
    ends = written.log.ends(written.log.journal)
    stood = {partition: earlier.fence.expected[topics.JOURNAL, partition] for partition in ends}
    news = [m for p, end in ends.items() for m in written.log.read(written.log.journal, p, end, stood[p])]
    with pytest.raises(FencedError):
        earlier.write(news)
    written.sink()
    assert written.verify().counts.payments == 8


def test_what_the_sink_had_to_refuse_is_passed_over(written: Written) -> None:
    """An entry that does not balance: Postgres refuses it now as it did then, and it is no dead letter again."""
    written.journal(*(unbalanced(posted(fact)) for fact in moved(captured(), ids.derive("crooked"))))
    written.sink()
    books, refused = digest(written.log.settings), letters(written)
    done = Rebuild(written.log, CODEC).run()
    assert done.passed_over >= 1
    assert (digest(written.log.settings), letters(written)) == (books, refused)


def unbalanced(record: JournalRecord) -> JournalRecord:
    """The same with a first leg that is too big, where there is an entry."""
    if record.entry is None:
        return record
    first, *rest = record.entry.postings
    return replace(record, entry=replace(record.entry, postings=[replace(first, amount=first.amount + 1), *rest]))


def letters(written: Written) -> int:
    """How many dead letters the sink wrote."""
    consumer = Consumer({"bootstrap.servers": written.log.settings.kafka_bootstrap, "group.id": "test-letters"})
    try:
        name = topics.dlq(topics.JOURNAL)
        partitions = consumer.list_topics(name, 30).topics[name].partitions
        return sum(consumer.get_watermark_offsets(TopicPartition(name, number), 30)[1] for number in partitions)
    finally:
        consumer.close()


def test_every_table_that_the_sink_fills_is_emptied(books: Settings) -> None:
    query = """SELECT format('%s.%s', table_schema, table_name) FROM information_schema.table_privileges
                WHERE grantee = 'payments_sink' AND privilege_type = 'INSERT'"""
    with psycopg.connect(books.reveal("postgres_owner_url")) as connection:
        filled = {row[0] for row in connection.execute(query)}
    assert filled - {"outbox.events", "sink.offsets"} == set(MADE_OF_THE_LOG)


def test_the_guards_are_back(written: Written) -> None:
    Rebuild(written.log, CODEC).run()
    with (
        psycopg.connect(written.log.settings.reveal("postgres_owner_url")) as owner,
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"),
    ):
        owner.execute("DELETE FROM ledger.postings")
