"""The limit: a plain transactional consume-produce loop on the same broker, with nothing else in it."""

from __future__ import annotations

from time import perf_counter
from typing import Final

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from pipeline.kafka import consumer_config, producer_config
from pipeline.settings import Settings

RECORDS: Final = 60_000
BATCH: Final = 1_000
VALUE: Final = b"x" * 300


def plain_loop(settings: Settings, run: str) -> float:
    """Records a second through one hop: consume, produce, send offsets, commit, in batches of BATCH."""
    source, target = f"bench.{run}.in", f"bench.{run}.out"
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
    for future in admin.create_topics([NewTopic(source, 1, 1), NewTopic(target, 1, 1)]).values():
        future.result(30)
    _fill(settings, source)
    try:
        return RECORDS / _drain(settings, source, target, run)
    finally:
        admin.delete_topics([source, target])


def _fill(settings: Settings, topic: str) -> None:
    producer = Producer({**producer_config(settings, "bench"), "queue.buffering.max.messages": RECORDS})
    for _ in range(RECORDS):
        producer.produce(topic, VALUE)
    producer.flush(60)


def _drain(settings: Settings, source: str, target: str, run: str) -> float:
    consumer = Consumer(consumer_config(settings, f"bench-{run}", "bench"))
    producer = Producer(producer_config(settings, "bench", f"bench-{run}"))
    producer.init_transactions(30)
    consumer.assign([TopicPartition(source, 0, 0)])
    seen, started = 0, perf_counter()
    while seen < RECORDS:
        messages = consumer.consume(BATCH, 1.0)
        if not messages:
            continue
        producer.begin_transaction()
        for message in messages:
            producer.produce(target, message.value(), key=message.key())
        producer.send_offsets_to_transaction(
            consumer.position([TopicPartition(source, 0)]), consumer.consumer_group_metadata()
        )
        producer.commit_transaction()
        seen += len(messages)
    elapsed = perf_counter() - started
    consumer.close()
    return elapsed
