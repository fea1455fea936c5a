"""What goes wrong, on request. A fault is a rule: which calls it meets, how often, and what happens to them.

At most one fault of the call itself happens to a call (the oldest rule that meets it), and every webhook fault.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, Final

import msgspec


class Kind(StrEnum):
    """What happens. The first group befalls the call, the second its webhooks."""

    LATENCY = "latency"
    """The call is worked on for `seconds` longer; its idempotency key is in use meanwhile."""
    TIMEOUT_BEFORE = "timeout_before"
    """The request is lost: nothing is done, no answer comes for `seconds`, then the connection is reset."""
    TIMEOUT_AFTER = "timeout_after"
    """All is done, but the answer is lost: none comes for `seconds`, then the connection is reset."""
    RESET_BEFORE = "reset_before"
    """The connection is reset, nothing is done."""
    RESET_AFTER = "reset_after"
    """All is done, then the connection is reset instead of an answer."""
    RATE_LIMIT = "rate_limit"
    """429 with Retry-After of `retry_after` seconds; nothing is done, nothing saved."""
    SERVER_ERROR = "server_error"
    """500 without anything done, and saved under the idempotency key."""
    SERVER_ERROR_AFTER = "server_error_after"
    """500 though all was done, and saved under the idempotency key."""
    UNAVAILABLE = "unavailable"
    """`status` (502 to 504) from a proxy before the API: nothing done, nothing saved."""

    WEBHOOK_FIRST = "webhook_first"
    """The webhooks arrive before the answer."""
    WEBHOOK_DUPLICATE = "webhook_duplicate"
    """Each webhook comes `times` times."""
    WEBHOOK_DISORDER = "webhook_disorder"
    """The call's webhooks come in the reverse order, one by one."""
    WEBHOOK_DELAY = "webhook_delay"
    """The webhooks come `seconds` later; with `age_seconds`, events that happened so long ago."""
    WEBHOOK_NEVER = "webhook_never"
    """The webhooks are not sent; `/_sim/webhooks/resend` sends them later."""


WEBHOOK_KINDS: Final = frozenset(kind for kind in Kind if kind.startswith("webhook_"))


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule. Conditions that are None are met by every call; `path` is a shell pattern; `events` are patterns too;
    `payment_id` is short for that metadata. `operation`: authorize, capture, void, refund, retrieve, update, dispute;
    of PayPal's also token and verify.

    `skip` lets the first calls that meet it pass, `count` limits how often it happens (None: no limit), `probability`
    is drawn from a generator of its own with `seed`, so that a run can be repeated.
    """

    kind: Kind
    provider: str | None = None
    operation: str | None = None
    method: str | None = None
    path: str | None = None
    payment_method: str | None = None
    idempotency_key: str | None = None
    payment_id: str | None = None
    metadata: dict[str, str] = {}
    events: tuple[str, ...] = ("*",)
    skip: int = 0
    count: int | None = 1
    probability: float = 1.0
    seed: int = 0
    seconds: float = 60.0
    retry_after: int | None = 1
    status: int = 503
    times: int = 2
    age_seconds: int = 0

    def about(self, event_type: str) -> bool:
        """Whether a webhook fault is about this type."""
        return any(fnmatchcase(event_type, pattern) for pattern in self.events)


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a call."""

    provider: str
    operation: str
    method: str
    path: str
    payment_method: str | None = None
    idempotency_key: str | None = None
    metadata: Mapping[str, str] = {}


class Met(msgspec.Struct, frozen=True):
    """The faults that happen to a call."""

    call: Fault | None = None
    webhooks: tuple[Fault, ...] = ()

    def is_call(self, *kinds: Kind) -> bool:
        """Whether the call's own fault is one of these."""
        return self.call is not None and self.call.kind in kinds


NOTHING: Final = Met()


class _Rule:
    def __init__(self, name: str, fault: Fault) -> None:
        self.name = name
        self.fault = fault
        self.met = 0
        self.happened = 0
        self._random = random.Random(fault.seed)

    def happens(self, facts: Facts) -> bool:
        """Whether it happens now; counts."""
        if self.spent or not _meets(self.fault, facts):
            return False
        self.met += 1
        if self.met <= self.fault.skip or self._random.random() >= self.fault.probability:
            return False
        self.happened += 1
        return True

    @property
    def spent(self) -> bool:
        return self.fault.count is not None and self.happened >= self.fault.count


class Faults:
    """The rules in force, oldest first."""

    def __init__(self) -> None:
        self._rules: list[_Rule] = []
        self._numbered = 0

    def __bool__(self) -> bool:
        return bool(self._rules)

    def add(self, fault: Fault) -> str:
        """Put a rule in force; returns its name."""
        self._numbered += 1
        name = f"fault_{self._numbered}"
        self._rules.append(_Rule(name, fault))
        return name

    def remove(self, name: str) -> bool:
        """Take a rule out of force; whether there was one."""
        before = len(self._rules)
        self._rules = [rule for rule in self._rules if rule.name != name]
        return len(self._rules) < before

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        self._rules.clear()

    def meet(self, facts: Facts) -> Met:
        """What happens to a call; each rule that is met counts it."""
        call, webhooks = None, []
        for rule in self._rules:
            if rule.fault.kind in WEBHOOK_KINDS:
                if rule.happens(facts):
                    webhooks.append(rule.fault)
            elif call is None and rule.happens(facts):
                call = rule.fault
        return Met(call, tuple(webhooks))

    def report(self) -> list[dict[str, Any]]:
        """The rules, and how often each was met and happened."""
        return [
            {"id": rule.name, **msgspec.to_builtins(rule.fault), "met": rule.met, "happened": rule.happened}
            for rule in self._rules
        ]


def _meets(fault: Fault, facts: Facts) -> bool:
    exact = (
        (fault.provider, facts.provider),
        (fault.operation, facts.operation),
        (fault.method, facts.method),
        (fault.payment_method, facts.payment_method),
        (fault.idempotency_key, facts.idempotency_key),
    )
    if any(wanted is not None and wanted != found for wanted, found in exact):
        return False
    if fault.path is not None and not fnmatchcase(facts.path, fault.path):
        return False
    wanted = fault.metadata if fault.payment_id is None else {**fault.metadata, "payment_id": fault.payment_id}
    return all(facts.metadata.get(name) == value for name, value in wanted.items())
