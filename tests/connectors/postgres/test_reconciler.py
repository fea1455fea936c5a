"""The reconciler on the real Kafka and Postgres: records that were lost are written again, byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic, sleep, time
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from confluent_kafka import Consumer, Producer

from connectors.postgres.reconciler import Reconciler
from pipeline import admin, ids, topics
from pipeline.codec import Codec, Registry
from pipeline.domain.chain import PaymentChain
from pipeline.domain.decision import Schedule
from pipeline.domain.postings import journal_record
from pipeline.kafka import consumer_config, producer_config
from pipeline.messages import Record
from pipeline.messages.commands import Authorize, CreateIntent
from pipeline.messages.values import CaptureMethod
from pipeline.settings import Settings
from tests.domain.samples import VISA

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]

Read = Callable[[str, str], list[Any]]


@pytest.fixture
def settings(books: Settings) -> Settings:
    """No patience: what is missing is missed at once."""
    chosen = books.model_copy(
        update={"reconcile_grace": 0.01, "reconcile_stuck_after": 1.0, "partitions": _partitions(books)}
    )
    admin.register_schemas(chosen)
    admin.apply_topics(chosen)
    return chosen


def _partitions(settings: Settings) -> int:
    from confluent_kafka.admin import AdminClient

    found = AdminClient({"bootstrap.servers": settings.kafka_bootstrap}).list_topics(timeout=10).topics
    return len(found[topics.INTAKE].partitions) if topics.INTAKE in found else settings.partitions


@pytest.fixture
def reconciler(settings: Settings) -> Iterator[Reconciler]:
    """One that begins at the end of payments.events as it is."""
    codec = Codec(Registry(settings.registry_url)).require()
    config = {**consumer_config(settings, f"reconciler-{uuid4()}", "test"), "auto.offset.reset": "latest"}
    consumer = Consumer(config)
    producer = Producer(producer_config(settings, "test"))
    with psycopg.connect(settings.reveal("postgres_reader_url"), autocommit=True) as connection:
        made = Reconciler(settings, codec, consumer, producer, connection)
        consumer.subscribe([topics.EVENTS])
        deadline = monotonic() + 30
        while not consumer.assignment():
            made.read(consumer.consume(1, 0.2))
            assert monotonic() < deadline
        made.read(consumer.consume(1, 1.0))
        yield made
        consumer.close()


@pytest.fixture
def written(settings: Settings) -> Iterator[Read]:
    """Reads what was written to a topic for a payment since the fixture began."""
    codec = Codec(Registry(settings.registry_url))
    consumers: list[Consumer] = []

    def read(topic: str, payment: str) -> list[Any]:
        consumer = Consumer({**consumer_config(settings, f"test-{uuid4()}", "test")})
        consumers.append(consumer)
        consumer.subscribe([topic])
        found, quiet = list[Any](), monotonic() + 8
        while monotonic() < quiet:
            for message in consumer.consume(500, 0.5):
                if not message.error() and message.key() == payment.encode():
                    found.append(codec.decode(message.value()))
                    quiet = monotonic() + 2
        return found

    yield read
    for consumer in consumers:
        consumer.close()


def produce(reconciler: Reconciler, topic: str, payment: str, *records: Record) -> None:
    for record in records:
        reconciler.producer.produce(topic, key=payment, value=reconciler.codec.encode(record))
    reconciler.producer.flush(30)


def inputs(payment: str) -> list[Any]:
    """A payment that was created and is being authorized."""
    who: dict[str, Any] = {"merchant_id": "acme", "payment_id": payment, "occurred_at": int(time() * 1000)}
    return [
        CreateIntent(
            command_id=f"{payment}-create", amount=10_000, currency="USD", provider="stripe",
            capture_method=CaptureMethod.MANUAL, payment_method=VISA, **who,
        ),
        Authorize(command_id=f"{payment}-authorize", **who),
    ]  # fmt: skip


def test_a_lost_journal_record_is_written_again(reconciler: Reconciler, written: Read) -> None:
    payment = ids.derive("test", str(uuid4()))
    chain = PaymentChain(Schedule())
    for item in inputs(payment):
        chain.feed(item)
    produce(reconciler, topics.EVENTS, payment, *chain.facts)
    deadline = monotonic() + 30
    while len(reconciler.unconfirmed) < len(chain.facts):
        reconciler.read(reconciler.consumer.consume(100, 0.5))
        assert monotonic() < deadline
    sleep(0.1)  # past the grace
    assert reconciler.confirm() >= len(chain.facts)
    expected = [journal_record(fact, reconciler.codec.encode(fact)) for fact in chain.facts]
    found = written(topics.JOURNAL, payment)
    assert [record for record in found if record in expected][: len(expected)] == expected


def test_a_stuck_payment_is_folded_anew(
    reconciler: Reconciler, written: Read, sink_connection: psycopg.Connection
) -> None:
    """Its facts, its request to the provider and its timer were lost; only payments.intake has it."""
    payment = ids.derive("test", str(uuid4()))
    commands = inputs(payment)
    produce(reconciler, topics.INTAKE, payment, *commands)
    sink_connection.execute(
        "INSERT INTO payments.operations VALUES (%s, 'x', 'acme', 'Authorize', 'started', NULL, NULL, 2,"
        " now() - interval '1 hour')",
        [payment],
    )
    assert reconciler.repair_stuck() == 1
    chain = PaymentChain(Schedule())
    steps = [chain.feed(command) for command in commands]
    assert all(fact in written(topics.EVENTS, payment) for fact in chain.facts)
    assert all(part in written(topics.AUTHORIZATIONS, payment) for step in steps for part in step.authorizations)
    assert steps[-1].requests[0] in written(topics.requests("stripe"), payment)
    assert steps[-1].timers[0] in written(topics.tier("30s"), payment)
    assert reconciler.repair_stuck() == 0, "it is left alone for a while"
