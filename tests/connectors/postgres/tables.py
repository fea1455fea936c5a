"""The books as bytes, and the superuser who can do what no role may."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256

import psycopg

from pipeline.settings import Settings
from tests.fixtures.stack import Stack

BOOKS = {
    "payments.payments": "payment_id",
    "payments.operations": "payment_id, operation_id",
    "payments.facts": "payment_id, sequence",
    "ledger.entries": "entry_id",
    "ledger.postings": "entry_id, leg",
    "settlement.lines": "line_id",
    "settlement.explanations": "explanation_id",
}
"""What is written from the log, and the order to read it in."""


def digest(settings: Settings) -> dict[str, str]:
    """A hash over every byte of each table, save for when a fact was written."""
    with psycopg.connect(settings.reveal("postgres_reader_url")) as connection:
        return {table: _digest(connection, table, order) for table, order in BOOKS.items()}


def _digest(connection: psycopg.Connection, table: str, order: str) -> str:
    rows = connection.execute(f"SELECT (to_jsonb(t) - 'written_at')::text FROM {table} AS t ORDER BY {order}".encode())
    return sha256("\n".join(row[0] for row in rows).encode()).hexdigest()


@contextmanager
def superuser(stack: Stack, settings: Settings) -> Iterator[psycopg.Connection]:
    """A connection that no trigger and no foreign key holds back."""
    database = settings.reveal("postgres_owner_url").rsplit("/", 1)[1]
    url = f"{stack.env['PAYMENTS_POSTGRES_ADMIN_URL'].rsplit('/', 1)[0]}/{database}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        yield connection
