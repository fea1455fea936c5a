"""How a provider's call fares before and after the provider works on it: what all simulated providers do alike."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from connectors.simulator.exchange import Exchange
from connectors.simulator.faults import NOTHING, Kind, Met

HANG_SECONDS = 120.0
"""How long an answer that never comes keeps the connection, unless the fault says."""


class Course:
    """One call's way: its connection, its faults, and the time in which others worked."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.met: Met = NOTHING
        self.asked = 0.0
        self.others = 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """While it waits, others work: none of its own time."""
        clock, cpu = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            self.asked += time.perf_counter() - clock
            self.others += time.thread_time() - cpu

    async def wait(self, latency_ms: float) -> None:
        """The latency that was asked for."""
        fault = self.met.call
        more = fault.seconds if fault is not None and fault.kind is Kind.LATENCY else 0.0
        seconds = latency_ms / 1000 + more
        if seconds > 0:
            with self.waiting():
                await asyncio.sleep(seconds)

    @property
    def is_lost_before(self) -> bool:
        """Whether the request never reaches the provider."""
        return self.met.is_call(Kind.RESET_BEFORE, Kind.TIMEOUT_BEFORE)

    @property
    def is_lost_after(self) -> bool:
        """Whether the answer never reaches the caller."""
        return self.met.is_call(Kind.RESET_AFTER, Kind.TIMEOUT_AFTER)

    async def lose(self) -> None:
        """Reset the connection, at once or after it hung for as long as the fault says."""
        if self.met.is_call(Kind.TIMEOUT_BEFORE, Kind.TIMEOUT_AFTER):
            fault = self.met.call
            with self.waiting():
                await self.exchange.hang(fault.seconds if fault is not None else HANG_SECONDS)
        else:
            await self.exchange.reset()
