"""Amounts as Adyen counts them. Source: docs.adyen.com/development-resources/currency-codes, "differs from standard".

Adyen counts as ISO 4217 does, in minor units, except: Chilean peso and Icelandic króna with two decimals (ISO says
none), Cape Verdean escudo and Indonesian rupiah without decimals (ISO says two).
"""

from __future__ import annotations

from typing import Final

_SCALE: Final = {"CLP": 100, "ISK": 100}
_WHOLE: Final = {"CVE": 100, "IDR": 100}


class AmountError(ValueError):
    """An amount that Adyen cannot charge; money is never rounded."""


def to_adyen(minor: int, currency: str) -> int:
    """What Adyen calls `minor` units of `currency` (ISO 4217). Raises AmountError."""
    whole, rest = divmod(minor, _WHOLE.get(currency, 1))
    if rest:
        raise AmountError(f"Adyen charges whole {currency} only")
    return whole * _SCALE.get(currency, 1)


def from_adyen(value: int, currency: str) -> int:
    """Minor units (ISO 4217) of an amount as Adyen gives it. Raises AmountError."""
    minor, rest = divmod(value, _SCALE.get(currency, 1))
    if rest:
        raise AmountError(f"{value} of {currency} is no whole number of its minor units")
    return minor * _WHOLE.get(currency, 1)
