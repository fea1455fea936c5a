"""The log, read partition by partition, as fast as the client goes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from pipeline import admin, topics
from pipeline.kafka import consumer_config
from pipeline.settings import Settings

BATCH: Final = 10_000
TIMEOUT: Final = 30.0


class LogError(RuntimeError):
    """The log cannot be read as it must be; the message says why."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Records that a reader has yet to take: how many, and the first of them."""

    count: int
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Log:
    """The two topics that the books are made of, with the same payments in the same partitions, and the consumer
    group of the stage that makes the one of the other.
    """

    settings: Settings
    journal: str = topics.JOURNAL
    events: str = topics.EVENTS
    ledger: str = admin.group("ledger")

    def ends(self, topic: str) -> dict[int, int]:
        """The offset behind the last record of each partition. Raises LogError when the beginning is gone."""
        with self._consumer() as consumer:
            found = consumer.list_topics(topic, TIMEOUT).topics[topic]
            if found.error is not None:
                raise LogError(f"{topic}: {found.error.str()}")
            ends = {}
            for partition in sorted(found.partitions):
                low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), TIMEOUT)
                if low:
                    raise LogError(f"{topic}[{partition}] begins at {low}: its beginning was deleted")
                ends[partition] = high
            return ends

    def at_time(self, topic: str, millis: int) -> dict[int, int]:
        """The offset of each partition's first record that came after that time."""
        ends = self.ends(topic)
        with self._consumer() as consumer:
            asked = [TopicPartition(topic, partition, millis + 1) for partition in ends]
            found = consumer.offsets_for_times(asked, TIMEOUT)
        return {place.partition: place.offset if place.offset >= 0 else ends[place.partition] for place in found}

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """Where a consumer group stands; 0 in a partition that it has not read."""
        places = [TopicPartition(topic, partition) for partition in self.ends(topic)]
        with self._consumer(group) as consumer:
            return {place.partition: max(0, place.offset) for place in consumer.committed(places, TIMEOUT)}

    def read(self, topic: str, partition: int, end: int, start: int = 0) -> Iterator[Message]:
        """The committed records of a partition with start <= offset < end."""
        if start >= end:
            return
        with self._consumer() as consumer:
            consumer.assign([TopicPartition(topic, partition, start)])
            for message in _polled(consumer, f"{topic}[{partition}]"):
                if message.offset() >= end:
                    return
                yield message
                if message.offset() == end - 1:
                    return

    def waiting(self, topic: str, stands: Mapping[int, int], ends: Mapping[int, int]) -> Waiting | None:
        """What a reader that stands there has yet to take of the records before `ends`."""
        count, first = 0, None
        for partition, end in ends.items():
            for message in self.read(topic, partition, end, stands.get(partition, 0)):
                first = first or (partition, message.offset())
                count += 1
        return Waiting(count, *first) if first else None

    @contextmanager
    def _consumer(self, group: str = "verify") -> Iterator[Consumer]:
        config: dict[str, Any] = {
            **consumer_config(self.settings, group, "verify"),
            "enable.partition.eof": True,
            "queued.max.messages.kbytes": 32_768,
            "check.crcs": True,
            "fetch.wait.max.ms": 10,  # the end of a partition is told only after so long
        }
        consumer = Consumer(config)
        try:
            yield consumer
        finally:
            consumer.close()


def _polled(consumer: Consumer, place: str) -> Iterator[Message]:
    """The records of the one partition that is assigned, to its end."""
    while True:
        first = consumer.poll(TIMEOUT)
        if first is None:
            raise LogError(f"{place}: the broker gave nothing for {TIMEOUT:.0f} s")
        # Only what is here already: with a timeout, `consume` would wait for the batch to fill.
        for message in (first, *consumer.consume(BATCH, 0)):
            error = message.error()
            if error is None:
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:
                return
            else:
                raise KafkaException(error)
