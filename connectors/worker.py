"""The provider worker: requests from Kafka, calls to one provider, reports back onto `payments.intake`.

Many calls are in flight, one a payment, in the order of the payment's requests. A request is done when its report is
acknowledged by every in-sync replica, and only then is its offset committed. A crash between call and report repeats
the call under the same idempotency key: the same call to the provider, and the same report to us.

TEMPORARY_FAILURE tells the pipeline that nothing was done, so that it may try another way. This worker says so only of
a request that it knows to be its own first and only call: any that may have been sent before is UNKNOWN instead.
"""

from __future__ import annotations

import asyncio
import random
import re
import signal
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import msgspec
import structlog
import uvloop
from aiolimiter import AsyncLimiter
from confluent_kafka import Message
from prometheus_client import Counter, Gauge, Histogram

from connectors.accounts import open_accounts
from connectors.breaker import Breaker, BreakerPolicy, BreakerState
from connectors.feed import Batch, Feed, Partition
from connectors.outlet import Outlet
from connectors.provider import Answer, Provider, operation_of, report_of
from pipeline import admin, clock, ids, metrics, topics
from pipeline.codec import Codec, CodecError, Registry
from pipeline.dead_letters import Origin, Unusable, dead_letter, dead_letter_headers
from pipeline.headers import headers_of, trace_of
from pipeline.logging import configure
from pipeline.messages.deadletters import DeadLetter
from pipeline.messages.inputs import ProviderReport
from pipeline.messages.requests import LookupRequest, ProviderRequest
from pipeline.messages.values import Outcome
from pipeline.settings import Settings, listed

log = structlog.get_logger()

CALLS: Final = Counter(
    "payments_provider_calls_total", "Calls to a provider, by outcome", ["provider", "operation", "outcome"]
)
CALL_SECONDS: Final = Histogram(
    "payments_provider_call_seconds",
    "Time a call took",
    ["provider", "operation"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
REPEATS: Final = Counter("payments_provider_repeats_total", "Calls made again under the same key", ["provider"])
IN_FLIGHT: Final = Gauge("payments_provider_in_flight", "Calls under way", ["provider"])
WAITING: Final = Gauge("payments_provider_waiting", "Requests taken from Kafka and not yet done", ["provider"])
BREAKER: Final = Gauge("payments_provider_breaker", "0 closed, 1 half open, 2 open", ["provider"])

_BREAKER_TICK: Final = 0.2
_LONGEST_BACK_OFF: Final = 5.0
_BACKLOG: Final = 4
"""Requests taken from Kafka per call in flight, at most."""
_DRAIN: Final = 7.5
_FLUSH: Final = 1.5
_BREAKER_VALUES: Final = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}


@dataclass(frozen=True, slots=True)
class Pace:
    """How hard the worker tries before it reports that nothing was done. Seconds.

    A failed call is repeated after `back_off`, twice that, and so on. `patience` is how long a request waits for a
    provider that is down, over all its tries. `rate`: calls a second at most, as many at once after a pause; None is no
    limit.
    """

    tries: int = 3
    back_off: float = 0.2
    patience: float = 20.0
    rate: float | None = None
    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)


@dataclass(slots=True)
class Job:
    """A request on its way. `perhaps_sent`: an earlier process may have made the call."""

    request: ProviderRequest
    partition: Partition
    offset: int
    trace: str | None
    perhaps_sent: bool


class Lanes:
    """One lane a payment: who enters an occupied one waits behind the others."""

    def __init__(self) -> None:
        self._behind: dict[str, deque[Job]] = {}

    def enter(self, job: Job) -> bool:
        """Whether the job may go at once."""
        behind = self._behind.get(job.request.payment_id)
        if behind is None:
            self._behind[job.request.payment_id] = deque()
            return True
        behind.append(job)
        return False

    def leave(self, job: Job) -> Job | None:
        """The job is out of the way; the next one of its payment, if any."""
        behind = self._behind[job.request.payment_id]
        if behind:
            return behind.popleft()
        del self._behind[job.request.payment_id]
        return None


