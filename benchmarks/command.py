"""One command of ours under the clock."""

from __future__ import annotations

import os
import subprocess
import sys
from time import perf_counter

from rich.console import Console

from pipeline import local
from pipeline.settings import PROJECT


def timed(console: Console, what: str, command: list[str], count: int, unit: str) -> None:
    """Run it, and say how long it took for so many, and the most memory it held."""
    began = perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "pipeline.cli", *command], cwd=PROJECT, env=local.environment())
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = perf_counter() - began
    rate = f"{count:,} {unit} in {seconds:.1f} s, {count / seconds:,.0f} {unit}/s"
    console.print(f"{what}: exit {process.returncode}, {rate}")
    console.print(f"  the command: {used.ru_utime + used.ru_stime:.1f} s CPU, {used.ru_maxrss / 1024:.0f} MiB")
