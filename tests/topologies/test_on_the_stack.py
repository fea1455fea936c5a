"""The stages as processes on the real broker and registry: exactly once under kill -9, dead letters, timers, speed."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import sleep, time
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient
from msgspec.structs import replace

from pipeline import admin, clock, ids, topics
from pipeline.domain.chain import PaymentChain
from pipeline.domain.decision import Schedule
from pipeline.domain.postings import entry_of
from pipeline.domain.timers import tier_for
from pipeline.messages import Input
from pipeline.messages.commands import Authorize, Capture, CreateIntent
from pipeline.messages.facts import Fact
from pipeline.messages.inputs import ProviderReport, TimerFired
from pipeline.messages.journal import JournalRecord
from pipeline.messages.timers import Timer
from pipeline.messages.values import (
    CaptureMethod,
    Operation,
    Outcome,
    PaymentMethod,
    ReportSource,
    TimerKind,
)
from pipeline.settings import Settings
from tests.fixtures.stack import Stack
from tests.topologies.processes import Processes, Writer, eyes_on

pytestmark = [pytest.mark.stack, pytest.mark.timeout(420)]
TIERS = [topics.tier(name) for name in topics.TIERS]


@pytest.fixture(scope="module")
def settings(stack: Stack) -> Settings:
    there = AdminClient({"bootstrap.servers": stack.settings.kafka_bootstrap}).list_topics(timeout=30).topics
    partitions = len(there[topics.INTAKE].partitions) if topics.INTAKE in there else 3
    settings = stack.settings.model_copy(update={"partitions": partitions})
    admin.apply_topics(settings)
    admin.register_schemas(settings)
    return settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stages")


@pytest.fixture
def stages(stack: Stack, settings: Settings, folder: Path) -> Iterator[Processes]:
    """State survives from test to test, as the slot and its offsets do."""
    env = {**stack.env, "PAYMENTS_PARTITIONS": str(settings.partitions), "PAYMENTS_HOME": str(folder)}
    running = Processes(settings, env, folder)
    yield running
    running.stop()


@dataclass
class Life:
    """One payment's inputs, and what the pure chain makes of them."""

    merchant: str
    number: int
    chain: PaymentChain = field(default_factory=lambda: PaymentChain(Schedule()))
    fed: Counter[str] = field(default_factory=Counter)

    @property
    def payment_id(self) -> str:
        return ids.payment_id(self.merchant, str(self.number))

    def inputs(self) -> list[Input]:
        """Created, authorized, approved, captured in two parts, with a duplicate and a command too much."""
        common: dict[str, Any] = {"payment_id": self.payment_id, "occurred_at": clock.now()}
        command: dict[str, Any] = {**common, "merchant_id": self.merchant}
        first = Capture(command_id=f"cap-{self.number}", amount=400, final=False, **command)
        return [
            CreateIntent(
                command_id=f"new-{self.number}", amount=1_000, currency="USD", provider="stripe",
                capture_method=CaptureMethod.MANUAL, payment_method=PaymentMethod(token="pm_card_visa"), **command,
            ),
            Authorize(command_id=f"auth-{self.number}", **command),
            self._approved(Operation.AUTHORIZE, ids.attempt_id(self.payment_id, 1), 1_000),
            first,
            first,
            self._approved(Operation.CAPTURE, ids.subject_id("capture", self.payment_id, first.command_id), 400),
            Capture(command_id=f"too-much-{self.number}", amount=5_000, **command),
        ]  # fmt: skip

    def _approved(self, operation: Operation, subject: str, amount: int) -> ProviderReport:
        return ProviderReport(
            payment_id=self.payment_id, occurred_at=clock.now(), report_id=f"report-{subject}", provider="stripe",
            source=ReportSource.ANSWER, operation=operation, outcome=Outcome.APPROVED, subject_id=subject,
            provider_reference=f"pi_{self.number}", amount=amount, currency="USD",
        )  # fmt: skip

    def feed(self, item: Input) -> None:
        step = self.chain.feed(item)
        self.fed.update(request.request_id for request in step.requests)
        self.fed.update(timer.timer_id for timer in step.timers)


