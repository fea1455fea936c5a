"""The one place that asks what time it is. Decisions never do: their time is in their input.

A local system's clock can be put forward, so that three days pass in a test or a demo, on the code that runs in
production. The jumps are lines of a file in the system's home that every one of its processes reads; between two jumps
the time goes as it always does. (A clock that ran a thousand times as fast would be of no use: a provider's answer
would take hours of it, and every recovery check would come before the answer.)

Two times, in milliseconds since 1970-01-01T00:00:00Z: the *system's*, `now`, which dates everything that the system
decides, and the *machine's*, `real`, which is Kafka's, Postgres's, and that of everybody outside. They differ only
where a clock was put forward.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import structlog

log = structlog.get_logger()

LOOK_EVERY: Final = 50
"""Milliseconds between two looks at the file."""
NOTICE: Final = 200
"""Milliseconds from writing a jump to its taking effect: by then every process has read it, and they jump together."""


class Jump(NamedTuple):
    """At `at` of the machine's time the system's was put forward by `by`; both in milliseconds."""

    at: int
    by: int


def forward(jumps: Sequence[Jump], real: int) -> int:
    """The system's time at a moment of the machine's."""
    return real + sum(jump.by for jump in jumps if jump.at <= real)


def back(jumps: Sequence[Jump], system: int) -> int:
    """The machine's time at a moment of the system's; for a moment that was jumped over, that of the jump."""
    ahead = 0
    for jump in sorted(jumps):
        if system < jump.at + ahead:
            break
        if system < jump.at + ahead + jump.by:
            return jump.at
        ahead += jump.by
    return system - ahead


def parse(text: str) -> tuple[Jump, ...]:
    """The jumps in a clock's file, `<at> <by>` a line. Raises ValueError."""
    jumps = tuple(Jump(*map(int, line.split())) for line in text.splitlines())
    if any(jump.by <= 0 for jump in jumps):
        raise ValueError("a clock is only ever put forward")
    return jumps


@dataclass(slots=True)
class _Followed:
    """The jumps that this process knows of, and where it looks for more."""

    path: Path | None = None
    loud: bool = False
    jumps: tuple[Jump, ...] = ()
    read: int = 0
    """Bytes of the file that are in `jumps`."""
    looked: int = 0

    def look(self, at: int) -> tuple[Jump, ...]:
        """The jumps, as of a moment ago."""
        if self.path is None or abs(at - self.looked) < LOOK_EVERY:
            return self.jumps
        self.looked = at
        size = self.path.stat().st_size if self.path.exists() else 0
        if size != self.read:
            self.jumps, self.read = parse(self.path.read_text(encoding="ascii")), size
            if self.loud:
                log.warning("the clock was put forward", ahead_seconds=sum(jump.by for jump in self.jumps) / 1000)
        return self.jumps


_followed: Final = _Followed()


def follow(path: Path | None, *, loud: bool = False) -> None:
    """Let this process live by that clock from now on, by the machine's without a path; `loud`: log every jump."""
    _followed.path, _followed.loud = path, loud
    _followed.jumps, _followed.read, _followed.looked = (), 0, 0


def now() -> int:
    """The system's time: milliseconds since 1970-01-01T00:00:00Z."""
    at = real()
    return forward(_followed.look(at), at)


def real() -> int:
    """The machine's time, for what those outside judge by their own clock: signatures, above all."""
    return time.time_ns() // 1_000_000


def system_time(at: int) -> int:
    """The system's time when the machine's was `at`: of a record's timestamp, which is the broker's."""
    return forward(_followed.look(real()), at)


def machine_time(at: int) -> int:
    """The machine's time when the system's was `at`: to ask the broker for the records of that moment."""
    return back(_followed.look(real()), at)


def ahead() -> int:
    """Milliseconds by which the system's time is ahead of the machine's."""
    at = real()
    return forward(_followed.look(at), at) - at


def put_forward(by: int) -> None:
    """Put the followed clock forward by so many milliseconds, for every process that follows it; returns when it is so.
    Raises ValueError for a clock that cannot be, or not by so much.
    """
    if _followed.path is None:
        raise ValueError("this system has no clock that can be put forward: only a local, simulated one has")
    if by <= 0:
        raise ValueError("a clock is only ever put forward")
    line = f"{real() + NOTICE} {by}\n".encode("ascii")
    # One write to a file opened for appending is whole, whoever else writes.
    file = os.open(_followed.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(file, line)
    finally:
        os.close(file)
    time.sleep(NOTICE / 1000)
