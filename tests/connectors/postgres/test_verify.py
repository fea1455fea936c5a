"""`payments verify` on the real Kafka and Postgres: what was tampered with is found and named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from dataclasses import replace as with_fields
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from time import sleep
from uuid import uuid4

import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from msgspec.structs import replace

from connectors.postgres import migrate
from connectors.postgres.sink import Sink
from connectors.postgres.verify.at import Line, books_at, places, trial_balance
from connectors.postgres.verify.log import Log, LogError
from connectors.postgres.verify.rows import snapshot
from connectors.postgres.verify.run import Report, Verification
from connectors.postgres.verify.seals import chain_of_rows, line_chain_of_rows
from connectors.postgres.verify.words import Difference
from pipeline import ids, topics
from pipeline.codec import Codec, LocalIds
from pipeline.domain.chain import PaymentChain
from pipeline.domain.hash_chain import Link, origin
from pipeline.domain.postings import journal_record
from pipeline.headers import key_of
from pipeline.kafka import producer_config
from pipeline.messages.commands import Capture, Refund
from pipeline.messages.facts import Fact
from pipeline.messages.journal import JournalRecord
from pipeline.messages.settlement import LineKind, SettlementJournalRecord
from pipeline.messages.values import Operation, Outcome
from pipeline.settings import Settings
from tests.connectors.journal import captured, moved
from tests.connectors.postgres.conftest import database, with_topics
from tests.connectors.postgres.tables import BOOKS, superuser
from tests.connectors.postgres.test_settlement import settled
from tests.connectors.postgres.test_sink import CODEC, Assigned
from tests.domain.samples import PAYMENT, report
from tests.domain.test_postings import authorized, command
from tests.domain.test_settlement import CHARGE, PAYOUT, line
from tests.fixtures.stack import Stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]
PARTITIONS = 2
WAITING = line(LineKind.CHARGE, 4_000, payment_id=None, own="txn_waiting")
PAYMENTS = [ids.derive("verified", number) for number in range(6)]


def refunded_chain() -> PaymentChain:
    """A payment that was authorized, captured and refunded in part."""
    chain = authorized()
    for asked in (Capture(**command("capture"), amount=6_000), Refund(**command("refund"), amount=1_500)):
        (request,) = chain.feed(asked).requests
        operation = Operation.CAPTURE if isinstance(asked, Capture) else Operation.REFUND
        chain.feed(report(operation, Outcome.APPROVED, request.subject_id))
    return chain


def refunded() -> list[Fact]:
    """Its facts."""
    return refunded_chain().facts


LINES = settled([CHARGE, replace(PAYOUT, payout_id="po_1"), WAITING, replace(WAITING, payment_id=PAYMENT)])


@dataclass
class Written:
    """A log of the test's own, and a sink that reads it."""

    log: Log
    connection: psycopg.Connection
    producer: Producer
    taken: dict[int, int] = field(default_factory=dict)

    def events(self, *facts: Fact) -> None:
        """Append to payments.events."""
        for fact in facts:
            self.producer.produce(self.log.events, key=fact.payment_id, value=CODEC.encode(fact))
        self.producer.flush(30)

    def journal(self, *records: JournalRecord | SettlementJournalRecord | bytes) -> None:
        """Append to ledger.journal."""
        for record in records:
            key, value = (
                (PAYMENT.encode(), record) if isinstance(record, bytes) else (key_of(record), CODEC.encode(record))
            )
            self.producer.produce(self.log.journal, key=key, value=value)
        self.producer.flush(30)

    def both(self, *facts: Fact) -> None:
        """Append to both, as capture and ledger do."""
        self.events(*facts)
        self.journal(*map(posted, facts))

    def sink(self) -> None:
        """Take what is there."""
        bootstrap = {"bootstrap.servers": self.log.settings.kafka_bootstrap}
        writer = Sink(Assigned({**bootstrap, "group.id": "test"}), self.connection, CODEC, Producer(bootstrap))
        writer._assigned(writer.consumer, [TopicPartition(topics.JOURNAL, p) for p in range(PARTITIONS)])
        for partition, end in self.log.ends(self.log.journal).items():
            messages = list(
                self.log.read(self.log.journal, partition, end, writer.fence.expected[topics.JOURNAL, partition])
            )
            for start in range(0, len(messages), 5):
                writer.write(messages[start : start + 5])

    def ledger_stands_at_the_end(self) -> None:
        consumer = Consumer({"bootstrap.servers": self.log.settings.kafka_bootstrap, "group.id": self.log.ledger})
        ends = self.log.ends(self.log.events)
        consumer.commit(offsets=[TopicPartition(self.log.events, *place) for place in ends.items()], asynchronous=False)
        consumer.close()

    def verify(self, jobs: int = 1) -> Report:
        """With no patience."""
        self.ledger_stands_at_the_end()
        return Verification(self.log, partial(Codec, LocalIds()), patience=0, jobs=jobs).run()

    def difference(self) -> Difference:
        """The first one."""
        with pytest.raises(Difference) as found:
            self.verify()
        return found.value


