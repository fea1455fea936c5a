"""One partition, from its first record to where the sink stands: each link, each entry, each payment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

import psycopg

from connectors.postgres.settled import Settled
from connectors.postgres.verify.fold import Fold, Posted
from connectors.postgres.verify.log import Log
from connectors.postgres.verify.rows import Balances, Counts, Row, Snapshot
from connectors.postgres.verify.settled import LinesCheck, SettlementFold
from connectors.postgres.verify.source import Source
from connectors.postgres.verify.words import NOTHING, Difference, amount_of, differing, name_of, place_of
from pipeline.codec import Codec
from pipeline.domain.hash_chain import Link, origin
from pipeline.domain.postings import entry_of
from pipeline.domain.projection import OperationView, operation_after, operation_update
from pipeline.messages.facts import EntryReversed, Fact
from pipeline.messages.journal import JournalEntry, Posting, Side
from pipeline.messages.settlement import SettlementEntry

REPORT_EVERY: Final = 1_000
_HAS: Final = "SELECT FROM payments.facts WHERE fact_id = %s AND journal_partition = %s AND journal_offset = %s"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What of a partition is checked. `stands`: the sink's next offset; `events_then`: the end of payments.events when
    the check began, all of which must be posted; `events_now`: its end after the snapshot.
    """

    partition: int
    stands: int
    events_then: int
    events_now: int


@dataclass(frozen=True, slots=True)
class Found:
    """A partition that is as the log says."""

    head: Link
    line_head: Link
    counts: Counts
    balances: Balances
    repeated: int
    unusable: int


