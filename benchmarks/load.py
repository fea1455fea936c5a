"""Load over HTTP: payments created, authorized and captured, as a merchant's backend would, from one process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from statistics import quantiles
from time import perf_counter
from typing import Any

import aiohttp

BODY = {"amount": "10.00", "currency": "USD", "provider": "stripe", "payment_method": {"token": "pm_card_visa"}}
WAIT = {"Prefer": "wait=20"}


@dataclass(slots=True)
class Result:
    """What a run came to. Latencies in seconds: from `authorize` sent to `authorized` readable."""

    started: int = 0
    captured: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    payments: list[str] = field(default_factory=list)

    def percentile(self, percent: int) -> float:
        """A percentile of the latencies, in milliseconds."""
        return quantiles(self.latencies, n=100)[percent - 1] * 1000 if len(self.latencies) > 1 else 0.0

    def failed(self, what: str) -> None:
        """Count a call that did not do what it should."""
        self.errors[what] = self.errors.get(what, 0) + 1


@dataclass(slots=True)
class Load:
    """A client of the API under `run`, a name that makes its idempotency keys its own."""

    base: str
    key: str
    run: str

    def closed(self, workers: int, seconds: float) -> Result:
        """`workers` payments under way at any time."""
        return asyncio.run(self._session(lambda session, result: self._closed(session, result, workers, seconds)))

    def open(self, rate: float, seconds: float, capture: bool) -> Result:
        """`rate` payments a second, whatever becomes of them."""
        return asyncio.run(self._session(lambda session, result: self._open(session, result, rate, seconds, capture)))

    async def _session(self, play: Callable[[aiohttp.ClientSession, Result], Awaitable[None]]) -> Result:
        result = Result()
        headers = {"Authorization": f"Bearer {self.key}"}
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(self.base, headers=headers, connector=connector) as session:
            started = perf_counter()
            await play(session, result)
            result.seconds = perf_counter() - started
        return result

    async def _closed(self, session: aiohttp.ClientSession, result: Result, workers: int, seconds: float) -> None:
        until = perf_counter() + seconds

        async def work() -> None:
            while perf_counter() < until:
                await self._payment(session, result, capture=True)

        await asyncio.gather(*(work() for _ in range(workers)))

    async def _open(
        self, session: aiohttp.ClientSession, result: Result, rate: float, seconds: float, capture: bool
    ) -> None:
        begin, tasks = perf_counter(), set()
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, begin + number / rate - perf_counter()))
            tasks.add(asyncio.create_task(self._payment(session, result, capture)))
        await asyncio.gather(*tasks)

    async def _payment(self, session: aiohttp.ClientSession, result: Result, capture: bool) -> None:
        result.started += 1
        number = result.started
        created = await self._call(session, "/api/v1/intents", f"{number}-c", BODY, {})
        if created is None or created[0] != 201:
            return result.failed(f"create {created[0] if created else 'no answer'}")
        payment = created[1]["payment_id"]
        asked = perf_counter()
        done = await self._call(session, f"/api/v1/intents/{payment}/authorize", f"{number}-a", {}, WAIT)
        if done is None or done[0] != 200:
            return result.failed(f"authorize {done[0] if done else 'no answer'}")
        result.latencies.append(perf_counter() - asked)
        result.payments.append(payment)
        if not capture:
            return None
        taken = await self._call(session, f"/api/v1/intents/{payment}/capture", f"{number}-x", {}, {})
        if taken is None or taken[0] != 202:
            return result.failed(f"capture {taken[0] if taken else 'no answer'}")
        result.captured += 1
        return None

    async def _call(
        self, session: aiohttp.ClientSession, path: str, key: str, body: Mapping[str, Any], headers: dict[str, str]
    ) -> tuple[int, dict[str, str]] | None:
        given = {"Idempotency-Key": f"{self.run}-{key}", **headers}
        try:
            async with session.post(path, json=body, headers=given) as answer:
                return answer.status, await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError):
            return None
