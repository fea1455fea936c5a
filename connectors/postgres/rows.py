"""What one transaction of the sink writes, and how."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import psycopg

from connectors.postgres import statements
from connectors.postgres.copying import copy_rows as _copy
from connectors.postgres.copying import time_of as _time
from connectors.postgres.settled import Settled, write_settled
from pipeline.codec import Codec
from pipeline.domain.hash_chain import Link, content_of, origin, reversal_of
from pipeline.domain.projection import OperationView, PaymentView, operation_after, operation_update, public_event
from pipeline.domain.settlement import provider_references
from pipeline.headers import traceparent
from pipeline.messages.facts import Fact
from pipeline.messages.journal import JournalRecord
from pipeline.messages.public import PaymentEvent


@dataclass(frozen=True, slots=True)
class Arrival:
    """A journal record with its place in the topic. `behind`: the offset of the record it had to wait for."""

    record: JournalRecord
    fact: Fact
    raw: bytes
    partition: int
    offset: int
    behind: int = -1

    @property
    def turn(self) -> tuple[int, int, int]:
        """What orders the hash chain. It depends on the log alone, not on how it was batched."""
        return (self.partition, max(self.offset, self.behind), self.fact.sequence)


@dataclass(slots=True)
class Books:
    """The rows of a batch: collected while it is folded, written at its end. `heads`: the last link of each
    partition's hash chain, as far as it is known; the others are looked up.
    """

    heads: dict[int, Link] = field(default_factory=dict)
    facts: list[Arrival] = field(default_factory=list)
    views: dict[str, PaymentView] = field(default_factory=dict)
    operations: dict[tuple[str, str], OperationView] = field(default_factory=dict)
    events: list[PaymentEvent] = field(default_factory=list)
    parked: list[Arrival] = field(default_factory=list)
    conflicts: list[Arrival] = field(default_factory=list)
    unparked: list[tuple[str, int]] = field(default_factory=list)
    settled: list[Settled] = field(default_factory=list)

    def add(self, arrival: Arrival, view: PaymentView) -> None:
        """A fact that is next, and the payment right after it."""
        fact = arrival.fact
        self.facts.append(arrival)
        self.views[fact.payment_id] = view
        if update := operation_update(fact):
            key = (fact.payment_id, update.operation_id)
            self.operations[key] = operation_after(self.operations.get(key), fact, update)
        if event := public_event(view, fact):
            self.events.append(event)

    def unpark(self, payments: Iterable[str]) -> None:
        """Of these payments, facts were parked: those that are written now wait no longer."""
        self.unparked.extend((payment, self.views[payment].sequence) for payment in payments if payment in self.views)

    def write(self, connection: psycopg.Connection, codec: Codec, *, announces: bool = True) -> None:
        """Everything, in the transaction that is open; the public events only if it `announces`."""
        with connection.cursor() as cursor:
            self._put_aside(cursor)
            write_settled(cursor, self.settled)
            if not self.facts:
                return
            self._write_facts(cursor)
            self._write_ledger(cursor)
            cursor.execute(statements.UPSERT_PAYMENTS, columns(map(payment_row, self.views.values())))
            if self.operations:
                cursor.execute(statements.UPSERT_OPERATIONS, columns(map(operation_row, self.operations.values())))
            self._write_references(cursor)
            if announces:
                self._write_outbox(cursor, codec)
            cursor.execute(statements.WAKE_WAITERS)

    @property
    def puts_aside(self) -> bool:
        """Whether a record was parked, parked no longer, or in conflict: rare, and for an operator to see."""
        return bool(self.parked or self.conflicts or self.unparked)

    def _put_aside(self, cursor: psycopg.Cursor[Any]) -> None:
        for arrival in self.parked:
            fact = arrival.fact
            row = (fact.payment_id, fact.sequence, arrival.raw, arrival.partition, arrival.offset)
            cursor.execute(statements.PARK, row)
        for arrival in self.conflicts:
            fact = arrival.fact
            place = (fact.payment_id, fact.sequence, fact.fact_id)
            cursor.execute(statements.KEEP_CONFLICT, (*place, arrival.raw, arrival.partition, arrival.offset))
        for payment, sequence in self.unparked:
            cursor.execute(statements.UNPARK, (payment, sequence))

    def _write_facts(self, cursor: psycopg.Cursor[Any]) -> None:
        """The facts, chained."""
        self.facts.sort(key=lambda arrival: arrival.turn)
        self._look_up_heads(cursor)
        _copy(cursor, statements.COPY_FACTS, ((*_fact_row(fact), *self._link(fact)) for fact in self.facts))

    def _look_up_heads(self, cursor: psycopg.Cursor[Any]) -> None:
        for partition in {arrival.partition for arrival in self.facts} - self.heads.keys():
            row = cursor.execute(statements.CHAIN_HEAD, {"partition": partition}).fetchone()
            self.heads[partition] = Link(*row) if row else origin(partition)

    def _link(self, arrival: Arrival) -> tuple[int, bytes]:
        partition, record = arrival.partition, arrival.record
        content = content_of(partition, arrival.offset, arrival.fact, record.fact, record.entry)
        link = self.heads[partition] = self.heads[partition].next(content)
        return link.position, link.hash

    def _write_ledger(self, cursor: psycopg.Cursor[Any]) -> None:
        posted = [arrival for arrival in self.facts if arrival.record.entry]
        if posted:
            _copy(cursor, statements.COPY_ENTRIES, map(_entry_row, posted))
            _copy(cursor, statements.COPY_POSTINGS, (row for arrival in posted for row in _posting_rows(arrival)))

    def _write_references(self, cursor: psycopg.Cursor[Any]) -> None:
        """The provider's names, so that a report's line finds its payment. The first payment with a name keeps it."""
        rows = [row for arrival in self.facts for row in provider_references(arrival.fact)]
        if rows:
            cursor.execute(statements.INSERT_REFERENCES, columns(rows))

    def _write_outbox(self, cursor: psycopg.Cursor[Any], codec: Codec) -> None:
        """In and out again: Debezium reads the insert from the write-ahead log, the table stays empty."""
        if not self.events:
            return
        cursor.execute(statements.INSERT_OUTBOX, columns(_outbox_row(event, codec) for event in self.events))
        cursor.execute(statements.EMPTY_OUTBOX, [[event.event_id for event in self.events]])


def columns(rows: Iterable[Sequence[Any]]) -> list[list[Any]]:
    """Rows turned into one array a column, for unnest."""
    return [list(column) for column in zip(*rows, strict=True)]


def _fact_row(arrival: Arrival) -> tuple[Any, ...]:
    fact = arrival.fact
    return (
        fact.payment_id,
        fact.sequence,
        fact.fact_id,
        type(fact).__name__,
        _time(fact.occurred_at),
        arrival.record.fact,
        arrival.partition,
        arrival.offset,
    )


def _entry_row(arrival: Arrival) -> tuple[Any, ...]:
    entry = arrival.record.entry
    assert entry is not None
    what = (entry.entry_id, entry.fact_id, entry.payment_id, arrival.fact.merchant_id)
    when = (_time(entry.occurred_at), entry.description, arrival.partition, arrival.offset)
    return (*what, *when, len(entry.postings), *reversal_of(arrival.fact))


def _posting_rows(arrival: Arrival) -> Iterable[tuple[Any, ...]]:
    entry = arrival.record.entry
    assert entry is not None
    for leg, posting in enumerate(entry.postings):
        yield (entry.entry_id, leg, posting.account, posting.side.value, posting.amount, posting.currency)


def payment_row(view: PaymentView) -> tuple[Any, ...]:
    """A payment's row, as `statements.UPSERT_PAYMENTS` takes it."""
    return (
        view.payment_id,
        view.merchant_id,
        view.status.value,
        view.amount,
        view.currency,
        view.provider,
        view.capture_method.value,
        view.customer_id,
        view.merchant_reference,
        view.created_at,
        view.updated_at,
        view.sequence,
        msgspec.json.encode(view).decode(),
    )


def operation_row(operation: OperationView) -> tuple[Any, ...]:
    """An operation's row, as `statements.UPSERT_OPERATIONS` takes it."""
    return (
        operation.payment_id,
        operation.operation_id,
        operation.merchant_id,
        operation.kind,
        operation.state.value,
        operation.reason,
        operation.detail,
        operation.sequence,
        operation.updated_at,
    )


def _outbox_row(event: PaymentEvent, codec: Codec) -> tuple[Any, ...]:
    return (
        event.event_id,
        event.type,
        event.payment_id,
        codec.encode(event),
        "payments.v1.PaymentEvent",
        "/payments/sink",
        _time(event.occurred_at).isoformat(timespec="milliseconds"),
        traceparent(event.payment_id, event.event_id),
    )
