"""The providers' clock. It can be put forward, so that a day or a hold's seven days pass in a test."""

from __future__ import annotations

import time


class Clock:
    """Seconds since the epoch. Signatures are made by the real time: the receiver checks them by its own clock."""

    def __init__(self) -> None:
        self.offset = 0

    def now(self) -> int:
        """The providers' time, in whole seconds."""
        return int(time.time()) + self.offset

    def advance(self, seconds: int) -> None:
        """Let time pass."""
        self.offset += seconds

    def reset(self) -> None:
        """Back to the real time."""
        self.offset = 0
