"""The chart of accounts: what each kind of account is, in accountants' terms. docs/ledger.md explains them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pipeline.messages.journal import Side


class AccountClass(StrEnum):
    """Which statement an account belongs to."""

    MEMO = "memo"
    """A promise: counted, and in no statement."""
    ASSET = "asset"
    LIABILITY = "liability"
    EQUITY = "equity"
    EXPENSE = "expense"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of account. `normal`: the side on which it grows."""

    account_class: AccountClass
    normal: Side
    clearing: bool = False
    """Whether it must return to zero."""
    floor: bool = False
    """Whether no payment may take more out of it than it put in, corrections apart: docs/decisions/0050."""


class UnknownAccountError(LookupError):
    """An account of a kind that the chart does not have."""


CHART: Final[dict[str, Kind]] = {
    "holds_receivable": Kind(AccountClass.MEMO, Side.DEBIT, clearing=True, floor=True),
    "holds_commitment": Kind(AccountClass.MEMO, Side.CREDIT, clearing=True, floor=True),
    "provider_receivable": Kind(AccountClass.ASSET, Side.DEBIT, clearing=True),
    "provider_balance": Kind(AccountClass.ASSET, Side.DEBIT),
    "provider_reserve": Kind(AccountClass.ASSET, Side.DEBIT, clearing=True),
    "payout_in_transit": Kind(AccountClass.ASSET, Side.DEBIT, clearing=True),
    "bank": Kind(AccountClass.ASSET, Side.DEBIT),
    "merchant_payable": Kind(AccountClass.LIABILITY, Side.CREDIT),
    "refunds_pending": Kind(AccountClass.LIABILITY, Side.CREDIT, clearing=True, floor=True),
    "disputes_receivable": Kind(AccountClass.ASSET, Side.DEBIT, clearing=True),
    "provider_fees": Kind(AccountClass.EXPENSE, Side.DEBIT),
    "dispute_fees": Kind(AccountClass.EXPENSE, Side.DEBIT),
    "dispute_losses": Kind(AccountClass.EXPENSE, Side.DEBIT),
    "fx_exchange": Kind(AccountClass.EQUITY, Side.DEBIT),
    "suspense": Kind(AccountClass.ASSET, Side.DEBIT, clearing=True),
}


def kind_name(account: str) -> str:
    """The kind of an account, from its name: `merchant_payable` of `merchant_payable:acme:USD`."""
    return account.split(":", 1)[0]


def kind_of(account: str) -> Kind:
    """What an account is. Raises UnknownAccountError."""
    try:
        return CHART[kind_name(account)]
    except KeyError:
        raise UnknownAccountError(f"no account of the chart: {account}") from None
