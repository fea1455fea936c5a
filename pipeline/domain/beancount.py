"""The books in beancount's plain-text format, so that somebody else's program can check them.

Beancount knows five kinds of account. Memo accounts are promises, whose two sides cancel out: they go under
Equity:Memo. A balance is asserted with no tolerance: by its own rule, beancount would let a cent pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

from pipeline import money
from pipeline.domain.accounts import AccountClass, kind_name, kind_of
from pipeline.messages.journal import Posting, Side

_ROOTS: Final = {
    AccountClass.MEMO: "Equity:Memo",
    AccountClass.ASSET: "Assets",
    AccountClass.LIABILITY: "Liabilities",
    AccountClass.EQUITY: "Equity",
    AccountClass.EXPENSE: "Expenses",
}
_OTHER: Final = re.compile(r"[^A-Za-z0-9]")


@dataclass(frozen=True, slots=True)
class Entry:
    """A journal entry to export; `notes` becomes metadata, by name."""

    occurred_at: datetime
    description: str
    payment_id: str
    postings: tuple[Posting, ...]
    notes: Mapping[str, str]


def account_name(account: str) -> str:
    """Beancount's name of an account: ("merchant_payable:acme:USD") is "Liabilities:MerchantPayable:X-acme:USD".

    A part begins with a capital or a digit and has letters, digits and hyphens. So that no two accounts become one,
    other characters are a hyphen and their code in hex, and a small first letter has X- before it. Raises
    UnknownAccountError.
    """
    kind = "".join(word.capitalize() for word in kind_name(account).split("_"))
    parts = [_part(part) for part in account.split(":")[1:]]
    return ":".join((_ROOTS[kind_of(account).account_class], kind, *parts))


def _part(text: str) -> str:
    escaped = _OTHER.sub(lambda match: f"-{ord(match[0]):02x}", text)
    return escaped if escaped[:1].isupper() or escaped[:1].isdigit() else f"X-{escaped}"


def header(title: str) -> Iterator[str]:
    """The first lines of a file."""
    yield f'option "title" {_quoted(title)}'
    yield ""


def opened(accounts: Iterable[tuple[str, str, date]]) -> Iterator[str]:
    """Account, currency, and the day it was first posted to."""
    for account, currency, day in accounts:
        yield f"{day.isoformat()} open {account_name(account)} {currency}"
    yield ""


def transaction(entry: Entry) -> Iterator[str]:
    """One entry."""
    day = entry.occurred_at.astimezone(UTC).date().isoformat()
    yield f"{day} * {_quoted(entry.description)} ^{entry.payment_id}"
    for name, text in entry.notes.items():
        yield f"  {name}: {_quoted(text)}"
    for leg in entry.postings:
        amount = leg.amount if leg.side is Side.DEBIT else -leg.amount
        yield f"  {account_name(leg.account)}  {money.decimal(amount, leg.currency)} {leg.currency}"
    yield ""


def asserted(balances: Iterable[tuple[str, str, int]], day: date) -> Iterator[str]:
    """That each account (with its currency, and debit minus credit in minor units) stands so when `day` begins."""
    for account, currency, balance in balances:
        yield f"{day.isoformat()} balance {account_name(account)}  {money.decimal(balance, currency)} ~ 0 {currency}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
