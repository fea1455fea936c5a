"""Client configuration that every process shares. See the transaction and partitioner traps in docs/decisions/."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from confluent_kafka import Consumer, Message, TopicPartition

from pipeline import clock
from pipeline.settings import Settings

_AT_ONCE: Final = 2_000


def producer_config(settings: Settings, client_id: str, transactional_id: str | None = None) -> dict[str, Any]:
    """A producer that loses nothing: idempotent, acks=all, and on the partition that Java and quixstreams would
    choose.
    """
    config: dict[str, Any] = {
        "bootstrap.servers": settings.kafka_bootstrap,
        "client.id": client_id,
        "enable.idempotence": True,
        "acks": "all",
        "partitioner": "murmur2_random",
        "linger.ms": 2,
        "retry.backoff.ms": 10,
        "retry.backoff.max.ms": 500,
        "compression.type": settings.compression,
    }
    if transactional_id is None:
        return config
    # A fixed id fences the dead predecessor at once; the timeout stays below the session timeout (FACTS).
    return {**config, "transactional.id": transactional_id, "transaction.timeout.ms": 10_000}


def consumer_config(settings: Settings, group: str, client_id: str) -> dict[str, Any]:
    """A consumer that reads committed records only, commits nothing by itself, and is loud about lost retention."""
    return {
        "bootstrap.servers": settings.kafka_bootstrap,
        "client.id": client_id,
        "group.id": group,
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        # The broker answers as soon as there is something; a short wait only makes idle consumers ask in vain.
        "fetch.wait.max.ms": 500,
        "session.timeout.ms": 45_000,
        "partition.assignment.strategy": "cooperative-sticky",
    }


def read_topic(settings: Settings, topic: str, since: datetime | None) -> Iterable[Message]:
    """The committed records of a topic from a time on, up to its end as it is now."""
    consumer = Consumer({**consumer_config(settings, "scan", "scan"), "enable.partition.eof": True})
    try:
        places = [TopicPartition(topic, p) for p in consumer.list_topics(topic, 10).topics[topic].partitions]
        for place in places:
            place.offset = clock.machine_time(int(since.timestamp() * 1000)) - 60_000 if since else 0
        starts = consumer.offsets_for_times(places, 10) if since else places
        ends = 0
        consumer.assign(starts)
        while ends < len(starts):
            for message in consumer.consume(_AT_ONCE, 1.0):
                if message.error():
                    ends += 1
                else:
                    yield message
    finally:
        consumer.close()
