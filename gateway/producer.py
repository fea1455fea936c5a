"""Records onto Kafka, each awaited until every in-sync replica has it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Final

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from gateway.problems import Problem, unavailable
from pipeline.headers import Headers
from pipeline.kafka import producer_config
from pipeline.settings import Settings

log = structlog.get_logger()

DELIVERY_MS: Final = 8_000
"""Below the idempotency lease: a record that may still arrive later is the same command under the same id."""
_POLL_SECONDS: Final = 0.1

Delivered = asyncio.Future[None]
_Report = tuple[Delivered, KafkaError | None]


class AsyncProducer:
    """An idempotent producer for one event loop.

    `produce` only enqueues, so it is called on the loop itself. A thread serves the delivery reports and hands them to
    the loop a batch at a time: one wake-up for many records. (confluent-kafka's own experimental AIOProducer takes no
    headers and adds a thread hop per batch of its own timing.)
    """

    def __init__(self, settings: Settings, client_id: str = "gateway") -> None:
        self._config = {
            **producer_config(settings, client_id),
            "delivery.timeout.ms": DELIVERY_MS,
            "logger": _quiet_logger(),
        }
        self._producer = Producer(self._config)
        self._reports: list[_Report] = []
        self._stop = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin serving delivery reports on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._serve, name="delivery-reports", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Deliver what is enqueued, then stop."""
        await asyncio.to_thread(self._flush)
        self._stop.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, 2.0)

    async def send(self, topic: str, key: str | bytes, value: bytes, headers: Headers) -> None:
        """Deliver one record with acks=all. Raises Problem `unavailable`: then it may or may not be there."""
        assert self._loop is not None
        delivered: Delivered = self._loop.create_future()
        try:
            self._producer.produce(topic, value, key, headers=headers, on_delivery=self._on_delivery(delivered))
        except BufferError:
            raise unavailable("kafka") from None
        except KafkaException as error:
            self._renew_if_dead(error.args[0])
            raise unavailable("kafka") from error
        await delivered

    def partitions_of(self, topic: str, timeout: float) -> int:
        """How many partitions the topic has, by asking a broker; 0 if there is no such topic. Blocks. Raises
        KafkaException.
        """
        found = self._producer.list_topics(topic, timeout=timeout).topics.get(topic)
        return len(found.partitions) if found is not None and found.error is None else 0

    def _on_delivery(self, delivered: Delivered) -> Callable[[KafkaError | None, Message], None]:
        def report(error: KafkaError | None, _message: Message) -> None:
            self._reports.append((delivered, error))

        return report

    def _serve(self) -> None:
        while not self._stop.is_set():
            self._producer.poll(_POLL_SECONDS)
            if self._reports:
                self._hand_over()

    def _hand_over(self) -> None:
        assert self._loop is not None
        reports, self._reports = self._reports, []
        try:
            self._loop.call_soon_threadsafe(self._resolve, reports)
        except RuntimeError:  # the loop is closed: nobody waits any more
            log.warning("delivery reports after the end", count=len(reports))

    def _resolve(self, reports: list[_Report]) -> None:
        for delivered, error in reports:
            if error is not None:
                self._renew_if_dead(error)
            if delivered.done():
                continue
            if error is None:
                delivered.set_result(None)
            else:
                delivered.set_exception(_failure(error))

    def _renew_if_dead(self, error: KafkaError) -> None:
        """After a fatal error an idempotent producer refuses everything: begin again with a new one (a new epoch)."""
        if error.fatal() or error.code() == KafkaError._FATAL:
            log.error("the producer is dead and is renewed", error=error.name())
            self._producer = Producer(self._config)

    def _flush(self) -> None:
        left = self._producer.flush(DELIVERY_MS / 1000 + 1)
        if left:
            log.error("records were not delivered before the end", count=left)


def _failure(error: KafkaError) -> Problem:
    log.error("a record was not delivered", error=error.name())
    return unavailable("kafka")


def _quiet_logger() -> logging.Logger:
    """librdkafka's own log lines, through ours."""
    return logging.getLogger("librdkafka")
