"""Faults on request: what goes wrong, for which calls, how often."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Any

import msgspec


class FaultKind(StrEnum):
    """What goes wrong."""

    LATENCY = "latency"
    TIMEOUT_BEFORE = "timeout_before"
    TIMEOUT_AFTER = "timeout_after"
    RATE_LIMIT = "rate_limit"
    SERVER_ERROR = "server_error"
    RESET_BEFORE = "reset_before"
    RESET_AFTER = "reset_after"
    WEBHOOK_FIRST = "webhook_first"
    WEBHOOK_DUPLICATE = "webhook_duplicate"
    WEBHOOK_DISORDER = "webhook_disorder"
    WEBHOOK_DELAY = "webhook_delay"
    WEBHOOK_NEVER = "webhook_never"


class Fault(msgspec.Struct, kw_only=True):
    """A rule: `count` calls of `operation` (authorize, capture, void, refund, retrieve; null is any) go wrong.

    With `probability` each call draws from a generator seeded with `seed`, so that a run can be repeated. `seconds` is
    the latency, the time-out's length or the webhook's delay. `payment_id` limits it to one payment of ours.
    """

    kind: FaultKind
    operation: str | None = None
    payment_method: str | None = None
    payment_id: str | None = None
    count: int | None = 1
    probability: float = 1.0
    seed: int = 0
    seconds: float = 60.0


@dataclass(slots=True)
class Faults:
    """The rules in force."""

    _rules: list[tuple[Fault, Random]] = field(default_factory=list)

    def add(self, fault: Fault) -> None:
        """Put a rule in force."""
        self._rules.append((fault, Random(fault.seed)))

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        self._rules.clear()

    def take(self, operation: str, params: dict[str, Any]) -> list[Fault]:
        """What goes wrong with a call; each rule's count goes down by one."""
        if not self._rules:
            return []
        hit = [rule for rule in self._rules if _matches(*rule, operation, params)]
        for fault, _ in hit:
            if fault.count is not None:
                fault.count -= 1
        self._rules = [(fault, draw) for fault, draw in self._rules if fault.count is None or fault.count > 0]
        return [fault for fault, _ in hit]


def _matches(fault: Fault, draw: Random, operation: str, params: dict[str, Any]) -> bool:
    if fault.operation not in {None, operation}:
        return False
    if fault.payment_method not in {None, params.get("payment_method")}:
        return False
    if fault.payment_id not in {None, params.get("metadata", {}).get("payment_id")}:
        return False
    return fault.probability >= 1.0 or draw.random() < fault.probability
