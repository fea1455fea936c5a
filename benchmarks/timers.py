"""`python -m benchmarks.timers`: a million timers wait in the delay tiers, some fall due, and the relay is killed.

Kafka, the registry and the relay are the real ones. What must come out: every timer that fell due fired exactly once
and never early, every other one still waits, unchanged; and the relay's memory does not know how many wait. Figures go
to `.local/bench-timers.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from time import monotonic, perf_counter, sleep
from typing import Any, Final

import psutil
from confluent_kafka import Consumer, Producer, TopicPartition
from rich.console import Console
from rich.table import Table

from pipeline import admin, clock, ids, topics
from pipeline.codec import Codec, Registry
from pipeline.domain.timers import tier_for
from pipeline.headers import headers_of
from pipeline.kafka import consumer_config, producer_config
from pipeline.messages.inputs import TimerFired
from pipeline.messages.timers import Timer
from pipeline.messages.values import Operation, TimerKind
from pipeline.settings import PROJECT, Settings
from pipeline.stack.local import LocalStack
from topologies.timers_cli import TierReader

console = Console()
HOUR: Final = 3_600_000
DAY: Final = 24 * HOUR
LEAD: Final = 15_000
"""Milliseconds from writing the due timers to when the first of them is due."""


def main() -> None:
    """Bring a stack up, measure, take it down."""
    given = _arguments()
    home = PROJECT / ".local" / "bench-timers"
    os.environ["PAYMENTS_HOME"] = str(home)
    stack = LocalStack(home)
    stack.down(wipe=True)
    with stack:
        report = _measure(_settings(stack, given.partitions), home, given)
    _print(report)
    target = PROJECT / ".local" / "bench-timers.json"
    target.write_text(json.dumps(report, indent=2) + "\n")
    console.print(f"as JSON: {target}")
    if not report["exact"]:
        sys.exit("timers were lost, doubled, early or changed")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pending", type=int, default=1_000_000, help="timers due in an hour to 30 days")
    parser.add_argument("--due", type=int, default=20_000, help="timers that fall due during the run")
    parser.add_argument("--over", type=float, default=60, help="seconds over which they fall due")
    parser.add_argument("--partitions", type=int, default=4, help="partitions a topic")
    return parser.parse_args()


def _settings(stack: LocalStack, partitions: int) -> Settings:
    names: dict[str, Any] = {name.removeprefix("PAYMENTS_").lower(): value for name, value in stack.env().items()}
    settings = Settings(_env_file=None, **names, partitions=partitions)
    admin.register_schemas(settings)
    admin.apply_topics(settings)
    return settings


def _measure(settings: Settings, home: Path, given: argparse.Namespace) -> dict[str, Any]:
    report: dict[str, Any] = {"pending": given.pending, "due": given.due, "over_seconds": given.over}
    timers = Timers(settings)
    with relay(settings, home) as running:
        sleep(10)
        report["relay_mib_empty"] = running.memory()
        report["written_per_second"] = timers.write(given.pending, clock.now() + HOUR, 30 * DAY - HOUR)
        sleep(15)
        report["relay_mib_with_pending"] = running.memory()
        first_due = clock.now() + LEAD + given.due // 10
        timers.write(given.due, first_due, round(given.over * 1000), due=True)
        eyes = Eyes(settings)
        report |= _kill_in_the_middle(running, eyes, given.due, (first_due - clock.now()) / 1000 + given.over)
        report["relay_mib_highest"] = max(running.highest, running.memory())
        report |= eyes.judged(timers.due)
    report |= _still_waiting(settings, timers)
    report["exact"] = not any(report[name] for name in ("lost", "twice", "early", "strange", "gone", "changed"))
    return report


@dataclass(slots=True)
class Timers:
    """What was written: due time by timer id."""

    settings: Settings
    pending: dict[str, int] = field(default_factory=dict)
    due: dict[str, int] = field(default_factory=dict)

    def write(self, count: int, first: int, over: int, *, due: bool = False) -> float:
        """Write timers due from `first` (milliseconds) over `over`; returns timers a second."""
        random, began = Random(count), perf_counter()  # noqa: S311 - spreads due times
        codec = Codec(Registry(self.settings.registry_url))
        producer = Producer({**producer_config(self.settings, "bench"), "queue.buffering.max.messages": 200_000})
        for number in range(count):
            timer = _timer("due" if due else "pending", number, first + random.randrange(max(1, over)))
            (self.due if due else self.pending)[timer.timer_id] = timer.due_at
            topic = topics.tier(tier_for(timer.due_at - clock.now()))
            headers = headers_of(timer, "bench")
            while True:
                try:
                    producer.produce(topic, codec.encode(timer), timer.payment_id.encode(), headers=headers)
                    break
                except BufferError:
                    producer.poll(0.05)
            if number % 1_000 == 0:
                producer.poll(0)
        if producer.flush(120):
            raise TimeoutError("the broker did not take the timers")
        return round(count / (perf_counter() - began))


def _timer(kind: str, number: int, due_at: int) -> Timer:
    payment = ids.derive("bench", kind, number)
    return Timer(
        timer_id=ids.timer_id(payment, TimerKind.RETRY, "attempt", 0),
        payment_id=payment,
        kind=TimerKind.RETRY,
        subject_id=ids.attempt_id(payment, 1),
        operation=Operation.AUTHORIZE,
        generation=0,
        set_at=clock.now(),
        due_at=due_at,
    )


@dataclass(slots=True)
class Relay:
    """The relay's process. `highest`: the most memory it was seen to have, in MiB."""

    settings: Settings
    log: Path
    process: subprocess.Popen[bytes] | None = None
    highest: float = 0.0

    def start(self) -> None:
        """Start it, in an environment that names the stack."""
        values = self.settings.model_dump(mode="python")
        named = {
            f"PAYMENTS_{name.upper()}": str(values[name]) for name in ("kafka_bootstrap", "registry_url", "partitions")
        }
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pipeline.run", "relay"],
                cwd=PROJECT, env={**os.environ, **named}, stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def memory(self) -> float:
        """Resident memory in MiB."""
        assert self.process is not None
        found: float = round(psutil.Process(self.process.pid).memory_info().rss / 2**20, 1)
        self.highest = max(self.highest, found)
        return found


