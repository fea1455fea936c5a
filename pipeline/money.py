"""Amounts: integers in minor units and an ISO 4217 currency. Decimal strings exist at the API only."""

from __future__ import annotations

import re
from typing import Final

from iso4217 import Currency

MAX_MINOR: Final = 99_999_999_999
"""The largest amount of one payment, in minor units: a bound on absurd input, far inside a 64-bit integer."""

_DECIMAL: Final = re.compile(r"(0|[1-9][0-9]{0,14})(?:\.([0-9]{1,6}))?", re.ASCII)


class MoneyError(ValueError):
    """An amount or currency that no payment can have. `code` is stable: the API's problem type, the dead letter's
    reason.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def exponent(currency: str) -> int:
    """Digits after the decimal point (ISO 4217): 2 for USD, 0 for JPY, 3 for KWD.

    Raises MoneyError `unknown_currency` for codes that are not ISO 4217, or that have no minor unit (gold, test codes).
    """
    try:
        digits = Currency(currency).exponent
    except ValueError:
        digits = None
    if digits is None:
        raise MoneyError("unknown_currency", f"{currency!r} is no ISO 4217 currency that can be paid in")
    return int(digits)


def parse(amount: str, currency: str) -> int:
    """Minor units of a decimal string: ("10.50", "USD") is 1050, ("1050", "JPY") is 1050.

    Raises MoneyError: `unknown_currency`, `invalid_amount` (no plain decimal), `too_many_decimals`,
    `amount_out_of_range`.
    """
    digits = exponent(currency)
    match = _DECIMAL.fullmatch(amount)
    if match is None:
        raise MoneyError("invalid_amount", "an amount is a plain decimal string such as 10.50")
    whole, fraction = match[1], match[2] or ""
    if len(fraction) > digits:
        raise MoneyError("too_many_decimals", f"{currency} has {digits} decimals")
    return check(int(whole + fraction.ljust(digits, "0")), currency)


def check(minor: int, currency: str) -> int:
    """`minor` itself, if a payment may be of that amount. Raises MoneyError as `parse` does."""
    exponent(currency)
    if not 0 < minor <= MAX_MINOR:
        raise MoneyError("amount_out_of_range", f"an amount is between 1 and {MAX_MINOR} minor units")
    return minor


def decimal(minor: int, currency: str) -> str:
    """The decimal string of an amount: (1050, "USD") is "10.50"."""
    digits = exponent(currency)
    sign, text = ("-" if minor < 0 else ""), str(abs(minor)).rjust(digits + 1, "0")
    return sign + (f"{text[:-digits]}.{text[-digits:]}" if digits else text)
