"""The worker on a real Kafka, against the simulator: one report a request and one charge, whatever dies."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from connectors.feed import Partition
from connectors.provider import Answer
from connectors.stripe.client import StripeProvider
from connectors.worker import Job, Lanes, Pace, Worker, rates
from pipeline import admin, topics
from pipeline.codec import Codec, Registry, UnregisteredContractError
from pipeline.headers import headers_of, trace_of
from pipeline.kafka import producer_config
from pipeline.messages import Record
from pipeline.messages.deadletters import DeadLetter
from pipeline.messages.inputs import ProviderReport, TimerFired
from pipeline.messages.requests import REQUESTS, ProviderRequest
from pipeline.messages.values import Operation, Outcome, ReportSource, TimerKind
from pipeline.settings import Settings
from tests.connectors import requests
from tests.connectors.simulators import KEY, Simulator, simulator
from tests.fixtures.stack import Stack

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass(slots=True)
class Bench:
    """A provider's requests topic of the test's own, and what is reported from now on."""

    name: str
    settings: Settings
    env: dict[str, str]
    codec: Codec
    _producer: Producer = field(init=False)
    _reader: Consumer = field(init=False)

    def __post_init__(self) -> None:
        self._producer = Producer(producer_config(self.settings, "test"))
        self._reader = self._at_the_end(topics.INTAKE)

    @property
    def topic(self) -> str:
        return topics.requests(self.name)

    def send(self, *sent: ProviderRequest) -> None:
        for request in sent:
            self.send_raw(request.payment_id, self.codec.encode(request), headers_of(request, "test", TRACE))
        assert self._producer.flush(10) == 0

    def send_raw(self, key: str, value: bytes, headers: Any = None) -> None:
        self._producer.produce(self.topic, value, key, headers=headers)
        self._producer.flush(10)

    def reports(self, count: int, seconds: float = 90.0) -> list[ProviderReport]:
        """The next `count` different reports of this provider, in their order per payment."""
        found: dict[str, ProviderReport] = {}
        for record, headers in self._read(self._reader, seconds, lambda: len(found) >= count):
            if isinstance(record, ProviderReport) and record.provider == self.name:
                found.setdefault(record.report_id, record)
                assert trace_of(headers) == TRACE
        assert len(found) >= count, f"{len(found)} of {count} reports after {seconds} s"
        return list(found.values())

    def dead_letters(self, count: int, seconds: float = 20.0) -> list[DeadLetter]:
        reader = self._at_the_end(topics.dlq(self.topic), back=count)
        found: list[DeadLetter] = []
        for record, _ in self._read(reader, seconds, lambda: len(found) >= count):
            assert isinstance(record, DeadLetter)
            found.append(record)
        return found

    def lag(self) -> int:
        """Requests whose offsets are not committed."""
        consumer = Consumer({"bootstrap.servers": self.settings.kafka_bootstrap, "group.id": self.group})
        try:
            places = consumer.committed([TopicPartition(self.topic, n) for n in range(PARTITIONS)], timeout=10)
            ends = [consumer.get_watermark_offsets(place, timeout=10)[1] for place in places]
            return sum(end - max(place.offset, 0) for place, end in zip(places, ends, strict=True))
        finally:
            consumer.close()

    @property
    def group(self) -> str:
        return admin.group(f"worker-{self.name}")

    def close(self) -> None:
        self._reader.close()
        AdminClient({"bootstrap.servers": self.settings.kafka_bootstrap}).delete_topics(
            [self.topic, topics.dlq(self.topic)]
        )

    def _at_the_end(self, topic: str, back: int = 0) -> Consumer:
        reader = Consumer(
            {
                "bootstrap.servers": self.settings.kafka_bootstrap,
                "group.id": f"test-{uuid4()}",
                "enable.auto.commit": False,
            }
        )
        numbers = reader.list_topics(topic, timeout=10).topics[topic].partitions
        places = [TopicPartition(topic, number) for number in numbers]
        for place in places:
            first, last = reader.get_watermark_offsets(place, timeout=10)
            place.offset = first if back else last
        reader.assign(places)
        return reader

    def _read(self, reader: Consumer, seconds: float, enough: Any) -> Iterator[tuple[Record, Any]]:
        deadline = time.monotonic() + seconds
        while not enough() and time.monotonic() < deadline:
            message = reader.poll(0.2)
            if message is not None and message.error() is None:
                yield self.codec.decode(message.value()), message.headers()


PARTITIONS = 3


@pytest.fixture(scope="module")
def prepared(stack: Stack) -> Stack:
    """The stack with the catalogue's topics and contracts."""
    settings = stack.settings
    client = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
    if topics.INTAKE not in client.list_topics(timeout=10).topics:
        admin.apply_topics(settings)
    try:
        Codec(Registry(settings.registry_url)).require(*REQUESTS, ProviderReport, DeadLetter, TimerFired)
    except UnregisteredContractError:
        admin.register_schemas(settings)
    return stack


