"""The hash chain as the sink keeps it: the same whatever the batches, and none but the log's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from connectors.postgres import migrate, statements
from pipeline.domain.hash_chain import origin
from pipeline.messages.facts import Fact
from pipeline.settings import Settings
from tests.connectors.journal import captured, moved
from tests.connectors.postgres.tables import digest, superuser
from tests.connectors.postgres.test_settlement import journal
from tests.connectors.postgres.test_sink import delivered, sink
from tests.domain.test_settlement import CHARGE, PAYOUT
from tests.fixtures.stack import Stack

pytestmark = pytest.mark.stack
OTHERS = [f"{number}{number * 7}222222-2222-5222-9222-222222222222"[-36:] for number in range(1, 5)]


def log_of_payments() -> list[Fact]:
    """Facts of several payments, mixed; of one of them a fact comes late, of another one twice."""
    rows = [captured(), *(moved(captured(), payment) for payment in OTHERS)]
    facts = [fact for column in zip(*rows, strict=True) for fact in column]
    late = rows[1][1]
    facts.remove(late)
    return [*facts[:14], facts[3], *facts[14:18], late, *facts[18:]]


def write(books: Settings, connection: psycopg.Connection, messages: Sequence[Any], batch: int) -> None:
    """Through a new sink, so many records a transaction."""
    writer = sink(books, connection)
    for start in range(0, len(messages), batch):
        writer.write(messages[start : start + batch])


def emptied(stack: Stack, books: Settings) -> None:
    with superuser(stack, books) as connection:
        connection.execute(
            "TRUNCATE payments.payments, payments.operations, payments.facts, payments.parked, payments.conflicts,"
            " ledger.entries, ledger.postings, sink.offsets"
        )


def test_a_replay_into_emptied_tables_gives_the_same_bytes(
    stack: Stack, books: Settings, sink_connection: psycopg.Connection
) -> None:
    """Whatever the batches, and with a fact that others had to wait for."""
    messages = delivered(log_of_payments())
    found = []
    for batch in (1, 3, 7, len(messages)):
        emptied(stack, books)
        write(books, sink_connection, messages, batch)
        found.append(digest(books))
    assert sink_connection.execute("SELECT count(*) FROM payments.facts").fetchall() == [(25,)]
    assert found[0] == found[1] == found[2] == found[3]


def test_the_links_are_those_of_the_rows(books: Settings, sink_connection: psycopg.Connection) -> None:
    """From the rows alone; a restart goes on where the last instance stopped."""
    messages = delivered(log_of_payments())
    write(books, sink_connection, messages[:11], 4)
    write(books, sink_connection, messages[11:], 100)
    with psycopg.connect(books.reveal("postgres_reader_url")) as reader:
        rows = reader.execute(
            "SELECT content, chain_position, chain_hash FROM ledger.journal_content ORDER BY chain_position"
        ).fetchall()
    assert len(rows) == 25
    link = origin(0)
    for content, position, sealed in rows:
        link = link.next(content.encode())
        assert (position, sealed) == (link.position, link.hash)


def test_books_in_use_are_chained_as_a_replay_would(
    stack: Stack, settings_at_first: Settings, sink_connection: psycopg.Connection, books: Settings
) -> None:
    """The migration, over facts that an earlier version's sink wrote."""
    write(books, sink_connection, delivered(log_of_payments()), 5)
    migrate.upgrade(settings_at_first, "0002")
    columns = {
        "payments.payments": "payment_id, merchant_id, status, amount, currency, provider, capture_method, created_at,"
        " updated_at, sequence, view",
        "payments.facts": "payment_id, sequence, fact_id, type, occurred_at, body, journal_partition, journal_offset",
        "ledger.entries": "entry_id, fact_id, payment_id, occurred_at, description, journal_partition, journal_offset,"
        " legs",
        "ledger.postings": "entry_id, leg, account, side, amount, currency",
    }
    with psycopg.connect(settings_at_first.reveal("postgres_sink_url")) as old:
        for table, names in columns.items():
            rows = sink_connection.execute(
                f"SELECT {names.replace('view', 'view::text')} FROM {table}".encode()
            ).fetchall()
            marks = ", ".join(["%s"] * len(rows[0]))
            old.cursor().executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})".encode(), rows)
    migrate.upgrade(settings_at_first)
    assert digest(settings_at_first) | {"payments.operations": ""} == digest(books) | {"payments.operations": ""}


def test_settlement_lines_in_use_are_chained_as_the_sink_would(
    settings_at_first: Settings, sink_connection: psycopg.Connection, books: Settings
) -> None:
    """The migration, over lines that an earlier version's sink wrote; one of them was explained later."""
    waiting = replace(CHARGE, payment_id=None)
    write(books, sink_connection, journal([], [waiting, PAYOUT, CHARGE]), 2)
    migrate.upgrade(settings_at_first, "0051")
    columns = {
        "settlement.lines": statements.LINE_COLUMNS,
        "settlement.explanations": "explanation_id, line_id, payment_id, payout_id, journal_partition, journal_offset",
        "ledger.entries": "entry_id, fact_id, payment_id, occurred_at, description, journal_partition, journal_offset,"
        " legs",
        "ledger.postings": "entry_id, leg, account, side, amount, currency",
    }
    with psycopg.connect(settings_at_first.reveal("postgres_sink_url")) as old:
        for table, names in columns.items():
            rows = sink_connection.execute(f"SELECT {names} FROM {table}".encode()).fetchall()
            marks = ", ".join(["%s"] * len(rows[0]))
            old.cursor().executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})".encode(), rows)
    migrate.upgrade(settings_at_first)
    assert digest(settings_at_first) == digest(books)
    with psycopg.connect(books.reveal("postgres_reader_url")) as reader:
        positions = reader.execute("SELECT chain_position FROM settlement.journal_content ORDER BY 1").fetchall()
    assert positions == [(1,), (2,), (3,)]
