"""Test payment methods: what a token leads to."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_DATA: Final = tomllib.loads((Path(__file__).parent / "methods.toml").read_text())
_TIMES: Final = re.compile(r"pm_sim_declineTimes(\d{1,3})_([a-z_]+)")
"""Not Stripe's: declines the first N charges of a payment with that decline code, then approves."""


@dataclass(frozen=True, slots=True)
class Declined:
    """The issuer says no."""

    code: str
    decline_code: str
    advice: str | None = None
    network: str | None = None


@dataclass(frozen=True, slots=True)
class Approved:
    """The issuer says yes."""


@dataclass(frozen=True, slots=True)
class Authenticate:
    """The cardholder has to authenticate first."""


class UnknownMethodError(ValueError):
    """No such test payment method."""


Verdict = Approved | Declined | Authenticate


def verdict(token: str, charges_before: int) -> Verdict:
    """What a charge with the method comes to; `charges_before` counts earlier ones of the same payment of ours.

    Raises UnknownMethodError.
    """
    if match := _TIMES.fullmatch(token):
        again = charges_before < int(match[1])
        return Declined("card_declined", match[2], "try_again_later", "51") if again else Approved()
    if token in _DATA["approved"]["tokens"]:
        return Approved()
    if token in _DATA["authentication"]["tokens"]:
        return Authenticate()
    if declined := _DATA["declined"].get(token):
        return Declined(**declined)
    raise UnknownMethodError(token)
