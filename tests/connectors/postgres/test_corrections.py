"""Reversals in the real Postgres: what is kept of them, what is refused, and by whom."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from confluent_kafka import Consumer, Producer
from msgspec.structs import replace
from psycopg import errors

from connectors.postgres.corrections import Corrections, NotReversedError, Reversed
from pipeline import ids, topics
from pipeline.codec import CodecError
from pipeline.domain.chain import PaymentChain
from pipeline.domain.postings import entry_of
from pipeline.kafka import consumer_config, producer_config
from pipeline.messages.facts import EntryReversed
from pipeline.messages.inputs import ReverseEntry
from pipeline.messages.journal import JournalEntry
from pipeline.settings import Settings
from tests.connectors.postgres.tables import superuser
from tests.connectors.postgres.test_sink import CODEC, delivered, sink
from tests.connectors.postgres.test_verify import refunded_chain, some_books
from tests.domain.samples import PAYMENT
from tests.domain.test_reversals import captured
from tests.fixtures.stack import Stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]
WORDS = ("captured twice by mistake", "ann")

SUMS = """
SELECT account, sum(CASE side WHEN 'debit' THEN amount ELSE -amount END)::int FROM ledger.postings
 WHERE entry_id = ANY (%s::uuid[]) GROUP BY account
"""


@pytest.fixture
def corrections(topics_there: Settings) -> Iterator[Corrections]:
    with psycopg.connect(topics_there.reveal("postgres_reader_url"), autocommit=True) as reader:
        yield Corrections(topics_there, CODEC, Producer(producer_config(topics_there, "test")), reader)


def entry(chain: PaymentChain, number: int) -> JournalEntry:
    """The entry of the payment's fact of that number."""
    found = entry_of(chain.facts[number - 1])
    assert found is not None
    return found


def asked(corrections: Corrections, entry_id: str) -> ReverseEntry:
    made = corrections.command(entry_id, *WORDS)
    assert isinstance(made, ReverseEntry)
    return made


def test_reason_and_operator_are_kept(
    topics_there: Settings, sink_connection: psycopg.Connection, corrections: Corrections
) -> None:
    chain = captured()
    writer = sink(topics_there, sink_connection)
    writer.write(delivered(chain.facts))
    capture = entry(chain, 5)
    command = asked(corrections, capture.entry_id)
    (fact,) = chain.feed(command).facts
    writer.write(delivered([fact, fact], 5))
    row = sink_connection.execute(
        "SELECT entry_id::text, reverses::text, reason, operator, merchant_id, description FROM ledger.entries"
        " WHERE reverses IS NOT NULL"
    ).fetchone()
    assert row == (ids.entry_id(fact.fact_id), capture.entry_id, *WORDS, "acme", "EntryReversed")
    sums: dict[str, int] = dict(sink_connection.execute(SUMS, [[row[0], row[1]]]).fetchall())
    assert len(sums) == 4
    assert not any(sums.values())
    again = corrections.command(capture.entry_id, *WORDS)
    assert again == Reversed(capture.entry_id, row[0], before=True)
    for entry_id, operator, words in (
        (capture.entry_id, "bob", rf"is reversed already, by {row[0]}: captured twice by mistake \(ann\)"),
        (row[0], "ann", f"is itself the reversal of {capture.entry_id}"),
        (ids.derive("nothing"), "ann", "there is no entry"),
        ("nonsense", "ann", "there is no entry nonsense"),
        (entry(chain, 3).entry_id, "", "the operator has 1 to 255"),
    ):
        with pytest.raises(NotReversedError, match=words):
            corrections.command(entry_id, WORDS[0], operator)


def test_a_command_goes_to_intake_and_is_waited_for(
    topics_there: Settings, sink_connection: psycopg.Connection, corrections: Corrections
) -> None:
    chain = captured()
    writer = sink(topics_there, sink_connection)
    writer.write(delivered(chain.facts))
    consumer = Consumer(consumer_config(topics_there, ids.derive(topics_there.reveal("postgres_sink_url")), "test"))
    consumer.subscribe([topics.INTAKE])
    with pytest.raises(NotReversedError, match="not within 0 s"):
        corrections.reverse(entry(chain, 5).entry_id, *WORDS, wait=0)
    expected = asked(corrections, entry(chain, 5).entry_id)
    found = [record for record in sent(consumer) if isinstance(record, ReverseEntry)]
    consumer.close()
    assert [replace(record, occurred_at=0) for record in found[-1:]] == [replace(expected, occurred_at=0)]
    writer.write(delivered(list(chain.feed(found[-1]).facts), 5))
    done = corrections.reverse(entry(chain, 5).entry_id, *WORDS, wait=0)
    assert (done.entry_id, done.before) == (entry(chain, 5).entry_id, True)