def test_exactly_once_under_kill_9_of_every_stage(settings: Settings, stages: Processes) -> None:
    """Every fact, request, timer and journal record, once, in order, as the pure chain says; and once with the local
    state gone, so that it comes back from the changelog.
    """
    lives = [Life(f"m{uuid4().hex[:8]}", number) for number in range(300)]
    keys = {life.payment_id.encode() for life in lives}
    writer = Writer(settings)
    with eyes_on(settings, topics.EVENTS, topics.JOURNAL, topics.requests("stripe"), *TIERS) as eyes:
        stages.start("authorization", "capture", "ledger")
        _feed(writer, lives[:100])
        eyes.wait(topics.EVENTS, 1, keys)
        victims = ["authorization", "capture", "ledger", "authorization", "capture"]
        for round_, victim in enumerate(victims):
            stages[victim].kill()
            if round_ >= 3:
                stages.wipe_state(victim)
            stages[victim].start()
            _feed(writer, lives[100 + 40 * round_ : 140 + 40 * round_])
            sleep(2.5)
        facts = {life.payment_id: life.chain.facts for life in lives}
        total = sum(map(len, facts.values()))
        journal = eyes.wait(topics.JOURNAL, total, keys)
        sleep(1)
        events = eyes.of(topics.EVENTS, keys)
        journal = eyes.of(topics.JOURNAL, keys)
        others = [*eyes.of(topics.requests("stripe"), keys), *(s for tier in TIERS for s in eyes.of(tier, keys))]
    assert stages["authorization"].stop() == stages["capture"].stop() == stages["ledger"].stop() == 0

    by_payment: dict[str, list[Fact]] = defaultdict(list)
    for seen in events:
        by_payment[seen.record.payment_id].append(seen.record)
    assert by_payment == facts
    _check_journal([seen.record for seen in journal], facts)
    written = Counter(getattr(seen.record, "request_id", None) or seen.record.timer_id for seen in others)
    assert written == sum((life.fed for life in lives), Counter())


def _feed(writer: Writer, lives: list[Life]) -> None:
    """The payments' inputs, interleaved as in real life."""
    for items in zip(*(life.inputs() for life in lives), strict=True):
        for life, item in zip(lives, items, strict=True):
            life.feed(item)
            writer.send(item)
        sleep(0.2)
    writer.flush()


def _check_journal(journal: list[JournalRecord], facts: dict[str, list[Fact]]) -> None:
    by_payment: dict[str, list[JournalRecord]] = defaultdict(list)
    for record in journal:
        by_payment[record.payment_id].append(record)
    for payment, expected in facts.items():
        assert [record.fact_id for record in by_payment[payment]] == [fact.fact_id for fact in expected]
        assert [record.entry for record in by_payment[payment]] == [entry_of(fact) for fact in expected]


def test_dead_letters_and_only_they_leave_the_chain(settings: Settings, stages: Processes) -> None:
    writer, life = Writer(settings), Life(f"m{uuid4().hex[:8]}", 1)
    create = life.inputs()[0]
    assert isinstance(create, CreateIntent)
    key = life.payment_id.encode()
    marks = [f"junk-{uuid4()}".encode() for _ in range(3)]
    with eyes_on(settings, topics.INTAKE, topics.dlq(topics.COMMANDS), topics.dlq(topics.INTAKE)) as eyes:
        stages.start("intake", "authorization")
        writer.send_raw(topics.COMMANDS, marks[0], marks[0])
        writer.send_raw(topics.COMMANDS, writer.codec.encode(create), marks[1])
        writer.send_raw(topics.INTAKE, marks[2], marks[2])
        writer.send(create, topics.COMMANDS)
        writer.flush()
        (passed,) = eyes.wait(topics.INTAKE, 1, {key})
        commands = eyes.wait(topics.dlq(topics.COMMANDS), 2, {marks[0], marks[1]})
        intake = eyes.wait(topics.dlq(topics.INTAKE), 1, {marks[2]})
    assert {seen.key: (seen.record.stage, seen.record.reason) for seen in [*commands, *intake]} == {
        marks[0]: ("intake", "undecodable"),
        marks[1]: ("intake", "key_mismatch"),
        marks[2]: ("authorization", "undecodable"),
    }
    assert intake[0].record.value == marks[2]
    assert passed.record == replace(create, occurred_at=passed.record.occurred_at)
    assert 0 <= passed.timestamp - passed.record.occurred_at < 60_000, "dated by the broker, just before"


def test_timers_fire_once_when_due_never_early_over_kill_9(settings: Settings, stages: Processes) -> None:
    writer, timers = Writer(settings), [_timer(random.Random(number).uniform(1, 12)) for number in range(2_000)]
    keys = {timer.payment_id.encode() for timer in timers}
    with eyes_on(settings, topics.INTAKE) as eyes:
        stages.start("relay")
        for timer in timers:
            writer.send(timer, topics.tier(tier_for(timer.due_at - clock.now())))
        writer.flush()
        for _ in range(2):
            sleep(4)
            stages["relay"].kill()
            stages["relay"].start()
        eyes.wait(topics.INTAKE, len(timers), keys)
        sleep(1)
        fired = eyes.of(topics.INTAKE, keys)
    due = {timer.timer_id: timer.due_at for timer in timers}
    assert all(isinstance(seen.record, TimerFired) for seen in fired)
    assert Counter(seen.record.timer_id for seen in fired) == Counter(due.keys())
    assert all(seen.record.occurred_at >= due[seen.record.timer_id] for seen in fired)


