"""Amounts as Stripe counts them. Source: docs.stripe.com/currencies, "Zero-decimal currencies", "Special cases",
"Three-decimal currencies".

Stripe counts as ISO 4217 does, in minor units, except: ariary without decimals (ISO says two), króna and Ugandan
shilling with two decimals that are always 00 (ISO says none), and three-decimal amounts in whole tens only.
"""

from __future__ import annotations

from typing import Final

_SCALE: Final = {"ISK": 100, "UGX": 100}
_WHOLE: Final = {"MGA": 100}
_TENS: Final = frozenset({"BHD", "JOD", "KWD", "OMR", "TND"})


class AmountError(ValueError):
    """An amount that Stripe cannot charge; money is never rounded."""


def to_stripe(minor: int, currency: str) -> int:
    """What Stripe calls `minor` units of `currency` (ISO 4217). Raises AmountError."""
    if currency in _WHOLE:
        whole, rest = divmod(minor, _WHOLE[currency])
        if rest:
            raise AmountError(f"Stripe charges whole {currency} only")
        return whole
    if currency in _TENS and minor % 10:
        raise AmountError(f"Stripe charges {currency} in steps of 10 minor units")
    return minor * _SCALE.get(currency, 1)


def from_stripe(amount: int, currency: str) -> int:
    """Minor units (ISO 4217) of an amount as Stripe gives it; `currency` in upper case."""
    return amount * _WHOLE.get(currency, 1) // _SCALE.get(currency, 1)