def sent(consumer: Consumer) -> list[Any]:
    """What was sent for the payment. Others of the run wrote there too, with other schema ids."""
    found, quiet = list[Any](), 0
    while quiet < (4 if found else 60):
        message = consumer.poll(0.5)
        quiet = 0 if message else quiet + 1
        if message and not message.error() and message.key() == PAYMENT.encode():
            with suppress(CodecError):
                found.append(CODEC.decode(message.value()))
    return found


FORGERIES = {
    "other amounts": lambda fact: replace(fact, postings=[replace(leg, amount=7) for leg in fact.postings]),
    "fewer legs": lambda fact: replace(fact, postings=fact.postings[:2]),
    "other accounts": lambda fact: replace(fact, postings=[replace(leg, account="bank:USD") for leg in fact.postings]),
    "an entry that is not there": lambda fact: replace(fact, entry_id=ids.derive("nothing")),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_postgres_refuses_what_is_no_reversal(
    stack: Stack, topics_there: Settings, sink_connection: psycopg.Connection, corrections: Corrections, forgery: str
) -> None:
    """A record that no stage of ours writes: it is dead-lettered. Past Postgres' guard, `verify` names it."""
    with some_books(topics_there, sink_connection) as books:
        chain = refunded_chain()
        command = asked(corrections, entry(chain, 5).entry_id)
        (fact,) = chain.feed(command).facts
        forged = FORGERIES[forgery](fact)
        assert isinstance(forged, EntryReversed)
        books.both(forged)
        books.sink()
        count = "SELECT count(*) FROM ledger.entries WHERE reverses IS NOT NULL"
        assert sink_connection.execute(count).fetchall() == [(0,)]
        with superuser(stack, topics_there) as owner:
            owner.execute("ALTER TABLE ledger.entries DISABLE TRIGGER ALL")
            owner.execute("DELETE FROM sink.offsets")
        books.sink()
        assert sink_connection.execute(count).fetchall() == [(1,)]
        text = str(books.difference())
        assert "reversal of entry" in text
        assert "ann (captured twice by mistake)" in text
        assert "what was never posted so" in text


def test_an_entry_is_reversed_once_and_no_reversal_is(
    topics_there: Settings, sink_connection: psycopg.Connection, corrections: Corrections
) -> None:
    """Whoever writes: the constraints hold for the sink's own role."""
    chain = captured()
    sink(topics_there, sink_connection).write(delivered(chain.facts))
    (fact,) = chain.feed(asked(corrections, entry(chain, 5).entry_id)).facts
    sink(topics_there, sink_connection).write(delivered([fact], 5))
    reversing = ids.entry_id(fact.fact_id)
    for reverses, error in ((entry(chain, 5).entry_id, errors.UniqueViolation), (reversing, errors.CheckViolation)):
        with pytest.raises(error), sink_connection.transaction():
            again(sink_connection, reverses)


def again(connection: psycopg.Connection, reverses: str) -> None:
    """One more entry that negates an entry."""
    made = ids.derive("again", reverses)
    connection.execute(
        "INSERT INTO ledger.entries SELECT %(made)s, %(made)s, payment_id, now(), 'x', 0, 0, legs, merchant_id,"
        " entry_id, 'x', 'x' FROM ledger.entries WHERE entry_id = %(reverses)s",
        {"made": made, "reverses": reverses},
    )
    connection.execute(
        "INSERT INTO ledger.postings SELECT %s, leg, account, CASE side WHEN 'debit' THEN 'credit' ELSE 'debit' END,"
        " amount, currency FROM ledger.postings WHERE entry_id = %s",
        [made, reverses],
    )
