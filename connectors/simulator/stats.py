"""How many calls, how they ended, and how long the simulator itself took: the benchmark subtracts that."""

from __future__ import annotations

import resource
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class _Operation:
    calls: int = 0
    own_seconds: float = 0.0
    asked_seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)


class Stats:
    """Sums by operation. `own` (in total: `seconds`) is its work, `asked` the latency it was asked to add. Own
    work is CPU time: what a busy machine adds is not the provider's, and must not be taken off our own latency."""

    def __init__(self) -> None:
        self._operations: dict[str, _Operation] = {}
        self._since = time.time()
        self._cpu = time.process_time()

    def count(self, operation: str, status: int, own_seconds: float, asked_seconds: float) -> None:
        """Count one call; status 0 is no answer."""
        sums = self._operations.setdefault(operation, _Operation())
        sums.calls += 1
        sums.own_seconds += own_seconds
        sums.asked_seconds += asked_seconds
        sums.statuses[status] += 1

    def reset(self) -> None:
        """Count anew."""
        self.__init__()  # type: ignore[misc]

    def report(self) -> dict[str, Any]:
        """Totals, per operation, and the process's CPU seconds and peak memory."""
        operations = {name: _shown(sums) for name, sums in sorted(self._operations.items())}
        return {
            "since_seconds": time.time() - self._since,
            "calls": sum(sums.calls for sums in self._operations.values()),
            "seconds": sum(sums.own_seconds for sums in self._operations.values()),
            "asked_seconds": sum(sums.asked_seconds for sums in self._operations.values()),
            "cpu_seconds": time.process_time() - self._cpu,
            "peak_memory_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            "operations": operations,
        }


def _shown(sums: _Operation) -> dict[str, Any]:
    return {
        "calls": sums.calls,
        "own_seconds": sums.own_seconds,
        "asked_seconds": sums.asked_seconds,
        "statuses": {str(status): number for status, number in sorted(sums.statuses.items())},
    }
