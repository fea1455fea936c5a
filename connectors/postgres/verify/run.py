"""The whole check: wait for what is under way, take a snapshot, check every partition, then the sums."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
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
WORTH_A_PROCESS: Final = 20_000
"""Records that take longer to check than a process takes to start."""


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
    """One run. `codec` makes a codec. `patience`: seconds to wait for the ledger stage and the sink to take what the
    log had at the start. `jobs`: processes that check partitions side by side, if there is enough to check.
    """

    log: Log
    codec: Callable[[], Codec]
    patience: float = 15.0
    jobs: int = 1
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
        asked = [Bounds(part, stands.get(part, 0), self._events[part], now[part]) for part in ends]
        jobs = min(self.jobs, len(asked), sum(stands.values()) // WORTH_A_PROCESS)
        return dict(
            zip(ends, self._side_by_side(books, asked, jobs) if jobs > 1 else self._alone(books, asked), strict=True)
        )

    def _alone(self, books: Snapshot, asked: list[Bounds]) -> Iterator[Found]:
        codec = self.codec()
        for bounds in asked:
            yield PartitionCheck(self.log, codec, books, bounds, self.advance).run()

    def _side_by_side(self, books: Snapshot, asked: list[Bounds], jobs: int) -> Iterator[Found]:
        """The first difference is that of the lowest partition, as it is alone."""
        name = books.export()
        with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
            checks = [pool.submit(_check, self.log, self.codec, bounds, name) for bounds in asked]
            try:
                for bounds, check in zip(asked, checks, strict=True):
                    yield check.result()
                    self.advance(bounds.stands)
            except Difference:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

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


def _check(log: Log, codec: Callable[[], Codec], bounds: Bounds, snapshot_name: str) -> Found:
    """One partition, in a process of its own, at the same moment of Postgres."""
    with uncollected(), snapshot(log.settings.reveal("postgres_reader_url"), snapshot_name) as books:
        return PartitionCheck(log, codec(), books, bounds).run()


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
