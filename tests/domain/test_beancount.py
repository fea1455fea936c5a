"""The plain-text books: names that stay apart, and text that beancount reads as it was meant."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any

import pytest
from beancount import loader
from beancount.core.data import Balance, Open, Transaction
from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain.accounts import CHART, UnknownAccountError
from pipeline.domain.beancount import Entry, account_name, asserted, header, opened, transaction
from pipeline.messages.journal import Posting, Side

MERCHANTS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True)
AT = datetime(2026, 1, 31, 23, 30, tzinfo=UTC)
PAYABLE, RECEIVABLE = "merchant_payable:ac_me:JPY", "provider_receivable:stripe:JPY"


def loaded(lines: Iterable[str]) -> tuple[list[Any], list[Any]]:
    """Beancount's directives, and its complaints."""
    entries, errors, _ = loader.load_string("\n".join(lines))
    return entries, errors


@pytest.mark.parametrize(
    ("account", "name"),
    [
        ("merchant_payable:acme:USD", "Liabilities:MerchantPayable:X-acme:USD"),
        ("merchant_payable:Acme:USD", "Liabilities:MerchantPayable:Acme:USD"),
        ("holds_receivable:a_b.c-d:stripe:USD", "Equity:Memo:HoldsReceivable:X-a-5fb-2ec-2dd:X-stripe:USD"),
        ("bank:EUR", "Assets:Bank:EUR"),
        ("provider_fees:stripe:EUR", "Expenses:ProviderFees:X-stripe:EUR"),
    ],
)
def test_names(account: str, name: str) -> None:
    assert account_name(account) == name


@given(MERCHANTS, MERCHANTS)
def test_no_two_accounts_become_one(one: str, other: str) -> None:
    names = {account_name(f"merchant_payable:{merchant}:USD") for merchant in (one, other)}
    assert len(names) == len({one, other})


@given(st.sampled_from(sorted(CHART)), MERCHANTS)
def test_every_name_is_one_of_beancounts(kind: str, merchant: str) -> None:
    entries, errors = loaded(opened([(f"{kind}:{merchant}:stripe:USD", "USD", date(2026, 1, 1))]))
    assert errors == []
    assert [type(entry) for entry in entries] == [Open]


def test_an_account_that_is_in_no_chart_is_an_error() -> None:
    with pytest.raises(UnknownAccountError):
        account_name("slush_fund:USD")


def book(notes: dict[str, str], balance: int) -> list[str]:
    legs = (
        Posting(account=RECEIVABLE, side=Side.DEBIT, amount=500, currency="JPY"),
        Posting(account=PAYABLE, side=Side.CREDIT, amount=500, currency="JPY"),
    )
    entry = Entry(AT, "PaymentCaptured", "7b2f8f52-5b5f-5b55-9b3e-0b8a8a1f2f10", legs, notes)
    accounts = [(account, "JPY", AT.date()) for account in (PAYABLE, RECEIVABLE)]
    balances = [(PAYABLE, "JPY", -500), (RECEIVABLE, "JPY", balance)]
    return [*header("x"), *opened(accounts), *transaction(entry), *asserted(balances, date(2026, 2, 1))]


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=80))
def test_notes_are_read_as_they_were_written(text: str) -> None:
    entries, errors = loaded(book({"reason": text}, 500))
    assert errors == []
    (found,) = [entry for entry in entries if isinstance(entry, Transaction)]
    assert found.meta["reason"] == text
    assert sum(isinstance(entry, Balance) for entry in entries) == 2


@pytest.mark.parametrize("balance", [499, 501, -500, 0])
def test_a_wrong_balance_is_found(balance: int) -> None:
    _, errors = loaded(book({}, balance))
    assert len(errors) == 1
