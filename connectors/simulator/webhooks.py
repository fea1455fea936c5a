"""Deliveries: every one signed when it is sent, retried with growing pauses until a 2xx, disturbed on request."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, Protocol

import aiohttp
import structlog

from connectors.simulator.faults import Fault, Kind
from connectors.simulator.settings import DeliverySettings

log = structlog.get_logger()

_LATEST: Final = 1000
BEFORE_ANSWER_SECONDS: Final = 5.0
"""How long an answer waits at most for webhooks that are to come before it."""


class Endpoint(Protocol):
    """Where a provider's webhooks go, and how that provider signs and what it takes for an acknowledgement."""

    url: str

    def headers(self, body: bytes) -> Mapping[str, str]:
        """The headers of one attempt, signature included."""

    def accepts(self, status: int, body: bytes) -> bool:
        """Whether the answer acknowledges the delivery."""


class Delivery:
    """One webhook on its way. `body` is made when it is sent: most never need a second attempt. `most_attempts` is the
    provider's own limit, below that of the settings.
    """

    __slots__ = ("attempts", "body", "ended", "endpoint", "event_id", "event_type", "most_attempts", "run")

    def __init__(
        self,
        endpoint: Endpoint,
        event_id: str,
        event_type: str,
        body: Callable[[], bytes],
        most_attempts: int | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.event_id = event_id
        self.event_type = event_type
        self.body = body
        self.most_attempts = most_attempts
        self.attempts = 0
        self.run = 0
        self.ended: asyncio.Event | None = None

    def again(self) -> Delivery:
        """The same event once more."""
        return Delivery(self.endpoint, self.event_id, self.event_type, self.body, self.most_attempts)


class Deliverer:
    """Sends deliveries, many at a time over one session."""

    def __init__(self, settings: DeliverySettings, seed: int | None = None) -> None:
        self._settings = settings
        self._random = random.Random(seed)
        self._queue: asyncio.Queue[Delivery] = asyncio.Queue()
        self._session: aiohttp.ClientSession | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._run = 0
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._counts: Counter[str] = Counter()
        self._latest: list[dict[str, Any]] = []

    # What others ask of it

    def send(self, deliveries: Sequence[Delivery], faults: Sequence[Fault] = ()) -> None:
        """Send a call's webhooks, as far as its webhook faults let them."""
        if not faults:
            for delivery in deliveries:
                self._enqueue(delivery)
            return
        left = self._kept(deliveries, faults)
        reverse = [d for d in left if _any(faults, Kind.WEBHOOK_DISORDER, d)]
        if reverse:
            self._spawn(self._one_by_one(self._opened(reverse[::-1])))
        for delivery in left:
            if delivery in reverse:
                continue
            pause = _pause(faults, delivery)
            if pause:
                self._after(pause, self._opened([delivery])[0])
            else:
                self._enqueue(delivery)

    async def send_before_answer(self, deliveries: Sequence[Delivery], faults: Sequence[Fault]) -> None:
        """Send those webhooks that are to come before the answer, and wait until each is acknowledged."""
        first = self._kept([d for d in deliveries if _any(faults, Kind.WEBHOOK_FIRST, d)], faults)
        for delivery in first:
            delivery.ended = asyncio.Event()
            self._enqueue(delivery)
        waits = [delivery.ended.wait() for delivery in first if delivery.ended]
        if waits:
            await asyncio.wait([asyncio.ensure_future(w) for w in waits], timeout=BEFORE_ANSWER_SECONDS)
        rest = [d for d in deliveries if not _any(faults, Kind.WEBHOOK_FIRST, d)]
        self.send(rest, faults)

    async def drain(self, seconds: float) -> bool:
        """Wait until nothing is on its way, retries included; whether it came to that."""
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def reset(self) -> None:
        """Forget everything that is on its way."""
        self._run += 1
        self._open = 0
        self._idle.set()
        self._counts.clear()
        self._latest.clear()

    async def close(self) -> None:
        """Stop sending."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def report(self) -> dict[str, Any]:
        """Counts, and the last attempts: event, type, attempt, status (0: no answer)."""
        return {**self.counts(), "refused": self._counts["refused"], "latest": self._latest[-_LATEST:]}

    def counts(self) -> dict[str, int]:
        """How many deliveries arrived, were given up, were never to be sent, and are on their way, retries included."""
        counts = self._counts
        return {
            "webhooks_sent": counts["delivered"],
            "webhooks_failed": counts["given_up"],
            "webhooks_never": counts["never_sent"],
            "webhooks_waiting": self._open,
        }

    # The way of a delivery

    def _kept(self, deliveries: Sequence[Delivery], faults: Sequence[Fault]) -> list[Delivery]:
        """Without those that are never sent, and with the duplicates."""
        kept = []
        for delivery in deliveries:
            if _any(faults, Kind.WEBHOOK_NEVER, delivery):
                self._counts["never_sent"] += 1
                continue
            kept.append(delivery)
            times = [f.times for f in faults if f.kind is Kind.WEBHOOK_DUPLICATE and f.about(delivery.event_type)]
            kept += [delivery.again() for _ in range(max(times, default=1) - 1)]
        return kept

    def _opened(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Count them as on their way."""
        for delivery in deliveries:
            delivery.run = self._run
        self._open += len(deliveries)
        self._idle.clear()
        return deliveries

    def _enqueue(self, delivery: Delivery) -> None:
        self._start()
        self._opened([delivery])
        self._queue.put_nowait(delivery)

    def _after(self, seconds: float, delivery: Delivery) -> None:
        self._start()
        asyncio.get_running_loop().call_later(seconds, self._queue.put_nowait, delivery)

    def _start(self) -> None:
        if self._session is not None:
            return
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._settings.concurrency, keepalive_timeout=60),
            timeout=aiohttp.ClientTimeout(total=self._settings.timeout_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )
        for _ in range(self._settings.concurrency):
            self._spawn(self._work())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self) -> None:
        while True:
            delivery = await self._queue.get()
            await self._attempt(delivery)

    async def _one_by_one(self, deliveries: Sequence[Delivery]) -> None:
        self._start()
        for delivery in deliveries:
            await self._attempt(delivery)

    async def _attempt(self, delivery: Delivery) -> None:
        if delivery.run != self._run:
            return
        delivery.attempts += 1
        status, accepted = await self._post(delivery)
        if delivery.run != self._run:
            return
        self._note(delivery, status, accepted)
        if accepted or delivery.attempts >= (delivery.most_attempts or self._settings.attempts):
            self._counts["given_up"] += not accepted
            self._end(delivery)
        else:
            self._after(self._retry_pause(delivery.attempts), delivery)

    async def _post(self, delivery: Delivery) -> tuple[int, bool]:
        assert self._session is not None
        body = delivery.body()
        endpoint = delivery.endpoint
        try:
            async with self._session.post(
                endpoint.url, data=body, headers=endpoint.headers(body), allow_redirects=False
            ) as response:
                answer = await response.read()
                return response.status, endpoint.accepts(response.status, answer)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0, False

    def _end(self, delivery: Delivery) -> None:
        self._open -= 1
        if self._open == 0:
            self._idle.set()
        if delivery.ended is not None:
            delivery.ended.set()

    def _note(self, delivery: Delivery, status: int, accepted: bool) -> None:
        counts = self._counts
        counts["attempts"] += 1
        counts["delivered" if accepted else "refused"] += 1
        if not accepted:
            log.debug("webhook not accepted", event_type=delivery.event_type, attempt=delivery.attempts, status=status)
        if len(self._latest) >= 2 * _LATEST:
            del self._latest[:_LATEST]
        self._latest.append(
            {"id": delivery.event_id, "type": delivery.event_type, "attempt": delivery.attempts, "status": status}
        )

    def _retry_pause(self, attempts: int) -> float:
        grown: float = self._settings.first_retry_seconds * 2 ** min(attempts - 1, 20)
        return min(grown, self._settings.longest_retry_seconds) * self._random.uniform(0.8, 1.2)


def _any(faults: Sequence[Fault], kind: Kind, delivery: Delivery) -> bool:
    return any(fault.kind is kind and fault.about(delivery.event_type) for fault in faults)


def _pause(faults: Sequence[Fault], delivery: Delivery) -> float:
    """Seconds that a delivery waits."""
    waits = (f.seconds for f in faults if f.kind is Kind.WEBHOOK_DELAY and f.about(delivery.event_type))
    return max(waits, default=0.0)
