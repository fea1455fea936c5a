"""Amounts as PayPal writes them: decimal strings. Source: developer.paypal.com/api/rest/reference/currency-codes.

Decimals are ISO 4217's, except: forint and new Taiwan dollar without any, where ISO says two (yen has none in both).
PayPal knows no currency with three.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Final

from pipeline import money

_WHOLE: Final = {"HUF": 100, "TWD": 100}
_MOST_DECIMALS: Final = 2


class AmountError(ValueError):
    """An amount that PayPal cannot move, or one of its own that cannot be read; money is never rounded."""


def to_paypal(minor: int, currency: str) -> str:
    """What PayPal calls `minor` units of `currency` (ISO 4217): (1050, "USD") is "10.50". Raises AmountError."""
    if money.exponent(currency) > _MOST_DECIMALS:
        raise AmountError(f"PayPal has no amounts in {currency}")
    whole, rest = divmod(minor, _WHOLE.get(currency, 1))
    if rest:
        raise AmountError(f"PayPal moves whole {currency} only")
    return str(whole) if currency in _WHOLE else money.decimal(minor, currency)


def from_paypal(value: str, currency: str) -> int:
    """Minor units (ISO 4217) of an amount as PayPal writes it. Raises AmountError."""
    try:
        minor = Decimal(value).scaleb(money.exponent(currency))
    except (InvalidOperation, money.MoneyError) as error:
        raise AmountError(f"{value!r} {currency!r} is no amount") from error
    if not minor.is_finite() or minor != minor.to_integral_value():
        raise AmountError(f"{value} {currency} is no whole number of its minor units")
    return int(minor)
