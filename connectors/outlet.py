"""Records onto Kafka from an event loop, each with a callback once every in-sync replica has it."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from pipeline.headers import Headers
from pipeline.kafka import producer_config
from pipeline.settings import Settings

log = structlog.get_logger()

_POLL: Final = 0.5


class Outlet:
    """An idempotent producer. A thread serves the acknowledgements and hands them to the loop a batch at a time.

    `fail` is called on the loop when a record was not delivered: whoever wrote it must not go on as if it were.
    """

    def __init__(self, settings: Settings, client_id: str, fail: Callable[[BaseException], None]) -> None:
        self._producer = Producer(producer_config(settings, client_id))
        self._fail = fail
        self._loop = asyncio.get_running_loop()
        self._delivered: deque[Callable[[], None]] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outlet", daemon=True)
        self._thread.start()

    def send(
        self, topic: str, key: bytes | str | None, value: bytes, headers: Headers, then: Callable[[], None]
    ) -> None:
        """Write a record; `then` is called on the loop when it is there. Raises BufferError, KafkaException."""

        def delivered(error: KafkaError | None, _message: Message) -> None:
            if error is None:
                self._delivered.append(then)
            else:
                self._call(self._fail, KafkaException(error))

        self._producer.produce(topic, value, key, headers=headers, on_delivery=delivered)

    def close(self, timeout: float) -> None:
        """Deliver what is written, for at most `timeout` seconds, then stop. Blocks; not on the loop's thread."""
        left = self._producer.flush(timeout)
        self._stop.set()
        self._thread.join()
        if left:
            log.warning("reports were not delivered before the end; their calls will be repeated", count=left)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._producer.poll(_POLL)
            self._hand_over()
        self._hand_over()

    def _hand_over(self) -> None:
        batch = [self._delivered.popleft() for _ in range(len(self._delivered))]
        if batch:
            self._call(_each, batch)

    def _call(self, callback: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            log.warning("the loop has ended before the producer")


def _each(callbacks: list[Callable[[], None]]) -> None:
    for callback in callbacks:
        callback()
