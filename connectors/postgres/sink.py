"""ledger.journal → [postgres sink] → tables, ledger, outbox; the offsets in the same transaction.

The sink takes what its consumer has, at most `BATCH` records, in one transaction. Where it stands is `sink.offsets`,
moved in that transaction under a fence: an instance that lost its partition changes nothing. One payment's trouble is
never another's: a fact that is not its payment's next one is parked until the missing one comes, a fact that claims a
taken place is put aside, and a record that Postgres cannot hold is dead-lettered; each is logged and counted.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

import psycopg
import structlog
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition
from prometheus_client import Counter, Gauge, Histogram, start_http_server
from psycopg import sql

from connectors.postgres import statements
from connectors.postgres.fence import Fence, Place
from connectors.postgres.rows import Books
from connectors.postgres.writer import Batch, Writer
from pipeline import admin, clock, topics
from pipeline.codec import Codec, Registry
from pipeline.dead_letters import Origin, Unusable, bury, dead_letter
from pipeline.headers import trace_of
from pipeline.kafka import consumer_config, producer_config
from pipeline.messages.deadletters import DeadLetter
from pipeline.messages.facts import AuthorizationOrphaned, Fact, OrphanReturned, OrphanReturnFailed, ReviewNeeded
from pipeline.messages.public import PaymentEvent
from pipeline.settings import Settings

STAGE: Final = "sink"
BATCH: Final = 1_000
IDLE_POLL: Final = 0.5
REPORT_EVERY: Final = 1.0

log = structlog.get_logger()
FACTS_WRITTEN = Counter("sink_facts_total", "Facts written to Postgres")
DEAD_LETTERS = Counter("sink_dead_letters_total", "Records that could not be used", ["reason"])
REVIEWS = Counter("payments_reviews_total", "Operations whose outcome only a person can find out", ["operation"])
ORPHANS = Counter(
    "payments_orphans_total", "Approvals that came after we had given up, by what became of them", ["fact"]
)
PARKED = Gauge("sink_parked_records", "Records waiting for a missing predecessor")
CONFLICTS = Gauge("sink_conflicting_records", "Facts whose place in their payment another fact has")
LAG = Gauge("sink_lag_records", "Offsets behind the end of ledger.journal")
BATCH_SIZE = Histogram("sink_batch_records", "Records a transaction", buckets=(1, 3, 10, 30, 100, 300, 1000))
COMMIT_SECONDS = Histogram("sink_commit_seconds", "Seconds a transaction takes")
DELAY_SECONDS = Histogram(
    "sink_delay_seconds",
    "From a batch's first record in Kafka to its rows in Postgres",
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5, 30, 300),
)


@dataclass(slots=True)
class Sink:
    """One instance: a consumer, a connection, and the partitions it holds."""

    consumer: Consumer
    connection: psycopg.Connection
    codec: Codec
    dead_letters: Producer
    stopping: bool = False
    fence: Fence = field(init=False)
    _writer: Writer = field(init=False)
    _report_due: float = 0.0

    def __post_init__(self) -> None:
        self.fence = Fence(self.connection, sql.Identifier("sink", "offsets"))
        self._writer = Writer(self.connection, self.codec, self._advance, self._written, self._dead_letter)

    def run(self) -> None:
        """Write until told to stop. Raises FencedError, and whatever Kafka or Postgres raise: the supervisor starts a
        new one, which goes on from `sink.offsets`.
        """
        self.consumer.subscribe([topics.JOURNAL], on_assign=self._assigned, on_revoke=self._revoked)
        while not self.stopping:
            messages = self._poll()
            if messages:
                self.write(messages)
            self._report()

    def stop(self, *_: object) -> None:
        """Finish the transaction under way, then end."""
        self.stopping = True

    def write(self, messages: Sequence[Message]) -> None:
        """The records' rows and the offsets behind them: one transaction, or a few if one of them does not fit."""
        # A rebalance during the poll may have taken a partition whose records were already handed out.
        held = [message for message in messages if _place(message.partition()) in self.fence]
        if held:
            with COMMIT_SECONDS.time():
                self._writer.write(held)
            DELAY_SECONDS.observe(max(0.0, (clock.real() - held[0].timestamp()[1]) / 1000))

    def _written(self, batch: Batch, books: Books) -> None:
        """A transaction has been committed."""
        self.fence.advanced({_place(message.partition()): message.offset() + 1 for message, _ in batch})
        BATCH_SIZE.observe(len(batch))
        FACTS_WRITTEN.inc(len(books.facts))
        for arrival in books.facts:
            _count(arrival.fact)
        if books.puts_aside:
            self._count_waiting()

    def _poll(self) -> list[Message]:
        """Wait for one record, then take what else is there."""
        first = self.consumer.poll(IDLE_POLL)
        if first is None:
            return []
        messages = [first, *self.consumer.consume(BATCH - 1, timeout=0)]
        for message in messages:
            if error := message.error():
                raise KafkaException(error)
        return messages

    def _advance(self, following: dict[int, int]) -> None:
        """Move the offsets under the fence."""
        self.fence.advance({_place(partition): offset for partition, offset in following.items()})

    def _dead_letter(self, message: Message, reason: str, detail: str) -> None:
        """Delivered before the offset moves on."""
        DEAD_LETTERS.labels(reason).inc()
        log.error("journal record dead-lettered", reason=reason, detail=detail, offset=message.offset())
        origin = Origin(STAGE, message.topic(), message.partition(), message.offset(), message.timestamp()[1])
        letter = dead_letter(origin, Unusable(reason, detail), message.key(), message.value())
        bury(self.dead_letters, self.codec, topics.dlq(topics.JOURNAL), letter, trace_of(message.headers()))

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Take the partitions over: a new epoch each, and on from where Postgres says."""
        self._writer.forget()
        for place in partitions:
            place.offset = self.fence.take_over(_place(place.partition))
        consumer.incremental_assign(partitions)
        self._count_waiting()
        log.info("partitions assigned", partitions=[p.partition for p in partitions])

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._writer.forget()
        for place in partitions:
            self.fence.release(_place(place.partition))

    def _count_waiting(self) -> None:
        row = self.connection.execute(statements.COUNT_WAITING).fetchone()
        assert row is not None
        PARKED.set(row[0])
        CONFLICTS.set(row[1])

    def _report(self) -> None:
        """Set the lag, from what the consumer has heard of the log's end: nothing waits for the broker here."""
        if monotonic() < self._report_due:
            return
        self._report_due = monotonic() + REPORT_EVERY
        LAG.set(self.fence.behind(self.consumer))


