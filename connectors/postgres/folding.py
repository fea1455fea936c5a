"""What a batch of journal records does to its payments: which facts are next, which were there, which must wait."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import psycopg
import structlog
from prometheus_client import Counter

from connectors.postgres import statements
from connectors.postgres.rows import Arrival, Books
from connectors.postgres.settled import Settled, settled_of
from pipeline.codec import Codec, CodecError
from pipeline.domain.projection import PaymentView, apply
from pipeline.messages import Record
from pipeline.messages.facts import Fact
from pipeline.messages.journal import JournalRecord
from pipeline.messages.settlement import SettlementJournalRecord

log = structlog.get_logger()
DUPLICATES: Final = Counter("sink_duplicates_total", "Records that were there already")


def read(codec: Codec, raw: bytes | None, partition: int, offset: int) -> Arrival | Settled:
    """A record of the journal. Raises CodecError when it is none, or does not belong together."""
    record = codec.decode(raw)
    if isinstance(record, SettlementJournalRecord):
        return settled_of(record, partition, offset)
    return _arrival(codec, record, raw, partition, offset)


def arrival_of(codec: Codec, raw: bytes | None, partition: int, offset: int) -> Arrival:
    """A journal record with its fact. Raises CodecError when it is none, or does not belong together."""
    return _arrival(codec, codec.decode(raw), raw, partition, offset)


def _arrival(codec: Codec, record: Record, raw: bytes | None, partition: int, offset: int) -> Arrival:
    if not isinstance(record, JournalRecord):
        raise CodecError(f"{type(record).__name__} is no journal record")
    fact = codec.decode(record.fact)
    if not isinstance(fact, Fact):
        raise CodecError(f"{type(fact).__name__} is no fact")
    if (record.payment_id, record.fact_id, record.sequence) != (fact.payment_id, fact.fact_id, fact.sequence):
        raise CodecError("the journal record names another fact than it carries")
    entry = record.entry
    if entry is not None and (entry.payment_id, entry.fact_id) != (fact.payment_id, fact.fact_id):
        raise CodecError("the journal record's entry is another fact's")
    assert raw is not None
    return Arrival(record, fact, raw, partition, offset)


@dataclass(slots=True)
class Folding:
    """One batch. `books` is what to write when every payment is folded."""

    connection: psycopg.Connection
    codec: Codec
    books: Books = field(default_factory=Books)
    _waiting: dict[str, dict[int, Arrival]] = field(default_factory=dict)
    _parked: set[tuple[str, int]] = field(default_factory=set)
    _known: list[Arrival] = field(default_factory=list)

    def take(self, records: Iterable[Arrival | Settled]) -> set[str]:
        """Line the facts up by payment and sequence, with those parked before; returns the payments. Settlement lines
        have no order.
        """
        records = list(records)
        self.books.settled += [record for record in records if isinstance(record, Settled)]
        arrivals = [record for record in records if isinstance(record, Arrival)]
        payments = {arrival.fact.payment_id for arrival in arrivals}
        for arrival in self._load_parked(payments):
            self._parked.add((arrival.fact.payment_id, arrival.fact.sequence))
            self._line_up(arrival)
        for arrival in arrivals:
            self._line_up(arrival)
        return payments

    def fold(self, views: Mapping[str, PaymentView | None]) -> Books:
        """Move every payment on by the facts that are next; `views` are the payments as they stand."""
        for payment, view in views.items():
            self._fold_payment(view, self._waiting[payment])
        self._check_known()
        self.books.unpark({payment for payment, _ in self._parked})
        return self.books

    def _line_up(self, arrival: Arrival) -> None:
        """The first to claim a place has it: the same fact again is nothing, another one a conflict."""
        first = self._waiting.setdefault(arrival.fact.payment_id, {}).setdefault(arrival.fact.sequence, arrival)
        if first is arrival:
            return
        DUPLICATES.inc()
        if first.fact.fact_id != arrival.fact.fact_id:
            self._conflict(arrival)

    def _fold_payment(self, view: PaymentView | None, waiting: dict[int, Arrival]) -> None:
        following, behind = view.sequence + 1 if view else 1, -1
        self._known += [waiting.pop(sequence) for sequence in sorted(waiting) if sequence < following]
        while following in waiting:
            arrival = waiting.pop(following)
            view = apply(view, arrival.fact)
            self.books.add(arrival if arrival.offset > behind else replace(arrival, behind=behind), view)
            behind = max(behind, arrival.offset)
            following += 1
        for arrival in waiting.values():
            self._park(arrival, following)

    def _park(self, arrival: Arrival, missing: int) -> None:
        place = (arrival.fact.payment_id, arrival.fact.sequence)
        if place not in self._parked:
            log.error("fact parked: one before it is missing", payment_id=place[0], sequence=place[1], missing=missing)
            self.books.parked.append(arrival)

    def _check_known(self) -> None:
        """Records for places that are taken: one query says which of them are the facts that took them."""
        if not self._known:
            return
        DUPLICATES.inc(len(self._known))
        places = [(arrival.fact.payment_id, arrival.fact.sequence) for arrival in self._known]
        rows = self.connection.execute(statements.FACTS_AT, [list(column) for column in zip(*places, strict=True)])
        written = {str(row[0]) for row in rows}
        for arrival in self._known:
            if arrival.fact.fact_id not in written:
                self._conflict(arrival)

    def _conflict(self, arrival: Arrival) -> None:
        """Two facts claim one place in a payment's order. The later one stays out of the books: a person must look."""
        fact = arrival.fact
        ids = {"payment_id": fact.payment_id, "fact_id": fact.fact_id}
        log.error("fact conflicts with another in its place", sequence=fact.sequence, **ids)
        self.books.conflicts.append(arrival)

    def _load_parked(self, payments: set[str]) -> list[Arrival]:
        rows = self.connection.execute(statements.LOAD_PARKED, [list(payments)]).fetchall()
        return [arrival_of(self.codec, *row) for row in rows]