class Worker:
    """One provider's worker. Create it on the loop that it runs on."""

    def __init__(self, settings: Settings, provider: Provider, pace: Pace | None = None) -> None:
        self._provider = provider
        self._pace = pace or Pace()
        self.stage = f"worker-{provider.name}"
        self._concurrency = settings.provider_concurrency
        self._codec = Codec(Registry(settings.registry_url)).require(ProviderReport, DeadLetter)
        self._breaker = Breaker(self._pace.breaker)
        self._rate = AsyncLimiter(self._pace.rate, 1.0) if self._pace.rate else None
        self._lanes = Lanes()
        self._ready: asyncio.Queue[Job] = asyncio.Queue()
        self._waiting = 0
        self._active = 0
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._outlet = Outlet(settings, self.stage, self._fail)
        self._feed = Feed(
            settings,
            topics.requests(provider.name),
            admin.group(self.stage),
            take=self._take,
            fail=self._fail,
        )
        self._export()

    async def run(self) -> None:
        """Serve until `stop`. Raises what made serving impossible."""
        runners = [asyncio.create_task(self._runner()) for _ in range(self._concurrency)]
        for runner in runners:
            runner.add_done_callback(self._runner_ended)
        self._feed.start()
        self._regulate()
        log.info("worker started", provider=self._provider.name, concurrency=self._concurrency)
        try:
            await self._ended
        finally:
            await self._shut_down(runners)

    def stop(self) -> None:
        """Take no more requests; finish those under way."""
        if not self._ended.done():
            self._ended.set_result(None)

    def _fail(self, error: BaseException) -> None:
        log.error("the worker cannot go on", error=str(error))
        if not self._ended.done():
            self._ended.set_exception(error)

    def _runner_ended(self, runner: asyncio.Task[None]) -> None:
        """No runner ends by itself: a report that cannot be written must not be taken for one that is."""
        if not runner.cancelled() and (error := runner.exception()):
            self._fail(error)

    async def _shut_down(self, runners: list[asyncio.Task[None]]) -> None:
        self._stopping = True
        self._feed.shut()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), _DRAIN)
        for runner in runners:
            runner.cancel()
        await asyncio.gather(*runners, return_exceptions=True)
        # Acknowledgements come back over the loop, and the offsets they allow must be stored before the group is left.
        await asyncio.to_thread(self._outlet.close, _FLUSH)
        await asyncio.sleep(0)
        await asyncio.to_thread(self._feed.close)
        await self._provider.close()
        log.info("worker stopped", provider=self._provider.name, unfinished=self._waiting)

    # Requests in

    def _take(self, batch: Batch) -> None:
        metrics.RECORDS_IN.labels(self.stage).inc(len(batch))
        for partition, message in batch:
            partition.enter(message.offset())
            self._waiting += 1
            try:
                job = self._job(partition, message)
            except Unusable as finding:
                self._bury(partition, message, finding)
                continue
            if self._lanes.enter(job):
                self._ready.put_nowait(job)
        self._regulate()

    def _job(self, partition: Partition, message: Message) -> Job:
        try:
            request = self._codec.decode(message.value())
        except CodecError as error:
            raise Unusable("undecodable", str(error)) from error
        if not isinstance(request, ProviderRequest):
            raise Unusable("unexpected_record", f"{type(request).__name__} is no provider request")
        if request.provider != self._provider.name:
            raise Unusable("wrong_provider", f"a request to {request.provider}")
        offset = message.offset()
        return Job(request, partition, offset, trace_of(message.headers()), offset < partition.fence)

    # Calls

    async def _runner(self) -> None:
        while True:
            job = await self._ready.get()
            if self._stopping or not job.partition.live:
                # Not started, not done: whoever holds the partition next takes it again.
                self._waiting -= 1
                self._regulate()
            else:
                await self._serve(job)
            following = self._lanes.leave(job)
            if following is not None:
                self._ready.put_nowait(following)

    async def _serve(self, job: Job) -> None:
        self._activate(job.partition, 1)
        try:
            answer = await self._answer(job)
        except asyncio.CancelledError:
            self._activate(job.partition, -1)
            raise
        self._report(job, answer)

    async def _answer(self, job: Job) -> Answer:
        """The answer to report, after repeats where the provider allows them."""
        perhaps_sent = job.perhaps_sent or _is_sent_again(job.request)
        answer = _NOT_ASKED
        deadline = time.monotonic() + self._pace.patience
        for attempt in range(1, self._pace.tries + 1):
            if self._rate is not None:
                await self._rate.acquire()
            if not await self._admitted(deadline):
                break
            answer = await self._call(job.request)
            perhaps_sent = perhaps_sent or answer.outcome is Outcome.UNKNOWN
            if not answer.repeat or attempt == self._pace.tries:
                break
            REPEATS.labels(self._provider.name).inc()
            await asyncio.sleep(_back_off(self._pace.back_off * 2 ** (attempt - 1), answer))
        if answer.outcome is Outcome.TEMPORARY_FAILURE and (perhaps_sent or isinstance(job.request, LookupRequest)):
            return msgspec.structs.replace(answer, outcome=Outcome.UNKNOWN)
        return answer

    async def _admitted(self, deadline: float) -> bool:
        """Wait for a provider that is down, as long as patience lasts."""
        while not self._breaker.admit():
            if self._stopping:
                # Neither asked nor given up: the next process takes the request again.
                raise asyncio.CancelledError
            pause = max(self._breaker.wait, _BREAKER_TICK)
            if time.monotonic() + pause > deadline:
                return False
            await asyncio.sleep(pause)
        return True

    async def _call(self, request: ProviderRequest) -> Answer:
        name, operation = self._provider.name, operation_of(request)
        self._calls += 1
        began = time.perf_counter()
        try:
            answer = await self._provider.call(request)
        except asyncio.CancelledError:
            self._breaker.abandon()
            raise
        except Exception as error:
            # A bug of ours. The call may have been made, and one bad request must not stop all others.
            log.exception("a provider's edge failed", request_id=request.request_id)
            answer = Answer(outcome=Outcome.UNKNOWN, detail=f"internal: {type(error).__name__}")
        finally:
            self._calls -= 1
            CALL_SECONDS.labels(name, operation.value).observe(time.perf_counter() - began)
        CALLS.labels(name, operation.value, answer.outcome.value).inc()
        self._observe(answer)
        if answer.outcome in _REMARKABLE:
            log.warning(
                "call without an outcome",
                payment_id=request.payment_id,
                request_id=request.request_id,
                operation=operation,
                outcome=answer.outcome,
                detail=answer.detail,
            )
        return answer

    def _observe(self, answer: Answer) -> None:
        before = self._breaker.state
        self._breaker.record(answer.reachable)
        if self._breaker.state is not before:
            log.warning("circuit breaker", provider=self._provider.name, state=self._breaker.state)
            self._regulate()

    # Records out

    def _report(self, job: Job, answer: Answer) -> None:
        report = report_of(job.request, answer, clock.now())
        headers = headers_of(report, self.stage, job.trace)

        def then() -> None:
            self._activate(job.partition, -1)
            self._done(topics.INTAKE, job.partition, job.offset)

        self._outlet.send(topics.INTAKE, report.payment_id, self._codec.encode(report), headers=headers, then=then)

    def _bury(self, partition: Partition, message: Message, finding: Unusable) -> None:
        """A record that is no request goes to the dead letters, whole."""
        offset, trace = message.offset(), trace_of(message.headers())
        origin = Origin(self.stage, partition.topic, partition.number, offset, message.timestamp()[1])
        letter = dead_letter(origin, finding, message.key(), message.value())
        metrics.DEAD_LETTERS.labels(self.stage, finding.reason).inc()
        log.warning("request dead-lettered", reason=finding.reason, partition=partition.number, offset=offset)
        self._outlet.send(
            topics.dlq(partition.topic),
            letter.key,
            self._codec.encode(letter),
            headers=dead_letter_headers(letter, trace),
            then=lambda: self._done(topics.dlq(partition.topic), partition, offset),
        )

    def _done(self, topic: str, partition: Partition, offset: int) -> None:
        metrics.RECORDS_OUT.labels(self.stage, topic).inc()
        self._feed.done(partition, offset)
        self._waiting -= 1
        self._regulate()

    # Back-pressure

    def _activate(self, partition: Partition, change: int) -> None:
        self._active += change
        partition.active += change
        if self._active:
            self._idle.clear()
        else:
            self._idle.set()

    def _regulate(self) -> None:
        """Fetch while there is room. From a provider that is down, no more than the one request that asks for it."""
        if self._stopping:
            self._feed.shut()
        elif self._breaker.state is BreakerState.CLOSED and self._waiting < self._concurrency * _BACKLOG:
            self._feed.open(self._concurrency)
        elif self._waiting == 0:
            self._feed.open(1)
        else:
            self._feed.shut()

    def _export(self) -> None:
        """Gauges are read when somebody asks."""
        name = self._provider.name
        IN_FLIGHT.labels(name).set_function(lambda: self._calls)
        WAITING.labels(name).set_function(lambda: self._waiting)
        BREAKER.labels(name).set_function(lambda: _BREAKER_VALUES[self._breaker.state])


