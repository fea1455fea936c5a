"""The settlement lines of one partition: each line and the entry it implies, held against the rows.

A line's repeats have its key and so its partition. The entry is made anew from the line, as for a fact; the journal's
own record must say the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from connectors.postgres import statements
from connectors.postgres.copying import time_of
from connectors.postgres.settled import Settled, line_row
from connectors.postgres.verify.rows import Row, Snapshot
from connectors.postgres.verify.words import NOTHING, Difference, name_of
from pipeline import topics
from pipeline.domain.hash_chain import Link, line_origin
from pipeline.domain.settlement import LineState, entry_of, explanation_of, figures
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
    """What the lines of a partition write. `crooked`: records whose entry is not the one that their line implies."""

    states: dict[str, LineState] = field(default_factory=dict)
    written: list[Implied] = field(default_factory=list)
    crooked: list[Implied] = field(default_factory=list)
    _causes: set[str] = field(default_factory=set)

    def take(self, settled: Settled) -> Implied | None:
        """The next record; None for one that is there already."""
        if settled.cause in self._causes:
            return None
        self._causes.add(settled.cause)
        implied = Implied(settled, self._entry(settled))
        self.written.append(implied)
        if implied.entry != settled.record.entry:
            self.crooked.append(implied)
        return implied

    def _entry(self, settled: Settled) -> SettlementEntry | None:
        line, before = settled.record.line, self.states.get(settled.record.line.line_id)
        self.states[line.line_id] = LineState(
            figures=figures(line), payment_id=line.payment_id, payout_id=line.payout_id
        )
        if not settled.record.explains:
            return entry_of(line)
        waited = before is None or before.payment_id is None
        return explanation_of(line) if waited else None


def compare(books: Snapshot, fold: SettlementFold) -> None:
    """Raises Difference for the first line, or entry of a line, that Postgres has otherwise."""
    if fold.crooked:
        first = fold.crooked[0]
        own = first.settled.record.entry
        raise Difference(
            f"{first.name}: its journal entry", _shown(first.entry), _shown(own), first.place,
            "the second is the journal's own record",
        )  # fmt: skip
    rest = iter(fold.written)
    while some := list(islice(rest, LINES_AT_ONCE)):
        _compare_lines(books, [implied for implied in some if not implied.settled.record.explains])
        _compare_entries(books, some)


def compare_chain(books: Snapshot, partition: int, fold: SettlementFold) -> Link:
    """The last link of the lines' chain. Raises Difference for the first link that is not the log's, and for a row
    that the log does not have.
    """
    link = line_origin(partition)
    with closing(books.line_chain(partition)) as rows:
        for implied in fold.written:
            content = implied.settled.content(implied.entry)
            link = link.next(content)
            _compare_link(implied, link, content, next(rows, None))
        if (row := next(rows, None)) is not None:
            raise Difference(name_of(row.content), NOTHING, f"link {row.position} of the lines' chain")
    return link


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
