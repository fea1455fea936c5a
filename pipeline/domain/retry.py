"""Whether and when a declined authorization is tried again: a pure function of the policy, the decline and the attempts
made so far. The policy is data (`pipeline/policies/retry.toml`), checked when it is read; the card networks' rules
(`pipeline/domain/networks.py`) stand above it.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Self

import msgspec
from pydantic import Field, ValidationError, model_validator

from pipeline import ids
from pipeline.domain.calendars import Calendar, HoursOfDay
from pipeline.domain.networks import (
    ATTEMPTS_KEPT,
    Duration,
    Limit,
    Networks,
    Opening,
    PolicyError,
    Strict,
    milliseconds,
    opening,
)
from pipeline.messages.facts import AttemptDeclined, AttemptStarted, Fact
from pipeline.messages.inputs import RetryAbandoned, RetryPlanned
from pipeline.messages.values import Decline, DeclineCategory
from pipeline.policies import NETWORKS

__all__ = ["RETRYABLE", "Planned", "Policy", "PolicyError", "RetryState", "decide", "milliseconds", "parse", "plan"]

RETRYABLE: Final = (DeclineCategory.SOFT, DeclineCategory.TEMPORARY)
"""The categories the policy speaks about. The authorization stage ends the others itself."""
SHORTEST: Final = 1_000
LONGEST_WINDOW: Final = "30d"
LONGEST_PAYDAY_WAIT: Final = 31 * 86_400_000
MOVED_SPREAD: Final = 3_600_000
"""Retries that a payday or the hours move to one moment are spread over an hour after it."""


class Rule(Strict):
    """What follows a decline that it matches. Lists that are absent match anything."""

    name: str = Field(pattern="^[a-z0-9_]+$")
    categories: frozenset[DeclineCategory] | None = None
    codes: frozenset[str] | None = None
    network_codes: frozenset[str] | None = None
    advice_codes: frozenset[str] | None = None
    merchants: frozenset[str] | None = None
    never: bool = False
    delays: tuple[Duration, ...] = ()
    max_attempts: int = Field(ATTEMPTS_KEPT, ge=1, le=ATTEMPTS_KEPT)
    window: Duration = Field(LONGEST_WINDOW, validate_default=True)
    hours: HoursOfDay | None = None
    payday_within: Duration | None = Field(None, le=LONGEST_PAYDAY_WAIT)

    @model_validator(mode="after")
    def _decides(self) -> Self:
        if self.never == bool(self.delays):
            raise ValueError("a rule has either delays or never = true")
        if self.window > milliseconds(LONGEST_WINDOW):
            raise ValueError(f"a window is at most {LONGEST_WINDOW}: no timer is longer")
        return self

    def matches(self, merchant_id: str, decline: Decline) -> bool:
        """Whether the rule speaks of this decline."""
        return (
            (self.merchants is None or merchant_id in self.merchants)
            and (self.categories is None or decline.category in self.categories)
            and (self.codes is None or decline.code in self.codes)
            and (self.network_codes is None or decline.network_code in self.network_codes)
            and (self.advice_codes is None or decline.network_advice_code in self.advice_codes)
        )

    def catches_all(self, category: DeclineCategory) -> bool:
        """Whether it matches every decline of the category."""
        narrow = (self.codes, self.network_codes, self.advice_codes, self.merchants)
        return all(part is None for part in narrow) and (self.categories is None or category in self.categories)

    def scaled(self, factor: float) -> Rule:
        """The same rule, `factor` times as long. Hours and paydays mean nothing in a day of seconds."""
        changes = {
            "delays": tuple(_scale(delay, factor) for delay in self.delays),
            "window": _scale(self.window, factor),
            "hours": self.hours if factor == 1 else None,
            "payday_within": self.payday_within if factor == 1 else None,
        }
        return self.model_copy(update=changes)


def _scale(delay: int, factor: float) -> int:
    return max(SHORTEST, round(delay * factor))


class Policy(Strict):
    """A whole retry policy. `limits` are a merchant's own, beside those of the card networks."""

    jitter: float = Field(0.0, ge=0, le=0.5)
    limits: tuple[Limit, ...] = ()
    calendar: Calendar = Calendar()
    merchants: dict[str, Calendar] = {}
    rules: tuple[Rule, ...] = Field(min_length=1)
    networks: Networks = NETWORKS

    @model_validator(mode="after")
    def _complete(self) -> Self:
        names = [rule.name for rule in self.rules]
        if len(set(names)) != len(names):
            raise ValueError("two rules have the same name")
        for category in RETRYABLE:
            if not any(rule.catches_all(category) for rule in self.rules):
                raise ValueError(f"no rule catches every {category} decline")
        return self

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        """A rule behind one that catches all it speaks about would never be used: surely a mistake."""
        for number, rule in enumerate(self.rules):
            spoken = rule.categories or frozenset(RETRYABLE)
            before = self.rules[:number]
            if all(any(earlier.catches_all(category) for earlier in before) for category in spoken):
                raise ValueError(f"rule {rule.name} is never reached: earlier rules catch all that it matches")
        return self

    def rule_for(self, merchant_id: str, decline: Decline) -> Rule:
        """The first rule that matches; there is one for every retryable decline."""
        return next(rule for rule in self.rules if rule.matches(merchant_id, decline))

    def calendar_of(self, merchant_id: str) -> Calendar:
        """The merchant's own calendar, or everybody's."""
        return self.merchants.get(merchant_id, self.calendar)

    def scaled(self, factor: float) -> Policy:
        """The same policy, `factor` times as long: days in seconds for demos and tests. The limits stay."""
        rules = tuple(rule.scaled(factor) for rule in self.rules)
        return self.model_copy(update={"rules": rules, "networks": self.networks.scaled(factor, SHORTEST)})


