"""`make bench`: the whole system under load on this machine, as a table and as JSON (`.local/bench.json`).

Every figure is taken in one run, beside the plain transactional loop on the same broker: compare ratios, not figures of
different days. The load generator and the provider simulator share the machine with the system.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, perf_counter, sleep, time
from typing import Any

import httpx
import psutil
import psycopg
from confluent_kafka import Consumer, TopicPartition
from rich.console import Console
from rich.table import Table

from benchmarks import edges
from benchmarks.limit import plain_loop
from benchmarks.load import Load, Result
from benchmarks.processes import Usage, usage
from gateway.keys import create_key
from pipeline import local, topics
from pipeline.settings import PROJECT, Settings

console = Console()


def main() -> None:
    """Bring a fresh system up, measure, take it down."""
    given = _arguments()
    home = PROJECT / ".local" / "bench"
    os.environ["PAYMENTS_HOME"] = str(home)
    os.environ.setdefault("PAYMENTS_PARTITIONS", str(given.partitions))
    local.down(wipe=True)
    report: dict[str, Any] = {"machine": _machine()}
    try:
        began = perf_counter()
        settings = local.up(lambda text: console.print(f"[dim]{text}[/]"))
        report["ready_seconds"] = round(perf_counter() - began, 1)
        _measure(report, settings, str(home), given)
    finally:
        local.down(wipe=True)
    _print(report)
    target = PROJECT / ".local" / "bench.json"
    target.write_text(json.dumps(report, indent=2) + "\n")
    console.print(f"as JSON: {target}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long the load lasts")
    parser.add_argument("--workers", type=int, default=160, help="payments under way at any time")
    parser.add_argument("--rate", type=float, default=100, help="payments a second of the latency run")
    parser.add_argument("--partitions", type=int, default=1, help="partitions a topic")
    return parser.parse_args()


def _measure(report: dict[str, Any], settings: Settings, home: str, given: argparse.Namespace) -> None:
    run = f"bench-{int(time())}"
    base = f"http://{settings.gateway_host}:{settings.gateway_port}"
    load = Load(base, create_key(settings.reveal("postgres_gateway_url"), "bench"), run)
    report["plain_loop_records_per_second"] = round(plain_loop(settings, run))
    load.open(20, 5, capture=True)  # warm: connections, caches, the JIT
    report["latency"] = _latency(Load(base, load.key, f"{run}-l").open(given.rate, 20, capture=False), settings)
    before, started = usage(home), perf_counter()
    result = Load(base, load.key, f"{run}-t").closed(given.workers, given.seconds)
    drained = _drain(settings, result)
    report["throughput"] = _throughput(result, drained)
    report["processes"] = _processes(before, usage(home), result.captured)
    report["busy_cores"] = round(
        sum(p["cpu_ms_per_payment"] for p in report["processes"].values()) * result.captured / 1000
        / (perf_counter() - started), 2
    )  # fmt: skip
    report["edges"] = edges.measure(settings, home, run)


def _latency(result: Result, settings: Settings) -> dict[str, Any]:
    """From `authorize` sent to `authorized` readable, net of the provider's own time."""
    stats = httpx.get(f"{settings.stripe_api_url}/_sim/stats", timeout=20).json()
    own = 1000 * float(stats.get("seconds", 0.0)) / max(1, int(stats.get("calls", 1)))
    return {
        "payments": len(result.latencies),
        "p50_ms": round(result.percentile(50) - own, 1),
        "p99_ms": round(result.percentile(99) - own, 1),
        "errors": result.errors,
    }


def _throughput(result: Result, drained: float) -> dict[str, Any]:
    return {
        "payments": result.captured,
        "seconds": round(result.seconds, 1),
        "drained_seconds_later": round(drained, 1),
        "payments_per_second": round(result.captured / (result.seconds + drained), 1),
        "authorize_p50_ms": round(result.percentile(50), 1),
        "authorize_p99_ms": round(result.percentile(99), 1),
        "errors": result.errors,
    }


def _drain(settings: Settings, result: Result) -> float:
    """Seconds until every captured payment has its ledger rows, and its public event is in Kafka."""
    started = monotonic()
    _until(lambda: _captured(settings, result.payments) >= result.captured)
    _until(lambda: _public_events(settings) >= _captured(settings, None))
    return monotonic() - started


def _until(true: Any, seconds: float = 120) -> None:
    deadline = monotonic() + seconds
    while not true():
        if monotonic() > deadline:
            raise TimeoutError("the system did not finish the payments it accepted")
        sleep(0.1)


def _captured(settings: Settings, payments: Sequence[str] | None) -> int:
    query = "SELECT count(*) FROM ledger.entries WHERE description = 'PaymentCaptured'"
    with psycopg.connect(settings.reveal("postgres_reader_url")) as connection:
        if payments is None:
            row = connection.execute(query).fetchone()
        else:
            row = connection.execute(f"{query} AND payment_id = ANY (%s::uuid[])", [list(payments)]).fetchone()
    return int(row[0]) if row else 0


def _public_events(settings: Settings) -> int:
    """Records on payments.captured; its markers and gaps are not counted, the events are."""
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka_bootstrap,
            "group.id": "bench-count",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    topic = topics.PublicTopic.CAPTURED.value
    places = [TopicPartition(topic, p, 0) for p in consumer.list_topics(topic).topics[topic].partitions]
    consumer.assign(places)
    seen = ends = 0
    while ends < len(places):
        for message in consumer.consume(1000, 1.0):
            if message.error():
                ends += 1
            else:
                seen += 1
    consumer.close()
    return seen


def _processes(before: dict[str, Usage], after: dict[str, Usage], payments: int) -> dict[str, Any]:
    return {
        name: {
            "cpu_ms_per_payment": round(1000 * (now.cpu - before.get(name, Usage(0, 0)).cpu) / max(1, payments), 2),
            "memory_mib": round(now.memory),
        }
        for name, now in sorted(after.items())
    }


def _machine() -> dict[str, Any]:
    model = ""
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    memory = psutil.virtual_memory().total // 2**30
    return {"cores": os.cpu_count(), "cpu": model, "memory_gib": memory, "python": platform.python_version()}


def _print(report: dict[str, Any]) -> None:
    machine = report["machine"]
    console.print(f"{machine['cores']} cores ({machine['cpu']}), {machine['memory_gib']} GiB, {machine['python']}")
    table = Table("figure", "measured", "aim")
    latency, throughput = report["latency"], report["throughput"]
    table.add_row("system ready", f"{report['ready_seconds']} s", "< 60 s")
    table.add_row("full payments a second", f"{throughput['payments_per_second']}", "300")
    table.add_row(f"  of {throughput['payments']} payments, errors", str(throughput["errors"] or "none"), "none")
    table.add_row("authorize to readable, p50 / p99", f"{latency['p50_ms']} / {latency['p99_ms']} ms", "p99 < 250 ms")
    table.add_row("plain transactional loop", f"{report['plain_loop_records_per_second']} records/s", "the limit")
    table.add_row("cores busy under load", str(report["busy_cores"]), "")
    console.print(table)
    table = Table("process", "CPU ms a payment", "memory MiB", title="By process")
    for name, figures in report["processes"].items():
        table.add_row(name, str(figures["cpu_ms_per_payment"]), str(figures["memory_mib"]))
    console.print(table)
    table = Table("edge", "a second", "CPU ms each", title="The edges alone")
    for name, figures in report["edges"].items():
        table.add_row(name.replace("_", " "), str(figures["per_second"]), str(figures["cpu_ms"]))
    console.print(table)


if __name__ == "__main__":
    main()