def _place(partition: int) -> Place:
    return topics.JOURNAL, partition


def _count(fact: Fact) -> None:
    """What an operator is alerted of."""
    match fact:
        case ReviewNeeded():
            REVIEWS.labels(fact.operation.value).inc()
            ids = {"payment_id": fact.payment_id, "subject_id": fact.subject_id}
            log.error("a person has to decide: payments review list", operation=fact.operation.value, **ids)
        case AuthorizationOrphaned() | OrphanReturned() | OrphanReturnFailed():
            ORPHANS.labels(type(fact).__name__).inc()


def run(settings: Settings) -> None:
    """Run the sink until SIGTERM or SIGINT."""
    admin.require_topics(settings, [topics.JOURNAL, topics.dlq(topics.JOURNAL)])
    if settings.metrics_port:
        start_http_server(settings.metrics_port, addr="127.0.0.1")
    client = f"{STAGE}-{settings.slot}"
    # No committed offset is ever used; a lost one must be loud, not a jump.
    config = consumer_config(settings, STAGE, client) | {
        "auto.offset.reset": "error",
        "group.instance.id": client,
        "queued.max.messages.kbytes": 16_384,
    }
    consumer = Consumer(config)
    with psycopg.connect(settings.reveal("postgres_sink_url"), autocommit=True, application_name=client) as connection:
        codec = Codec(Registry(settings.registry_url)).require(PaymentEvent, DeadLetter)
        sink = Sink(consumer, connection, codec, Producer(producer_config(settings, client)))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, sink.stop)
        try:
            sink.run()
        finally:
            consumer.close()
