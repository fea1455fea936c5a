"""Requests from Kafka for an event loop: fetched by a thread, handed over in batches, committed in order.

An offset is committed only when it and all before it in its partition are done, and only by who holds the partition.
librdkafka commits what is stored (every 200 ms, at a rebalance and at the end), which is what a crash repeats.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import structlog
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from pipeline.kafka import consumer_config
from pipeline.settings import Settings

log = structlog.get_logger()

_POLL: Final = 0.25
_REVOKE: Final = 3.0
"""Seconds that a rebalance waits for calls under way; later ones are repeated by the partition's next holder."""
_WATERMARK: Final = 5.0
_EVERYTHING: Final = 1 << 62

Batch = list[tuple["Partition", Message]]


class Partition:
    """One partition while this process holds it: which of its records are under way, and which are done.

    `fence` is the end of the partition when it was assigned: a record before it may have been served by an earlier
    process. Its methods are the event loop's; the consumer's thread only reads `active` and clears `live`, `held`.
    """

    def __init__(self, topic: str, number: int, fence: int) -> None:
        self.topic = topic
        self.number = number
        self.fence = fence
        self.live = True
        """New calls may be started for its records."""
        self.held = True
        """Its offsets are ours to commit."""
        self.active = 0
        """Records whose call is under way or whose report is not acknowledged yet."""
        self._order: deque[int] = deque()
        self._done: set[int] = set()

    def enter(self, offset: int) -> None:
        """A record was taken."""
        self._order.append(offset)

    def finish(self, offset: int) -> int | None:
        """A record is done. The offset to commit from now on, if that changes it."""
        self._done.add(offset)
        last = None
        while self._order and self._order[0] in self._done:
            last = self._order.popleft()
            self._done.discard(last)
        return None if last is None else last + 1


class Feed:
    """A consumer group's member on a thread of its own.

    `take` is called on the loop with each batch; `fail` with what ends it. Nothing is fetched unless `open` said how
    much: else the partitions are paused, and memory stays bounded however long the provider is away.
    """

    def __init__(
        self,
        settings: Settings,
        topic: str,
        group: str,
        *,
        take: Callable[[Batch], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._topic = topic
        self._take = take
        self._fail = fail
        self._loop = asyncio.get_running_loop()
        self._consumer = Consumer(
            {
                **consumer_config(settings, group, group),
                # A restart, even after kill -9, is the same member and goes on at once.
                "group.instance.id": f"{group}-{settings.slot}",
                "session.timeout.ms": 10_000,
                "enable.auto.commit": True,
                "auto.commit.interval.ms": 200,
            }
        )
        self._partitions: dict[int, Partition] = {}
        self._room = 0
        self._gate = threading.Event()
        self._stop = threading.Event()
        self._paused = False
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def start(self) -> None:
        """Join the group."""
        self._consumer.subscribe([self._topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)
        self._thread.start()

    def shut(self) -> None:
        """Fetch no more for now."""
        self._gate.clear()

    def open(self, room: int) -> None:
        """Fetch, at most `room` records at a time."""
        self._room = room
        self._gate.set()

    def done(self, partition: Partition, offset: int) -> None:
        """A record needs no repeat. On the loop."""
        position = partition.finish(offset)
        if position is None or not partition.held:
            return
        try:
            self._consumer.store_offsets(offsets=[TopicPartition(partition.topic, partition.number, position)])
        except KafkaException as error:
            # Lost between the check and the call: the next holder repeats it under the same key.
            log.info("offset not stored", partition=partition.number, error=error.args[0].name())

    def close(self) -> None:
        """Commit what is done and leave the group. Blocks; not on the loop's thread."""
        self._stop.set()
        self._gate.set()
        self._thread.join()

    # On the consumer's thread

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._fetch() if self._gate.is_set() else self._rest()
        except BaseException as error:  # whatever it is, the loop must hear of it
            self._call(self._fail, error)
        finally:
            self._consumer.close()

    def _fetch(self) -> None:
        if self._paused:
            self._consumer.resume(self._consumer.assignment())
            self._paused = False
        first = self._consumer.poll(_POLL)
        if first is not None:
            # `consume` waits until its batch is full; after one record was waited for, take what is there.
            more = self._consumer.consume(self._room - 1, timeout=0) if self._room > 1 else []
            self._hand_over([first, *more])

    def _rest(self) -> None:
        """Short rests only wait: pausing throws away what is already fetched. The group must still hear of us."""
        if self._gate.wait(_POLL) or self._stop.is_set():
            return
        self._consumer.pause(self._consumer.assignment())
        self._paused = True
        late = self._consumer.poll(0)
        if late is not None:
            self._hand_over([late])

    def _hand_over(self, messages: list[Message]) -> None:
        batch: Batch = []
        for message in messages:
            error, partition = message.error(), self._partitions.get(message.partition())
            if error is None:
                # A partition may go in the middle of a batch; then its records are the next holder's.
                if partition is not None:
                    batch.append((partition, message))
            elif error.fatal() or not error.retriable():
                raise KafkaException(error)
            else:
                log.warning("the consumer has trouble", error=error.name())
        if batch:
            self._call(self._take, batch)

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for partition in partitions:
            fence = _end_of(consumer, partition)
            self._partitions[partition.partition] = Partition(partition.topic, partition.partition, fence)

    def _revoked(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        going = [self._partitions.pop(p.partition) for p in partitions if p.partition in self._partitions]
        for partition in going:
            partition.live = False
        deadline = time.monotonic() + _REVOKE
        while any(partition.active for partition in going) and time.monotonic() < deadline:
            time.sleep(0.01)
        for partition in going:
            partition.held = False

    def _lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for lost in partitions:
            partition = self._partitions.pop(lost.partition, None)
            if partition is not None:
                partition.live = partition.held = False

    def _call(self, callback: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            log.warning("the loop has ended before the consumer")


def _end_of(consumer: Consumer, partition: TopicPartition) -> int:
    """Where the partition ends now. If no broker says, every record is taken as possibly served before."""
    try:
        return int(consumer.get_watermark_offsets(partition, timeout=_WATERMARK)[1])
    except KafkaException as error:
        log.warning("the end of a partition is unknown", partition=partition.partition, error=error.args[0].name())
        return _EVERYTHING
