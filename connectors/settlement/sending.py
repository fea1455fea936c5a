"""A report's lines on their way into the books: checked whole, sent, and waited for.

A report is read twice. The first time nothing is sent: a report with a line that cannot be read changes nothing. What
was sent is in the books when the settlement stage and the sink have passed the ends that the topics had after it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Final

import psycopg
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from connectors.settlement.report import EmptyReportError, Origin, Reader
from pipeline import admin, ids, topics
from pipeline.codec import Codec
from pipeline.headers import headers_of, key_of
from pipeline.kafka import consumer_config, producer_config
from pipeline.messages.settlement import SettlementLine
from pipeline.settings import Settings

STAGE: Final = "reconcile"
_TIMEOUT: Final = 30.0
_REPORT_EVERY: Final = 1_000
Advance = Callable[[int], None]


class NotPostedError(RuntimeError):
    """What was sent did not get into the books in time: a stage stands still."""


@dataclass(frozen=True, slots=True)
class Report:
    """A file that can be read: how many lines it has, and the times of the first and the last."""

    path: Path
    origin: Origin
    reader: Reader
    lines: int
    first_at: int
    last_at: int


def check(path: Path, reader: Reader, account: str | None, advance: Advance) -> Report:
    """Read the file to its end; `advance` is told of the bytes. Raises ReportError, or OSError."""
    origin = Origin(ids.derive("report", _digest(path)), account)
    count, first, last = 0, 0, 0
    for line in _read(path, reader, origin, advance):
        first = min(first, line.occurred_at) if count else line.occurred_at
        last = max(last, line.occurred_at)
        count += 1
    if not count:
        raise EmptyReportError
    return Report(path, origin, reader, count, first, last)


def lines_of(report: Report, advance: Advance) -> Iterator[SettlementLine]:
    """The lines once more."""
    return _read(report.path, report.reader, report.origin, advance)


def send(settings: Settings, codec: Codec, lines: Iterable[SettlementLine]) -> None:
    """Write the lines to their topic, and see every one acknowledged. Raises KafkaException."""
    producer = Producer(producer_config(settings, STAGE) | {"linger.ms": 20, "compression.type": "lz4"})
    failed: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failed.append(error)

    for line in lines:
        _produce(producer, codec, line, delivered)
        if failed:
            break
    producer.flush(_TIMEOUT)
    if failed or len(producer):
        raise KafkaException(failed[0] if failed else KafkaError(KafkaError._TIMED_OUT))


def wait_posted(
    settings: Settings, connection: psycopg.Connection, patience: float, waiting: Callable[[int], None]
) -> None:
    """Wait until the books have all that is on the way now; `waiting` is told how many records are. Raises
    NotPostedError when nothing moves for `patience` seconds.
    """
    ends = _ends(settings, topics.SETTLEMENT_LINES)
    _until(lambda: sum(_behind(ends, _stage_stands(settings, ends)).values()), "settlement", patience, waiting)
    ends = _ends(settings, topics.JOURNAL)
    _until(lambda: _unwritten(settings, ends, _sink_stands(connection)), "sink", patience, waiting)


def _read(path: Path, reader: Reader, origin: Origin, advance: Advance) -> Iterator[SettlementLine]:
    with path.open("rb") as file:
        told = 0
        with io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
            for number, line in enumerate(reader(text, origin)):
                if not number % _REPORT_EVERY:
                    advance(file.tell() - told)
                    told = file.tell()
                yield line
            advance(file.tell() - told)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _produce(
    producer: Producer, codec: Codec, line: SettlementLine, delivered: Callable[[KafkaError | None, Message], None]
) -> None:
    value, headers = codec.encode(line), headers_of(line, STAGE)
    while True:
        try:
            producer.produce(topics.SETTLEMENT_LINES, value, key_of(line), headers=headers, on_delivery=delivered)
        except BufferError:
            producer.poll(0.1)
        else:
            producer.poll(0)
            return


def _ends(settings: Settings, topic: str) -> dict[int, int]:
    """The offset behind the last committed record of each partition."""
    consumer = Consumer(consumer_config(settings, STAGE, STAGE))
    try:
        partitions = consumer.list_topics(topic, _TIMEOUT).topics[topic].partitions
        places = [TopicPartition(topic, partition) for partition in partitions]
        return {place.partition: consumer.get_watermark_offsets(place, _TIMEOUT)[1] for place in places}
    finally:
        consumer.close()


def _stage_stands(settings: Settings, ends: dict[int, int]) -> dict[int, int]:
    consumer = Consumer(consumer_config(settings, admin.group("settlement"), STAGE))
    try:
        places = [TopicPartition(topics.SETTLEMENT_LINES, partition) for partition in ends]
        return {place.partition: place.offset for place in consumer.committed(places, _TIMEOUT)}
    finally:
        consumer.close()


def _sink_stands(connection: psycopg.Connection) -> dict[int, int]:
    query = "SELECT partition, next_offset FROM sink.offsets WHERE topic = %s"
    return dict(connection.execute(query, [topics.JOURNAL]).fetchall())


def _behind(ends: dict[int, int], stands: dict[int, int]) -> dict[int, int]:
    """How many offsets are to go, by partition."""
    stand = {partition: max(0, stands.get(partition, 0)) for partition in ends}
    return {partition: end - stand[partition] for partition, end in ends.items() if end > stand[partition]}


def _unwritten(settings: Settings, ends: dict[int, int], stands: dict[int, int]) -> int:
    """How many offsets of the journal the sink has to go. The last of a partition may be a transaction's marker, which
    nobody reads: only a record counts.
    """
    behind = _behind(ends, stands)
    places = [TopicPartition(topics.JOURNAL, partition, stands.get(partition, 0)) for partition in behind]
    left = _with_records(settings, places) if places else set()
    return sum(count for partition, count in behind.items() if partition in left)


def _with_records(settings: Settings, places: list[TopicPartition]) -> set[int]:
    """The partitions that have a record from these offsets on."""
    consumer = Consumer({**consumer_config(settings, STAGE, STAGE), "enable.partition.eof": True})
    found, open_places = set(), {place.partition for place in places}
    try:
        consumer.assign(places)
        while open_places:
            message = consumer.poll(_TIMEOUT)
            if message is None:
                raise NotPostedError(f"the broker gave nothing of {topics.JOURNAL} for {_TIMEOUT:.0f} s")
            error = message.error()
            if error is None:
                found.add(message.partition())
            elif error.code() != KafkaError._PARTITION_EOF:
                raise KafkaException(error)
            open_places.discard(message.partition())
    finally:
        consumer.close()
    return found


def _until(behind: Callable[[], int], stage: str, patience: float, waiting: Callable[[int], None]) -> None:
    began = moved_at = monotonic()
    last = -1
    while count := behind():
        if count != last:
            last, moved_at = count, monotonic()
        elif monotonic() - moved_at > patience:
            raise NotPostedError(f"{stage} stands still with {count} records to go: see its log")
        waiting(count)
        sleep(min(0.2 + (monotonic() - began) / 20, 2.0))  # to look costs the broker, and what it waits for, time
    waiting(0)
