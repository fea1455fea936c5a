"""`payments timers`: what waits in the delay tiers, read from the tiers themselves and from where the relay stands."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import Annotated, Any, Final

import typer
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from rich.console import Console
from rich.table import Table

from pipeline import admin, clock, topics
from pipeline.codec import Codec, CodecError, Registry
from pipeline.domain.timeline import utc
from pipeline.domain.timers import ready_at
from pipeline.kafka import consumer_config
from pipeline.messages.timers import Timer
from pipeline.settings import Settings, settings
from topologies.lanes import Lane
from topologies.timer_relay import LAST_WINDOW, STAGE

console: Final = Console()
HEADS: Final = LAST_WINDOW
"""Records looked at in each partition unless all are asked for: as far as the relay itself looks ahead."""
SECONDS: Final = 60.0


@dataclass(slots=True)
class Tier:
    """One delay tier. Times in milliseconds; `offsets` is an upper bound of what was not read."""

    name: str
    pending: int = 0
    offsets: int = 0
    oldest_overdue: int | None = None
    next_due: int | None = None

    def add(self, timer: Timer, appended_at: int, now: int) -> None:
        """Count a timer that waits here."""
        self.pending += 1
        ready = ready_at(self.name, appended_at, timer.due_at)
        if ready < now:
            self.oldest_overdue = min(ready, self.oldest_overdue or ready)
        self.next_due = min(timer.due_at, self.next_due or timer.due_at)


def timers(
    everything: Annotated[
        bool, typer.Option("--all", help="read every waiting timer: exact, and as long as it takes")
    ] = False,
    upcoming: Annotated[int, typer.Option(min=0, max=100, help="list so many timers that fall due next")] = 0,
) -> None:
    """Show what waits in the delay tiers: pending, the oldest overdue, the next due. Exits 1 when something is overdue
    by more than a minute.
    """
    now, first = clock.now(), list[tuple[int, str, Timer]]()
    tiers = {name: Tier(name) for name in topics.TIERS}
    for tier, timer, appended_at in _waiting(settings(), tiers, everything=everything):
        tier.add(timer, appended_at, now)
        if upcoming:
            heapq.heappush(first, (-timer.due_at, timer.timer_id, timer))
            if len(first) > upcoming:
                heapq.heappop(first)
    _print(tiers, now, everything=everything)
    _print_upcoming([timer for _, _, timer in sorted(first, reverse=True)])
    overdue = [tier.oldest_overdue for tier in tiers.values() if tier.oldest_overdue is not None]
    if overdue and now - min(overdue) > 60_000:
        raise typer.Exit(1)


def _waiting(current: Settings, tiers: dict[str, Tier], *, everything: bool) -> Iterator[tuple[Tier, Timer, int]]:
    """Every timer read that the relay has not acted on, with its tier and when it was appended there."""
    codec = Codec(Registry(current.registry_url))
    reader = TierReader(current, None if everything else HEADS)
    try:
        for message in reader.messages():
            tier = tiers[message.topic().removeprefix("timers.")]
            try:
                timer = codec.decode(message.value())
            except CodecError:
                continue  # the relay dead-letters it
            if isinstance(timer, Timer):
                yield tier, timer, clock.system_time(message.timestamp()[1])
        for name, left in reader.unread():
            tiers[name].offsets += left
    finally:
        reader.close()


class TierReader:
    """Reads the tiers from where the relay stands, passing over what it has done beyond that; at most `most` records a
    partition, None for all.
    """

    def __init__(self, current: Settings, most: int | None) -> None:
        config = consumer_config(current, admin.group(STAGE), "timers-cli")
        # Only looks: it joins no group and commits nothing, so that it may bear the relay's group name.
        self._consumer = Consumer({**config, "enable.partition.eof": True})
        self._most = most
        self._lanes: dict[tuple[str, int], Lane[None]] = {}
        self._ends: dict[tuple[str, int], int] = {}

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    def messages(self) -> Iterator[Message]:
        """The waiting records; at most so many a partition."""
        reading, deadline = self._start(), monotonic() + SECONDS
        counts = dict.fromkeys(reading, 0)
        while reading and (self._most is None or monotonic() < deadline):
            for message in self._consumer.consume(2_000, 0.2):
                place = (message.topic(), message.partition())
                if place not in reading:
                    continue
                at_end = self._is_end(message)
                if at_end:
                    self._lanes[place].next_offset = self._ends[place]
                if at_end or (self._most is not None and counts[place] >= self._most):
                    reading.discard(place)
                    self._consumer.pause([TopicPartition(*place)])
                elif self._lanes[place].read(message.offset()):
                    counts[place] += 1
                    yield message

    def unread(self) -> Iterator[tuple[str, int]]:
        """By tier, the offsets that were not read. Transaction markers count among them."""
        for place, lane in self._lanes.items():
            yield place[0].removeprefix("timers."), max(0, self._ends[place] - lane.next_offset)

    def _start(self) -> set[tuple[str, int]]:
        starts = self._consumer.committed(self._places(), timeout=30)
        for start in starts:
            low, high = self._consumer.get_watermark_offsets(start, timeout=10)
            start.offset = max(start.offset, low)
            place = (start.topic, start.partition)
            self._lanes[place] = Lane.resumed(0, start.offset, start.metadata)
            self._ends[place] = high
        waiting = [start for start in starts if start.offset < self._ends[start.topic, start.partition]]
        self._consumer.assign(waiting)
        return {(start.topic, start.partition) for start in waiting}

    def _places(self) -> list[TopicPartition]:
        present = self._consumer.list_topics(timeout=10).topics
        names = [topics.tier(name) for name in topics.TIERS if topics.tier(name) in present]
        return [TopicPartition(name, partition) for name in names for partition in present[name].partitions]

    @staticmethod
    def _is_end(message: Message) -> bool:
        error: Any = message.error()
        if error is None:
            return False
        if error.code() != KafkaError._PARTITION_EOF:
            raise KafkaException(error)
        return True


def _print(tiers: dict[str, Tier], now: int, *, everything: bool) -> None:
    table = Table("tier", "pending", "oldest overdue", "next due")
    for tier in tiers.values():
        more = f" + up to {tier.offsets} not read" if tier.offsets > 0 and not everything else ""
        overdue = "" if tier.oldest_overdue is None else str(timedelta(seconds=(now - tier.oldest_overdue) // 1000))
        table.add_row(tier.name, f"{tier.pending}{more}", overdue, "" if tier.next_due is None else utc(tier.next_due))
    console.print(table)
    late = [tier.oldest_overdue for tier in tiers.values() if tier.oldest_overdue is not None]
    ahead = [tier.next_due for tier in tiers.values() if tier.next_due is not None]
    words = f"oldest overdue by {(now - min(late)) / 1000:.1f} s" if late else "nothing is overdue"
    console.print(f"{words}; next due {utc(min(ahead)) if ahead else 'never'}", highlight=False)


def _print_upcoming(first: list[Timer]) -> None:
    if not first:
        return
    table = Table("due", "kind", "operation", "payment", "subject")
    for timer in first:
        table.add_row(utc(timer.due_at), timer.kind.value, timer.operation.value, timer.payment_id, timer.subject_id)
    console.print(table)
