"""Which delay tier a timer waits in: the largest one that does not overshoot, then the next, until it is due."""

from __future__ import annotations

from typing import Final

from pipeline.topics import TIERS

_LARGEST_FIRST: Final = tuple(sorted(((seconds * 1000, name) for name, seconds in TIERS.items()), reverse=True))
SMALLEST: Final = _LARGEST_FIRST[-1][1]


def tier_for(remaining_ms: int) -> str:
    """The largest tier that is at most `remaining_ms` long; the smallest for anything shorter, even if overdue."""
    for length, name in _LARGEST_FIRST:
        if length <= remaining_ms:
            return name
    return SMALLEST


def ready_at(tier: str, appended_at: int, due_at: int) -> int:
    """When a record of a tier is to be looked at again, in milliseconds: its tier's delay after it was appended, or
    when it is due if that is sooner.
    """
    return min(appended_at + TIERS[tier] * 1000, due_at)
