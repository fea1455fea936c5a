"""timers.<tier> → [relay] → payments.intake when due, else the next tier

A plain consumer: quixstreams has no timers. Every record waits in its tier's lane; what gets ready is fired or hops
on, many records in one transaction with the offsets.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from time import monotonic
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from pipeline import admin, clock, metrics, topics
from pipeline.codec import Codec, CodecError, Registry
from pipeline.dead_letters import Origin, Unusable, dead_letter, dead_letter_headers
from pipeline.domain.timers import SMALLEST, ready_at, tier_for
from pipeline.headers import Headers, headers_of, trace_of
from pipeline.kafka import consumer_config, producer_config
from pipeline.messages.deadletters import DeadLetter
from pipeline.messages.inputs import TimerFired
from pipeline.messages.timers import Timer
from pipeline.messages.values import TimerKind
from pipeline.settings import Settings
from topologies.lanes import Lane
from topologies.transport import TransportWatch

STAGE: Final = "relay"
LAST_WINDOW: Final = 2_048
"""Offsets read ahead in each partition of the shortest tier, where every timer spends its last second."""
WINDOW: Final = 256
"""Offsets read ahead in each partition of the other tiers, which are in order anyhow."""
BATCH: Final = 2_000
"""Records of one transaction, at most."""
LONGEST_POLL: Final = 0.5
METRICS_EVERY: Final = 10.0

_TIER_OF: Final = {topics.tier(name): name for name in topics.TIERS}
_log: Final = logging.getLogger("payments")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A timer in a lane, or what became of a record that is none."""

    timer: Timer | None
    trace: str | None
    letter: DeadLetter | None = None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record that the relay writes."""

    topic: str
    key: bytes | None
    value: bytes
    headers: Headers


def waiting_of(codec: Codec, message: Message) -> tuple[int, Waiting]:
    """When a record of a tier gets ready, and what it is. A record that is no timer is ready at once, for the dead
    letters.
    """
    trace = trace_of(message.headers())
    _, appended_at = message.timestamp()
    try:
        timer = _timer(codec, message)
    except Unusable as error:
        origin = Origin(STAGE, message.topic(), message.partition(), message.offset(), appended_at)
        return 0, Waiting(None, trace, dead_letter(origin, error, message.key(), message.value()))
    ready = ready_at(_TIER_OF[message.topic()], clock.system_time(appended_at), timer.due_at)
    return ready, Waiting(timer, trace)


def _timer(codec: Codec, message: Message) -> Timer:
    try:
        record = codec.decode(message.value())
    except CodecError as error:
        raise Unusable("undecodable", str(error)) from error
    if not isinstance(record, Timer):
        raise Unusable("unexpected_type", f"{type(record).__name__} does not belong here")
    if message.key() != record.payment_id.encode():
        raise Unusable("key_mismatch", "the record's key is not its payment_id")
    return record


def outgoing(codec: Codec, topic: str, waiting: Waiting, now: int) -> Outgoing:
    """What becomes of a record that is ready: it fires if it is due, hops on if it is not."""
    timer, letter = waiting.timer, waiting.letter
    if timer is None:
        assert letter is not None
        headers = dead_letter_headers(letter, waiting.trace)
        return Outgoing(topics.dlq(topic), letter.key, codec.encode(letter), headers)
    record = fired(timer, now) if timer.due_at <= now else timer
    to = _fires_into(timer) if record is not timer else topics.tier(tier_for(timer.due_at - now))
    return Outgoing(to, timer.payment_id.encode(), codec.encode(record), headers_of(record, STAGE, waiting.trace))


def _fires_into(timer: Timer) -> str:
    match timer.kind:
        case TimerKind.UNROUTED:
            return topics.UNROUTED
        case TimerKind.REPORT:
            return topics.REPORTS
    return topics.INTAKE


def fired(timer: Timer, now: int) -> TimerFired:
    """The input that a due timer brings about. `now` is never before the timer was due."""
    return TimerFired(
        payment_id=timer.payment_id,
        occurred_at=now,
        timer_id=timer.timer_id,
        kind=timer.kind,
        subject_id=timer.subject_id,
        operation=timer.operation,
        generation=timer.generation,
        due_at=timer.due_at,
    )


class Relay:
    """The loop around it all."""

    def __init__(self, settings: Settings, codec: Codec, now: Callable[[], int] = clock.now) -> None:
        self._codec = codec
        self._now = now
        self._watch = TransportWatch()
        self._lanes: dict[tuple[str, int], Lane[Waiting]] = {}
        self._paused: set[tuple[str, int]] = set()
        self._stopping = False
        self._metrics_due = 0.0
        self._asked: dict[tuple[str, int], Any] = {}
        self._admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
        name = f"{STAGE}-{settings.slot}"
        self._consumer = Consumer(
            {
                **consumer_config(settings, admin.group(STAGE), name),
                # A static member that restarts gets its partitions back at once, not after the session timeout.
                "group.instance.id": name,
                "queued.min.messages": 500,
                "queued.max.messages.kbytes": 4_096,
                "fetch.wait.max.ms": 500,
                "auto.offset.reset": "error",
            }
        )
        self._producer = Producer({**producer_config(settings, name, transactional_id=name), "error_cb": self._watch})

    def run(self) -> None:
        """Relay until `stop`. Any Kafka error ends the loop: the restarted process begins where the last commit was."""
        self._producer.init_transactions(30)
        self._consumer.subscribe(list(_TIER_OF), on_assign=self._assigned, on_revoke=self._gone, on_lost=self._gone)
        try:
            while not self._stopping:
                self._turn()
        finally:
            self._consumer.close()

    def stop(self, *_: Any) -> None:
        """Let the loop end after its turn."""
        self._stopping = True

    def _turn(self) -> None:
        for message in self._messages():
            self._receive(message)
        self._serve_events()
        # One transaction a turn: what gets ready meanwhile must not keep the relay from reading.
        if work := list(islice(self._ready(), BATCH)):
            self._write(work)
        self._balance()
        self._report()

    def _serve_events(self) -> None:
        """Raises ProducerRenewalNeededError if the connection failed during the last transaction."""
        self._producer.poll(0)
        self._watch.touched = False

    def _messages(self) -> Iterator[Message]:
        """What has arrived; waits for the first record at most until the next one gets ready."""
        first = self._consumer.poll(self._patience())
        if first is None:
            return
        yield first
        yield from self._consumer.consume(BATCH, timeout=0)

    def _patience(self) -> float:
        times = [lane.ready_at for lane in self._lanes.values() if lane.ready_at is not None]
        if not times:
            return LONGEST_POLL
        return max(0.0, min(LONGEST_POLL, (min(times) - self._now()) / 1000))

    def _receive(self, message: Message) -> None:
        if message.error():
            raise KafkaException(message.error())
        lane = self._lanes.get((message.topic(), message.partition()))
        if lane is not None and lane.read(message.offset()):
            metrics.RECORDS_IN.labels(STAGE).inc()
            ready, waiting = waiting_of(self._codec, message)
            lane.wait(message.offset(), ready, waiting)

    def _ready(self) -> Iterator[tuple[tuple[str, int], int, Waiting]]:
        now = self._now()
        for place, lane in self._lanes.items():
            while taken := lane.take(now):
                yield place, *taken

    def _write(self, work: list[tuple[tuple[str, int], int, Waiting]]) -> None:
        """One transaction: what became ready, and the offsets that say so."""
        started, now = monotonic(), self._now()
        self._watch.touched = True
        self._producer.begin_transaction()
        for place, offset, waiting in work:
            self._produce(outgoing(self._codec, place[0], waiting, now))
            self._lanes[place].finish(offset)
        offsets = [self._position(place) for place in dict.fromkeys(place for place, _, _ in work)]
        self._producer.send_offsets_to_transaction(offsets, self._consumer.consumer_group_metadata(), 10)
        self._producer.commit_transaction(10)
        metrics.COMMIT_SECONDS.labels(STAGE).observe(monotonic() - started)

    def _produce(self, out: Outgoing) -> None:
        metrics.RECORDS_OUT.labels(STAGE, out.topic).inc()
        while True:
            try:
                self._producer.produce(out.topic, out.value, out.key, headers=out.headers)
            except BufferError:
                self._producer.poll(0.1)
            else:
                return

    def _position(self, place: tuple[str, int]) -> TopicPartition:
        offset, metadata = self._lanes[place].position()
        return TopicPartition(*place, offset, metadata)

    def _balance(self) -> None:
        """Stop reading where a window is full, go on where it no longer is."""
        full = {place for place, lane in self._lanes.items() if lane.full}
        if full - self._paused:
            self._consumer.pause([TopicPartition(*place) for place in full - self._paused])
        if self._paused - full:
            self._consumer.resume([TopicPartition(*place) for place in self._paused - full])
        self._paused = full

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Begin where the last commit was; a partition never read before, at its first record. Any other offset that is
        not there is a loss, and loud.
        """
        starts = consumer.committed(partitions, timeout=30)
        for start in starts:
            place = (start.topic, start.partition)
            window = LAST_WINDOW if _TIER_OF[start.topic] == SMALLEST else WINDOW
            self._lanes[place] = Lane.resumed(window, max(start.offset, 0), start.metadata)
            start.offset = start.offset if start.offset >= 0 else OFFSET_BEGINNING
        consumer.incremental_assign(starts)
        _log.info("relay: %d partitions assigned", len(partitions))

    def _gone(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        """What waits in a lane is in the log still, and the next owner's."""
        for partition in partitions:
            self._lanes.pop((partition.topic, partition.partition), None)
            self._paused.discard((partition.topic, partition.partition))

    def _report(self) -> None:
        """Set the metrics, from log ends asked for at the last report: nothing waits for the broker here."""
        if monotonic() < self._metrics_due:
            return
        self._metrics_due = monotonic() + METRICS_EVERY
        ends, now = self._ends(), self._now()
        for tier in topics.TIERS:
            lanes = {place: lane for place, lane in self._lanes.items() if place[0] == topics.tier(tier)}
            ready = [lane.ready_at for lane in lanes.values() if lane.ready_at is not None]
            first = min(ready, default=None)
            metrics.TIMERS_PENDING.labels(tier).set(sum(_pending(lane, ends.get(p)) for p, lane in lanes.items()))
            metrics.TIMER_OLDEST_OVERDUE.labels(tier).set(max(0, now - first) / 1000 if first else 0)
            metrics.TIMER_NEXT_READY.labels(tier).set(first / 1000 if first else 0)

    def _ends(self) -> dict[tuple[str, int], int]:
        """Where each partition's log ended at the last report."""
        known = {place: answer.result().offset for place, answer in self._asked.items() if answer.done()}
        places = {place: TopicPartition(*place) for place in self._lanes}
        if places:
            answers = self._admin.list_offsets({partition: OffsetSpec.latest() for partition in places.values()})
            self._asked = {place: answers[partition] for place, partition in places.items()}
        return known


def _pending(lane: Lane[Waiting], end: int | None) -> int:
    """Records read and waiting, and offsets not read yet. Transaction markers count as offsets, so this is an upper
    bound until all is read.
    """
    return len(lane) + max(0, (end or 0) - lane.next_offset)


def run(settings: Settings) -> None:
    """Run the relay until it is told to stop. Raises at start when a topic or a contract it writes is missing."""
    admin.require_topics(settings, admin.wanted_topics(settings))
    codec = Codec(Registry(settings.registry_url)).require(Timer, TimerFired, DeadLetter)
    metrics.serve(settings)
    relay = Relay(settings, codec)
    signal.signal(signal.SIGTERM, relay.stop)
    signal.signal(signal.SIGINT, relay.stop)
    relay.run()
