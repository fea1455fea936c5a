"""The gateway's reader of the log: one for all requests."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from confluent_kafka import KafkaException

from gateway import problems
from gateway.problems import Problem, unavailable
from pipeline.codec import Codec, Registry
from pipeline.history import Found, History, Known
from pipeline.settings import Settings

SECONDS: Final = 8.0
"""How long the log is read for one answer; what was not found by then is said to be missing."""
WAITING: Final = 8
"""Requests that may wait for the reader."""


class Timelines:
    """Reads one timeline at a time, off the loop: it is for people, and must not keep payments waiting."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._one = asyncio.Lock()
        self._waiting = 0
        self._history: History | None = None

    async def read(self, payment_id: str, known: Sequence[Known]) -> Found:
        """What the log holds. Raises Problem `overloaded`, `unavailable`."""
        if self._waiting >= WAITING:
            raise Problem(problems.OVERLOADED, headers={"Retry-After": "2"})
        self._waiting += 1
        try:
            async with self._one:
                return await asyncio.to_thread(self._read, payment_id, known)
        except KafkaException:
            await asyncio.to_thread(self.close)
            raise unavailable("kafka") from None
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._history is not None:
            self._history.close()
            self._history = None

    def _read(self, payment_id: str, known: Sequence[Known]) -> Found:
        if self._history is None:
            # A codec of its own: it works in another thread.
            self._history = History(self._settings, Codec(Registry(self._settings.registry_url)))
        return self._history.read(payment_id, known, SECONDS)
