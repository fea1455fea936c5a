"""Whether and when a declined authorization is tried again: a pure function of the policy, the decline and the attempts
made so far. The policy is data (`pipeline/policies/retry.toml`), checked when it is read.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Final, Self

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from pipeline import ids
from pipeline.messages.facts import AttemptDeclined, AttemptStarted, Fact, MethodSet
from pipeline.messages.inputs import RetryAbandoned, RetryPlanned
from pipeline.messages.values import Decline, DeclineCategory

RETRYABLE: Final = (DeclineCategory.SOFT, DeclineCategory.TEMPORARY)
"""The categories the policy speaks about. The authorization stage ends the others itself."""
ATTEMPTS_KEPT: Final = 64
"""Attempts a state remembers; above every limit a policy may set."""
SHORTEST: Final = 1_000
LONGEST_WINDOW: Final = "30d"

_UNITS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION: Final = re.compile(r"([1-9][0-9]{0,5})([smhd])")


class PolicyError(ValueError):
    """A retry policy that cannot be followed; the message says where."""


def milliseconds(text: object) -> int:
    """The milliseconds of a duration such as 30s, 5m, 1h or 3d. Raises ValueError."""
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError("a duration is a number and s, m, h or d, such as 30s or 3d")
    return int(match[1]) * _UNITS[match[2]]


Duration = Annotated[int, BeforeValidator(milliseconds)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Limit(_Strict):
    """A card network's limit: at most `attempts` with one card in `period` milliseconds."""

    name: str = Field(min_length=1)
    attempts: int = Field(ge=1, le=ATTEMPTS_KEPT)
    period: Duration


class Rule(_Strict):
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

    @model_validator(mode="after")
    def _decides(self) -> Self:
        if self.never == bool(self.delays):
            raise ValueError("a rule has either delays or never = true")
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


class Policy(_Strict):
    """A whole retry policy."""

    jitter: float = Field(0.0, ge=0, le=0.5)
    limits: tuple[Limit, ...] = ()
    rules: tuple[Rule, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        names = [rule.name for rule in self.rules]
        if len(set(names)) != len(names):
            raise ValueError("two rules have the same name")
        for category in RETRYABLE:
            if not any(_catches_all(rule, category) for rule in self.rules):
                raise ValueError(f"no rule catches every {category} decline")
        return self

    def rule_for(self, merchant_id: str, decline: Decline) -> Rule:
        """The first rule that matches; there is one for every retryable decline."""
        return next(rule for rule in self.rules if rule.matches(merchant_id, decline))

    def scaled(self, factor: float) -> Policy:
        """The same policy, `factor` times as long: days in seconds for demos and tests. The limits stay."""

        def scale(delay: int) -> int:
            return max(SHORTEST, round(delay * factor))

        rules = tuple(
            rule.model_copy(update={"delays": tuple(map(scale, rule.delays)), "window": scale(rule.window)})
            for rule in self.rules
        )
        return self.model_copy(update={"rules": rules})


def _catches_all(rule: Rule, category: DeclineCategory) -> bool:
    narrow = (rule.codes, rule.network_codes, rule.advice_codes, rule.merchants)
    return all(part is None for part in narrow) and (rule.categories is None or category in rule.categories)


def parse(text: str) -> Policy:
    """The policy in a TOML text. Raises PolicyError."""
    try:
        return Policy.model_validate(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise PolicyError(f"the retry policy is wrong: {error}") from error


class Tried(msgspec.Struct, frozen=True):
    """An attempt that was made, and when."""

    attempt_id: str
    at: int


class RetryState(msgspec.Struct, frozen=True):
    """The attempts made with the payment's present method, oldest first."""

    tried: tuple[Tried, ...] = ()


@dataclass(frozen=True, slots=True)
class Planned:
    """The state after a fact, and the policy's word if it has one."""

    state: RetryState | None
    outputs: tuple[RetryPlanned | RetryAbandoned, ...] = ()
    forward: bool = False


def decide(state: RetryState | None, fact: Fact, policy: Policy) -> Planned:
    """What a fact means for retries: attempts are counted, a new method starts afresh, a decline is answered."""
    match fact:
        case AttemptStarted():
            return Planned(_with(state or RetryState(), Tried(fact.attempt_id, fact.occurred_at)))
        case MethodSet() if state is not None:
            return Planned(RetryState())
        case AttemptDeclined():
            history = tuple(tried.at for tried in state.tried) if state else ()
            word = plan(policy, fact, history)
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
    rule = policy.rule_for(fact.merchant_id, fact.decline)
    refusal = _refusal(rule, made)
    if refusal is not None:
        return _abandoned(fact, refusal)
    wanted = fact.occurred_at + _spread(rule.delays[len(made) - 1], policy.jitter, fact.attempt_id)
    due_at = _allowed(policy.limits, made, wanted)
    if due_at > made[0] + rule.window:
        return _abandoned(fact, f"{rule.name}:window")
    return RetryPlanned(
        plan_id=_plan_id(fact),
        payment_id=fact.payment_id,
        occurred_at=fact.occurred_at,
        attempt_id=fact.attempt_id,
        rule=rule.name,
        due_at=due_at,
    )


def _refusal(rule: Rule, made: tuple[int, ...]) -> str | None:
    if rule.never:
        return rule.name
    if len(made) >= min(rule.max_attempts, len(rule.delays) + 1):
        return f"{rule.name}:max_attempts"
    return None


def _spread(delay: int, jitter: float, attempt_id: str) -> int:
    """The delay, longer by up to its jitter; the same for the same attempt."""
    share = int.from_bytes(sha256(attempt_id.encode()).digest()[:8]) / 2**64
    return delay + int(delay * jitter * share)


def _allowed(limits: tuple[Limit, ...], made: tuple[int, ...], wanted: int) -> int:
    """The first moment from `wanted` on at which one more attempt keeps within every network's limit."""
    for limit in limits:
        if len(made) >= limit.attempts:
            wanted = max(wanted, made[-limit.attempts] + limit.period)
    return wanted


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
