"""The providers' clock: the system's, and it can be put forward alone, so that a hold's seven days pass in a test."""

from __future__ import annotations

from pipeline import clock


class Clock:
    """Seconds since the epoch. Signatures are made by the machine's time: the receiver checks them by its own clock."""

    def __init__(self) -> None:
        self.offset = 0

    def now(self) -> int:
        """The providers' time, in whole seconds."""
        return clock.now() // 1000 + self.offset

    def advance(self, seconds: int) -> None:
        """Let time pass."""
        self.offset += seconds

    def reset(self) -> None:
        """Back to the system's time."""
        self.offset = 0