@pytest.fixture
def bench(prepared: Stack) -> Iterator[Bench]:
    name = f"test{uuid4().hex[:8]}"
    settings = prepared.settings
    client = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
    new = [NewTopic(topics.requests(name), PARTITIONS), NewTopic(topics.dlq(topics.requests(name)), 1)]
    for made in client.create_topics(new).values():
        made.result(20)
    made_bench = Bench(name, settings, prepared.env, Codec(Registry(settings.registry_url)))
    yield made_bench
    made_bench.close()


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with simulator() as running:
        yield running


class Watched:
    """Stripe's edge, counting what is under way."""

    def __init__(self, provider: StripeProvider, name: str) -> None:
        self.name = name
        self._provider = provider
        self.under_way: Counter[str] = Counter()
        self.most_of_one = 0
        self.most = 0

    async def call(self, request: ProviderRequest) -> Answer:
        self.under_way[request.payment_id] += 1
        self.most_of_one = max(self.most_of_one, self.under_way[request.payment_id])
        self.most = max(self.most, self.under_way.total())
        try:
            return await self._provider.call(request)
        finally:
            self.under_way[request.payment_id] -= 1

    async def close(self) -> None:
        await self._provider.close()


@asynccontextmanager
async def working(bench: Bench, url: str, pace: Pace | None = None) -> AsyncIterator[Watched]:
    """A worker on this loop."""
    provider = Watched(StripeProvider(url, KEY), bench.name)
    worker = Worker(bench.settings, provider, pace or Pace())
    running = asyncio.create_task(worker.run())
    try:
        yield provider
    finally:
        worker.stop()
        await asyncio.wait_for(running, 15)


@contextmanager
def process(bench: Bench, url: str, slot: str = "0", patience: float = 20.0) -> Iterator[subprocess.Popen[bytes]]:
    """A worker as a process of its own."""
    command = [sys.executable, "-m", "tests.connectors.worker_process", bench.name, url, str(patience)]
    env = {**os.environ, **bench.env, "PAYMENTS_SLOT": slot}
    running = subprocess.Popen(command, env=env)
    try:
        yield running
    finally:
        running.kill()
        running.wait()


def authorizations(bench: Bench, count: int, token: str = "pm_card_visa") -> list[Any]:
    return [requests.authorize(token, manual=False, provider=bench.name) for _ in range(count)]


@pytest.mark.stack
async def test_each_request_is_one_report_in_the_payments_own_order(bench: Bench, sim: Simulator) -> None:
    payments = [requests.authorize("pm_card_visa", provider=bench.name).payment_id for _ in range(40)]
    sent = [
        requests.authorize("pm_card_visa", provider=bench.name, payment_id=payment)
        for _ in range(5)
        for payment in payments
    ]
    sim.fault("latency", "authorize", count=None, seconds=0.02)
    async with working(bench, sim.url) as watched:
        bench.send(*sent)
        reports = await asyncio.to_thread(bench.reports, len(sent))
    asked, answered = defaultdict(list), defaultdict(list)
    for request in sent:
        asked[request.payment_id].append(request.subject_id)
    for report in reports:
        answered[report.payment_id].append(report.subject_id)
        assert (report.source, report.operation) == (ReportSource.ANSWER, Operation.AUTHORIZE)
        assert report.outcome is Outcome.APPROVED
    assert answered == asked
    assert watched.most_of_one == 1
    assert watched.most > 10, "payments do not wait for one another"
    for payment in payments:
        assert [page["attempt_id"] for page in sim.book(payment)] == asked[payment]
    assert bench.lag() == 0


