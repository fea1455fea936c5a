"""ledger.journal → [postgres sink] → tables, ledger, outbox; the offsets in the same transaction.

The sink takes what its consumer has, at most `BATCH` records, in one transaction. Where it stands is `sink.offsets`,
moved in that transaction under a fence: an instance that lost its partition changes nothing. A fact that is not the
payment's next one is parked until the missing one comes, and counted; other payments go on.
"""

from __future__ import annotations

import signal
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import psycopg
import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from prometheus_client import Counter, Gauge, Histogram, start_http_server

from connectors.postgres import statements
from connectors.postgres.rows import Arrival, Books
from pipeline import admin, clock, topics
from pipeline.codec import Codec, CodecError, Registry
from pipeline.domain.projection import PaymentView, apply
from pipeline.kafka import consumer_config, producer_config
from pipeline.messages.deadletters import DeadLetter
from pipeline.messages.facts import Fact
from pipeline.messages.journal import JournalRecord
from pipeline.messages.public import PaymentEvent
from pipeline.settings import Settings

STAGE: Final = "sink"
BATCH: Final = 1_000
CACHED_VIEWS: Final = 4_000
IDLE_POLL: Final = 0.5

log = structlog.get_logger()
FACTS_WRITTEN = Counter("sink_facts_total", "Facts written to Postgres")
DUPLICATES = Counter("sink_duplicates_total", "Records that were there already")
PARKED = Gauge("sink_parked_records", "Records waiting for a missing predecessor")
BATCH_SIZE = Histogram("sink_batch_records", "Records a transaction", buckets=(1, 3, 10, 30, 100, 300, 1000))
COMMIT_SECONDS = Histogram("sink_commit_seconds", "Seconds a transaction takes")


class FencedError(RuntimeError):
    """Another instance has taken the partition over: this one must stop."""


class ForgedSequenceError(RuntimeError):
    """Two different facts claim one place in a payment's order. A person has to look."""


class ViewCache:
    """The payments that were written last, as they stand; valid while the sink holds their partitions."""

    def __init__(self) -> None:
        self._views: OrderedDict[str, PaymentView] = OrderedDict()

    def load(self, connection: psycopg.Connection, payments: Iterable[str]) -> dict[str, PaymentView | None]:
        """The views of these payments, None for one that is new."""
        found: dict[str, PaymentView | None] = {payment: self._views.get(payment) for payment in payments}
        missing = [payment for payment, view in found.items() if view is None]
        for payment, text in connection.execute(statements.LOAD_VIEWS, [missing]) if missing else ():
            found[str(payment)] = msgspec.json.decode(text, type=PaymentView)
        return found

    def keep(self, views: Iterable[PaymentView]) -> None:
        """Remember views once they are committed."""
        for view in views:
            self._views[view.payment_id] = view
            self._views.move_to_end(view.payment_id)
        while len(self._views) > CACHED_VIEWS:
            self._views.popitem(last=False)

    def forget(self) -> None:
        """After a rebalance somebody else may have written."""
        self._views.clear()