def parse(text: str) -> Policy:
    """The policy in a TOML text. Raises PolicyError."""
    try:
        read = tomllib.loads(text)
        if "networks" in read:
            raise PolicyError("the retry policy is wrong: the card networks' rules are not a policy's to change")
        return Policy.model_validate(read)
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise PolicyError(f"the retry policy is wrong: {error}") from error


class Tried(msgspec.Struct, frozen=True):
    """An attempt that was made, when, and with what: the method's kind and token."""

    attempt_id: str
    at: int
    method: str = ""


class RetryState(msgspec.Struct, frozen=True):
    """The attempts made for the payment, oldest first."""

    tried: tuple[Tried, ...] = ()

    def history(self, attempt_id: str) -> tuple[int, ...]:
        """When each attempt was made, up to the one named, with the method that it was made with."""
        method = next((tried.method for tried in self.tried if tried.attempt_id == attempt_id), None)
        times = list[int]()
        for tried in self.tried:
            if tried.method == method:
                times.append(tried.at)
            if tried.attempt_id == attempt_id:
                return tuple(times)
        return ()


@dataclass(frozen=True, slots=True)
class Planned:
    """The state after a fact, and the policy's word if it has one."""

    state: RetryState | None
    outputs: tuple[RetryPlanned | RetryAbandoned, ...] = ()
    forward: bool = False


def decide(state: RetryState | None, fact: Fact, policy: Policy) -> Planned:
    """What a fact means for retries: attempts are counted by method, so that another method starts afresh and the same
    one set again does not; a decline is answered.
    """
    match fact:
        case AttemptStarted():
            method = f"{fact.payment_method.kind}:{fact.payment_method.token}"
            return Planned(_with(state or RetryState(), Tried(fact.attempt_id, fact.occurred_at, method)))
        case AttemptDeclined():
            word = plan(policy, fact, state.history(fact.attempt_id) if state else ())
            return Planned(state, () if word is None else (word,))
    return Planned(state)


