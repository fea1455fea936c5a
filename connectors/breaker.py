"""A circuit breaker: a provider that is down is left alone, and asked by one call at a time whether it is back."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class BreakerState(StrEnum):
    """Whether calls may be made."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    """One call is under way to find out."""


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """It opens when `failures` of the last `window` calls did not reach the provider; the first probe comes after
    `pause` seconds, each further one after twice as long, at most `longest`.
    """

    window: int = 20
    failures: int = 10
    pause: float = 1.0
    longest: float = 10.0


class Breaker:
    """Counts what became of calls and says whether another may be made. For one thread."""

    def __init__(self, policy: BreakerPolicy | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._policy = policy or BreakerPolicy()
        self._now = now
        self._recent: deque[bool] = deque(maxlen=self._policy.window)
        self._pause = self._policy.pause
        self._probe_at = 0.0
        self.state = BreakerState.CLOSED

    def admit(self) -> bool:
        """Whether a call may be made now. If so, `record` or `abandon` must follow."""
        if self.state is BreakerState.CLOSED:
            return True
        if self.state is BreakerState.OPEN and self._now() >= self._probe_at:
            self.state = BreakerState.HALF_OPEN
            return True
        return False

    def record(self, reached: bool) -> None:
        """What became of a call. A call from before the breaker opened says nothing new while it is open."""
        if self.state is BreakerState.OPEN:
            return
        if self.state is BreakerState.HALF_OPEN:
            self._close() if reached else self._open(min(self._pause * 2, self._policy.longest))
            return
        self._recent.append(reached)
        if self._recent.count(False) >= self._policy.failures:
            self._open(self._policy.pause)

    def abandon(self) -> None:
        """The call that was admitted is not made after all: the next one may probe."""
        if self.state is BreakerState.HALF_OPEN:
            self._open(self._pause)

    @property
    def wait(self) -> float:
        """Seconds after which it is worth asking again."""
        return max(self._probe_at - self._now(), 0.0) if self.state is BreakerState.OPEN else 0.0

    def _open(self, pause: float) -> None:
        self.state = BreakerState.OPEN
        self._pause = pause
        self._probe_at = self._now() + pause

    def _close(self) -> None:
        self.state = BreakerState.CLOSED
        self._recent.clear()
        self._pause = self._policy.pause
