"""Which accounts must clear, what is open on them, and when that is an alert. Pure.

A clearing account is busy all day, so its balance alone says nothing: what counts is each item on it. An item is what
belongs together and must come to zero: a payment's entries, a payout's, a line's in suspense. It is open from its first
entry until it is zero. An account is overdue when the items that are open longer than its age come to more than its
amount, each taken without its sign: two errors that cancel out are two errors.

The limits are a TOML file; the first that matches an account counts, and what matches none is not watched:

    [[account]]
    match = "provider_receivable:stripe:*"
    age = "3d"
    amount = 0                   # minor units
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from pipeline import ids
from pipeline.domain.retry import milliseconds
from pipeline.messages.clearing import AlertState, LedgerAlert, LedgerBalance, OpenEntry
from pipeline.messages.journal import JournalRecord, Posting, Side
from pipeline.messages.settlement import SettlementJournalRecord, SettlementLine

REPEAT: Final = 60_000
"""An alert whose figures change is told again at most once in so many milliseconds."""


class LimitsError(ValueError):
    """Limits that cannot be followed."""


class Limit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much may be open for how long. `age` in milliseconds."""

    match: str
    age: int
    amount: int = 0


class Limits:
    """The limits in their order."""

    def __init__(self, limits: tuple[Limit, ...]) -> None:
        self._limits = limits
        self.of: Callable[[str], Limit | None] = lru_cache(maxsize=4_096)(self._find)

    def scaled(self, factor: float) -> Limits:
        """The same limits, `factor` times as patient: days in seconds for demos and tests."""
        return Limits(tuple(replace(limit, age=max(1, round(limit.age * factor))) for limit in self._limits))

    def _find(self, account: str) -> Limit | None:
        return next((limit for limit in self._limits if fnmatchcase(account, limit.match)), None)


@dataclass(frozen=True, slots=True)
class Movement:
    """What an entry does to one item of a clearing account; `amount` is debit minus credit in minor units."""

    account: str
    currency: str
    item: str
    amount: int
    entry_id: str
    description: str
    occurred_at: int


@dataclass(frozen=True, slots=True)
class Standing:
    """An account at a moment. `overdue` is the sum, and `overdue_items` the number, of items beyond its age."""

    account: str
    currency: str
    balance: int
    open_items: int
    oldest_at: int | None
    overdue: int
    overdue_items: int


def parse(text: str) -> Limits:
    """Limits as TOML. Raises LimitsError."""
    try:
        accounts = tomllib.loads(text).pop("account", [])
        limits = [{**account, "age": milliseconds(account.get("age"))} for account in accounts]
        return Limits(tuple(msgspec.convert(limits, list[Limit])))
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, ValueError, AttributeError, TypeError) as error:
        raise LimitsError(str(error)) from error


def movements(record: JournalRecord | SettlementJournalRecord, limits: Limits) -> list[Movement]:
    """What a record of the journal does to the accounts that are watched: one movement an account and item."""
    entry = record.entry
    if entry is None:
        return []
    sums: dict[tuple[str, str, str], int] = {}
    for posting in entry.postings:
        if limits.of(posting.account) is not None:
            key = (posting.account, posting.currency, _item(posting, record))
            sums[key] = sums.get(key, 0) + (posting.amount if posting.side is Side.DEBIT else -posting.amount)
    about = (entry.entry_id, entry.description, entry.occurred_at)
    return [Movement(*key, amount, *about) for key, amount in sums.items() if amount]


def balance_of(standing: Standing, now: int) -> LedgerBalance:
    """The account's running balance."""
    return LedgerBalance(
        account=standing.account,
        currency=standing.currency,
        balance=standing.balance,
        open_items=standing.open_items,
        oldest_at=standing.oldest_at,
        as_of=now,
    )


def assess(limit: Limit, standing: Standing, raised: LedgerAlert | None, now: int) -> LedgerAlert | None:
    """What is to be told now, `raised` being the alert that stands; its entries are not filled in. None is nothing."""
    alert = LedgerAlert(
        alert_id=raised.alert_id if raised else ids.derive("alert", standing.account, now),
        account=standing.account,
        currency=standing.currency,
        state=AlertState.RAISED if standing.overdue > limit.amount else AlertState.ENDED,
        balance=standing.balance,
        overdue=standing.overdue,
        overdue_items=standing.overdue_items,
        oldest_at=standing.oldest_at,
        limit_amount=limit.amount,
        limit_age=limit.age,
        raised_at=raised.raised_at if raised else now,
        at=now,
    )
    return alert if _is_news(alert, raised) else None


def _is_news(alert: LedgerAlert, raised: LedgerAlert | None) -> bool:
    if raised is None or alert.state is AlertState.ENDED:
        return (raised is not None) is (alert.state is AlertState.ENDED)
    changed = (raised.overdue, raised.overdue_items) != (alert.overdue, alert.overdue_items)
    return changed and alert.at - raised.at >= REPEAT


def with_entries(alert: LedgerAlert, entries: list[OpenEntry]) -> LedgerAlert:
    """The alert with what the difference is made of."""
    return replace(alert, entries=entries)


def _item(posting: Posting, record: JournalRecord | SettlementJournalRecord) -> str:
    """What the posting belongs to on its account."""
    if isinstance(record, JournalRecord):
        return record.payment_id
    line = record.line
    return str(_ITEMS.get(posting.account.split(":", 1)[0], _payment_of)(line))


def _payment_of(line: SettlementLine) -> str:
    return line.payment_id or line.line_id


_ITEMS: Final[dict[str, Callable[[SettlementLine], Any]]] = {
    "payout_in_transit": lambda line: line.payout_id or line.line_id,
    "suspense": lambda line: line.line_id,
    "provider_balance": lambda line: "",
    "provider_reserve": lambda line: "",
}
"""What a line's postings belong to, by the kind of account; elsewhere it is the line's payment. A reserve and a balance
are one item each: what is released names nothing that was withheld.
"""
