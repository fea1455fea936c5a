"""Webhooks: signed as the provider signs them, delivered in the background, retried until they are taken."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from dataclasses import dataclass, field
from time import time
from typing import Any, Final

import aiohttp
import orjson

IN_FLIGHT: Final = 32
ATTEMPTS: Final = 40
FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 10.0


@dataclass(slots=True)
class Sender:
    """Delivers events to one endpoint. Order is kept only by chance, as the provider's is."""

    url: str | None
    secret: str
    sent: int = 0
    failed: int = 0
    _queue: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Begin to deliver."""
        if self.url is None:
            return
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))
        self._tasks |= {asyncio.create_task(self._work()) for _ in range(IN_FLIGHT)}

    async def stop(self) -> None:
        """Give up what is undelivered."""
        for task in self._tasks:
            task.cancel()
        if self._session:
            await self._session.close()

    def send(self, event: dict[str, Any], delay: float = 0.0) -> None:
        """Deliver an event, now or later."""
        if self.url is None:
            return
        # Stripe's bodies are pretty-printed; the signature is over these very bytes.
        body = orjson.dumps(event, option=orjson.OPT_INDENT_2)
        if delay <= 0:
            self._queue.put_nowait(body)
            return
        task = asyncio.create_task(self._later(body, delay))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def backlog(self) -> int:
        """How many wait for a free hand."""
        return self._queue.qsize()

    async def _later(self, body: bytes, delay: float) -> None:
        await asyncio.sleep(delay)
        self._queue.put_nowait(body)

    async def _work(self) -> None:
        while True:
            await self._deliver(await self._queue.get())

    async def _deliver(self, body: bytes) -> None:
        pause = FIRST_PAUSE
        for _ in range(ATTEMPTS):
            if await self._post(body):
                self.sent += 1
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
        self.failed += 1

    async def _post(self, body: bytes) -> bool:
        assert self._session is not None
        assert self.url is not None
        headers = {"Content-Type": "application/json; charset=utf-8", "Stripe-Signature": self.signature(body)}
        try:
            async with self._session.post(self.url, data=body, headers=headers) as answer:
                await answer.read()
                return 200 <= answer.status < 300
        except (aiohttp.ClientError, TimeoutError):
            return False

    def signature(self, body: bytes, at: int | None = None) -> str:
        """`Stripe-Signature`: HMAC-SHA256 over `{t}.{body}`."""
        stamp = int(time()) if at is None else at
        mac = hmac.new(self.secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256)
        return f"t={stamp},v1={mac.hexdigest()}"
