"""The whole check: wait for what is under way, take a snapshot, check every partition, then the sums."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import Final

import psycopg

from connectors.postgres.verify.check import Bounds, Found, PartitionCheck
from connectors.postgres.verify.log import Log, LogError, Waiting
from connectors.postgres.verify.rows import Balances, Counts, Snapshot, snapshot
from connectors.postgres.verify.words import Difference
from pipeline import topics
from pipeline.codec import Codec
from pipeline.domain.hash_chain import Link, all_chains

POLL: Final = 0.3


@dataclass(frozen=True, slots=True)
class Report:
    """Books that are what the log says. `heads`: the last link of each partition's facts; `line_heads`: of its
    settlement lines.
    """

    counts: Counts
    balances: Balances
    heads: dict[int, Link]
    line_heads: dict[int, Link]
    repeated: int
    unusable: int
    seconds: float

    @property
    def hash(self) -> str:
        """One hash over all chains: an auditor's note of the books as they are."""
        return all_chains(self.heads, self.line_heads)


@dataclass(slots=True)
class Verification:
    """One run. `patience`: seconds to wait for the ledger stage and the sink to take what the log had at the start."""

    log: Log
    codec: Codec
    patience: float = 15.0
    advance: Callable[[int], None] = lambda records: None
    begun: Callable[[int], None] = lambda records: None
    _events: dict[int, int] = field(default_factory=dict)

    def run(self) -> Report:
        """Raises Difference at the first one, LogError if the log cannot be read."""
        self._events = self.log.ends(self.log.events)
        self._await("ledger", self.log.events, self._events, self._ledger_stands)
        ends = self.log.ends(self.log.journal)
        if len(ends) != len(self._events):
            raise LogError(f"{self.log.events} and {self.log.journal} have different numbers of partitions")
        self._await("sink", self.log.journal, ends, self._sink_stands)
        started = monotonic()
        with uncollected(), snapshot(self._dsn) as books:
            found = self._partitions(books, ends)
            self._check_sums(books, found)
        return _report(found, monotonic() - started)

    @property
    def _dsn(self) -> str:
        return self.log.settings.reveal("postgres_reader_url")

    def _partitions(self, books: Snapshot, ends: dict[int, int]) -> dict[int, Found]:
        stands = books.stands(topics.JOURNAL)
        now = self.log.ends(self.log.events)
        self.begun(sum(stands.values()))
        found = {}
        for partition in ends:
            bounds = Bounds(partition, stands.get(partition, 0), self._events[partition], now[partition])
            found[partition] = PartitionCheck(self.log, self.codec, books, bounds, self.advance).run()
        return found

    def _check_sums(self, books: Snapshot, found: dict[int, Found]) -> None:
        counts = sum((part.counts for part in found.values()), Counts(0, 0, 0, 0))
        there = books.counts()
        if counts != there:
            raise books.stranger(list(found)) or Difference("how much there is", str(counts), str(there))
        books.compare_balances(_sum(found))

    def _ledger_stands(self) -> dict[int, int]:
        return self.log.committed(self.log.ledger, self.log.events)

    def _sink_stands(self) -> dict[int, int]:
        with psycopg.connect(self._dsn) as connection:
            return Snapshot(connection).stands(topics.JOURNAL)

    def _await(self, who: str, topic: str, ends: dict[int, int], stands: Callable[[], dict[int, int]]) -> None:
        """Until it has taken what was there; raises Difference when it does not come to it."""
        deadline = monotonic() + self.patience
        while waiting := self.log.waiting(topic, stands(), ends):
            if monotonic() > deadline:
                raise _behind(who, topic, waiting)
            sleep(POLL)


def _behind(who: str, topic: str, waiting: Waiting) -> Difference:
    return Difference(
        f"the {who} is behind",
        f"{waiting.count} more records on {topic}",
        "it has not taken them; is it running?",
        f"{topic}[{waiting.partition}] offset {waiting.offset}",
    )


def _sum(found: dict[int, Found]) -> Balances:
    total: Balances = {}
    for part in found.values():
        for key, (debit, credit) in part.balances.items():
            before = total.get(key, (0, 0))
            total[key] = (before[0] + debit, before[1] + credit)
    return total


def _report(found: dict[int, Found], seconds: float) -> Report:
    parts = found.values()
    return Report(
        counts=sum((part.counts for part in parts), Counts(0, 0, 0, 0)),
        balances=_sum(found),
        heads={partition: part.head for partition, part in found.items()},
        line_heads={partition: part.line_head for partition, part in found.items()},
        repeated=sum(part.repeated for part in parts),
        unusable=sum(part.unusable for part in parts),
        seconds=seconds,
    )


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the garbage collector: nothing here is a cycle, and a partition's payments are many small objects."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