@pytest.mark.stack
async def test_what_is_no_request_goes_to_the_dead_letters_and_stops_nothing(bench: Bench, sim: Simulator) -> None:
    timer = TimerFired(
        payment_id=str(uuid4()),
        occurred_at=1,
        timer_id="t",
        kind=TimerKind.RETRY,
        subject_id="s",
        operation=Operation.AUTHORIZE,
        generation=1,
        due_at=1,
    )
    stranger = requests.authorize("pm_card_visa", provider="adyen")
    good = authorizations(bench, 1)[0]
    async with working(bench, sim.url):
        bench.send_raw("a", b"garbage")
        bench.send_raw("b", bench.codec.encode(timer))
        bench.send_raw("c", bench.codec.encode(stranger))
        bench.send(good)
        (report,) = await asyncio.to_thread(bench.reports, 1)
        letters = await asyncio.to_thread(bench.dead_letters, 3)
    assert report.subject_id == good.subject_id
    assert {letter.reason for letter in letters} == {"undecodable", "unexpected_record", "wrong_provider"}
    assert {letter.value for letter in letters} >= {b"garbage"}
    assert bench.lag() == 0


@pytest.mark.stack
async def test_a_rate_limit_is_repeated_here_and_not_reported(bench: Bench, sim: Simulator) -> None:
    sim.fault("rate_limit", "authorize", count=2)
    async with working(bench, sim.url):
        bench.send(*authorizations(bench, 1))
        (report,) = await asyncio.to_thread(bench.reports, 1)
    assert report.outcome is Outcome.APPROVED


@pytest.mark.stack
async def test_a_providers_rate_is_kept_and_delays_nobody_for_good(bench: Bench, sim: Simulator) -> None:
    """As many as the rate at once, the rest at the rate: 30 calls at 10 a second take 2 seconds and no less."""
    async with working(bench, sim.url, Pace(rate=10.0)):
        began = time.monotonic()
        bench.send(*authorizations(bench, 30))
        reports = await asyncio.to_thread(bench.reports, 30)
    assert time.monotonic() - began >= 2.0
    assert {report.outcome for report in reports} == {Outcome.APPROVED}


def test_rates_are_checked_at_the_start() -> None:
    assert rates("stripe=90, adyen=2.5") == {"stripe": 90.0, "adyen": 2.5}
    assert rates("") == {}
    for wrong in ("nobody=5", "stripe", "stripe=many", "stripe=0", "stripe=-1", "stripe=nan"):
        with pytest.raises(ValueError, match="provider_rates"):
            rates(wrong)


