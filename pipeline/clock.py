"""The one place that asks what time it is. Decisions never do: their time is in their input."""

from __future__ import annotations

import time


def now() -> int:
    """Milliseconds since 1970-01-01T00:00:00Z."""
    return time.time_ns() // 1_000_000
