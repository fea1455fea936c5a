"""Amounts and currencies as Stripe counts them. Sources: docs.stripe.com/currencies, stripe.com/pricing."""

from __future__ import annotations

from typing import Final

from iso4217 import Currency

from connectors.simulator.stripe.errors import invalid

CURRENCIES: Final = frozenset(currency.value.lower() for currency in Currency)
LARGEST: Final = 99_999_999
"""Eight digits."""
_SMALLEST: Final = {"usd": 50, "eur": 50, "gbp": 30, "jpy": 50, "chf": 50, "cad": 50, "aud": 50, "sek": 300, "nok": 300}
_TENS: Final = frozenset({"bhd", "jod", "kwd", "omr", "tnd"})
_HUNDREDS: Final = frozenset({"isk", "ugx"})
_FEE_PERMILLE: Final = 29
_FEE_FIXED: Final = 30


def checked_currency(text: str) -> str:
    """A currency that Stripe knows, in lower case. Raises StripeError."""
    currency = text.lower()
    if currency not in CURRENCIES:
        raise invalid(f"Invalid currency: {text}. Stripe currently supports other currencies.", "currency")
    return currency


def checked_amount(amount: int, currency: str) -> int:
    """An amount that can be charged. Raises StripeError."""
    if amount < 1:
        raise invalid("This value must be greater than or equal to 1.", "amount", "parameter_invalid_integer")
    if amount > LARGEST:
        raise invalid(f"Amount must be no more than {LARGEST} {currency}", "amount", "amount_too_large")
    smallest = _SMALLEST.get(currency, 1)
    if amount < smallest:
        raise invalid(f"Amount must be at least {smallest} {currency}", "amount", "amount_too_small")
    step = 10 if currency in _TENS else 100 if currency in _HUNDREDS else 1
    if amount % step:
        raise invalid(f"Amounts in {currency} must be a multiple of {step}.", "amount", "invalid_charge_amount")
    return amount


def fee(amount: int) -> int:
    """Stripe's fee for a captured amount: 2.9 % and 30, rounded half up."""
    return (amount * _FEE_PERMILLE + 500) // 1000 + _FEE_FIXED