@dataclass(slots=True)
class PartitionCheck:
    """The check of one partition. `run` raises Difference at the first one."""

    log: Log
    codec: Codec
    snapshot: Snapshot
    bounds: Bounds
    advance: Callable[[int], None] = lambda records: None
    fold: Fold = field(default_factory=Fold)
    settlement: SettlementFold = field(default_factory=SettlementFold)
    link: Link = field(init=False)
    balances: Balances = field(default_factory=dict)
    _source: Source = field(init=False)
    _lines: LinesCheck = field(init=False)
    _operations: dict[tuple[str, str], OperationView] = field(default_factory=dict)
    _reversals: list[EntryReversed] = field(default_factory=list)
    _entries: int = 0
    _postings: int = 0

    def __post_init__(self) -> None:
        bounds = self.bounds
        self.link = origin(bounds.partition)
        self._lines = LinesCheck(self.snapshot, bounds.partition)
        self._source = Source(
            self.log, self.codec, bounds.partition, bounds.stands, bounds.events_now, self.fold.is_taken, self._settle
        )

    def run(self) -> Found:
        """Everything, in the order of the log."""
        with closing(self._lines):
            self._check_records()
            self._lines.finish()
        self._check_gaps()
        self._check_events()
        for fact in self._reversals:
            self._check_reversal(fact)
        self.snapshot.compare_payments(self.fold.views.values())
        self.snapshot.compare_operations(self._operations.values())
        counts = Counts(
            self.link.position,
            len(self.fold.views),
            self._entries,
            self._postings,
            self._lines.head.position,
            len(self._operations),
        )
        return Found(self.link, self._lines.head, counts, self.balances, len(self.fold.again), self._source.unusable)

    def _check_records(self) -> None:
        with closing(self.snapshot.chain(self.bounds.partition)) as rows:
            for posted in self._records():
                for written in self.fold.take(posted):
                    self._compare(written, next(rows, None))
            if (row := next(rows, None)) is not None:
                raise Difference(name_of(row.content), NOTHING, f"link {row.position} of the chain", self._place(row))

    def _records(self) -> Iterator[Posted]:
        """The facts; of a record whose entry is not its fact's, only if the sink took it all the same."""
        count = 0
        for posted in self._source.facts():
            count += 1
            if not count % REPORT_EVERY:
                self.advance(REPORT_EVERY)
            if posted is None or (posted.offset in self._source.crooked and not self._was_taken(posted)):
                continue
            yield posted
        self.advance(count % REPORT_EVERY)

    def _was_taken(self, posted: Posted) -> bool:
        """Whether the sink took a record that is wrong. It refuses one that is unbalanced and dead-letters it; if
        another one came in its place, the books are right without it.
        """
        with psycopg.connect(self.log.settings.reveal("postgres_reader_url")) as connection:
            place = (posted.fact.fact_id, posted.partition, posted.offset)
            return connection.execute(_HAS, place).fetchone() is not None

    def _compare(self, posted: Posted, row: Row | None) -> None:
        content = posted.content
        link = self.link.next(content)
        if row is None or row.position != link.position or row.content.encode() != content or row.hash != link.hash:
            raise self._difference(posted, link, row)
        self.link = link
        self._update_operation(posted.fact)
        if isinstance(posted.fact, EntryReversed):
            self._reversals.append(posted.fact)
        if posted.entry is not None:
            self._add(posted.entry)

    def _update_operation(self, fact: Fact) -> None:
        if update := operation_update(fact):
            key = (fact.payment_id, update.operation_id)
            self._operations[key] = operation_after(self._operations.get(key), fact, update)

    def _settle(self, settled: Settled) -> None:
        implied = self.settlement.take(settled)
        if implied is None:
            return
        self._lines.take(implied)
        if implied.entry is not None:
            self._add(implied.entry)

    def _add(self, entry: JournalEntry | SettlementEntry) -> None:
        self._entries += 1
        self._postings += len(entry.postings)
        for leg in entry.postings:
            key = (leg.account, leg.currency)
            debit, credit = self.balances.get(key, (0, 0))
            more = (debit + leg.amount, credit) if leg.side is Side.DEBIT else (debit, credit + leg.amount)
            self.balances[key] = more

    def _difference(self, posted: Posted, link: Link, row: Row | None) -> Difference:
        content = posted.content
        place = place_of(content, self.log.journal)
        if row is None:
            return Difference(name_of(content), f"link {link.position} of the chain", NOTHING, place)
        if row.position != link.position:
            missing = f"link {link.position} is gone, the next one there is {row.position}"
            return Difference(name_of(content), f"link {link.position} of the chain", missing, place)
        if row.content.encode() == content:
            what = f"{name_of(content)}: link {link.position} of the hash chain"
            return Difference(what, link.hash.hex(), row.hash.hex(), place)
        return Difference(*differing(content, row.content), place, self._note(posted, row))

    def _note(self, posted: Posted, row: Row) -> str:
        crooked = posted.offset in self._source.crooked
        if crooked:
            return "the journal's own record says the same as Postgres: it is not what its fact implies"
        sealed = sha256(self.link.hash + row.content.encode()).digest() == row.hash
        return (
            "the row fits its link: it was sealed as it is"
            if sealed
            else "the row does not fit its link in the hash chain: it was changed after it was written"
        )

    def _place(self, row: Row) -> str:
        return place_of(row.content, self.log.journal)

    def _check_gaps(self) -> None:
        """Facts that wait for one that the log does not have."""
        for payment, later in self.fold.waiting.items():
            first = later[min(later)]
            view = self.fold.views.get(payment)
            missing = view.sequence + 1 if view else 1
            place = f"{self.log.journal}[{first.partition}] offset {first.offset}"
            raise Difference(
                f"payment {payment}: fact number {missing}", f"nothing, but number {first.fact.sequence}",
                "it waits in payments.parked", place,
            )  # fmt: skip

    def _check_reversal(self, fact: EntryReversed) -> None:
        """What is reversed is an entry of the payment, with just these legs, and no reversal itself. The rows are as
        good as the log here: they have been compared.
        """
        legs = self.snapshot.legs_of(fact.entry_id, fact.payment_id)
        if legs != fact.postings:
            name = f"payment {fact.payment_id}: reversal of entry {fact.entry_id} by {fact.operator} ({fact.reason})"
            raise Difference(name, _legs(fact.postings), _legs(legs), note="it reverses what was never posted so")

    def _check_events(self) -> None:
        """Each fact of payments.events is in the journal, and the other way round."""
        for posted in self._source.strays:
            place = f"{self.log.journal}[{posted.partition}] offset {posted.offset}"
            raise Difference(name_of(posted.content), f"{self.log.events} does not have it", "it is there", place)
        for event in self._source.unposted():
            fact = self.codec.decode(event.body)
            if event.offset < self.bounds.events_then and isinstance(fact, Fact) and not self._is_known(fact):
                raise self._unposted(fact, event.offset)

    def _is_known(self, fact: Fact) -> bool:
        """Whether it is a repeat of a fact that is in the books."""
        return bool(self.snapshot.known([fact.fact_id]))

    def _unposted(self, fact: Fact, offset: int) -> Difference:
        name = f"payment {fact.payment_id}, fact {fact.fact_id} ({type(fact).__name__}, number {fact.sequence})"
        entry = entry_of(fact)
        posts = f"it posts entry {entry.entry_id}" if entry else "it happened"
        place = f"{self.log.events}[{self.bounds.partition}] offset {offset}"
        return Difference(name, f"{posts}; {self.log.journal} does not have it", NOTHING, place)


def _legs(postings: list[Posting]) -> str:
    legs = [f"{leg.side} {amount_of(leg.amount, leg.currency)} {leg.account}" for leg in postings]
    return "; ".join(legs) or NOTHING
