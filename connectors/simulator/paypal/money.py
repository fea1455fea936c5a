"""PayPal's amounts: decimal strings outside, integers inside.

Source: developer.paypal.com/api/rest/reference/currency-codes. The integers are in PayPal's smallest unit: whole
forint, yen and new Taiwan dollars, hundredths of everything else.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from connectors.simulator.paypal import errors

WHOLE: Final = frozenset({"HUF", "JPY", "TWD"})
"""Currencies that PayPal takes without decimals."""
CURRENCIES: Final = WHOLE | {
    "AUD", "BRL", "CAD", "CHF", "CNY", "CZK", "DKK", "EUR", "GBP", "HKD", "ILS", "MXN", "MYR", "NOK", "NZD", "PHP",
    "PLN", "SEK", "SGD", "THB", "USD",
}  # fmt: skip
_VALUE: Final = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?|(-?)\.([0-9]+)", re.ASCII)
_LONGEST: Final = 32
_DECIMALS: Final = 2


class Money(msgspec.Struct, frozen=True):
    """An amount in PayPal's smallest unit."""

    value: int
    currency: str


def parse(amount: object, field: str) -> Money:
    """`{currency_code, value}`, more than nothing. Raises PayPalError."""
    if not isinstance(amount, dict):
        raise errors.missing(field)
    for name in ("currency_code", "value"):
        if not amount.get(name):
            raise errors.missing(f"{field}/{name}")
    currency, value = str(amount["currency_code"]), str(amount["value"])
    if currency not in CURRENCIES:
        raise errors.issue("INVALID_CURRENCY_CODE", f"{field}/currency_code", currency)
    return Money(_units(value, currency, f"{field}/value"), currency)


def shown(value: int, currency: str) -> dict[str, Any]:
    """The amount as JSON has it."""
    if currency in WHOLE:
        return {"currency_code": currency, "value": str(value)}
    sign, whole, rest = "-" if value < 0 else "", *divmod(abs(value), 10**_DECIMALS)
    return {"currency_code": currency, "value": f"{sign}{whole}.{rest:0{_DECIMALS}d}"}


def _units(value: str, currency: str, field: str) -> int:
    match = _VALUE.fullmatch(value)
    if match is None or len(value) > _LONGEST:
        raise errors.invalid("INVALID_PARAMETER_SYNTAX", field, value)
    fraction = match[3] or match[5] or ""
    if currency in WHOLE and fraction.strip("0"):
        raise errors.issue("DECIMALS_NOT_SUPPORTED", field, value)
    if len(fraction) > _DECIMALS:
        raise errors.issue("DECIMAL_PRECISION", field, value)
    digits = 0 if currency in WHOLE else _DECIMALS
    units = int((match[2] or "0") + fraction[:digits].ljust(digits, "0"))
    if units == 0 or match[1] or match[4]:
        raise errors.issue("CANNOT_BE_ZERO_OR_NEGATIVE", field, value)
    return units
