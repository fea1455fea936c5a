"""From public events to deliveries, on the real Postgres: once each, for those who want them, with the offsets."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import orjson
import psycopg
import pytest
from confluent_kafka import OFFSET_BEGINNING, TIMESTAMP_LOG_APPEND_TIME, Consumer, Producer, TopicPartition
from msgspec.structs import replace

from connectors.postgres.fence import FencedError
from connectors.webhooks.fan_out import SOURCES, FanOut
from gateway.endpoint_store import Place
from pipeline import clock, ids, topics, views
from pipeline.codec import Codec, LocalIds
from pipeline.domain.deliveries import ALERT_TYPES, OPERATOR
from pipeline.messages.clearing import AlertState, LedgerAlert, OpenEntry
from pipeline.messages.facts import Fact
from pipeline.messages.public import PaymentEvent
from pipeline.settings import Settings
from tests.connectors.journal import public_events
from tests.connectors.postgres import test_sink
from tests.connectors.webhooks.conftest import Merchants, captured_now

pytestmark = pytest.mark.stack
CODEC = Codec(LocalIds()).require()
URL = "https://shop.example/hook"
_DAY = 86_400_000


@dataclass(frozen=True)
class Read:
    """A record of a public topic as the consumer hands it over."""

    name: str
    body: bytes
    at: int

    def topic(self) -> str:
        return self.name

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.at

    def key(self) -> bytes:
        return b"key"

    def value(self) -> bytes:
        return self.body

    def headers(self) -> None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return (TIMESTAMP_LOG_APPEND_TIME, clock.now())


class Assigned(Consumer):  # type: ignore[misc]
    """A consumer that was given partitions and needs no broker."""

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        self.given = partitions


def fan_out(settings: Settings, connection: psycopg.Connection) -> FanOut:
    """One that holds partition 0 of every topic."""
    consumer = Assigned({"bootstrap.servers": settings.kafka_bootstrap, "group.id": "test-webhooks"})
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap})
    made = FanOut(consumer, connection, CODEC, producer, lambda: None, settings.webhook_keep_days)
    made.assigned(consumer, [TopicPartition(topic, 0) for topic in SOURCES])
    return made


def read(events: Sequence[PaymentEvent], start: int = 0) -> list[Any]:
    """Records, each topic numbered from `start`."""
    following = dict.fromkeys([event.type for event in events], start)
    made = []
    for event in events:
        made.append(Read(event.type, CODEC.encode(event), following[event.type]))
        following[event.type] += 1
    return made


def in_the_books(settings: Settings, *payments: list[Fact]) -> None:
    """Write the payments as the sink does."""
    with psycopg.connect(settings.reveal("postgres_sink_url"), autocommit=True) as connection:
        facts = [fact for payment in payments for fact in payment]
        test_sink.sink(settings, connection).write(test_sink.delivered(facts))


def queued(connection: psycopg.Connection) -> set[tuple[str, str]]:
    """Endpoint and event of every delivery."""
    rows = connection.execute("SELECT endpoint_id::text, event_id::text FROM webhooks.deliveries")
    return {(row[0], row[1]) for row in rows}


def count(connection: psycopg.Connection, table: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
    assert row
    return int(row[0])


async def test_each_event_goes_once_to_each_endpoint_that_wants_it(
    settings: Settings, merchants: Merchants, sender_connection: psycopg.Connection
) -> None:
    every = await merchants.endpoint(URL)
    some = await merchants.endpoint(URL, "payments.captured")
    off = await merchants.endpoint(URL)
    await merchants.store.update(off, None, None, False)
    gone = await merchants.endpoint(URL)
    await merchants.store.delete(gone)
    await merchants.endpoint(URL, merchant="somebody else")
    facts = captured_now()
    in_the_books(settings, facts)
    created, authorized, captured = public_events(facts)
    events = [created, authorized, captured]
    fan_out(settings, sender_connection).write(read(events))
    wanted = {(every.endpoint_id, event.event_id) for event in events} | {(some.endpoint_id, captured.event_id)}
    assert queued(sender_connection) == wanted
    for endpoint, event in wanted:
        assert await merchants.store.delivery(Place("acme", endpoint), ids.delivery_id(endpoint, event))
    moved = sender_connection.execute("SELECT topic FROM webhooks.offsets WHERE next_offset = 1")
    assert {row[0] for row in moved} == {event.type for event in events}


async def test_what_is_sent_is_the_payment_as_the_api_shows_it(
    settings: Settings, merchants: Merchants, sender_connection: psycopg.Connection
) -> None:
    await merchants.endpoint(URL)
    facts = captured_now()
    in_the_books(settings, facts)
    event = public_events(facts)[-1]
    fan_out(settings, sender_connection).write(read([event]))
    [(body,)] = sender_connection.execute("SELECT body FROM webhooks.events").fetchall()
    [(view,)] = sender_connection.execute("SELECT view::text FROM payments.payments").fetchall()
    shown = orjson.loads(body)
    assert list(shown) == ["type", "timestamp", "data"]
    assert (shown["type"], shown["timestamp"]) == ("payments.captured", views.time(event.occurred_at))
    assert shown["data"] == views.intent(orjson.loads(view))
    assert (shown["data"]["payment_id"], shown["data"]["status"]) == (event.payment_id, "captured")
    assert "merchant_id" not in shown["data"]


async def test_the_same_records_again_make_no_second_delivery(
    settings: Settings, merchants: Merchants, sender_connection: psycopg.Connection
) -> None:
    """Within a batch, in a later batch, and when the topic is read again from its start."""
    await merchants.endpoint(URL)
    facts = captured_now()
    in_the_books(settings, facts)
    events = public_events(facts)
    one = fan_out(settings, sender_connection)
    one.write(read([*events, *events]))
    one.write(read(events, 2))
    before = sender_connection.execute("SELECT * FROM webhooks.events ORDER BY 1").fetchall()
    merchants.owner.execute("DELETE FROM webhooks.offsets")
    fan_out(settings, sender_connection).write(read(events))
    assert count(sender_connection, "webhooks.deliveries") == 3
    assert sender_connection.execute("SELECT * FROM webhooks.events ORDER BY 1").fetchall() == before


async def test_an_endpoint_gets_nothing_from_before_it_was_there(
    settings: Settings, merchants: Merchants, sender_connection: psycopg.Connection
) -> None:
    facts = [replace(fact, occurred_at=fact.occurred_at - 120_000) for fact in captured_now()]
    in_the_books(settings, facts)
    old = await merchants.endpoint(URL)
    merchants.owner.execute("UPDATE webhooks.endpoints SET created_at = now() - interval '1 hour'")
    await merchants.endpoint(URL)
    fan_out(settings, sender_connection).write(read(public_events(facts)))
    assert {endpoint for endpoint, _ in queued(sender_connection)} == {old.endpoint_id}


async def test_of_a_merchant_without_endpoints_nothing_is_kept(
    settings: Settings, merchants: Merchants, sender_connection: psycopg.Connection
) -> None:
    await merchants.endpoint(URL, merchant="somebody else")
    facts = captured_now()
    in_the_books(settings, facts)
    fan_out(settings, sender_connection).write(read(public_events(facts)))
    assert count(sender_connection, "webhooks.events") == 0
    assert count(sender_connection, "webhooks.deliveries") == 0


async def test_what_happened_while_an_endpoint_was_disabled_can_be_replayed(
    settings: Settings, merchants: Merchants, sender_connection: psycopg.Connection
) -> None:
    place = await merchants.endpoint(URL, "payments.captured")
    await merchants.store.update(place, None, None, False)
    facts = captured_now()
    in_the_books(settings, facts)
    events = public_events(facts)
    fan_out(settings, sender_connection).write(read(events))
    assert queued(sender_connection) == set()
    await merchants.store.update(place, None, None, True)
    since = sender_connection.execute("SELECT now() - interval '1 hour'").fetchall()[0][0]
    assert await merchants.store.replay_since(place, ["payments.captured"], since) == (1, None)
    assert queued(sender_connection) == {(place.endpoint_id, events[-1].event_id)}


async def test_an_event_that_is_too_old_is_told_and_not_delivered(
    settings: Settings, merchants: Merchants, sender_connection: psycopg.Connection, logged: io.StringIO
) -> None:
    await merchants.endpoint(URL)
    merchants.owner.execute("UPDATE webhooks.endpoints SET created_at = now() - interval '1 year'")
    old = clock.now() - (settings.webhook_keep_days + 1) * _DAY
    facts = [replace(fact, occurred_at=old) for fact in captured_now()]
    in_the_books(settings, facts)
    fan_out(settings, sender_connection).write(read(public_events(facts)))
    assert queued(sender_connection) == set()
    assert "too old" in logged.getvalue()


async def test_an_instance_that_lost_its_partition_writes_nothing(
    settings: Settings, merchants: Merchants, sender_connection: psycopg.Connection
) -> None:
    await merchants.endpoint(URL)
    facts = captured_now()
    in_the_books(settings, facts)
    events = public_events(facts)
    old = fan_out(settings, sender_connection)
    fan_out(settings, sender_connection).write(read(events[:1]))
    with pytest.raises(FencedError):
        old.write(read(events))
    assert count(sender_connection, "webhooks.deliveries") == 1
    old.revoked(old.consumer, [TopicPartition(topic, 0) for topic in topics.PublicTopic])
    old.write(read(events))
    assert count(sender_connection, "webhooks.deliveries") == 1


def test_a_topic_that_was_never_read_is_read_from_the_first_record_that_it_still_has(
    settings: Settings, sender_connection: psycopg.Connection
) -> None:
    """Its earlier ones may be gone: that is no loss, nobody was there to be told."""
    first = fan_out(settings, sender_connection)
    assert {place.offset for place in first.consumer.given} == {OFFSET_BEGINNING}
    name = topics.PublicTopic.CAPTURED
    first.write([Read(name, CODEC.encode(public_events(captured_now())[-1]), 700)])
    again = fan_out(settings, sender_connection)
    assert {place.offset for place in again.consumer.given if place.topic == name} == {701}


async def test_what_cannot_be_used_is_dead_lettered_alone(
    settings: Settings, topics_there: Settings, merchants: Merchants, sender_connection: psycopg.Connection
) -> None:
    assert topics_there
    place = await merchants.endpoint(URL)
    facts, other, old_view = captured_now(), captured_now(), captured_now()
    in_the_books(settings, facts, old_view)
    merchants.owner.execute(
        "UPDATE payments.payments SET view = view - 'captures' WHERE payment_id = %s", [old_view[0].payment_id]
    )
    good, lost, unreadable = (public_events(payment)[-1] for payment in (facts, other, old_view))
    name = good.type
    wrong = [
        b"not avro",
        CODEC.encode(facts[0]),
        CODEC.encode(replace(good, event_id="x")),
        CODEC.encode(replace(good, event_id=str(uuid4()), type="payments.stolen")),
        CODEC.encode(lost),
        CODEC.encode(unreadable),
    ]
    one = fan_out(settings, sender_connection)
    one.write([Read(name, body, at) for at, body in enumerate([*wrong, CODEC.encode(good)])])
    assert queued(sender_connection) == {(place.endpoint_id, good.event_id)}
    letters = _letters(settings, topics.dlq(name), len(wrong))
    assert [letter.reason for letter in letters] == [
        "undecodable", "undecodable", "invalid", "invalid", "payment_missing", "unrenderable",
    ]  # fmt: skip
    assert [letter.value for letter in letters] == wrong


def _letters(settings: Settings, topic: str, most: int) -> list[Any]:
    """The newest records of a dead-letter topic."""
    consumer = Consumer({"bootstrap.servers": settings.kafka_bootstrap, "group.id": f"test-{uuid4()}"})
    try:
        place = TopicPartition(topic, 0)
        end = consumer.get_watermark_offsets(place, timeout=30)[1]
        consumer.assign([TopicPartition(topic, 0, max(0, end - most))])
        return [CODEC.decode(message.value()) for message in consumer.consume(most, 30)]
    finally:
        consumer.close()


ALERT = LedgerAlert(
    alert_id=ids.derive("alert"),
    account="provider_receivable:stripe:USD",
    currency="USD",
    state=AlertState.RAISED,
    balance=12_345,
    overdue=10_000,
    overdue_items=1,
    oldest_at=1_800_000_000_000,
    limit_amount=5_000,
    limit_age=3_600_000,
    raised_at=1_800_000_000_000,
    at=1_800_000_000_000,
    entries=[OpenEntry(entry_id="e", item="p", description="PaymentCaptured", amount=10_000, occurred_at=1)],
)


async def test_the_operators_endpoint_hears_of_alerts_and_nobody_else(
    settings: Settings, merchants: Merchants, sender_connection: psycopg.Connection
) -> None:
    operators = await merchants.endpoint(URL, *ALERT_TYPES, merchant=OPERATOR)
    await merchants.endpoint(URL, merchant=OPERATOR)
    await merchants.endpoint(URL)
    now = clock.now()
    raised = replace(ALERT, at=now, raised_at=now)
    ended = replace(raised, state=AlertState.ENDED, at=now + 1, overdue=0, overdue_items=0, entries=[])
    made = fan_out(settings, sender_connection)
    records: list[Any] = [
        Read(topics.ALERTS, CODEC.encode(alert), at) for at, alert in enumerate((raised, ended, raised))
    ]
    made.write(records)
    rows = sender_connection.execute(
        "SELECT d.endpoint_id::text, v.type, v.merchant_id, v.payment_id, v.body"
        "  FROM webhooks.deliveries AS d JOIN webhooks.events AS v USING (event_id) ORDER BY v.occurred_at"
    ).fetchall()
    assert [row[:4] for row in rows] == [
        (operators.endpoint_id, "ledger.alert.raised", OPERATOR, None),
        (operators.endpoint_id, "ledger.alert.ended", OPERATOR, None),
    ]
    sent = orjson.loads(bytes(rows[0][4]))
    assert sent["type"] == "ledger.alert.raised"
    assert (sent["data"]["account_id"], sent["data"]["overdue"]) == ("provider_receivable:stripe:USD", "100.00")
    assert sent["data"]["entries"][0]["amount"] == "100.00"
