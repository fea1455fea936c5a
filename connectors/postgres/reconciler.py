"""The completeness reconciler: finds what a payment's state implies and is not there, and writes it again.

Kafka's transactions have a known hole (docs/decisions/0004): a record may be lost although its transaction
committed. Two watches, both on what must be true:

- every fact of `payments.events` is in Postgres soon; one that is not has lost its journal record, which is
computed anew; - no operation is under way for long, and nothing is parked; a payment that is stuck is folded anew from
`payments.intake`.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Final

import psycopg
import structlog
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from prometheus_client import Counter, start_http_server

from pipeline import admin, clock, topics
from pipeline.codec import Codec, CodecError, Registry
from pipeline.domain.completeness import Repairs, repairs
from pipeline.domain.decision import Schedule
from pipeline.domain.postings import journal_record
from pipeline.domain.timers import tier_for
from pipeline.headers import headers_of
from pipeline.kafka import consumer_config, producer_config, read_topic
from pipeline.messages import Input, Record
from pipeline.messages.facts import FACTS, Fact
from pipeline.messages.inputs import INPUTS
from pipeline.messages.journal import JournalRecord
from pipeline.messages.requests import REQUESTS
from pipeline.messages.timers import Timer
from pipeline.settings import Settings

STAGE: Final = "reconciler"
GROUP: Final = "reconciler"
BATCH: Final = 2_000
AGAIN_SECONDS: Final = 6 * 3600
"""A payment that was repaired and is still stuck is left alone for so long: it waits for its provider."""

log = structlog.get_logger()
REWRITTEN = Counter("reconciler_rewritten_total", "Records written again", ["topic"])

_KNOWN_FACTS: Final = "SELECT fact_id::text FROM payments.facts WHERE fact_id = ANY (%s::uuid[])"
_FACTS_OF: Final = "SELECT fact_id::text FROM payments.facts WHERE payment_id = %s"
_STUCK: Final = """
SELECT payment_id::text, min(since) FROM (
    SELECT payment_id, updated_at AS since FROM payments.operations
     WHERE state = 'started' AND updated_at < to_timestamp(%(now)s) - make_interval(secs => %(after)s)
    UNION ALL
    SELECT payment_id, updated_at FROM payments.payments
     WHERE status = 'declined' AND updated_at < to_timestamp(%(now)s) - make_interval(secs => %(after)s)
    UNION ALL
    SELECT payment_id, parked_at FROM payments.parked WHERE parked_at < now() - make_interval(secs => %(grace)s)
) AS stuck GROUP BY payment_id LIMIT 1000
"""
_BORN: Final = "SELECT min(created_at) FROM payments.payments WHERE payment_id = ANY (%s::uuid[])"


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """A fact of payments.events that Postgres has not been seen to have."""

    fact: Fact
    raw: bytes
    partition: int
    offset: int
    seen_at: float


@dataclass(slots=True)
class Reconciler:
    """One instance. Writing again what is there already is harmless: every consumer deduplicates by the ids."""

    settings: Settings
    codec: Codec
    consumer: Consumer
    producer: Producer
    connection: psycopg.Connection
    unconfirmed: dict[str, Unconfirmed] = field(default_factory=dict)
    repaired: dict[str, float] = field(default_factory=dict)
    stopping: bool = False

    def run(self) -> None:
        """Watch until told to stop."""
        self.consumer.subscribe([topics.EVENTS])
        following = monotonic()
        while not self.stopping:
            self.read(self.consumer.consume(BATCH, 0.5))
            if monotonic() >= following:
                self.confirm()
                self.repair_stuck()
                following = monotonic() + self.settings.reconcile_every

    def stop(self, *_: object) -> None:
        """End after this round."""
        self.stopping = True

    def read(self, messages: Iterable[Message]) -> None:
        """Note facts that are to appear in Postgres."""
        for message in messages:
            if message.error():
                continue
            try:
                fact = self.codec.decode(message.value())
            except CodecError:
                continue  # the ledger stage has dead-lettered it
            if isinstance(fact, Fact):
                place = (message.partition(), message.offset(), monotonic())
                self.unconfirmed[fact.fact_id] = Unconfirmed(fact, message.value(), *place)

    def confirm(self) -> int:
        """Forget what is in Postgres; write the journal records of what is not, and should be. Returns how many."""
        due = monotonic() - self.settings.reconcile_grace
        old = [fact_id for fact_id, noted in self.unconfirmed.items() if noted.seen_at <= due]
        known = {row[0] for row in self.connection.execute(_KNOWN_FACTS, [old])} if old else set()
        lost = [self.unconfirmed[fact_id] for fact_id in old if fact_id not in known]
        for noted in lost:
            ids = {"payment_id": noted.fact.payment_id, "fact_id": noted.fact.fact_id}
            log.error("journal record lost, written again", **ids)
            self._write(topics.JOURNAL, journal_record(noted.fact, noted.raw), noted.fact.payment_id)
        self.producer.flush(30)
        for fact_id in known:
            del self.unconfirmed[fact_id]
        for noted in lost:  # another grace before it is written once more
            self.unconfirmed[noted.fact.fact_id] = Unconfirmed(
                noted.fact, noted.raw, noted.partition, noted.offset, monotonic()
            )
        self._commit()
        return len(lost)

    def repair_stuck(self) -> int:
        """Fold stuck payments anew and write what is missing. Returns how many were incomplete."""
        patience = {"after": self.settings.reconcile_stuck_after, "grace": self.settings.reconcile_grace}
        limits = {**patience, "now": clock.now() / 1000}
        stuck = [row[0] for row in self.connection.execute(_STUCK, limits)]
        fresh = [payment for payment in stuck if monotonic() - self.repaired.get(payment, -1e12) > AGAIN_SECONDS]
        if not fresh:
            return 0
        inputs = self._inputs_of(set(fresh))
        incomplete = 0
        for payment in fresh:
            self.repaired[payment] = monotonic()
            known = {row[0] for row in self.connection.execute(_FACTS_OF, [payment])}
            found = repairs(inputs.get(payment, ()), known, Schedule().scaled(self.settings.recovery_scale))
            incomplete += bool(found)
            self._rewrite(payment, found)
        self.producer.flush(30)
        return incomplete

    def _rewrite(self, payment: str, found: Repairs) -> None:
        if found.facts:
            log.error("facts lost, written again", payment_id=payment, facts=[type(f).__name__ for f in found.facts])
        for part in found.authorizations:
            self._write(topics.AUTHORIZATIONS, part, payment)
        for fact in found.facts:
            self._write(topics.EVENTS, fact, payment)
        for request in found.requests:
            self._write(topics.requests(request.provider), request, payment)
        for timer in found.timers:
            self._write(topics.tier(tier_for(timer.due_at - timer.set_at)), timer, payment)

    def _inputs_of(self, payments: set[str]) -> dict[str, list[Input]]:
        """The payments' inputs in order: one pass over payments.intake, from when the oldest of them was made."""
        row = self.connection.execute(_BORN, [list(payments)]).fetchone()
        born: datetime | None = row[0] if row else None
        found: dict[str, list[Input]] = {}
        for message in read_topic(self.settings, topics.INTAKE, born):
            key = (message.key() or b"").decode(errors="replace")
            if key in payments:
                record = self.codec.decode(message.value())
                if isinstance(record, Input):
                    found.setdefault(key, []).append(record)
        return found

    def _write(self, topic: str, record: Record, payment: str) -> None:
        REWRITTEN.labels(topic).inc()
        headers = headers_of(record, STAGE)
        self.producer.produce(topic, key=payment, value=self.codec.encode(record), headers=headers)
        self.producer.poll(0)

    def _commit(self) -> None:
        """Offsets only up to the first fact that is not confirmed: a restart looks at the rest again."""
        for place in self.consumer.position(self.consumer.assignment()):
            waiting = [n.offset for n in self.unconfirmed.values() if n.partition == place.partition]
            if place.offset >= 0:
                offset = min([place.offset, *waiting])
                self.consumer.commit(
                    offsets=[TopicPartition(topics.EVENTS, place.partition, offset)], asynchronous=True
                )


def run(settings: Settings) -> None:
    """Run the reconciler until SIGTERM or SIGINT."""
    admin.require_topics(settings, [topics.EVENTS, topics.INTAKE, topics.JOURNAL, topics.AUTHORIZATIONS])
    if settings.metrics_port:
        start_http_server(settings.metrics_port, addr="127.0.0.1")
    codec = Codec(Registry(settings.registry_url)).require(JournalRecord, Timer, *FACTS, *REQUESTS, *INPUTS)
    consumer = Consumer(consumer_config(settings, GROUP, f"{STAGE}-{settings.slot}"))
    producer = Producer(producer_config(settings, f"{STAGE}-{settings.slot}"))
    with psycopg.connect(settings.reveal("postgres_reader_url"), autocommit=True) as connection:
        reconciler = Reconciler(settings, codec, consumer, producer, connection)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, reconciler.stop)
        try:
            reconciler.run()
        finally:
            consumer.close()
