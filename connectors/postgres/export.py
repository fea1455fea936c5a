"""The books, written out for another program: line by line, in one snapshot, with flat memory."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from itertools import chain
from typing import Any, Final

import psycopg

from pipeline import topics
from pipeline.domain import beancount
from pipeline.messages.journal import Posting, Side

ENTRIES_AT_ONCE: Final = 2_000

_ACCOUNTS: Final = """
SELECT p.account, p.currency, min(e.occurred_at) FROM ledger.postings AS p JOIN ledger.entries AS e USING (entry_id)
 GROUP BY p.account, p.currency ORDER BY p.currency, p.account
"""
_ENTRIES: Final = """
SELECT e.entry_id::text, e.payment_id::text, e.occurred_at, e.description, e.journal_partition, e.journal_offset,
       e.reverses::text, e.reason, e.operator,
       (SELECT json_agg(json_build_array(p.account, p.side, p.amount, p.currency) ORDER BY p.leg)
          FROM ledger.postings AS p WHERE p.entry_id = e.entry_id)
  FROM ledger.entries AS e ORDER BY e.occurred_at, e.entry_id
"""
_BALANCES: Final = "SELECT account, currency, balance FROM ledger.balances ORDER BY currency, account"
_LAST: Final = "SELECT max(occurred_at) FROM ledger.entries"


class Format(StrEnum):
    """What the books can be written as."""

    BEANCOUNT = "beancount"


def exported(dsn: str) -> Iterator[str]:
    """The lines of a beancount file: every account, every entry, and every balance as Postgres has it."""
    with psycopg.connect(dsn, application_name="export") as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        accounts = connection.execute(_ACCOUNTS).fetchall()
        yield from beancount.header("Payments")
        yield from beancount.opened((account, currency, _day(at)) for account, currency, at in accounts)
        yield from chain.from_iterable(beancount.transaction(entry) for entry in _entries(connection))
        balances: list[Any] = connection.execute(_BALANCES).fetchall()
        if balances:
            yield from beancount.asserted(balances, _day_after_the_last(connection))


def _entries(connection: psycopg.Connection) -> Iterator[beancount.Entry]:
    with connection.cursor("entries") as cursor:
        cursor.itersize = ENTRIES_AT_ONCE
        for row in cursor.execute(_ENTRIES):
            yield _entry(*row)


def _entry(*row: Any) -> beancount.Entry:
    entry_id, payment_id, at, description, partition, offset, reverses, reason, operator, legs = row
    place = f"{topics.JOURNAL}[{partition}] offset {offset}"
    notes = {"entry": entry_id, "time": at.astimezone(UTC).isoformat(), "record": place}
    if reverses is not None:
        notes |= {"reverses": reverses, "reason": reason, "operator": operator}
    postings = tuple(Posting(account=a, side=Side(s), amount=amount, currency=c) for a, s, amount, c in legs)
    return beancount.Entry(at, description, payment_id, postings, notes)


def _day(at: datetime) -> date:
    return at.astimezone(UTC).date()


def _day_after_the_last(connection: psycopg.Connection) -> date:
    row = connection.execute(_LAST).fetchone()
    assert row is not None
    return _day(row[0]) + timedelta(days=1)