@dataclass(slots=True)
class Sink:
    """One instance: a consumer, a connection, and the partitions it holds."""

    consumer: Consumer
    connection: psycopg.Connection
    codec: Codec
    dead_letters: Producer
    views: ViewCache = field(default_factory=ViewCache)
    epochs: dict[int, int] = field(default_factory=dict)
    expected: dict[int, int] = field(default_factory=dict)
    stopping: bool = False

    def run(self) -> None:
        """Write until told to stop. Raises FencedError, ForgedSequenceError, and whatever Kafka or Postgres raise:
        the supervisor starts a new one, which goes on from `sink.offsets`.
        """
        self.consumer.subscribe([topics.JOURNAL], on_assign=self._assigned, on_revoke=self._revoked)
        while not self.stopping:
            messages = self._poll()
            if messages:
                self.write(messages)

    def stop(self, *_: object) -> None:
        """Finish the transaction under way, then end."""
        self.stopping = True

    def write(self, messages: Sequence[Message]) -> None:
        """One transaction: the records' rows and the offsets behind them."""
        arrivals = [arrival for message in messages if (arrival := self._arrival(message))]
        with COMMIT_SECONDS.time(), self.connection.transaction():
            self._advance(messages)
            books = self._fold(arrivals)
            books.write(self.connection, self.codec)
        self.views.keep(books.views.values())
        BATCH_SIZE.observe(len(messages))
        FACTS_WRITTEN.inc(len(books.facts))

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

    def _arrival(self, message: Message) -> Arrival | None:
        raw = message.value()
        try:
            record = self.codec.decode(raw)
            if not isinstance(record, JournalRecord):
                raise CodecError(f"{type(record).__name__} is no journal record")
            fact = self.codec.decode(record.fact)
            if not isinstance(fact, Fact):
                raise CodecError(f"{type(fact).__name__} is no fact")
        except CodecError as error:
            self._dead_letter(message, str(error))
            return None
        return Arrival(record, fact, raw, message.partition(), message.offset())

    def _advance(self, messages: Sequence[Message]) -> None:
        """Move the offsets under the fence."""
        last: dict[int, int] = {}
        for message in messages:
            last[message.partition()] = message.offset() + 1
        for partition, following in last.items():
            place = (following, topics.JOURNAL, partition, self.expected[partition], self.epochs[partition])
            if self.connection.execute(statements.ADVANCE, place).rowcount != 1:
                raise FencedError(f"{topics.JOURNAL}[{partition}] is another's, or its offset moved")
            self.expected[partition] = following

    def _fold(self, arrivals: Sequence[Arrival]) -> Books:
        """Every payment of the batch, moved on by the facts that are next."""
        waiting: dict[str, dict[int, Arrival]] = {}
        for arrival in arrivals:
            of_payment = waiting.setdefault(arrival.fact.payment_id, {})
            known = of_payment.setdefault(arrival.fact.sequence, arrival)
            self._check_same(known, arrival)
        once_parked = self._add_parked(waiting)
        books = Books()
        for payment, view in self.views.load(self.connection, waiting).items():
            self._fold_payment(books, view, waiting[payment])
        books.unpark(once_parked)
        return books

    def _fold_payment(self, books: Books, view: PaymentView | None, waiting: dict[int, Arrival]) -> None:
        following = view.sequence + 1 if view else 1
        for sequence in sorted(s for s in waiting if s < following):
            self._check_duplicate(waiting.pop(sequence))
        while following in waiting:
            arrival = waiting.pop(following)
            view = apply(view, arrival.fact)
            books.add(arrival, view)
            following += 1
        for arrival in waiting.values():
            log.error(
                "fact parked: its predecessor is missing",
                payment_id=arrival.fact.payment_id,
                sequence=arrival.fact.sequence,
                missing=following,
            )
            books.parked.append(arrival)

    def _add_parked(self, waiting: dict[str, dict[int, Arrival]]) -> set[str]:
        """Put beside the records that came what was parked of the same payments; returns the payments it found."""
        rows = self.connection.execute(statements.LOAD_PARKED, [list(waiting)]).fetchall()
        for payment, sequence, raw, partition, offset in rows:
            record = self.codec.decode(raw)
            assert isinstance(record, JournalRecord)
            fact = self.codec.decode(record.fact)
            assert isinstance(fact, Fact)
            waiting[str(payment)].setdefault(sequence, Arrival(record, fact, raw, partition, offset))
        return {str(row[0]) for row in rows}

    def _check_duplicate(self, arrival: Arrival) -> None:
        """The same fact again is nothing; another fact in its place is an alarm."""
        DUPLICATES.inc()
        place = (arrival.fact.payment_id, arrival.fact.sequence)
        row = self.connection.execute(statements.FACT_AT, place).fetchone()
        if row is None or str(row[0]) != arrival.fact.fact_id:
            raise ForgedSequenceError(f"payment {place[0]} has another fact {place[1]}: {arrival.fact.fact_id}")

    def _check_same(self, known: Arrival, arrival: Arrival) -> None:
        if known is arrival:
            return
        DUPLICATES.inc()
        if known.fact.fact_id != arrival.fact.fact_id:
            raise ForgedSequenceError(f"payment {known.fact.payment_id} has two facts {known.fact.sequence}")

    def _dead_letter(self, message: Message, detail: str) -> None:
        """Delivered before the offset moves on."""
        letter = DeadLetter(
            stage=STAGE,
            reason="undecodable",
            detail=detail,
            topic=message.topic(),
            partition=message.partition(),
            offset=message.offset(),
            failed_at=clock.now(),
            key=message.key(),
            value=message.value(),
        )
        log.error("journal record dead-lettered", detail=detail, offset=message.offset())
        failed: list[KafkaError] = []
        self.dead_letters.produce(
            topics.dlq(topics.JOURNAL),
            key=message.key(),
            value=self.codec.encode(letter),
            on_delivery=lambda error, _: failed.append(error) if error else None,
        )
        self.dead_letters.flush(30)
        if failed or len(self.dead_letters):
            raise KafkaException(failed[0] if failed else KafkaError(KafkaError._TIMED_OUT))

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Take the partitions over: a new epoch each, and on from where Postgres says."""
        self.views.forget()
        for place in partitions:
            row = self.connection.execute(statements.TAKE_OVER, (place.topic, place.partition)).fetchone()
            assert row is not None
            place.offset, self.epochs[place.partition] = row
            self.expected[place.partition] = place.offset
        consumer.incremental_assign(partitions)
        log.info("partitions assigned", partitions=[p.partition for p in partitions])

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.views.forget()
        for place in partitions:
            self.epochs.pop(place.partition, None)
            self.expected.pop(place.partition, None)


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
        PARKED.set_function(lambda: _count_parked(settings))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, sink.stop)
        try:
            sink.run()
        finally:
            consumer.close()


def _count_parked(settings: Settings) -> float:
    with psycopg.connect(settings.reveal("postgres_sink_url")) as connection:
        row = connection.execute(statements.COUNT_PARKED).fetchone()
    return float(row[0]) if row else 0.0
