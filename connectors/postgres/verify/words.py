"""A difference between the log and Postgres, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from pipeline import money
from pipeline.domain.hash_chain import parts

NOTHING: Final = "nothing"

_FACT: Final = ("journal partition", "journal offset", "payment", "sequence", "fact", "type", "time", "body (SHA-256)")
_ENTRY: Final = (
    "id", "payment", "merchant", "time", "description", "journal partition", "journal offset", "number of legs",
    "legs", "reverses", "reason", "operator",
)  # fmt: skip
_ENTRY_AT: Final = 8
_LEGS_AT: Final = 8


@dataclass(slots=True, eq=False)
class Difference(Exception):  # noqa: N818 - what was looked for, not a fault of the program
    """What differs, what each side says of it (None: it was not asked), where the log says so, what else is known."""

    what: str
    log: str | None
    postgres: str
    place: str | None = None
    note: str | None = None

    def __reduce__(self) -> tuple[type[Difference], tuple[str | None, ...]]:
        """So that a process that checks can hand it to the one that asked."""
        return Difference, (self.what, self.log, self.postgres, self.place, self.note)

    def __str__(self) -> str:
        said = {"the log says": self.log, "Postgres says": self.postgres, "at": self.place, "note": self.note}
        lines = [self.what, *(f"  {name:<14} {words}" for name, words in said.items() if words is not None)]
        return "\n".join(lines)


def name_of(content: bytes | str) -> str:
    """Which payment and fact a record is of, or which settlement line."""
    found = parts(content.encode() if isinstance(content, str) else content)
    if found[2] == "line":
        return f"{found[4]} line {found[11]} ({found[9]}), {found[3]}"
    if found[2] == "explanation":
        return f"what was learned of line {found[4]}"
    return f"payment {found[2]}, fact {found[4]} ({found[5]}, number {found[3]})"


def place_of(content: bytes | str, topic: str) -> str:
    """Where a record stands in the log."""
    found = parts(content.encode() if isinstance(content, str) else content)
    return f"{topic}[{found[0]}] offset {found[1]}"


def differing(log: bytes, postgres: str) -> tuple[str, str, str]:
    """The first thing that two contents of one place differ in: its name, as the log has it, as Postgres has it."""
    left, right = parts(log), parts(postgres.encode())
    for number, name in enumerate(_FACT):
        if left[number] != right[number]:
            return f"{name_of(log)}: {name}", _shown(name, left[number]), _shown(name, right[number])
    return _differing_entry(name_of(log), left[_ENTRY_AT], right[_ENTRY_AT])


def _differing_entry(name: str, log: list[Any] | None, postgres: list[Any] | None) -> tuple[str, str, str]:
    if log is None or postgres is None:
        return f"{name}: its journal entry", _entry(log), _entry(postgres)
    entry = f"{name}, entry {log[0]}"
    legs = _differing_leg(log[_LEGS_AT], postgres[_LEGS_AT])
    if legs is not None:
        number, left, right = legs
        account = (left or right or [""])[0]
        return f"{entry}, leg {number}, account {account}", _leg(left), _leg(right)
    for number, field in enumerate(_ENTRY):
        if log[number] != postgres[number]:
            return f"{entry}: {field}", _shown(field, log[number]), _shown(field, postgres[number])
    return entry, NOTHING, NOTHING


def _differing_leg(
    log: Sequence[list[Any]], postgres: Sequence[list[Any]]
) -> tuple[int, list[Any] | None, list[Any] | None] | None:
    for number in range(max(len(log), len(postgres))):
        left = log[number] if number < len(log) else None
        right = postgres[number] if number < len(postgres) else None
        if left != right:
            return number, left, right
    return None


def _entry(entry: list[Any] | None) -> str:
    return f"{entry[0]}: " + "; ".join(map(_leg, entry[_LEGS_AT])) if entry else NOTHING


def _leg(leg: list[Any] | None) -> str:
    if leg is None:
        return "no such leg"
    account, side, amount, currency = leg
    return f"{side} {amount_of(amount, currency)} {account}"


def amount_of(minor: int, currency: str) -> str:
    """An amount for people; minor units where the currency is none."""
    try:
        return f"{money.decimal(minor, currency)} {currency}"
    except money.MoneyError:
        return f"{minor} minor units of {currency!r}"


def _shown(name: str, value: Any) -> str:
    if name == "time" and isinstance(value, int):
        return datetime.fromtimestamp(value / 1_000_000, UTC).isoformat()
    return str(value)
