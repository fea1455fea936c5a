"""The books emptied and written anew from the log: for tables that are not what it says, or as a proof that they are.

It is one transaction of the tables' owner. Readers see the old books until it commits, and if anything fails the old
ones stand. It ends where the sink stood; the sink waits meanwhile, is fenced, and goes on from there. Nothing is
announced: public events went out when the facts were first written. Postgres checks every row as if it were new.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from time import monotonic
from typing import Final

import psycopg
from confluent_kafka import Message
from psycopg import sql

from connectors.postgres.rows import Books
from connectors.postgres.verify.log import Log
from connectors.postgres.verify.rows import Counts, Snapshot
from connectors.postgres.writer import Batch, Writer
from pipeline import topics
from pipeline.codec import Codec
from pipeline.domain.hash_chain import Link

MADE_OF_THE_LOG: Final = (
    "ledger.postings",
    "ledger.entries",
    "settlement.explanations",
    "settlement.lines",
    "payments.provider_references",
    "payments.operations",
    "payments.payments",
    "payments.facts",
    "payments.parked",
    "payments.conflicts",
)
"""The tables that the sink fills; none before one that refers to it."""
AT_ONCE: Final = 5_000

_FENCE: Final = """
UPDATE sink.offsets SET epoch = epoch + 1 WHERE topic = %s RETURNING partition, next_offset
"""
_GUARDS: Final = """
SELECT relnamespace::regnamespace::text, relname, tgname
  FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid WHERE tgfoid = 'ledger.refuse()'::regprocedure
"""
_GUARD: Final = sql.SQL("ALTER TABLE {table} {action} TRIGGER {trigger}")


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """New books. `before` and `after`: the links that the partitions' chains end with, facts' and report lines', in the
    old books and in the new. `passed_over`: records that the sink had to put among the dead letters.
    """

    counts: Counts
    before: tuple[Link | None, ...]
    after: tuple[Link | None, ...]
    passed_over: int
    seconds: float

    @property
    def is_same(self) -> bool:
        """Whether the new books are sealed as the old ones were."""
        return self.before == self.after


@dataclass(slots=True)
class Rebuild:
    """One run. `advance` is told of the records that are done."""

    log: Log
    codec: Codec
    advance: Callable[[int], None] = lambda records: None
    begun: Callable[[int], None] = lambda records: None
    _passed_over: set[tuple[int, int]] = field(default_factory=set)

    def run(self, *, keep: bool = True) -> Rebuilt:
        """Empty the tables and fill them; put everything back as it was unless the new books are to be kept."""
        started = monotonic()
        url = self.log.settings.reveal("postgres_owner_url")
        with psycopg.connect(url, application_name="rebuild") as connection:
            stands: dict[int, int] = dict(connection.execute(_FENCE, [topics.JOURNAL]).fetchall())
            books = Snapshot(connection)
            before = books.heads(stands)
            _empty(connection)
            self._fill(connection, stands)
            rebuilt = Rebuilt(
                books.counts(), before, books.heads(stands), len(self._passed_over), monotonic() - started
            )
            if not keep:
                connection.rollback()
        return rebuilt

    def _fill(self, connection: psycopg.Connection, stands: dict[int, int]) -> None:
        self.begun(sum(stands.values()))
        writer = Writer(connection, self.codec, lambda following: None, self._done, self._refuse, announces=False)
        for partition, end in sorted(stands.items()):
            messages = self.log.read(self.log.journal, partition, end)
            for some in _batches(messages):
                writer.write(some)

    def _done(self, batch: Batch, books: Books) -> None:
        self.advance(len(batch))

    def _refuse(self, message: Message, reason: str, detail: str) -> None:
        """It is among the sink's dead letters already."""
        self._passed_over.add((message.partition(), message.offset()))


def _empty(connection: psycopg.Connection) -> None:
    """What guards the tables against everybody is lifted for the owner, and is back before a row is written."""
    _guards(connection, "DISABLE")
    for table in MADE_OF_THE_LOG:
        connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(*table.split("."))))
    _guards(connection, "ENABLE")


def _guards(connection: psycopg.Connection, action: str) -> None:
    for schema, table, trigger in connection.execute(_GUARDS).fetchall():
        if f"{schema}.{table}" in MADE_OF_THE_LOG:
            names = {"table": sql.Identifier(schema, table), "trigger": sql.Identifier(trigger)}
            connection.execute(_GUARD.format(action=sql.SQL(action), **names))


def _batches(messages: Iterator[Message]) -> Iterator[list[Message]]:
    while some := list(islice(messages, AT_ONCE)):
        yield some
