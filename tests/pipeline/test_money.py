"""Amounts: decimal strings to minor units and back, by each currency's own exponent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import money


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [("10.50", "USD", 1050), ("10.5", "EUR", 1050), ("0.01", "USD", 1), ("1050", "JPY", 1050), ("1.234", "KWD", 1234)],
)
def test_decimal_strings(amount: str, currency: str, minor: int) -> None:
    assert money.parse(amount, currency) == minor


@pytest.mark.parametrize(
    ("amount", "currency", "code"),
    [
        ("10.505", "USD", "too_many_decimals"),
        ("10.5", "JPY", "too_many_decimals"),
        ("1.2345", "KWD", "too_many_decimals"),
        ("0", "USD", "amount_out_of_range"),
        ("0.00", "USD", "amount_out_of_range"),
        ("-1", "USD", "invalid_amount"),
        ("1e3", "USD", "invalid_amount"),
        ("1,000", "USD", "invalid_amount"),
        (" 1", "USD", "invalid_amount"),
        ("٣", "USD", "invalid_amount"),
        ("NaN", "USD", "invalid_amount"),
        ("999999999999", "USD", "amount_out_of_range"),
        ("9" * 40, "USD", "invalid_amount"),
        ("1", "XYZ", "unknown_currency"),
        ("1", "usd", "unknown_currency"),
        ("1", "XAU", "unknown_currency"),
        ("1", "XTS", "unknown_currency"),
        ("1", "", "unknown_currency"),
    ],
)
def test_what_no_payment_can_have(amount: str, currency: str, code: str) -> None:
    with pytest.raises(money.MoneyError) as refused:
        money.parse(amount, currency)
    assert refused.value.code == code


@given(st.integers(1, money.MAX_MINOR), st.sampled_from(["USD", "JPY", "KWD", "EUR", "CLF"]))
def test_there_and_back(minor: int, currency: str) -> None:
    assert money.parse(money.decimal(minor, currency), currency) == minor