def posted(fact: Fact) -> JournalRecord:
    return journal_record(fact, CODEC.encode(fact))


@contextmanager
def some_books(settings: Settings, connection: psycopg.Connection) -> Iterator[Written]:
    """Seven payments in two partitions, in a log of their own and in the books."""
    run = uuid4().hex[:8]
    log = Log(settings, f"verify-{run}.journal", f"verify-{run}.events", f"verify-{run}")
    client = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
    made = client.create_topics([NewTopic(name, PARTITIONS, 1) for name in (log.journal, log.events)])
    for future in made.values():
        future.result(30)
    there = Written(log, connection, Producer(producer_config(settings, "test")))
    there.both(*refunded())
    for payment in PAYMENTS:
        there.both(*moved(refunded(), payment))
    there.journal(*LINES, *LINES)
    there.sink()
    yield there
    client.delete_topics([log.journal, log.events])


@pytest.fixture
def written(topics_there: Settings, sink_connection: psycopg.Connection) -> Iterator[Written]:
    """Books of the test's own."""
    with some_books(topics_there, sink_connection) as there:
        yield there


@pytest.fixture(scope="module")
def shared(stack: Stack) -> Iterator[Written]:
    """Books that are put right again after each test."""
    with database(stack) as empty:
        migrate.upgrade(empty)
        settings = with_topics(empty)
        with (
            psycopg.connect(settings.reveal("postgres_sink_url"), autocommit=True) as connection,
            some_books(settings, connection) as there,
        ):
            with superuser(stack, settings) as owner:
                owner.execute("CREATE SCHEMA kept")
                for table in BOOKS:
                    owner.execute(f"CREATE TABLE kept.{table.split('.')[1]} AS TABLE {table}".encode())
            there.ledger_stands_at_the_end()
            yield there


@pytest.fixture
def tampered(stack: Stack, shared: Written) -> Iterator[psycopg.Connection]:
    """A superuser's connection to the shared books."""
    with superuser(stack, shared.log.settings) as owner:
        yield owner
        for table in BOOKS:
            owner.execute(f"DELETE FROM {table}".encode())
            owner.execute(f"INSERT INTO {table} TABLE kept.{table.split('.')[1]}".encode())


def test_books_as_the_sink_writes_them_are_right(written: Written) -> None:
    found = written.verify()
    assert (found.counts.facts, found.counts.payments, found.counts.entries) == (49, 7, 32)
    assert found.balances["provider_receivable:stripe:USD", "USD"] == (7 * 6_000, 7 * 1_500 + 6_000 + 4_000)
    assert found.heads == chains_of_rows(written)
    assert found.line_heads == line_chains_of_rows(written)
    assert sum(link.position for link in found.line_heads.values()) == len(LINES)
    assert all(isinstance(link, Link) and link.position for link in found.heads.values())


