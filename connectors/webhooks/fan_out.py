"""payments.*, ledger.alerts → deliveries: each event once for each endpoint of its merchant that chose its type.

Deliveries and the consumer's offsets are written in one Postgres transaction, under a fence: an instance that lost its
partition writes nothing. A delivery's id derives from endpoint and event, so that reading a topic again makes no
second one. What is sent is the payment as the API shows it when the event is read: as new as the event, or newer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Final
from uuid import UUID

import orjson
import psycopg
import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, Producer, TopicPartition
from psycopg import sql

from connectors.postgres.fence import Fence, Place
from connectors.webhooks import metrics
from pipeline import clock, ids, topics, views
from pipeline.codec import Codec, CodecError
from pipeline.dead_letters import Origin, Unusable, bury, dead_letter
from pipeline.domain.deliveries import ALERT_TYPES, EVENT_TYPES, Announced, Subscription, announced, subscribed
from pipeline.headers import trace_of
from pipeline.messages.clearing import LedgerAlert
from pipeline.messages.public import PaymentEvent
from pipeline.topics import PublicTopic

log = structlog.get_logger()

STAGE: Final = "webhooks"
BATCH: Final = 500
IDLE_POLL: Final = 0.25
REPORT_EVERY: Final = 5.0
_DAY: Final = 86_400_000

SOURCES: Final = (*(topic.value for topic in PublicTopic), topics.ALERTS)
_TYPES: Final = frozenset({*EVENT_TYPES, *ALERT_TYPES})


@dataclass(slots=True)
class FanOut:
    """One instance: a consumer, a connection, and the partitions it holds. `wake` is called when there is something to
    deliver.
    """

    consumer: Consumer
    connection: psycopg.Connection
    codec: Codec
    dead_letters: Producer
    wake: Callable[[], None]
    keep_days: int
    stopping: bool = False
    fence: Fence = field(init=False)
    _report_due: float = 0.0

    def __post_init__(self) -> None:
        self.fence = Fence(self.connection, sql.Identifier("webhooks", "offsets"))

    def run(self) -> None:
        """Queue deliveries until told to stop. Raises FencedError, and whatever Kafka or Postgres raise: the next
        process goes on from `webhooks.offsets`.
        """
        self.consumer.subscribe(list(SOURCES), on_assign=self.assigned, on_revoke=self.revoked)
        while not self.stopping:
            messages = self._poll()
            if messages:
                self.write(messages)
            self._report()

    def stop(self) -> None:
        """Finish the transaction under way, then end."""
        self.stopping = True

    def write(self, messages: Sequence[Message]) -> None:
        """The records' deliveries and the offsets behind them, in one transaction."""
        # A rebalance during the poll may have taken a partition whose records were already handed out.
        held = [message for message in messages if _place(message) in self.fence]
        if not held:
            return
        following = {_place(message): message.offset() + 1 for message in held}
        with self.connection.transaction():
            self.fence.advance(following)
            queued = self._queue(held)
        self.fence.advanced(following)
        if queued:
            self.wake()

    def assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Take the partitions over: a new epoch each, and on from where Postgres says; one that was never read from
        the first record that it still has.
        """
        for place in partitions:
            place.offset = self.fence.take_over((place.topic, place.partition)) or OFFSET_BEGINNING
        consumer.incremental_assign(partitions)
        log.info("partitions assigned", count=len(partitions))

    def revoked(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """They are another's."""
        for place in partitions:
            self.fence.release((place.topic, place.partition))

    def _poll(self) -> list[Message]:
        first = self.consumer.poll(IDLE_POLL)
        if first is None:
            return []
        messages = [first, *self.consumer.consume(BATCH - 1, timeout=0)]
        for message in messages:
            if error := message.error():
                raise KafkaException(error)
        return messages

    def _queue(self, messages: Sequence[Message]) -> int:
        """Write events and deliveries; returns how many deliveries are new."""
        arrived = [(message, event) for message in messages if (event := self._event(message))]
        chosen = self._subscribers(event for _, event in arrived)
        wanted = [(message, event) for message, event in arrived if chosen.get(event.event_id)]
        payments = self._payments(event.payment_id for _, event in wanted if event.payment_id)
        rows: list[tuple[Any, ...]] = []
        for message, event in wanted:
            body = self._body(message, event, payments.get(event.payment_id or ""))
            if body is not None:
                at = datetime.fromtimestamp(event.occurred_at / 1000, UTC)
                rows.append((event.event_id, event.merchant_id, event.type, event.payment_id, at, body))
        return self._insert(rows, chosen)

    def _insert(self, rows: Sequence[tuple[Any, ...]], chosen: dict[str, list[str]]) -> int:
        if not rows:
            return 0
        self.connection.execute(_INSERT_EVENTS, _columns(rows))
        deliveries = [
            (ids.delivery_id(endpoint, row[0]), endpoint, row[0]) for row in rows for endpoint in chosen[row[0]]
        ]
        made = self.connection.execute(_INSERT_DELIVERIES, _columns(deliveries)).fetchall()
        for (event_type,) in made:
            metrics.QUEUED.labels(event_type).inc()
        return len(made)

    def _event(self, message: Message) -> Announced | None:
        """The event in a record; None for one that is dead-lettered or past its time."""
        try:
            event = _checked(self.codec, message)
        except Unusable as finding:
            self._bury(message, finding)
            return None
        metrics.EVENTS.labels(event.type).inc()
        if event.occurred_at < clock.now() - self.keep_days * _DAY:
            metrics.EXPIRED.inc()
            log.warning("event too old to be delivered", event_id=event.event_id, topic=message.topic())
            return None
        return event

    def _subscribers(self, events: Iterable[Announced]) -> dict[str, list[str]]:
        """The endpoints of each event, by its id."""
        of_merchant: dict[str, list[Announced]] = defaultdict(list)
        for event in events:
            of_merchant[event.merchant_id].append(event)
        chosen: dict[str, list[str]] = defaultdict(list)
        for row in self.connection.execute(_SUBSCRIPTIONS, [list(of_merchant)]) if of_merchant else ():
            subscription = Subscription(str(row[0]), row[1], row[2], round(row[3].timestamp() * 1000))
            for event in of_merchant[subscription.merchant_id]:
                if subscribed(subscription, event) and subscription.endpoint_id not in chosen[event.event_id]:
                    chosen[event.event_id].append(subscription.endpoint_id)
        return chosen

    def _payments(self, payments: Iterable[str]) -> dict[str, bytes]:
        asked = list(set(payments))
        rows = self.connection.execute(_PAYMENTS, [asked]) if asked else ()
        return {str(payment_id): text.encode() for payment_id, text in rows}

    def _body(self, message: Message, event: Announced, view: bytes | None) -> bytes | None:
        """What is sent, and signed as it stands; None if it cannot be made."""
        try:
            data = _shown(view) if event.alert is None else views.alert(event.alert)
            return orjson.dumps({"type": event.type, "timestamp": views.time(event.occurred_at), "data": data})
        except Unusable as finding:
            self._bury(message, finding)
            return None

    def _bury(self, message: Message, finding: Unusable) -> None:
        """Delivered before the offset moves on."""
        metrics.DEAD_LETTERS.labels(finding.reason).inc()
        origin = Origin(STAGE, message.topic(), message.partition(), message.offset(), message.timestamp()[1])
        log.error("public event dead-lettered", reason=finding.reason, topic=origin.topic, offset=origin.offset)
        letter = dead_letter(origin, finding, message.key(), message.value())
        bury(self.dead_letters, self.codec, topics.dlq(origin.topic), letter, trace_of(message.headers()))

    def _report(self) -> None:
        """Set the lag, from what the consumer has heard of the logs' ends."""
        if monotonic() < self._report_due:
            return
        self._report_due = monotonic() + REPORT_EVERY
        metrics.LAG.set(self.fence.behind(self.consumer))