@pytest.mark.stack
async def test_a_provider_that_is_down_costs_nobody_a_charge_or_a_report(bench: Bench) -> None:
    """More requests than fit into the worker, and nobody there; then the provider comes back."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    sent = authorizations(bench, 400)
    async with working(bench, f"http://127.0.0.1:{port}"):
        bench.send(*sent)
        await asyncio.sleep(3)
        with simulator(port=port) as back:
            reports = await asyncio.to_thread(bench.reports, len(sent))
            outcomes = Counter(report.outcome for report in reports)
            charged = len(back.whole_book())
    assert {report.subject_id for report in reports} == {request.subject_id for request in sent}
    assert set(outcomes) <= {Outcome.APPROVED, Outcome.TEMPORARY_FAILURE}
    assert outcomes[Outcome.APPROVED] > 200, "only those called before the breaker opened are given up"
    assert charged == outcomes[Outcome.APPROVED]
    assert bench.lag() == 0


@pytest.mark.stack
def test_sigterm_finishes_what_is_under_way(bench: Bench, sim: Simulator) -> None:
    sim.fault("latency", "authorize", count=None, seconds=2.0)
    sent = authorizations(bench, 20)
    with process(bench, sim.url) as worker:
        bench.send(*sent)
        _until(lambda: sim.calls() >= 20)
        worker.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert worker.wait(10) == 0
        assert time.monotonic() - began < 10
    assert {r.subject_id for r in bench.reports(20)} == {request.subject_id for request in sent}
    assert bench.lag() == 0


@pytest.mark.stack
@pytest.mark.faults
def test_kill_in_the_middle_of_a_call_charges_once(bench: Bench, sim: Simulator) -> None:
    sim.fault("timeout_after", "authorize", count=30, seconds=60)
    sent = authorizations(bench, 30)
    with process(bench, sim.url) as worker:
        bench.send(*sent)
        _until(lambda: len(sim.whole_book()) == len(sent))
        worker.kill()
    sim.heal()
    assert bench.lag() == 30, "nothing is committed before its report is safe"
    with process(bench, sim.url):
        reports = bench.reports(30)
        _until(lambda: bench.lag() == 0)
    assert {report.outcome for report in reports} == {Outcome.APPROVED}
    for request in sent:
        (page,) = sim.book(request.payment_id)
        assert (page["captured"], page["attempt_id"]) == (1_050, request.subject_id)


@pytest.mark.stack
@pytest.mark.faults
def test_after_a_crash_a_provider_that_is_gone_is_not_proof_that_nothing_was_done(bench: Bench, sim: Simulator) -> None:
    sim.fault("timeout_after", "authorize", count=5, seconds=60)
    sent = authorizations(bench, 5)
    with process(bench, sim.url) as worker:
        bench.send(*sent)
        _until(lambda: len(sim.whole_book()) == len(sent))
        worker.kill()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with process(bench, f"http://127.0.0.1:{nobody.getsockname()[1]}", patience=2.0):
            charged = bench.reports(5)
            fresh = authorizations(bench, 1)[0]
            bench.send(fresh)
            (never_sent,) = [r for r in bench.reports(1) if r.subject_id == fresh.subject_id]
            again = requests.again(authorizations(bench, 1)[0])
            bench.send(again)
            (sent_again,) = [r for r in bench.reports(1) if r.subject_id == again.subject_id]
    assert {report.outcome for report in charged} == {Outcome.UNKNOWN}
    assert never_sent.outcome is Outcome.TEMPORARY_FAILURE
    assert sent_again.outcome is Outcome.UNKNOWN, "the look-up that found nothing may have been wrong"


@pytest.mark.stack
@pytest.mark.faults
def test_partitions_that_change_hands_lose_and_double_nothing(bench: Bench, sim: Simulator) -> None:
    sim.fault("latency", "authorize", count=None, seconds=0.05)
    sent = authorizations(bench, 1_500)
    with process(bench, sim.url, slot="0") as first:
        bench.send(*sent[:500])
        with process(bench, sim.url, slot="1") as second:
            bench.send(*sent[500:1_000])
            _until(lambda: bench.lag() < 900)
            first.kill()
            first.wait()
            bench.send(*sent[1_000:])
            with process(bench, sim.url, slot="0"):
                reports = bench.reports(1_500)
                second.send_signal(signal.SIGTERM)
                assert second.wait(10) == 0
                _until(lambda: bench.lag() == 0, seconds=30)
    assert {report.subject_id for report in reports} == {request.subject_id for request in sent}
    assert {report.outcome for report in reports} == {Outcome.APPROVED}
    pages = sim.whole_book()
    assert Counter(page["attempt_id"] for page in pages) == Counter(request.subject_id for request in sent)


# The pure parts


def test_offsets_advance_over_what_is_done_without_a_gap() -> None:
    partition = Partition("t", 0, fence=0)
    for offset in (5, 6, 9, 10):  # transaction markers take offsets, too
        partition.enter(offset)
    assert partition.finish(6) is None
    assert partition.finish(10) is None
    assert partition.finish(5) == 7
    assert partition.finish(9) == 11


def test_a_lane_lets_one_pass_at_a_time() -> None:
    partition, lanes = Partition("t", 0, fence=0), Lanes()
    first, second, third = (
        Job(requests.void("pi", payment_id="p"), partition, n, None, perhaps_sent=False) for n in range(3)
    )
    other = Job(requests.void("pi", payment_id="q"), partition, 3, None, perhaps_sent=False)
    assert [lanes.enter(job) for job in (first, second, other, third)] == [True, False, True, False]
    assert lanes.leave(first) is second
    assert lanes.leave(second) is third
    assert lanes.leave(third) is None
    assert lanes.enter(first)


def _until(so: Any, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not so():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.1)
