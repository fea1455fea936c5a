"""Which provider a payment goes to when the merchant leaves it to us (`provider` AUTO): a pure function of the rules
and the command. The rules are data (`pipeline/policies/providers.toml`), checked when they are read.

The choice is made at the door, by the gateway and by intake, and goes into the log with the command: a replay does not
ask the rules of today. What it chose besides the first provider is asked in turn, when a provider is out and certainly
did nothing.
"""

from __future__ import annotations

import tomllib
from hashlib import sha256
from typing import Annotated, Final, Self

from msgspec.structs import replace
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline import money, topics
from pipeline.messages.commands import Command, CreateIntent

AUTO: Final = "AUTO"

Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
Country = Annotated[str, Field(pattern=r"^[A-Z]{2}$")]


class RulesError(ValueError):
    """Rules that cannot be followed; the message says where."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rule(_Strict):
    """Who is asked, in turn, for a payment that fits. What is absent fits anything; amounts are decimals of the
    payment's currency, so a rule with amounts names one currency. `weights` draw the first one, by the payment's id.
    """

    name: str = Field(min_length=1)
    merchants: frozenset[str] | None = None
    currencies: frozenset[Currency] | None = None
    countries: frozenset[Country] | None = None
    at_least: str | None = None
    at_most: str | None = None
    providers: tuple[str, ...] = Field(min_length=1)
    weights: dict[str, Annotated[int, Field(ge=1, le=1_000)]] = {}

    @model_validator(mode="after")
    def _checked(self) -> Self:
        unknown = [name for name in (*self.providers, *self.weights) if name not in topics.PROVIDERS]
        if unknown:
            raise ValueError(f"no provider is called {unknown[0]!r}")
        if not set(self.weights) <= set(self.providers):
            raise ValueError("weights are of the rule's own providers")
        if self.at_least is not None or self.at_most is not None:
            self._amounts()
        return self

    def _amounts(self) -> None:
        if self.currencies is None or len(self.currencies) != 1:
            raise ValueError("a rule with amounts names one currency")
        for text in filter(None, (self.at_least, self.at_most)):
            self._minor(text)

    def _minor(self, text: str) -> int:
        (currency,) = self.currencies or ("",)
        try:
            return money.parse(text, currency)
        except money.MoneyError as error:
            raise ValueError(f"{text} is no amount of {currency}") from error

    def fits(self, command: CreateIntent) -> bool:
        """Whether the rule speaks of the payment."""
        return (
            (self.merchants is None or command.merchant_id in self.merchants)
            and (self.currencies is None or command.currency in self.currencies)
            and (self.countries is None or command.country in self.countries)
            and (self.at_least is None or command.amount >= self._minor(self.at_least))
            and (self.at_most is None or command.amount <= self._minor(self.at_most))
        )

    def order(self, payment_id: str, usable: frozenset[str] | None) -> list[str]:
        """The usable providers in the order in which they are asked."""
        left = [name for name in self.providers if usable is None or name in usable]
        weighted = {name: weight for name, weight in self.weights.items() if name in left}
        if not weighted:
            return left
        first = _drawn(payment_id, weighted)
        return [first, *(name for name in left if name != first)]


class Rules(_Strict):
    """The first rule that fits decides."""

    rules: tuple[Rule, ...] = ()

    def resolve(self, command: Command) -> Command:
        """The command with its provider, and those to ask next; as it was if it names one. AUTO stays where no rule
        fits, or none of its providers has a token of the payment method: no provider has that name.
        """
        if not isinstance(command, CreateIntent) or command.provider != AUTO:
            return command
        order = self._order(command)
        return replace(command, provider=order[0], fallbacks=order[1:]) if order else command

    def _order(self, command: CreateIntent) -> list[str]:
        method = command.payment_method
        usable = frozenset(method.tokens) if method and method.tokens else None
        rule = next((rule for rule in self.rules if rule.fits(command)), None)
        return rule.order(command.payment_id, usable) if rule else []


def parse(text: str) -> Rules:
    """The rules of a TOML file. Raises RulesError."""
    try:
        return Rules.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise RulesError(f"no TOML: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise RulesError(f"{place}: {first['msg']}") from error


def _drawn(payment_id: str, weights: dict[str, int]) -> str:
    """The same one for the same payment, and each as often as its weight says."""
    point = int.from_bytes(sha256(f"provider:{payment_id}".encode()).digest()[:8], "big") % sum(weights.values())
    for name, weight in weights.items():
        point -= weight
        if point < 0:
            return name
    raise AssertionError("the point is below the sum")