def _place(message: Message) -> Place:
    return message.topic(), message.partition()


def _checked(codec: Codec, message: Message) -> Announced:
    """The event in a record. Raises Unusable for whatever Postgres could not hold, too."""
    try:
        record = codec.decode(message.value())
    except CodecError as error:
        raise Unusable("undecodable", str(error)) from error
    if not isinstance(record, PaymentEvent | LedgerAlert):
        raise Unusable("undecodable", f"{type(record).__name__} is no event")
    event = announced(record)
    for text in filter(None, (event.event_id, event.payment_id)):
        if not _is_uuid(text):
            raise Unusable("invalid", "an id is no UUID")
    if event.type not in _TYPES or "\x00" in event.merchant_id or not 0 <= event.occurred_at < 2**42:
        raise Unusable("invalid", "type, merchant or time is out of range")
    return event


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _shown(view: bytes | None) -> dict[str, Any]:
    """The payment as the API shows it. Raises Unusable for one that is not there, or that cannot be rendered."""
    if view is None:
        raise Unusable("payment_missing", "the event's payment is not in the books")
    try:
        return views.intent(orjson.loads(view))
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise Unusable("unrenderable", f"the payment cannot be shown: {type(error).__name__}") from error


def _columns(rows: Iterable[Sequence[Any]]) -> list[list[Any]]:
    """Rows turned into one array a column, for unnest."""
    return [list(column) for column in zip(*rows, strict=True)]


_SUBSCRIPTIONS: Final = """
SELECT endpoint_id, merchant_id, event_types, created_at FROM webhooks.endpoints
 WHERE merchant_id = ANY (%s) AND deleted_at IS NULL
"""

_PAYMENTS: Final = "SELECT payment_id, view::text FROM payments.payments WHERE payment_id = ANY (%s::uuid[])"

_INSERT_EVENTS: Final = """
INSERT INTO webhooks.events (event_id, merchant_id, type, payment_id, occurred_at, body)
SELECT * FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::uuid[], %s::timestamptz[], %s::bytea[])
    ON CONFLICT DO NOTHING
"""

_INSERT_DELIVERIES: Final = """
WITH made AS (
    INSERT INTO webhooks.deliveries (delivery_id, endpoint_id, event_id)
    SELECT delivery_id, endpoint_id, event_id
      FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[]) AS d (delivery_id, endpoint_id, event_id)
      JOIN webhooks.endpoints AS e USING (endpoint_id)
     WHERE e.disabled_reason IS NULL
        ON CONFLICT DO NOTHING
    RETURNING event_id)
SELECT v.type FROM made JOIN webhooks.events AS v USING (event_id)
"""
