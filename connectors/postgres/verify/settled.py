"""The settlement lines of one partition: each line and the entry it implies, held against the rows.

A line's repeats have its key and so its partition. The entry is made anew from the line, as for a fact; the journal's
own record must say the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from connectors.postgres import statements
from connectors.postgres.copying import time_of
from connectors.postgres.settled import Settled, line_row
from connectors.postgres.verify.rows import Row, Snapshot
from connectors.postgres.verify.words import NOTHING, Difference, name_of
from pipeline import topics
from pipeline.domain.hash_chain import Link, line_origin
from pipeline.domain.settlement import entry_of, explanation_of
from pipeline.messages.settlement import SettlementEntry

LINES_AT_ONCE: Final = 1_000

_ENTRIES: Final = """
SELECT e.fact_id::text, e.entry_id::text, e.payment_id::text, e.occurred_at, e.description, e.journal_partition,
       e.journal_offset, e.legs,
       (SELECT array_agg(ARRAY[p.account, p.side, p.amount::text, p.currency] ORDER BY p.leg)
          FROM ledger.postings AS p WHERE p.entry_id = e.entry_id)
  FROM ledger.entries AS e WHERE e.fact_id = ANY (%s::uuid[])
"""
_LINES: Final = f"SELECT {statements.LINE_COLUMNS} FROM settlement.lines WHERE line_id = ANY (%s::uuid[])"  # noqa: S608


@dataclass(frozen=True, slots=True)
class Implied:
    """A record that writes something, and the entry that its line implies."""

    settled: Settled
    entry: SettlementEntry | None

    @property
    def place(self) -> str:
        """Where the record stands."""
        return f"{topics.JOURNAL}[{self.settled.partition}] offset {self.settled.offset}"

    @property
    def name(self) -> str:
        """The line, in words."""
        line = self.settled.record.line
        return f"{line.provider} line {line.provider_line} ({line.kind.value}), {line.line_id}"


@dataclass(slots=True)
class SettlementFold:
    """Which records of a partition write something: a line's first one, and each that names a payment or payout that
    was not known. Of a million lines it keeps ids alone.
    """

    _causes: set[str] = field(default_factory=set)
    _named: set[str] = field(default_factory=set)

    def take(self, settled: Settled) -> Implied | None:
        """The next record, with the entry that its line implies; None for one that is there already."""
        if settled.cause in self._causes:
            return None
        self._causes.add(settled.cause)
        return Implied(settled, self._entry(settled))

    def _entry(self, settled: Settled) -> SettlementEntry | None:
        line = settled.record.line
        waited = line.line_id not in self._named
        if line.payment_id is not None:
            self._named.add(line.line_id)
        if not settled.record.explains:
            return entry_of(line)
        return explanation_of(line) if waited else None


class LinesCheck:
    """A partition's settlement lines as Postgres has them, compared with the log's some at a time. `head` is the last
    link of their chain so far. Everything raises Difference at the first one.
    """

    def __init__(self, books: Snapshot, partition: int) -> None:
        self.head = line_origin(partition)
        self._books = books
        self._rows = books.line_chain(partition)
        self._some: list[Implied] = []

    def take(self, implied: Implied) -> None:
        """The next of the log."""
        self._some.append(implied)
        if len(self._some) >= LINES_AT_ONCE:
            self._compare()

    def finish(self) -> None:
        """The log has no more: neither may Postgres."""
        self._compare()
        if (row := next(self._rows, None)) is not None:
            raise Difference(name_of(row.content), NOTHING, f"link {row.position} of the lines' chain")

    def close(self) -> None:
        """Give the rows back."""
        self._rows.close()

    def _compare(self) -> None:
        some, self._some = self._some, []
        for implied in some:
            _require_straight(implied)
        _compare_lines(self._books, [implied for implied in some if not implied.settled.record.explains])
        _compare_entries(self._books, some)
        for implied in some:
            content = implied.settled.content(implied.entry)
            self.head = self.head.next(content)
            _compare_link(implied, self.head, content, next(self._rows, None))


def _require_straight(implied: Implied) -> None:
    """The journal's own record has the entry that its line implies."""
    own = implied.settled.record.entry
    if implied.entry != own:
        raise Difference(
            f"{implied.name}: its journal entry", _shown(implied.entry), _shown(own), implied.place,
            "the second is the journal's own record",
        )  # fmt: skip


def _compare_link(implied: Implied, link: Link, content: bytes, row: Row | None) -> None:
    name = f"{implied.name}: link {link.position} of the lines' hash chain"
    if row is None or row.position != link.position:
        there = f"gone; the next one is {row.position}" if row else NOTHING
        raise Difference(name, link.hash.hex(), there, implied.place)
    if row.content.encode() != content:
        raise Difference(name, content.decode(), row.content, implied.place)
    if row.hash != link.hash:
        raise Difference(name, link.hash.hex(), row.hash.hex(), implied.place)


def _compare_lines(books: Snapshot, lines: Sequence[Implied]) -> None:
    asked = [implied.settled.record.line.line_id for implied in lines]
    found = {str(row[0]): _texts(row) for row in books.connection.execute(_LINES.encode(), [asked])}
    for implied in lines:
        wanted = _texts(line_row(implied.settled))
        there = found.get(implied.settled.record.line.line_id)
        if there is None:
            raise Difference(implied.name, "one line", NOTHING, implied.place)
        for column, log, postgres in zip(statements.LINE_COLUMNS.split(", "), wanted, there, strict=True):
            if log != postgres:
                raise Difference(f"{implied.name}: {column}", str(log), str(postgres), implied.place)


def _compare_entries(books: Snapshot, some: Iterable[Implied]) -> None:
    wanted = {implied.settled.cause: implied for implied in some}
    found = {row[0]: row[1:] for row in books.connection.execute(_ENTRIES, [list(wanted)])}
    for cause, implied in wanted.items():
        log, postgres = _row_of(implied), found.get(cause)
        if log != postgres:
            raise Difference(f"{implied.name}: its journal entry", str(log), str(postgres or NOTHING), implied.place)


def _row_of(implied: Implied) -> tuple[Any, ...] | None:
    entry, settled = implied.entry, implied.settled
    if entry is None:
        return None
    legs = [[leg.account, leg.side.value, str(leg.amount), leg.currency] for leg in entry.postings]
    return (
        entry.entry_id,
        entry.payment_id,
        time_of(entry.occurred_at),
        entry.description,
        settled.partition,
        settled.offset,
        len(legs),
        legs,
    )


def _texts(row: Sequence[Any]) -> list[str | None]:
    """Columns as text, so that uuid and its text are the same."""
    return [None if value is None else str(_utc(value)) for value in row]


def _utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def _shown(entry: SettlementEntry | None) -> str:
    if entry is None:
        return NOTHING
    return "; ".join(f"{leg.side.value} {leg.amount} {leg.currency} {leg.account}" for leg in entry.postings)
