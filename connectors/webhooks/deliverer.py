"""Deliveries that are due → requests to merchants' endpoints → what came of them.

Many requests are under way, few of them to one endpoint: a slow one delays only itself. Nothing is remembered here
that is not in Postgres.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from time import perf_counter
from typing import Final

import psycopg
import structlog

from connectors.webhooks import metrics
from connectors.webhooks.sender import Sender
from connectors.webhooks.store import Claim, Store
from pipeline import clock
from pipeline.domain.deliveries import AttemptError, Outcome, judge
from pipeline.domain.signing import signature_header
from pipeline.sealing import Sealer, SealError
from pipeline.settings import Settings

log = structlog.get_logger()

POLL: Final = 0.5
"""Seconds between two looks for what is due, while nothing wakes the loop."""
LEASE: Final = 3.0
"""A lease, in timeouts: the answer, and the time to write it down."""


class Deliverer:
    """Makes attempts until it is told to stop. Create it on the loop that it runs on."""

    def __init__(self, settings: Settings, store: Store, sender: Sender, sealer: Sealer) -> None:
        self._settings = settings
        self._store = store
        self._sender = sender
        self._sealer = sealer
        self._each = max(1, settings.webhook_endpoint_concurrency // 2)
        self._lease = LEASE * settings.webhook_timeout
        self._wake = asyncio.Event()
        self._under_way: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._held_back = False
        self._stopping = False

    async def run(self) -> None:
        """Deliver. Raises what Postgres raised: what is under way is due again when its lease is over."""
        try:
            while not self._stopping:
                self._wake.clear()
                if not await self._start_due():
                    await self._rest()
                if self._failure is not None:
                    raise self._failure
        finally:
            await self._finish()

    def wake(self) -> None:
        """There may be something due."""
        self._wake.set()

    def stop(self) -> None:
        """Begin nothing more; end when what is under way has ended."""
        self._stopping = True
        self._wake.set()

    async def _start_due(self) -> int:
        """Begin an attempt for what is due and has room; returns how many."""
        free = self._settings.webhook_concurrency - len(self._tasks)
        limit = self._settings.webhook_endpoint_concurrency - self._each
        busy = [endpoint for endpoint, count in self._under_way.items() if count > limit]
        self._held_back = free <= 0 or bool(busy)
        claims = await self._store.claim(free, self._each, self._lease, busy) if free > 0 else []
        for claim in claims:
            self._under_way[claim.endpoint_id] += 1
            task = asyncio.create_task(self._deliver(claim))
            self._tasks.add(task)
            task.add_done_callback(lambda done, claim=claim: self._ended(done, claim))  # type: ignore[misc]
        metrics.IN_FLIGHT.set(len(self._tasks))
        return len(claims)

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(POLL):
                await self._wake.wait()
        except TimeoutError:
            return

    def _ended(self, task: asyncio.Task[None], claim: Claim) -> None:
        self._tasks.discard(task)
        self._under_way[claim.endpoint_id] -= 1
        if not self._under_way[claim.endpoint_id]:
            del self._under_way[claim.endpoint_id]
        metrics.IN_FLIGHT.set(len(self._tasks))
        if not task.cancelled() and (error := task.exception()):
            self._failure = error
        if self._held_back or self._failure:
            self._wake.set()

    async def _finish(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._settings.webhook_timeout + 1)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _deliver(self, claim: Claim) -> None:
        begun = perf_counter()
        try:
            outcome = await self._attempt(claim)
        except (asyncio.CancelledError, psycopg.Error):
            raise
        except Exception:
            log.exception("an attempt failed here", **_ids(claim))
            outcome = Outcome(error=AttemptError.INTERNAL)
        metrics.ATTEMPT_SECONDS.observe(perf_counter() - begun)
        metrics.ATTEMPTS.labels(_result(outcome)).inc()
        await self._record(claim, outcome)

    async def _attempt(self, claim: Claim) -> Outcome:
        secrets = self._open(claim)
        if not secrets:
            return Outcome(error=AttemptError.INTERNAL)
        now = clock.real() // 1000  # a receiver checks it by its own clock
        headers = {
            "Content-Type": "application/json",
            "webhook-id": claim.event_id,
            "webhook-timestamp": str(now),
            "webhook-signature": signature_header(secrets, claim.event_id, now, claim.body),
        }
        return await self._sender.send(claim.url, headers, claim.body)

    def _open(self, claim: Claim) -> list[bytes]:
        """The endpoint's secrets, the newest first; one that cannot be opened does not keep the others from signing."""
        opened = []
        for sealed in claim.secrets:
            try:
                opened.append(self._sealer.open(sealed, claim.endpoint_id))
            except SealError as error:
                metrics.UNREADABLE.inc()
                log.error("a signing secret cannot be opened", reason=str(error), **_ids(claim))
        return opened

    async def _record(self, claim: Claim, outcome: Outcome) -> None:
        scale = self._settings.webhook_retry_scale
        verdict = judge(claim.delivery_id, claim.tries, claim.failing_for, outcome, scale)
        disabled = await self._store.record(claim, outcome, verdict)
        if not outcome.delivered:
            log.info("webhook not delivered", result=_result(outcome), attempt=claim.number, **_ids(claim))
        if disabled is not None:
            metrics.DISABLED.labels(disabled).inc()
            log.warning("webhook endpoint disabled", reason=disabled, **_ids(claim))


def _ids(claim: Claim) -> dict[str, str]:
    return {"endpoint_id": claim.endpoint_id, "delivery_id": claim.delivery_id, "event_id": claim.event_id}


def _result(outcome: Outcome) -> str:
    """An outcome as a metric's label."""
    return outcome.error or f"{(outcome.status or 0) // 100}xx"
