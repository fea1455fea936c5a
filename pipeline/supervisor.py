"""Runs every process of the system and restarts what dies.

A process that dies at once is restarted ever more slowly; one that lived a while, at once. When the supervisor
goes, for whatever reason, its processes go with it (PR_SET_PDEATHSIG on Linux).
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Final

BACK_OFF: Final = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds before the n-th restart in a row."""
HEALTHY: Final = 20.0
"""A process that lived this many seconds starts afresh with its back-off."""
GRACE: Final = 15.0
"""Seconds that a process may take to stop before it is killed."""
_PR_SET_PDEATHSIG: Final = 1


@dataclass(slots=True)
class Child:
    """One supervised process."""

    name: str
    command: list[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failures: int = 0
    due: float = 0.0

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None


@dataclass(slots=True)
class Supervisor:
    """Starts, watches, restarts and stops a set of processes."""

    children: list[Child]
    environment: Mapping[str, str]
    say: Callable[[str], None] = print
    _stopping: bool = field(default=False, init=False)

    def run(self) -> None:
        """Run until SIGTERM or SIGINT, then stop everything."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        try:
            while not self._stopping:
                self.tend()
                sleep(0.1)
        finally:
            self.stop()

    def tend(self) -> None:
        """Start what is due and notice what died."""
        for child in self.children:
            if child.alive:
                continue
            if child.process is not None:
                self._note_death(child)
            if monotonic() >= child.due:
                self._start(child)

    def stop(self) -> None:
        """Ask every process to stop, the source of traffic first; kill what does not listen."""
        for child in self.children:
            if child.alive and child.process:
                child.process.terminate()
        deadline = monotonic() + GRACE
        for child in self.children:
            if child.process:
                _wait_or_kill(child.process, max(0.1, deadline - monotonic()))

    def _note_death(self, child: Child) -> None:
        assert child.process is not None
        lived = monotonic() - child.started
        child.failures = 0 if lived > HEALTHY else child.failures + 1
        pause = BACK_OFF[min(child.failures, len(BACK_OFF) - 1)]
        child.due = monotonic() + pause
        self.say(f"{child.name} ended with {child.process.returncode} after {lived:.0f} s; again in {pause} s")
        child.process = None

    def _start(self, child: Child) -> None:
        child.log.parent.mkdir(parents=True, exist_ok=True)
        with child.log.open("ab") as log:
            child.process = subprocess.Popen(
                child.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(self.environment),
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - the supervisor has one thread
            )
        child.started = monotonic()

    def _on_signal(self, number: int, frame: object) -> None:
        self._stopping = True


def child(name: str, logs: Path) -> Child:
    """The process `name` of pipeline.run."""
    return Child(name, [sys.executable, "-m", "pipeline.run", name], logs / f"{name}.log")


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    os.setsid()


def _wait_or_kill(process: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