def _with(state: RetryState, tried: Tried) -> RetryState:
    if any(known.attempt_id == tried.attempt_id for known in state.tried):
        return state
    return RetryState((*state.tried[-(ATTEMPTS_KEPT - 1) :], tried))


def plan(policy: Policy, fact: AttemptDeclined, history: tuple[int, ...]) -> RetryPlanned | RetryAbandoned | None:
    """The policy's word on a decline, None for declines that are final anyway.

    `history`: when each attempt with the present method was made, in milliseconds, oldest first, the declined one
    included (it is assumed if the history is empty).
    """
    if fact.decline.category not in RETRYABLE:
        return None
    made = history or (fact.occurred_at,)
    barred = policy.networks.bar(fact.decline)
    if barred is not None:
        return _abandoned(fact, barred)
    rule = policy.rule_for(fact.merchant_id, fact.decline)
    refusal = _refusal(rule, made)
    if refusal is not None:
        return _abandoned(fact, refusal)
    due = _when(policy, rule, fact, made)
    if due.at > made[0] + rule.window:
        return _abandoned(fact, f"{rule.name}:window")
    return RetryPlanned(
        plan_id=_plan_id(fact),
        payment_id=fact.payment_id,
        occurred_at=fact.occurred_at,
        attempt_id=fact.attempt_id,
        rule=rule.name,
        due_at=due.at,
        moved_by=list(due.moved_by),
    )


def _refusal(rule: Rule, made: tuple[int, ...]) -> str | None:
    if rule.never:
        return rule.name
    if len(made) >= min(rule.max_attempts, len(rule.delays) + 1):
        return f"{rule.name}:max_attempts"
    return None


def _when(policy: Policy, rule: Rule, fact: AttemptDeclined, made: tuple[int, ...]) -> Opening:
    """When the rule wants the next attempt, put off as far as the networks demand and the merchant's calendar hints."""
    wanted = fact.occurred_at + _spread(rule.delays[len(made) - 1], policy.jitter, fact.attempt_id)
    advised = policy.networks.after(fact.decline, fact.occurred_at, wanted)
    allowed = opening((*policy.networks.limits, *policy.limits), made, advised.at)
    due = Opening(allowed.at, (*advised.moved_by, *allowed.moved_by))
    hinted = _hinted(policy.calendar_of(fact.merchant_id), rule, due, fact.attempt_id)
    # A hint must not cost the retry: what it would move out of the window is made without it.
    return due if hinted.at > made[0] + rule.window else hinted


def _hinted(calendar: Calendar, rule: Rule, due: Opening, attempt_id: str) -> Opening:
    at, moved = due.at, list(due.moved_by)
    if rule.payday_within and (payday := calendar.on_payday(at, rule.payday_within)) != at:
        at = payday
        moved.append("payday")
    if rule.hours and (open_at := calendar.in_hours(at, rule.hours)) != at:
        at = open_at
        moved.append("hours")
    if at == due.at:
        return due
    width = min(MOVED_SPREAD, (rule.hours.end - rule.hours.start) * 60_000) if rule.hours else MOVED_SPREAD
    return Opening(at + int(width * _share(attempt_id)), tuple(moved))


def _spread(delay: int, jitter: float, attempt_id: str) -> int:
    """The delay, longer by up to its jitter; the same for the same attempt."""
    return delay + int(delay * jitter * _share(attempt_id))


def _share(attempt_id: str) -> float:
    """A number from 0 up to 1 that is the attempt's own."""
    return int.from_bytes(sha256(attempt_id.encode()).digest()[:8]) / 2**64


def _abandoned(fact: AttemptDeclined, rule: str) -> RetryAbandoned:
    return RetryAbandoned(
        plan_id=_plan_id(fact),
        payment_id=fact.payment_id,
        occurred_at=fact.occurred_at,
        attempt_id=fact.attempt_id,
        rule=rule,
    )


def _plan_id(fact: AttemptDeclined) -> str:
    return ids.derive("retry", fact.payment_id, fact.attempt_id)
