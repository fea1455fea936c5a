"""What a provider's contract says its fee is, so that a report's fee can be held against it. Pure.

The schedule is a TOML file: rules in order, the first that fits a line says its fee.

    [[rule]]
    provider = "stripe"
    kind = "charge"              # a settlement line's kind
    currency = "USD"             # of the settlement; any if left out
    basis_points = 290           # of the gross
    fixed = 30                   # minor units; not charged on what takes a charge back
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass

import msgspec

from pipeline.messages.settlement import LineKind, SettlementLine


class ScheduleError(ValueError):
    """A fee schedule that cannot be followed."""


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One price. `fixed` in minor units."""

    provider: str
    kind: LineKind
    currency: str | None = None
    basis_points: int = 0
    fixed: int = 0

    def fits(self, line: SettlementLine) -> bool:
        """Whether it prices this line."""
        return (self.provider, self.kind) == (line.provider, line.kind) and self.currency in (None, line.currency)

    def price(self, gross: int) -> int:
        """Rounded half up, away from zero; the share comes back with what is taken back, the fixed part does not."""
        share = (abs(gross) * self.basis_points + 5_000) // 10_000
        return share + self.fixed if gross > 0 else -share


@dataclass(frozen=True, slots=True)
class FeeSchedule:
    """The rules of a contract, first come first served."""

    rules: tuple[Rule, ...] = ()

    def expected(self, line: SettlementLine) -> int | None:
        """The fee of a line in minor units of its currency, or None where the contract says nothing."""
        rule = next((rule for rule in self.rules if rule.fits(line)), None)
        return None if rule is None else rule.price(line.gross)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rule: list[Rule] = []


def parse(text: str) -> FeeSchedule:
    """A schedule as TOML. Raises ScheduleError."""
    try:
        return FeeSchedule(tuple(msgspec.convert(tomllib.loads(text), _File).rule))
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ScheduleError(str(error)) from error
