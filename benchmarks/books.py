"""`python -m benchmarks.books --facts 100000`: how fast the books come out of the log, on a stack of its own.

Payments that were created, authorized, captured and refunded in part are written to `payments.events`. Then the ledger
stage posts them, the sink writes them, `payments verify` recomputes all of it, and `payments db rebuild` empties the
tables and writes them anew: in one run, so that they can be held against each other.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep
from typing import Any, Final

import psutil
import psycopg
from confluent_kafka import Producer
from msgspec.structs import replace
from rich.console import Console

from benchmarks.command import timed
from connectors.postgres.verify.log import Log
from pipeline import admin, ids, local, topics
from pipeline.codec import Codec, Registry
from pipeline.domain.chain import PaymentChain
from pipeline.domain.decision import Schedule
from pipeline.headers import headers_of
from pipeline.kafka import producer_config
from pipeline.messages.commands import Authorize, Capture, Command, CreateIntent, Refund
from pipeline.messages.facts import Fact
from pipeline.messages.inputs import ProviderReport
from pipeline.messages.values import CaptureMethod, Operation, Outcome, PaymentMethod, ReportSource
from pipeline.settings import PROJECT, Settings
from pipeline.stack.local import LocalStack

AT: Final = 1_790_000_000_000
VISA: Final = PaymentMethod(token="pm_card_visa")  # noqa: S106 - Stripe's name of its test card
console = Console()


def main() -> None:
    """Bring Kafka, the registry and Postgres up, measure, take all down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--facts", type=int, default=100_000)
    given = parser.parse_args()
    with TemporaryDirectory() as home:
        os.environ["PAYMENTS_HOME"] = home
        with LocalStack(Path(home)):
            settings = local.current_settings()
            local.prepare(settings)
            facts = write(settings, given.facts)
            _stage("ledger", facts, lambda: _behind(settings))
            _stage("sink", facts, lambda: facts - _written(settings))
            timed(console, "verify", ["verify"], facts, "facts")
            timed(console, "rebuild", ["db", "rebuild", "--yes"], facts, "facts")
            timed(console, "verify again", ["verify"], facts, "facts")


def write(settings: Settings, wanted: int) -> int:
    """At least so many facts, of whole payments, to their topic; returns how many."""
    codec = Codec(Registry(settings.registry_url))
    producer = Producer(producer_config(settings, "benchmark") | {"linger.ms": 20})
    example = _payment()
    written = 0
    for number in range(-(-wanted // len(example))):
        payment = ids.derive("benchmark", number)
        for fact in example:
            made = replace(fact, payment_id=payment, fact_id=ids.derive(payment, fact.fact_id))
            producer.produce(topics.EVENTS, codec.encode(made), payment, headers=headers_of(made, "benchmark"))
            written += 1
        producer.poll(0.01 if len(producer) > 50_000 else 0)
    producer.flush()
    return written


def _payment() -> list[Fact]:
    """The facts of a payment of 100.00, of which 60.00 were captured and 15.00 refunded."""
    chain = PaymentChain(Schedule())
    terms: dict[str, Any] = {"amount": 10_000, "currency": "USD", "provider": "stripe"}
    chain.feed(CreateIntent(**_common("create"), **terms, capture_method=CaptureMethod.MANUAL, payment_method=VISA))
    for operation, command in (
        (Operation.AUTHORIZE, Authorize(**_common("authorize"))),
        (Operation.CAPTURE, Capture(**_common("capture"), amount=6_000)),
        (Operation.REFUND, Refund(**_common("refund"), amount=1_500)),
    ):
        _done(chain, operation, command)
    return chain.facts


def _done(chain: PaymentChain, operation: Operation, command: Command) -> None:
    (request,) = chain.feed(command).requests
    chain.feed(
        ProviderReport(
            payment_id=request.payment_id,
            occurred_at=AT,
            report_id=ids.report_id(request.request_id, Outcome.APPROVED),
            provider="stripe",
            source=ReportSource.ANSWER,
            operation=operation,
            outcome=Outcome.APPROVED,
            subject_id=request.subject_id,
        )
    )


def _common(name: str) -> dict[str, Any]:
    return {"command_id": name, "merchant_id": "acme", "payment_id": ids.derive("example"), "occurred_at": AT}


def _stage(name: str, facts: int, left: Callable[[], int]) -> None:
    """Run one process until nothing is left; its start is not counted."""
    process = psutil.Popen([sys.executable, "-m", "pipeline.run", name], cwd=PROJECT, env=local.environment())
    try:
        while left() >= facts:
            sleep(0.05)
        began, waiting = perf_counter(), left()
        while left():
            sleep(0.2)
        seconds, used = perf_counter() - began, process.cpu_times()
        console.print(f"{name}: {waiting:,} facts in {seconds:.1f} s, {waiting / seconds:,.0f} facts/s")
        memory = process.memory_info().rss / 2**20
        console.print(f"  the process, with its start: {used.user + used.system:.1f} s CPU, {memory:.0f} MiB")
    finally:
        process.terminate()
        process.wait(30)


def _behind(settings: Settings) -> int:
    """How many facts the ledger stage has yet to take."""
    log = Log(settings)
    ends, stands = log.ends(topics.EVENTS), log.committed(admin.group("ledger"), topics.EVENTS)
    return sum(ends.values()) - sum(stands.values())


def _written(settings: Settings) -> int:
    with psycopg.connect(settings.reveal("postgres_reader_url")) as connection:
        (found,) = connection.execute("SELECT count(*) FROM payments.facts").fetchone() or (0,)
    return int(found)


if __name__ == "__main__":
    main()
