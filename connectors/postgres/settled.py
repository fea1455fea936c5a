"""What settlement lines write: the line, its entry, and what was learned of it later."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from prometheus_client import Counter

from connectors.postgres import statements
from connectors.postgres.copying import copy_rows, time_of
from pipeline import ids
from pipeline.codec import CodecError
from pipeline.domain.hash_chain import Link, explanation_content_of, line_content_of, line_origin
from pipeline.messages.settlement import SettlementEntry, SettlementJournalRecord

LINES_WRITTEN = Counter("sink_settlement_lines_total", "Settlement lines written to Postgres")


@dataclass(frozen=True, slots=True)
class Settled:
    """A journal record of a settlement line, with its place in the topic."""

    record: SettlementJournalRecord
    partition: int
    offset: int

    @property
    def cause(self) -> str:
        """What the entry is posted for: the line, or what was learned of it."""
        line = self.record.line
        if not self.record.explains:
            return line.line_id
        return ids.derive("explanation", line.line_id, line.payment_id or "", line.payout_id or "")

    def content(self, entry: SettlementEntry | None) -> bytes:
        """What its link in the hash chain covers, if that is its entry."""
        line = self.record.line
        if self.record.explains:
            return explanation_content_of(self.partition, self.offset, self.cause, line, entry)
        return line_content_of(self.partition, self.offset, line, entry)


def settled_of(record: SettlementJournalRecord, partition: int, offset: int) -> Settled:
    """The record with its place. Raises CodecError when line and entry do not belong together."""
    line, entry = record.line, record.entry
    if entry is not None and (entry.line_id, entry.payment_id) != (line.line_id, line.payment_id):
        raise CodecError("the journal record's entry is another line's")
    return Settled(record, partition, offset)


def write_settled(cursor: psycopg.Cursor[Any], arrived: Iterable[Settled]) -> int:
    """Write what is not there yet, in the transaction that is open; returns how many records that is."""
    first = {settled.cause: settled for settled in reversed(list(arrived))}
    if not first:
        return 0
    known = {str(row[0]) for row in cursor.execute(statements.SETTLED_CAUSES, [list(first)] * 2)}
    new = [settled for cause, settled in sorted(first.items(), key=_place) if cause not in known]
    sealed = [(settled, (link.position, link.hash)) for settled, link in _chained(cursor, new)]
    lines = [(*line_row(settled), *seal) for settled, seal in sealed if not settled.record.explains]
    explanations = [(*_explanation_row(settled), *seal) for settled, seal in sealed if settled.record.explains]
    copy_rows(cursor, statements.COPY_LINES, lines)
    copy_rows(cursor, statements.COPY_EXPLANATIONS, explanations)
    posted = [(settled, entry) for settled in new if (entry := settled.record.entry)]
    copy_rows(cursor, statements.COPY_SETTLED_ENTRIES, (_entry_row(*pair) for pair in posted))
    copy_rows(cursor, statements.COPY_POSTINGS, (row for _, entry in posted for row in _posting_rows(entry)))
    LINES_WRITTEN.inc(len(lines))
    return len(new)


def _chained(cursor: psycopg.Cursor[Any], new: Iterable[Settled]) -> Iterable[tuple[Settled, Link]]:
    """Each with its link. The heads are looked up: lines come in big batches, so that is one look a batch."""
    heads: dict[int, Link] = {}
    for settled in new:
        head = heads.get(settled.partition) or _head(cursor, settled.partition)
        link = heads[settled.partition] = head.next(settled.content(settled.record.entry))
        yield settled, link


def _head(cursor: psycopg.Cursor[Any], partition: int) -> Link:
    row = cursor.execute(statements.LINE_CHAIN_HEAD, {"partition": partition}).fetchone()
    return Link(*row) if row else line_origin(partition)


def _place(item: tuple[str, Settled]) -> tuple[int, int]:
    return item[1].partition, item[1].offset


def line_row(settled: Settled) -> Sequence[Any]:
    """A line as settlement.lines has it, by statements.LINE_COLUMNS."""
    line = settled.record.line
    return (
        line.line_id,
        line.provider,
        line.account,
        line.report_id,
        line.line_number,
        time_of(line.occurred_at),
        line.kind.value,
        line.provider_kind,
        line.provider_line,
        line.payout_id,
        line.payment_id,
        line.payment_reference,
        line.operation_reference,
        line.gross,
        line.fee,
        line.net,
        line.currency,
        line.payment_amount,
        line.payment_currency,
        line.expected_fee,
        settled.partition,
        settled.offset,
    )


def _explanation_row(settled: Settled) -> Sequence[Any]:
    line = settled.record.line
    return (settled.cause, line.line_id, line.payment_id, line.payout_id, settled.partition, settled.offset)


def _entry_row(settled: Settled, entry: SettlementEntry) -> Sequence[Any]:
    place = (settled.partition, settled.offset, len(entry.postings))
    return (
        entry.entry_id, settled.cause, entry.payment_id, time_of(entry.occurred_at), entry.description, *place
    )  # fmt: skip


def _posting_rows(entry: SettlementEntry) -> Iterable[Sequence[Any]]:
    for leg, posting in enumerate(entry.postings):
        yield (entry.entry_id, leg, posting.account, posting.side.value, posting.amount, posting.currency)