_NOT_ASKED: Final = Answer(outcome=Outcome.TEMPORARY_FAILURE, detail="the provider is down: not asked", reachable=False)
_REMARKABLE: Final = {Outcome.UNKNOWN, Outcome.TEMPORARY_FAILURE}


def _is_sent_again(request: ProviderRequest) -> bool:
    """Whether a look-up that found nothing made the pipeline send it again: the first call may have been made."""
    return request.request_id != ids.request_id(request.subject_id, type(request).__name__, 0)


def _back_off(pause: float, answer: Answer) -> float:
    """The pause, with jitter, and first as long as the provider asks for, within reason."""
    asked = min(answer.retry_after or 0.0, _LONGEST_BACK_OFF)
    return asked + pause * random.uniform(0.5, 1.0)  # noqa: S311 - no secret depends on it


def rates(text: str) -> dict[str, float]:
    """Calls a second by provider, of a setting such as `stripe=90,paypal=25`. Raises ValueError."""
    return dict(map(_rate, listed(text)))


def _rate(part: str) -> tuple[str, float]:
    name, _, rate = part.partition("=")
    if name not in topics.PROVIDERS:
        raise ValueError(f"provider_rates: no provider is called {name!r}")
    if not re.fullmatch(r"[1-9][0-9]{0,5}(\.[0-9]{1,3})?", rate, re.ASCII):
        raise ValueError(f"provider_rates: {part!r} names no rate of at least one call a second, such as {name}=90")
    return name, float(rate)


async def serve(settings: Settings, provider: Provider, pace: Pace | None = None) -> None:
    """Serve a provider's requests until SIGTERM or SIGINT, then finish within 10 seconds.

    Raises AdminError for missing topics, UnregisteredContractError for missing contracts, KafkaException when a report
    cannot be delivered.
    """
    source = topics.requests(provider.name)
    await asyncio.to_thread(admin.require_topics, settings, [source, topics.dlq(source), topics.INTAKE])
    worker = Worker(settings, provider, pace)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    await worker.run()


def run(settings: Settings, provider: str) -> None:
    """Run a provider's worker in this process. Raises UnknownProviderError, AccountsError, and what `serve` raises."""
    configure(f"worker-{provider}")
    metrics.serve(settings)

    pace = Pace(rate=rates(settings.provider_rates).get(provider))

    async def main() -> None:
        await serve(settings, open_accounts(provider, settings), pace)

    uvloop.run(main())
