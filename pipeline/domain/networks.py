"""What the card networks allow of repeated authorizations: data (`pipeline/policies/networks.toml`), checked when read.

These rules stand above every merchant's retry policy. Times are milliseconds since 1970.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from pipeline.messages.values import Decline

ATTEMPTS_KEPT: Final = 64
"""Attempts a state remembers; above every limit that may be set."""
_UNITS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION: Final = re.compile(r"([1-9][0-9]{0,5})([smhd])")


class PolicyError(ValueError):
    """A policy that cannot be followed; the message says where."""


def milliseconds(text: object) -> int:
    """The milliseconds of a duration such as 30s, 5m, 1h or 3d. Raises ValueError."""
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError("a duration is a number and s, m, h or d, such as 30s or 3d")
    return int(match[1]) * _UNITS[match[2]]


Duration = Annotated[int, BeforeValidator(milliseconds)]


class Strict(BaseModel):
    """A part of a policy: frozen, and no key that is not known."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Limit(Strict):
    """At most `attempts` with one card for one payment in any `period` milliseconds."""

    name: str = Field(pattern="^[a-z0-9_]+$")
    attempts: int = Field(ge=1, le=ATTEMPTS_KEPT)
    period: Duration
    excess_fee: str | None = Field(None, pattern=r"^[0-9]+\.[0-9]{2} [A-Z]{3}$")

    def opens_at(self, made: Sequence[int]) -> int:
        """From when on one more attempt keeps within the limit; `made` are those made, in any order: clocks go back."""
        return sorted(made)[-self.attempts] + self.period if len(made) >= self.attempts else 0

    def excess(self, made: Sequence[int]) -> int:
        """How many of the attempts were beyond the limit when they were made."""
        return sum(self.opens_at(made[:number]) > at for number, at in enumerate(made))


class Never(Strict):
    """Codes after which the card must not be tried again."""

    name: str = Field(pattern="^[a-z0-9_]+$")
    network_codes: frozenset[str] = frozenset()
    advice_codes: frozenset[str] = frozenset()

    @model_validator(mode="after")
    def _speaks(self) -> Self:
        if not self.network_codes and not self.advice_codes:
            raise ValueError("name network_codes or advice_codes")
        return self


@dataclass(frozen=True, slots=True)
class Opening:
    """The first moment that the rules allow, and the rules that put it off, by name."""

    at: int
    moved_by: tuple[str, ...] = ()


class Networks(Strict):
    """The rules of all card networks."""

    limits: tuple[Limit, ...] = ()
    never: tuple[Never, ...] = ()
    earliest: dict[str, Duration] = {}
    holds: dict[str, Duration] = {}

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        names = [*(limit.name for limit in self.limits), *(rule.name for rule in self.never)]
        if len(set(names)) != len(names):
            raise ValueError("two rules have the same name")
        return self

    def bar(self, decline: Decline) -> str | None:
        """The rule that forbids any further attempt with the card, by name; None if none does."""
        for rule in self.never:
            if decline.network_code in rule.network_codes or decline.network_advice_code in rule.advice_codes:
                return rule.name
        return None

    def after(self, decline: Decline, declined_at: int, wanted: int) -> Opening:
        """When an attempt that is wanted at `wanted` may be made, by the advice that came with the decline."""
        code = decline.network_advice_code or ""
        earliest = declined_at + self.earliest.get(code, 0)
        return Opening(earliest, (f"mastercard_advice_{code}",)) if earliest > wanted else Opening(wanted)

    def scaled(self, factor: float, shortest: int) -> Networks:
        """The same rules with the advised times and the holds `factor` times as long. The limits stay."""

        def scale(delays: dict[str, int]) -> dict[str, int]:
            return {name: max(shortest, round(delay * factor)) for name, delay in delays.items()}

        return self.model_copy(update={"earliest": scale(self.earliest), "holds": scale(self.holds)})


def opening(limits: Iterable[Limit], made: Sequence[int], wanted: int) -> Opening:
    """The first moment from `wanted` on at which one more attempt keeps within every limit."""
    moved, at = list[str](), wanted
    for limit in limits:
        if (opens := limit.opens_at(made)) > wanted:
            moved.append(limit.name)
            at = max(at, opens)
    return Opening(at, tuple(moved))


def parse(text: str) -> Networks:
    """The rules in a TOML text. Raises PolicyError."""
    try:
        return Networks.model_validate(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise PolicyError(f"the card networks' rules are wrong: {error}") from error
