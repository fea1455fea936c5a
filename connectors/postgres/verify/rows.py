"""What Postgres has, in one snapshot, as the reader role."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, starmap
from typing import Any, Final, NamedTuple

import psycopg
from psycopg import sql

from connectors.postgres import statements
from connectors.postgres.rows import columns, operation_row, payment_row
from connectors.postgres.verify.words import NOTHING, Difference, amount_of
from pipeline.domain.hash_chain import Link
from pipeline.domain.projection import OperationView, PaymentView
from pipeline.messages.journal import Posting, Side

VIEWS_AT_ONCE: Final = 1_000
ROWS_AT_ONCE: Final = 2_000
Balances = dict[tuple[str, str], tuple[int, int]]
"""Account and currency: what was debited, what was credited."""

_CHAIN: Final = """
SELECT chain_position, chain_hash, content FROM ledger.journal_content
 WHERE journal_partition = %s ORDER BY chain_position
"""
_LINE_CHAIN: Final = """
SELECT chain_position, chain_hash, content FROM settlement.journal_content
 WHERE journal_partition = %s ORDER BY chain_position
"""
_PLAN: Final = """
SET LOCAL enable_sort = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off;
SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL jit = off
"""
_LEGS: Final = """
SELECT p.account, p.side, p.amount, p.currency FROM ledger.entries AS e JOIN ledger.postings AS p USING (entry_id)
 WHERE e.entry_id = %s::uuid AND e.payment_id = %s::uuid AND e.reverses IS NULL ORDER BY p.leg
"""
_COUNTS: Final = """
SELECT (SELECT count(*) FROM payments.facts), (SELECT count(*) FROM payments.payments),
       (SELECT count(*) FROM ledger.entries), (SELECT count(*) FROM ledger.postings),
       (SELECT count(*) FROM settlement.lines) + (SELECT count(*) FROM settlement.explanations),
       (SELECT count(*) FROM payments.operations)