@contextmanager
def relay(settings: Settings, home: Path) -> Iterator[Relay]:
    """A running relay, gone afterwards."""
    running = Relay(settings, home / "relay.log")
    running.start()
    try:
        yield running
    finally:
        running.kill()


class Eyes:
    """Sees every timer fire, on payments.intake."""

    def __init__(self, settings: Settings) -> None:
        self._codec = Codec(Registry(settings.registry_url))
        self._consumer = Consumer(consumer_config(settings, "bench-eyes", "bench"))
        partitions = self._consumer.list_topics(topics.INTAKE, 10).topics[topics.INTAKE].partitions
        self._consumer.assign([TopicPartition(topics.INTAKE, partition, 0) for partition in partitions])
        self.fired: Counter[str] = Counter()
        self.late: list[int] = []
        self.early = 0

    def look(self) -> int:
        """Take what has arrived; returns how many different timers have fired."""
        for message in self._consumer.consume(5_000, 0.5):
            record = None if message.error() else self._codec.decode(message.value())
            if isinstance(record, TimerFired):
                self.fired[record.timer_id] += 1
                self.late.append(message.timestamp()[1] - record.due_at)
                self.early += record.occurred_at < record.due_at or message.timestamp()[1] < record.due_at
        return len(self.fired)

    def judged(self, due: dict[str, int]) -> dict[str, Any]:
        """The verdict. `strange`: fired and not among the due."""
        late = sorted(self.late) or [0]
        return {
            "fired": sum(self.fired.values()),
            "lost": len(set(due) - set(self.fired)),
            "twice": sum(count - 1 for count in self.fired.values()),
            "early": self.early,
            "strange": len(set(self.fired) - set(due)),
            "late_p50_ms": late[len(late) // 2],
            "late_p99_ms": late[len(late) * 99 // 100],
            "late_max_ms": late[-1],
        }


def _kill_in_the_middle(running: Relay, eyes: Eyes, count: int, seconds: float) -> dict[str, Any]:
    """Watch until all have fired; kill the relay when half of them have, and start it again."""
    began, deadline, killed_at = monotonic(), monotonic() + seconds + 180, 0
    while (seen := eyes.look()) < count and monotonic() < deadline:
        running.memory()
        if not killed_at and seen >= count // 2:
            running.kill()
            running.start()
            killed_at = seen
    sleep(3)
    eyes.look()  # what fires twice does so a little later
    return {"killed_after": killed_at, "fired_within_seconds": round(monotonic() - began, 1)}


def _still_waiting(settings: Settings, timers: Timers) -> dict[str, Any]:
    """Every timer that is not due is in a tier, once, as it was written. `gone` are missing, `changed` differ."""
    codec, found, changed = Codec(Registry(settings.registry_url)), Counter[str](), 0
    reader = TierReader(settings, None)
    began = perf_counter()
    for message in reader.messages():
        timer = codec.decode(message.value())
        if isinstance(timer, Timer) and timer.timer_id in timers.pending:
            found[timer.timer_id] += 1
            changed += timer.due_at != timers.pending[timer.timer_id]
    reader.close()
    gone = len(set(timers.pending) - set(found)) + sum(count - 1 for count in found.values())
    return {
        "waiting": len(found),
        "gone": gone,
        "changed": changed,
        "counted_in_seconds": round(perf_counter() - began, 1),
    }


def _print(report: dict[str, Any]) -> None:
    table = Table("figure", "measured", "must be")
    table.add_row("timers written", f"{report['pending']:,} at {report['written_per_second']:,}/s", "")
    empty, pending, highest = (report[f"relay_mib_{name}"] for name in ("empty", "with_pending", "highest"))
    table.add_row("relay memory: empty / all pending / highest", f"{empty} / {pending} / {highest} MiB", "flat")
    table.add_row("fell due, relay killed after", f"{report['due']:,}, {report['killed_after']:,}", "")
    table.add_row("lost / twice / early", f"{report['lost']} / {report['twice']} / {report['early']}", "0 / 0 / 0")
    late = f"{report['late_p50_ms']} / {report['late_p99_ms']} / {report['late_max_ms']} ms"
    table.add_row("late, p50 / p99 / most (kill -9 included)", late, "")
    table.add_row(
        "still waiting, gone or changed", f"{report['waiting']:,}, {report['gone'] + report['changed']}", "all, 0"
    )
    console.print(table)


if __name__ == "__main__":
    main()
