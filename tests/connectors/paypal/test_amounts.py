"""PayPal's decimal strings, against ISO 4217's minor units."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.paypal.amounts import AmountError, from_paypal, to_paypal

# developer.paypal.com/api/rest/reference/currency-codes
CURRENCIES = [
    "AUD", "BRL", "CAD", "CNY", "CZK", "DKK", "EUR", "HKD", "HUF", "ILS", "JPY", "MYR", "MXN", "TWD", "NZD", "NOK",
    "PHP", "PLN", "GBP", "SGD", "SEK", "CHF", "THB", "USD",
]  # fmt: skip


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [(1_050, "USD", "10.50"), (5, "EUR", "0.05"), (1_050, "JPY", "1050"), (105_000, "HUF", "1050"), (700, "TWD", "7")],
)
def test_amounts(minor: int, currency: str, text: str) -> None:
    assert to_paypal(minor, currency) == text
    assert from_paypal(text, currency) == minor


@given(st.integers(1, 10**11), st.sampled_from(CURRENCIES))
def test_there_and_back(minor: int, currency: str) -> None:
    whole = minor * 100 if currency in {"HUF", "TWD"} else minor
    assert from_paypal(to_paypal(whole, currency), currency) == whole


@pytest.mark.parametrize(("minor", "currency"), [(1_050, "HUF"), (1, "TWD"), (1_000, "KWD")])
def test_money_is_never_rounded(minor: int, currency: str) -> None:
    with pytest.raises(AmountError):
        to_paypal(minor, currency)


@pytest.mark.parametrize(
    ("text", "currency"), [("10.505", "USD"), ("1.5", "JPY"), ("NaN", "USD"), ("ten", "USD"), ("1", "XYZ"), ("", "EUR")]
)
def test_what_is_no_amount(text: str, currency: str) -> None:
    with pytest.raises(AmountError):
        from_paypal(text, currency)
