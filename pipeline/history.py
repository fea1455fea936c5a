"""Reads what the log holds of one payment, without reading the log.

Every topic of the flow is keyed by payment, so a payment's records are in one partition a topic, and murmur2 says
which. Of that partition only the moments are read at which something happened to the payment: Postgres knows each of
its facts' time, when it was written, and its offset in `ledger.journal`; the timers found there name further moments,
when they fell due. What had no effect and came at no such moment (a webhook delivered a week late) is found by `scan`
only, which reads the payment's partitions from its creation on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

import structlog
from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition

from pipeline import clock, topics
from pipeline.codec import Codec, CodecError
from pipeline.domain.recovery import Written
from pipeline.domain.timeline import Placed
from pipeline.kafka import consumer_config
from pipeline.messages.facts import Fact
from pipeline.messages.inputs import TimerFired
from pipeline.messages.journal import JournalRecord
from pipeline.messages.timers import Timer
from pipeline.partitions import partition_of
from pipeline.settings import Settings

log = structlog.get_logger()

BEFORE: Final = 5_000
"""Milliseconds before a moment from which on records are looked at: clocks differ, and a broker's is not ours."""
AFTER: Final = 10_000
"""Milliseconds after it: an answer takes its time."""
ROUNDS: Final = 8
_BATCH: Final = 2_000

FACTS_OF: Final = """
SELECT body, extract(epoch FROM written_at) * 1000, journal_partition, journal_offset
  FROM payments.facts WHERE payment_id = %s ORDER BY sequence
"""


@dataclass(frozen=True, slots=True)
class Known:
    """A fact as Postgres has it; times in milliseconds."""

    fact: Fact
    written_at: int
    partition: int
    offset: int

    @property
    def written(self) -> Written:
        """For the recovery points."""
        return Written(self.fact, self.written_at)


def known_facts(codec: Codec, rows: Iterable[Sequence[Any]]) -> list[Known]:
    """The rows of FACTS_OF."""
    found = list[Known]()
    for body, written_at, partition, offset in rows:
        fact = codec.decode(bytes(body))
        assert isinstance(fact, Fact)
        found.append(Known(fact, clock.system_time(round(written_at)), partition, offset))
    return found


@dataclass(frozen=True, slots=True)
class Window:
    """A span of the system's time, in milliseconds."""

    start: int
    end: int


def windows_around(moments: Iterable[int]) -> list[Window]:
    """The windows around moments, in order, those that touch joined."""
    joined = list[Window]()
    for moment in sorted(moments):
        start, end = moment - BEFORE, moment + AFTER
        if joined and start <= joined[-1].end:
            joined[-1] = Window(joined[-1].start, max(joined[-1].end, end))
        else:
            joined.append(Window(start, end))
    return joined


@dataclass(slots=True)
class Found:
    """What was read of a payment. `missing`: facts that Postgres has and payments.events was not seen to have."""

    records: dict[tuple[str, int, int], Placed] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    scanned: int = 0
    """Records that were looked at."""
    in_time: bool = True

    @property
    def complete(self) -> bool:
        """Whether every known fact was found in the log, in the time that there was."""
        return self.in_time and not self.missing

    def facts_in(self, topic: str) -> set[str]:
        """The ids of the facts found in payments.events or ledger.journal."""
        records = (p.record for p in self.records.values() if p.topic == topic)
        return {r.fact_id for r in records if isinstance(r, Fact | JournalRecord)}


