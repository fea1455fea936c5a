"""`python -m benchmarks.settlement --lines 100000`: a report's way into the books, on a stack of its own.

The report is a Stripe balance report of charges that match nothing: each line posts an entry of four legs.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import psycopg
from rich.console import Console

from benchmarks.command import timed
from pipeline import local
from pipeline.settings import PROJECT
from pipeline.stack.local import LocalStack

PROCESSES = ("settlement", "sink")
HEADER = (
    "balance_transaction_id,created_utc,currency,gross,fee,net,reporting_category,source_id,customer_facing_amount,"
    "customer_facing_currency,automatic_payout_id,charge_id,payment_intent_id,payment_metadata[payment_id]\n"
)
console = Console()


def main() -> None:
    """Bring Kafka, the registry and Postgres up, reconcile a report twice, verify the books, take all down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=100_000)
    given = parser.parse_args()
    with TemporaryDirectory() as home:
        os.environ["PAYMENTS_HOME"] = home
        report = Path(home) / "report.csv"
        write(report, given.lines)
        with LocalStack(Path(home)):
            local.prepare(local.current_settings())
            started = [_start(name) for name in PROCESSES]
            try:
                for what in ("first", "again"):
                    _reconcile(what, report, given.lines, started)
                timed(console, "verify", ["verify"], given.lines, "lines")
            finally:
                for process in started:
                    process.terminate()
                    process.wait(30)


def write(path: Path, lines: int) -> None:
    """A report with so many charges."""
    with path.open("w") as file:
        file.write(HEADER)
        for number in range(lines):
            second = number % 86_400
            at = f"2026-11-22 {second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
            name = f"{number:012}"
            file.write(f"txn_{name},{at},usd,60.00,2.04,57.96,charge,ch_{name},60.00,usd,po_1,ch_{name},pi_{name},\n")


def _start(name: str) -> psutil.Popen:
    return psutil.Popen([sys.executable, "-m", "pipeline.run", name], cwd=PROJECT, env=local.environment())


def _reconcile(what: str, report: Path, lines: int, processes: list[psutil.Popen]) -> None:
    before = [process.cpu_times() for process in processes]
    timed(console, what, ["reconcile", "stripe", str(report), "--limit", "1"], lines, "lines")
    for process, earlier, name in zip(processes, before, PROCESSES, strict=True):
        now = process.cpu_times()
        cpu = now.user + now.system - earlier.user - earlier.system
        console.print(f"  {name}: {cpu:.1f} s CPU, {process.memory_info().rss / 2**20:.0f} MiB")
    with psycopg.connect(local.current_settings().reveal("postgres_reader_url")) as connection:
        (count,) = connection.execute("SELECT count(*) FROM settlement.lines").fetchone() or (0,)
        console.print(f"  {count:,} lines in the books")


if __name__ == "__main__":
    main()