def test_processes_side_by_side_find_what_one_finds(
    stack: Stack, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.postgres.verify.run.WORTH_A_PROCESS", 1)
    alone, together = written.verify(), written.verify(jobs=PARTITIONS)
    assert untimed(together) == untimed(alone)
    with superuser(stack, written.log.settings) as owner:
        owner.execute("UPDATE ledger.postings SET amount = amount + 1 WHERE leg = 0")
    found = written.difference()
    with pytest.raises(Difference) as elsewhere:
        written.verify(jobs=PARTITIONS)
    assert str(elsewhere.value) == str(found)


def untimed(report: Report) -> Report:
    """The report, but for how long it took."""
    return with_fields(report, seconds=0.0)


def test_the_hash_tells_two_states_of_the_books_apart(written: Written) -> None:
    before = written.verify().hash
    assert written.verify().hash == before
    written.both(*moved(captured(), ids.derive("another")))
    written.sink()
    assert written.verify().hash != before


ENTRY = "(SELECT entry_id FROM ledger.entries WHERE payment_id = %(payment)s AND description = 'PaymentCaptured')"
FACT = "payment_id = %(payment)s AND type = 'PaymentCaptured'"
TAMPERINGS = {
    "a smaller amount": (
        f"UPDATE ledger.postings SET amount = 5000 WHERE entry_id = {ENTRY} AND leg IN (2, 3)",
        ("leg 2, account provider_receivable:stripe:USD", "60.00 USD", "50.00 USD", "was changed after"),
    ),
    "amounts swapped between two entries": (
        "UPDATE ledger.postings SET amount = CASE amount WHEN 10000 THEN 6000 WHEN 6000 THEN 10000 ELSE amount END"
        " WHERE entry_id IN (SELECT entry_id FROM ledger.entries WHERE payment_id = %(payment)s)",
        ("PaymentAuthorized", "debit 100.00 USD holds_receivable", "debit 60.00 USD holds_receivable", "was changed"),
    ),
    "another account": (
        f"UPDATE ledger.postings SET account = 'merchant_payable:evil:USD' WHERE entry_id = {ENTRY} AND leg = 3",
        ("account merchant_payable:acme:USD", "merchant_payable:acme:USD", "merchant_payable:evil:USD", "was changed"),
    ),
    "a posting that is gone": (
        f"DELETE FROM ledger.postings WHERE entry_id = {ENTRY} AND leg = 3",
        ("leg 3, account merchant_payable:acme:USD", "credit 60.00 USD", "no such leg", "was changed after"),
    ),
    "two legs more": (
        f"INSERT INTO ledger.postings SELECT entry_id, leg + 2, account, side, amount, currency FROM ledger.postings"
        f" WHERE entry_id = {ENTRY} AND leg IN (2, 3)",
        ("leg 4, account provider_receivable:stripe:USD", "no such leg", "debit 60.00 USD", "was changed after"),
    ),
    "an entry that is gone": (
        f"DELETE FROM ledger.entries WHERE entry_id = {ENTRY}",
        ("PaymentCaptured", "its journal entry", "debit 60.00 USD provider_receivable", "nothing"),
    ),
    "an entry's time": (
        f"UPDATE ledger.entries SET occurred_at = occurred_at + interval '1 microsecond' WHERE entry_id = {ENTRY}",
        (": time", "+00:00", ".000001+00:00", "was changed after"),
    ),
    "a fact's body": (
        f"UPDATE payments.facts SET body = set_byte(body, 40, 1) WHERE {FACT}",
        ("body (SHA-256)", "PaymentCaptured", "was changed after", "offset"),
    ),
    "a fact that is gone": (
        f"DELETE FROM payments.facts WHERE {FACT}",
        ("PaymentCaptured", "link", "is gone, the next one there is", "offset"),
    ),
    "a link": (
        f"UPDATE payments.facts SET chain_hash = sha256('x') WHERE {FACT}",
        ("of the hash chain", "PaymentCaptured", sha256(b"x").hexdigest(), "["),
    ),
    "an entry of nothing": (
        "INSERT INTO ledger.entries (entry_id, fact_id, payment_id, merchant_id, occurred_at, description,"
        " journal_partition, journal_offset, legs) SELECT gen_random_uuid(), gen_random_uuid(), payment_id, 'acme',"
        " now(), 'Gift', 0, 0, 2 FROM payments.payments WHERE payment_id = %(payment)s",
        ("entry", "Gift", "the log says   nothing", "Postgres says"),
    ),
    "a posting of nothing": (
        "INSERT INTO ledger.postings VALUES (gen_random_uuid(), 0, 'bank:USD', 'debit', 7, 'USD')",
        ("posting", "bank:USD", "the log says   nothing", "debit 7 USD"),
    ),
    "a settlement line's fee": (
        "UPDATE settlement.lines SET fee = fee + 1, net = net - 1 WHERE kind = 'charge' AND fee > 0",
        ("stripe line txn_charge_6000", ": fee", "204", "205"),
    ),
    "a settlement line that is gone": (
        "DELETE FROM settlement.lines WHERE kind = 'payout'",
        ("stripe line txn_payout", "one line", "nothing", "offset"),
    ),
    "the fees of two settlement lines swapped": (
        "UPDATE settlement.lines SET fee = 204 - fee, net = gross - 204 + fee WHERE kind = 'charge'",
        ("stripe line txn_", ": fee", "204"),
    ),
    "a settlement line's link": (
        "UPDATE settlement.lines SET chain_hash = sha256('x') WHERE kind = 'payout'",
        ("stripe line txn_payout", "of the lines' hash chain", sha256(b"x").hexdigest(), "offset"),
    ),
    "what was learned of a settlement line": (
        "UPDATE settlement.explanations SET payment_id = gen_random_uuid()",
        ("stripe line txn_waiting", "of the lines' hash chain", PAYMENT),
    ),
    "what was learned of a settlement line, gone": (
        "DELETE FROM settlement.explanations",
        ("stripe line txn_waiting", "of the lines' hash chain", "offset"),
    ),
    "a settlement line's entry": (
        "UPDATE ledger.postings SET account = 'bank:EUR' WHERE account LIKE 'payout_in_transit%%'",
        ("stripe line txn_payout", "its journal entry", "payout_in_transit", "bank:EUR"),
    ),
    "a payment's status": (
        "UPDATE payments.payments SET status = 'captured' WHERE payment_id = %(payment)s",
        (": status", "partially_refunded", "Postgres says  captured", "payment"),
    ),
    "a member of a payment's view": (
        "UPDATE payments.payments SET view = jsonb_set(view, '{amount_refunded}', '0')"
        " WHERE payment_id = %(payment)s",
        ("view.amount_refunded", "1500", "Postgres says  0", "payment"),
    ),
    "a payment that is gone": (
        "DELETE FROM payments.payments WHERE payment_id = %(payment)s",
        ("payment", "partially_refunded", "nothing", "7 facts"),
    ),
    "an operation's state": (
        "UPDATE payments.operations SET state = 'rejected' WHERE payment_id = %(payment)s AND kind = 'Capture'",
        ("operation", ": state", "completed", "rejected"),
    ),
    "the kinds of two operations swapped": (
        "UPDATE payments.operations SET kind = CASE kind WHEN 'Capture' THEN 'Refund' ELSE 'Capture' END"
        " WHERE payment_id = %(payment)s AND kind IN ('Capture', 'Refund')",
        ("operation", ": kind", "Capture", "Refund"),
    ),
    "an operation that is gone": (
        "DELETE FROM payments.operations WHERE payment_id = %(payment)s AND kind = 'Refund'",
        ("operation", "Refund, completed", "nothing"),
    ),
    "an operation of nothing": (
        "INSERT INTO payments.operations (payment_id, operation_id, merchant_id, kind, state, sequence, updated_at)"
        " VALUES (%(payment)s, 'gift', 'acme', 'Capture', 'completed', 99, now())",
        ("operation gift", "the log says   nothing", "Capture, completed"),
    ),
    "a payment of nothing": (
        "INSERT INTO payments.payments SELECT gen_random_uuid(), merchant_id, 'captured', amount, currency, provider,"
        " capture_method, customer_id, merchant_reference, created_at, updated_at, sequence, view"
        " FROM payments.payments WHERE payment_id = %(payment)s",
        ("payment", "the log says   nothing", "captured", "Postgres"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_what_was_tampered_with_is_found_and_named(
    shared: Written, tampered: psycopg.Connection, tampering: str
) -> None:
    statement, words = TAMPERINGS[tampering]
    assert tampered.execute(statement.encode(), {"payment": PAYMENTS[2]}).rowcount > 0
    text = str(shared.difference())
    assert all(word in text for word in words), text
    if "of nothing" not in tampering and "settlement" not in tampering:
        assert PAYMENTS[2] in text
    if "verify-" in text:
        assert f"{shared.log.journal}[" in text


@pytest.mark.parametrize("tampering", ["a smaller amount", "a fact that is gone", "a link", "a fact's body"])
def test_the_rows_alone_show_it(shared: Written, tampered: psycopg.Connection, tampering: str) -> None:
    tampered.execute(TAMPERINGS[tampering][0].encode(), {"payment": PAYMENTS[2]})
    with pytest.raises(Difference, match="hash chain"):
        chains_of_rows(shared)


LINE_TAMPERINGS = [
    "a settlement line's fee", "a settlement line's entry", "a settlement line's link",
    "the fees of two settlement lines swapped", "what was learned of a settlement line",
]  # fmt: skip


@pytest.mark.parametrize("tampering", LINE_TAMPERINGS)
def test_the_lines_rows_alone_show_it(shared: Written, tampered: psycopg.Connection, tampering: str) -> None:
    tampered.execute(TAMPERINGS[tampering][0].encode(), {"payment": PAYMENTS[2]})
    with pytest.raises(Difference, match=r"line .*hash chain"):
        line_chains_of_rows(shared)


def test_a_chain_that_was_made_anew_over_changed_rows_is_not_the_logs(
    shared: Written, tampered: psycopg.Connection
) -> None:
    """Whoever owns Postgres can make the rows fit each other; the log still says otherwise."""
    tampered.execute(TAMPERINGS["a smaller amount"][0].encode(), {"payment": PAYMENTS[2]})
    links = {partition: origin(partition) for partition in range(PARTITIONS)}
    rows = tampered.execute(
        "SELECT journal_partition, fact_id, content FROM ledger.journal_content ORDER BY 1, chain_position"
    ).fetchall()
    for partition, fact, content in rows:
        link = links[partition] = links[partition].next(content.encode())
        tampered.execute("UPDATE payments.facts SET chain_hash = %s WHERE fact_id = %s", (link.hash, fact))
    assert chains_of_rows(shared) == links
    text = str(shared.difference())
    assert "50.00 USD" in text
    assert "sealed as it is" in text


def chains_of_rows(written: Written) -> dict[int, Link]:
    """The heads, from the rows alone."""
    with snapshot(written.log.settings.reveal("postgres_reader_url")) as books:
        return {partition: chain_of_rows(books, partition) for partition in range(PARTITIONS)}


def line_chains_of_rows(written: Written) -> dict[int, Link]:
    """The heads of the settlement lines, from the rows alone."""
    with snapshot(written.log.settings.reveal("postgres_reader_url")) as books:
        return {partition: line_chain_of_rows(books, partition) for partition in range(PARTITIONS)}


def test_the_books_as_they_stood(written: Written) -> None:
    """At a place or a time in the log: what came later does not count."""
    now = trial_balance(books_at(written.log, CODEC, places(written.log, "0:999 1:999"), lambda _: None))
    between = datetime.now(UTC).isoformat()
    sleep(0.01)
    stood = written.log.ends(written.log.journal)
    written.both(*moved(captured(), ids.derive("later")))
    place = " ".join(f"{partition}:{end}" for partition, end in stood.items())
    for at in (place, between):
        then = books_at(written.log, CODEC, places(written.log, at), lambda _: None)
        assert trial_balance(then) == now
    assert Line("USD", "merchant_payable", 7 * 1_500, 7 * 6_000) in now
    assert (now[-1].accounts, now[-1].balance) == ("total", 0)
    later = trial_balance(books_at(written.log, CODEC, written.log.ends(written.log.journal), lambda _: None))
    assert Line("USD", "merchant_payable", 7 * 1_500, 7 * 6_000 + 10_000) in later
    nothing = books_at(written.log, CODEC, places(written.log, "2001-01-01T00:00:00Z"), lambda _: None)
    assert nothing == {}


@pytest.mark.parametrize("at", ["yesterday", "0:5 9:1", "0:x", ""])
def test_a_place_that_is_none_is_refused_in_words(shared: Written, at: str) -> None:
    with pytest.raises(ValueError, match=r"neither a time|has no partition 9"):
        places(shared.log, at)


def test_a_lost_journal_record_is_named(written: Written) -> None:
    facts = moved(captured(), ids.derive("lost"))
    written.both(*facts[:4])
    written.events(facts[4])
    written.sink()
    text = str(written.difference())
    assert f"fact {facts[4].fact_id} (PaymentCaptured, number 5)" in text
    assert f"{written.log.events}[" in text
    assert "does not have it" in text
    written.journal(posted(facts[4]))  # the reconciler has written it again
    written.sink()
    assert written.verify().counts.payments == 8


def test_a_fact_beyond_a_gap_is_named(written: Written) -> None:
    facts = moved(captured(), ids.derive("gap"))
    written.both(*facts[:2], *facts[3:])
    written.sink()
    text = str(written.difference())
    assert f"payment {facts[0].payment_id}: fact number 3" in text
    assert "payments.parked" in text


def test_a_journal_record_of_no_fact_is_named(written: Written) -> None:
    facts = moved(captured(), ids.derive("forged"))
    written.journal(*map(posted, facts))
    written.sink()
    text = str(written.difference())
    assert "does not have it" in text
    assert facts[0].payment_id in text


def test_postings_that_the_fact_does_not_imply_are_named(written: Written) -> None:
    """The journal's own record is not believed: the entry is made anew from the fact."""
    facts = moved(captured(), ids.derive("crooked"))
    written.both(*facts[:4])
    written.events(facts[4])
    right = posted(facts[4])
    assert right.entry is not None
    hold, money = right.entry.postings[:2], right.entry.postings[2:]
    legs = [*hold, *(replace(leg, amount=leg.amount + 1) for leg in money)]
    written.journal(replace(right, entry=replace(right.entry, postings=legs)))
    written.sink()
    text = str(written.difference())
    assert "leg 2" in text
    assert "100.00 USD" in text
    assert "100.01 USD" in text
    assert "not what its fact implies" in text


def test_what_the_sink_dead_lettered_and_was_put_right_is_no_difference(written: Written) -> None:
    """Also repeats, facts out of order, and bytes that are no record."""
    facts = moved(captured(), ids.derive("mended"))
    right = [posted(fact) for fact in facts]
    assert right[4].entry is not None
    unbalanced = replace(right[4], entry=replace(right[4].entry, postings=right[4].entry.postings[:1]))
    written.events(*facts)
    written.journal(b"not avro", right[0], right[1], right[3], right[1], right[2], unbalanced, right[4], right[4])
    written.sink()
    found = written.verify()
    assert found.counts.facts == 49 + 5
    assert (found.repeated, found.unusable) == (2, 1)


def test_a_sink_that_is_behind_is_no_success(written: Written) -> None:
    written.both(*moved(captured(), ids.derive("behind")))
    text = str(written.difference())
    assert "the sink is behind" in text
    assert "5 more records" in text


def test_books_of_a_log_that_is_gone_are_refused(written: Written, topics_there: Settings) -> None:
    """The log lacks what Postgres has."""
    client = AdminClient({"bootstrap.servers": topics_there.kafka_bootstrap})
    gone = client.delete_records([TopicPartition(written.log.journal, 0, 3)])
    for future in gone.values():
        future.result(30)
    with pytest.raises(LogError, match="was deleted"):
        written.verify()