class History:
    """Reads one payment at a time. Not for use by several threads at once."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._codec = codec
        config = consumer_config(settings, "payments-history", "history")
        self._consumer = Consumer({**config, "enable.partition.eof": True, "fetch.wait.max.ms": 50})

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    def read(self, payment_id: str, known: Sequence[Known], seconds: float = 30.0) -> Found:
        """The payment's records around the moments that are known; stops after `seconds`, and says so."""
        found, deadline = Found(), monotonic() + seconds
        asked = set[int]()
        moments = {k.fact.occurred_at for k in known} | {k.written_at for k in known}
        for _ in range(ROUNDS):
            fresh = {moment for moment in moments if not any(abs(moment - old) < AFTER // 2 for old in asked)}
            if not fresh:
                break
            asked |= fresh
            for window in windows_around(fresh):
                self._scan(payment_id, window, found, deadline)
            moments = _due_moments(found) | self._journal_moments(known, found, deadline)
        return _checked(found, known)

    def scan(self, payment_id: str, known: Sequence[Known], since: int, seconds: float = 600.0) -> Found:
        """Every record of the payment since a time in milliseconds, whatever it did."""
        found = Found()
        self._scan(payment_id, Window(since, clock.now()), found, monotonic() + seconds)
        return _checked(found, known)

    def _journal_moments(self, known: Sequence[Known], found: Found, deadline: float) -> set[int]:
        """When the facts were journalled that were not found: a process was down between two of their records."""
        there, moments = found.facts_in(topics.EVENTS), set[int]()
        for item in known:
            if item.fact.fact_id not in there and monotonic() < deadline:
                message = self._at(TopicPartition(topics.JOURNAL, item.partition, item.offset))
                if message is not None:
                    moments.add(clock.system_time(message.timestamp()[1]))
        return moments

    def _at(self, place: TopicPartition) -> Message | None:
        self._consumer.assign([place])
        self._consumer.resume([place])
        message = self._consumer.poll(5.0)
        return message if message is not None and not message.error() else None

    def _scan(self, payment_id: str, window: Window, found: Found, deadline: float) -> None:
        window = Window(clock.machine_time(window.start), clock.machine_time(window.end))  # the broker's time
        starts = self._starts(payment_id, window)
        self._consumer.assign(starts)
        # A partition that was read to its window's end before is still paused.
        self._consumer.resume(starts)
        reading = {(start.topic, start.partition) for start in starts}
        while reading:
            if monotonic() > deadline:
                found.in_time = False
                return
            done = set[tuple[str, int]]()
            for message in self._consumer.consume(_BATCH, 0.2):
                place = (message.topic(), message.partition())
                if place in reading and self._is_end(message, window):
                    done.add(place)
                elif place in reading and place not in done:
                    self._keep(payment_id, message, found)
            reading -= done
            if done:
                self._consumer.pause([TopicPartition(*place) for place in done])

    def _starts(self, payment_id: str, window: Window) -> list[TopicPartition]:
        """Where the window begins in each of the payment's partitions; none where it is after the end."""
        present = self._consumer.list_topics(timeout=10).topics
        wanted = list[TopicPartition]()
        for name in _TOPICS:
            if name in present:
                partition = partition_of(payment_id, len(present[name].partitions))
                wanted.append(TopicPartition(name, partition, max(0, window.start)))
        found = self._consumer.offsets_for_times(wanted, timeout=10)
        return [place for place in found if place.offset not in {OFFSET_END, -1} and not place.error]

    @staticmethod
    def _is_end(message: Message, window: Window) -> bool:
        error = message.error()
        if error is None:
            return bool(message.timestamp()[1] > window.end)
        if error.code() != KafkaError._PARTITION_EOF:
            raise KafkaException(error)
        return True

    def _keep(self, payment_id: str, message: Message, found: Found) -> None:
        found.scanned += 1
        if message.key() != payment_id.encode():
            return
        topic, partition, offset = place = message.topic(), message.partition(), message.offset()
        try:
            record = self._codec.decode(message.value())
        except CodecError as error:
            log.warning("a record that cannot be read", topic=topic, offset=offset, error=str(error))
            return
        found.records[place] = Placed(record, topic, partition, offset, clock.system_time(message.timestamp()[1]))


_TOPICS: Final = (
    topics.COMMANDS,
    topics.INTAKE,
    topics.EVENTS,
    topics.JOURNAL,
    *map(topics.requests, topics.PROVIDERS),
    *map(topics.tier, topics.TIERS),
    *(topic.value for topic in topics.PublicTopic),
)


def _due_moments(found: Found) -> set[int]:
    """When the timers that were found fell due, as far as that is not in the future."""
    now = clock.now()
    timers = (p.record for p in found.records.values() if isinstance(p.record, Timer | TimerFired))
    return {timer.due_at for timer in timers if timer.due_at <= now}


def _checked(found: Found, known: Sequence[Known]) -> Found:
    there = found.facts_in(topics.EVENTS)
    found.missing = [item.fact.fact_id for item in known if item.fact.fact_id not in there]
    return found