def test_a_timer_fires_promptly(settings: Settings, stages: Processes) -> None:
    writer = Writer(settings)
    with eyes_on(settings, topics.INTAKE) as eyes:
        stages.start("relay")
        first = _timer(1)
        writer.send(first, topics.tier("1s"))
        eyes.wait(topics.INTAKE, 1, {first.payment_id.encode()})
        timers = []
        for number in range(200):
            timers.append(_timer(1 + number % 20 / 10))
            writer.send(timers[-1], topics.tier(tier_for(timers[-1].due_at - clock.now())))
            sleep(0.02)
        writer.flush()
        keys = {timer.payment_id.encode() for timer in timers}
        fired = eyes.wait(topics.INTAKE, len(timers), keys)
    due = {timer.timer_id: timer.due_at for timer in timers}
    late = sorted(seen.at * 1_000 - due[seen.record.timer_id] for seen in fired)
    print(f"\ntimers of 1-3 s, late by ms: p50 {late[100]:.0f}, p99 {late[198]:.0f}, max {late[-1]:.0f}")
    assert len(late) == 200
    assert late[0] >= 0, "none early"


def _timer(seconds: float) -> Timer:
    now, payment = clock.now(), str(uuid4())
    return Timer(
        timer_id=f"timer-{payment}", payment_id=payment, kind=TimerKind.RETRY, subject_id="attempt",
        operation=Operation.AUTHORIZE, generation=0, set_at=now, due_at=now + round(seconds * 1_000),
    )  # fmt: skip


def test_two_hops_at_100_a_second(settings: Settings, stages: Processes) -> None:
    """Authorization and capture, both exactly once with state: from the input to the committed fact."""
    writer, sent = Writer(settings), {}
    merchant = f"m{uuid4().hex[:8]}"
    with eyes_on(settings, topics.EVENTS) as eyes:
        stages.start("authorization", "capture")
        warm = Life(merchant, -1)
        writer.send(warm.inputs()[0])
        eyes.wait(topics.EVENTS, 1, {warm.payment_id.encode()})
        begun = time()
        for number in range(1_000):
            sleep(max(0.0, begun + number / 100 - time()))
            life = Life(merchant, number)
            writer.send(life.inputs()[0])
            sent[life.payment_id.encode()] = time()
        writer.flush()
        seen = eyes.wait(topics.EVENTS, len(sent), set(sent))
    took = sorted((record.at - sent[record.key]) * 1_000 for record in seen if record.key is not None)
    print(f"\ntwo hops at 100/s, ms: p50 {took[500]:.0f}, p99 {took[990]:.0f}, max {took[-1]:.0f}")
    assert len(took) == 1_000


def test_a_stage_that_cannot_start_says_so_and_exits(settings: Settings, stages: Processes, tmp_path: Path) -> None:
    policy = tmp_path / "retry.toml"
    policy.write_text("jitter = 2")
    stages.start("retry", PAYMENTS_RETRY_POLICY=str(policy))
    assert stages["retry"].wait(60) != 0
    assert "PolicyError" in stages["retry"].log.read_text()


def test_a_second_instance_takes_over_partitions_with_their_state(settings: Settings, stages: Processes) -> None:
    """Payments begun by one instance are carried on by two; each fact is written once. Last, for a static member's
    partitions are free only after its session timeout.
    """
    lives = [Life(f"m{uuid4().hex[:8]}", number) for number in range(100)]
    keys = {life.payment_id.encode() for life in lives}
    writer = Writer(settings)
    scripts = [life.inputs() for life in lives]
    with eyes_on(settings, topics.AUTHORIZATIONS) as eyes:
        stages.start("authorization")
        expected = _play(writer, lives, [script[:2] for script in scripts])
        eyes.wait(topics.AUTHORIZATIONS, expected, keys)
        second = Processes(settings, stages.env, stages.folder / "second")
        second.folder.mkdir()
        second.start("authorization", PAYMENTS_SLOT="second")
        expected += _play(writer, lives, [script[2:4] for script in scripts])
        _wait_for_state(second)
        expected += _play(writer, lives, [script[4:7] for script in scripts])
        eyes.wait(topics.AUTHORIZATIONS, expected, keys)
        sleep(1)
        passed = eyes.of(topics.AUTHORIZATIONS, keys)
        assert second["authorization"].stop() == 0
    assert len(passed) == expected
    facts = Counter(seen.record.fact_id for seen in passed if isinstance(seen.record, Fact))
    assert set(facts.values()) == {1}


def _wait_for_state(instance: Processes) -> None:
    """Until the instance has taken partitions over, with their state."""
    deadline = time() + 60
    while not any((instance.state / "authorization").rglob("CURRENT")):
        assert time() < deadline, "the second instance gets no partitions"
        sleep(0.1)


def _play(writer: Writer, lives: list[Life], scripts: list[list[Input]]) -> int:
    """Send each life its inputs; returns how many records the authorization stage must pass on."""
    passed = 0
    for life, script in zip(lives, scripts, strict=True):
        for item in script:
            passed += len(life.chain.feed(item).authorizations)
            writer.send(item)
    writer.flush()
    return passed