"""
_STRANGERS: Final = {
    "fact": """SELECT fact_id::text, format('payment %%s, number %%s, %%s', payment_id, sequence, type)
                 FROM payments.facts WHERE journal_partition <> ALL (%s) LIMIT 1""",
    "payment": """SELECT payment_id::text, status FROM payments.payments AS p WHERE %s::int[] IS NOT NULL
                     AND NOT EXISTS (SELECT FROM payments.facts AS f WHERE f.payment_id = p.payment_id) LIMIT 1""",
    "operation": """SELECT operation_id, format('payment %%s, %%s, %%s', payment_id, kind, state)
                      FROM payments.operations AS o WHERE %s::int[] IS NOT NULL AND NOT EXISTS (
                           SELECT FROM payments.facts AS f
                            WHERE f.payment_id = o.payment_id AND f.sequence = o.sequence) LIMIT 1""",
    "entry": """SELECT entry_id::text, format('payment %%s, %%s, fact %%s', payment_id, description, fact_id)
                  FROM ledger.entries AS e WHERE %s::int[] IS NOT NULL
                   AND NOT EXISTS (SELECT FROM payments.facts AS f WHERE f.fact_id = e.fact_id)
                   AND NOT EXISTS (SELECT FROM settlement.lines AS l WHERE l.line_id = e.fact_id)
                   AND NOT EXISTS (SELECT FROM settlement.explanations AS x WHERE x.explanation_id = e.fact_id)
                 LIMIT 1""",
    "line": """SELECT line_id::text, format('%%s %%s, %%s', provider, provider_line, kind)
                 FROM settlement.lines WHERE journal_partition <> ALL (%s) LIMIT 1""",
    "posting": """SELECT entry_id::text, format('leg %%s: %%s %%s %%s %%s', leg, side, amount, currency, account)
                    FROM ledger.postings AS p WHERE %s::int[] IS NOT NULL
                     AND NOT EXISTS (SELECT FROM ledger.entries AS e WHERE e.entry_id = p.entry_id) LIMIT 1""",
}


class Row(NamedTuple):
    """A fact or a settlement line with its entry, as the rows have it, and its link in the hash chain."""

    position: int
    hash: bytes
    content: str


@dataclass(frozen=True, slots=True)
class Counts:
    """How much there is."""

    facts: int
    payments: int
    entries: int
    postings: int
    lines: int = 0
    """Settlement lines, and what was learned of them later."""
    operations: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.facts + other.facts,
            self.payments + other.payments,
            self.entries + other.entries,
            self.postings + other.postings,
            self.lines + other.lines,
            self.operations + other.operations,
        )


@dataclass(slots=True)
class Snapshot:
    """Postgres at one moment."""

    connection: psycopg.Connection

    def stands(self, topic: str) -> dict[int, int]:
        """Where the sink stands in each partition."""
        rows = self.connection.execute("SELECT partition, next_offset FROM sink.offsets WHERE topic = %s", [topic])
        return dict(rows.fetchall())

    def export(self) -> str:
        """A name by which another connection sees the same moment."""
        row = self.connection.execute("SELECT pg_export_snapshot()").fetchone()
        assert row is not None
        return str(row[0])

    def chain(self, partition: int) -> Generator[Row, None, None]:
        """The facts of a partition in the order of its chain. To be closed."""
        return self._rows("facts", _CHAIN, partition)

    def line_chain(self, partition: int) -> Generator[Row, None, None]:
        """The settlement lines of a partition, and what was learned of them, likewise."""
        return self._rows("lines", _LINE_CHAIN, partition)

    def _rows(self, name: str, query: str, partition: int) -> Generator[Row, None, None]:
        with (
            self.connection.cursor(name, binary=True) as cursor,
            ThreadPoolExecutor(1, "rows") as ahead,
        ):
            cursor.execute(query.encode(), (partition,))
            coming = ahead.submit(cursor.fetchmany, ROWS_AT_ONCE)
            while rows := coming.result():
                coming = ahead.submit(cursor.fetchmany, ROWS_AT_ONCE)  # Postgres works while these are compared
                yield from starmap(Row, rows)

    def heads(self, partitions: Iterable[int]) -> tuple[Link | None, ...]:
        """The links that these partitions' chains end with: the facts', then the report lines'; None if empty."""
        asked = [{"partition": partition} for partition in sorted(partitions)]
        queries = (statements.CHAIN_HEAD, statements.LINE_CHAIN_HEAD)
        rows = [self.connection.execute(query, place).fetchone() for query in queries for place in asked]
        return tuple(Link(*row) if row else None for row in rows)

    def compare_payments(self, views: Iterable[PaymentView]) -> None:
        """Raises Difference for a payment whose row is not what `views` make it."""
        rest = iter(views)
        while some := list(islice(rest, VIEWS_AT_ONCE)):
            found = self.connection.execute(statements.DIFFERING_PAYMENT, columns(map(payment_row, some))).fetchone()
            if found is not None:
                raise _differing_payment(*found)

    def compare_operations(self, views: Iterable[OperationView]) -> None:
        """Raises Difference for an operation whose row is not what `views` make it."""
        rest = iter(views)
        while some := list(islice(rest, VIEWS_AT_ONCE)):
            query, rows = statements.DIFFERING_OPERATION, columns(map(operation_row, some))
            found = self.connection.execute(query, rows).fetchone()
            if found is not None:
                raise _differing_operation(*found)

    def known(self, fact_ids: Sequence[str]) -> set[str]:
        """Those of the facts that are in the books."""
        query = "SELECT fact_id::text FROM payments.facts WHERE fact_id = ANY (%s::uuid[])"
        return {row[0] for row in self.connection.execute(query, [list(fact_ids)])}

    def legs_of(self, entry_id: str, payment_id: str) -> list[Posting]:
        """The legs of a payment's entry, none if there is no such entry or it is a reversal."""
        rows = self.connection.execute(_LEGS, [entry_id, payment_id])
        return [Posting(account=a, side=Side(s), amount=amount, currency=c) for a, s, amount, c in rows]

    def counts(self) -> Counts:
        """How much there is."""
        row = self.connection.execute(_COUNTS).fetchone()
        assert row is not None
        return Counts(*row)

    def stranger(self, partitions: Sequence[int]) -> Difference | None:
        """Something that belongs to nothing else in the books, if there is any."""
        for what, query in _STRANGERS.items():
            row = self.connection.execute(query.encode(), [list(partitions)]).fetchone()
            if row is not None:
                return Difference(f"{what} {row[0]}", NOTHING, row[1])
        return None

    def compare_balances(self, balances: Balances) -> None:
        """Raises Difference for an account whose balance is not the log's."""
        rows = self.connection.execute("SELECT account, currency, debit, credit FROM ledger.balances")
        found = {(account, currency): (debit, credit) for account, currency, debit, credit in rows}
        for key in sorted(balances.keys() | found.keys()):
            if balances.get(key) != found.get(key):
                account, currency = key
                sides = [_sides(side.get(key), currency) for side in (balances, found)]
                raise Difference(f"balance of account {account} in {currency}", *sides)


def _sides(sums: tuple[int, int] | None, currency: str) -> str:
    return f"debit {amount_of(sums[0], currency)}, credit {amount_of(sums[1], currency)}" if sums else NOTHING


def _differing_payment(log: dict[str, Any], postgres: dict[str, Any] | None) -> Difference:
    name = f"payment {log['payment_id']}"
    if postgres is None:
        return Difference(name, f"{log['status']}, {log['sequence']} facts", NOTHING)
    for column, value in log.items():
        if value != postgres[column]:
            return _differing_column(name, column, value, postgres[column])
    raise AssertionError("Postgres said that they differ")


def _differing_operation(log: dict[str, Any], postgres: dict[str, Any] | None) -> Difference:
    name = f"payment {log['payment_id']}, operation {log['operation_id']}"
    if postgres is None:
        return Difference(name, f"{log['kind']}, {log['state']}", NOTHING)
    column = next(column for column, value in log.items() if value != postgres[column])
    return Difference(f"{name}: {column}", str(log[column]), str(postgres[column]))


def _differing_column(name: str, column: str, log: Any, postgres: Any) -> Difference:
    """The column, or the member of the view, that differs."""
    if column == "view" and isinstance(log, dict) and isinstance(postgres, dict):
        member = next(key for key in [*log, *postgres] if log.get(key, NOTHING) != postgres.get(key, NOTHING))
        return Difference(f"{name}: view.{member}", str(log.get(member, NOTHING)), str(postgres.get(member, NOTHING)))
    return Difference(f"{name}: {column}", str(log), str(postgres))


@contextmanager
def snapshot(dsn: str, name: str | None = None) -> Iterator[Snapshot]:
    """Postgres as it is now, or as the snapshot of that name has it."""
    with psycopg.connect(dsn, application_name="verify") as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        if name is not None:
            connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(name))
        connection.execute(_PLAN)
        yield Snapshot(connection)
