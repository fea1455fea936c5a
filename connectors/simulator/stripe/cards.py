"""Test payment methods: what each is and how it behaves. The published ones are in cards.toml.

One family is the simulator's own, for what no published method does:

    pm_sim_decline_<code>             declines every charge
    pm_sim_declineTimes<n>_<code>     declines the first n charges of a `metadata.payment_id`, then approves

`<code>` is a decline code, as it is or in camel case (`insufficient_funds`, `doNotHonor`). `_net<code>` (the network's
response code), `_mac<code>` (Mastercard's merchant advice code, and the card is a Mastercard) and `_advice<Code>`
(`_adviceDoNotTryAgain`) may follow, e.g. `pm_sim_declineTimes2_insufficientFunds_mac02`.
"""

from __future__ import annotations

import re
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

_FILE: Final = Path(__file__).with_name("cards.toml")
_COUNTRY: Final = re.compile(r"pm_card_([a-z]{2})")
_SIMULATED: Final = re.compile(
    r"pm_sim_decline(?:Times(\d{1,3}))?_([a-z]+(?:_[a-z]+)*?|[a-zA-Z]+)((?:_(?:net|mac|advice)[0-9A-Za-z]+)*)"
)
_CAPITAL: Final = re.compile(r"(?<!^)([A-Z])")


class Authenticate(StrEnum):
    """When the customer must authenticate (3D Secure)."""

    NEVER = "never"
    ALWAYS = "always"
    ON_SESSION = "on_session"


class RefundBehaviour(StrEnum):
    """What becomes of a refund."""

    SUCCEEDS = "succeeds"
    PENDING = "pending"
    FAIL = "fail"


class Refusal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a declined charge says."""

    code: str = "card_declined"
    decline_code: str | None = None
    message: str = "Your card was declined."
    network: str | None = None
    network_advice: str | None = None
    advice: str | None = None
    param: str | None = None
    blocked: bool = False


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A test payment method. `declines` is how many charges it declines first; None is every one."""

    brand: str = "visa"
    last4: str = "4242"
    funding: str = "credit"
    country: str = "US"
    decline: str | None = None
    authenticate: Authenticate = Authenticate.NEVER
    refund: RefundBehaviour = RefundBehaviour.SUCCEEDS
    dispute: str | None = None
    inquiry: bool = False
    warning: bool = False
    refusal: Refusal | None = None
    declines: int | None = None

    def asks(self, *, off_session: bool) -> bool:
        """Whether a payment needs the customer's authentication."""
        if self.authenticate is Authenticate.ON_SESSION:
            return not off_session
        return self.authenticate is Authenticate.ALWAYS

    def refuses(self, declined_before: int) -> Refusal | None:
        """Why a charge is declined, if it is."""
        if self.declines is not None and declined_before >= self.declines:
            return None
        return self.refusal


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    cards: dict[str, Card]
    declines: dict[str, Refusal]


class Cards:
    """All methods by id."""

    def __init__(self, path: Path = _FILE) -> None:
        file = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _File)
        self._declines = file.declines
        self._cards = {name: self._complete(card) for name, card in file.cards.items()}
        self.published: Final = frozenset(file.cards)

    def find(self, method: str) -> Card | None:
        """The method of that id; None if there is no such."""
        card = self._cards.get(method)
        if card is None:
            card = _of_country(method) or self._simulated(method)
            if card is not None:
                self._cards[method] = card
        return card

    def refusal(self, name: str) -> Refusal:
        """What a charge says that is declined for `name`, a decline code."""
        return self._declines.get(name) or Refusal(decline_code=name)

    def _complete(self, card: Card) -> Card:
        if card.decline is None:
            return card
        return msgspec.structs.replace(card, refusal=self._declines[card.decline])

    def _simulated(self, method: str) -> Card | None:
        match = _SIMULATED.fullmatch(method)
        if match is None:
            return None
        times, code, extras = match.groups()
        refusal = _with_extras(self.refusal(_snake(code)), extras)
        brand = "mastercard" if refusal.network_advice else "visa"
        return Card(brand=brand, refusal=refusal, declines=None if times is None else int(times))


def _with_extras(refusal: Refusal, extras: str) -> Refusal:
    for extra in extras.split("_")[1:]:
        if extra.startswith("net"):
            refusal = msgspec.structs.replace(refusal, network=extra[3:])
        elif extra.startswith("mac"):
            refusal = msgspec.structs.replace(refusal, network_advice=extra[3:])
        else:
            refusal = msgspec.structs.replace(refusal, advice=_snake(extra[6:]))
    return refusal


def _of_country(method: str) -> Card | None:
    match = _COUNTRY.fullmatch(method)
    return Card(country=match[1].upper()) if match else None


def _snake(camel: str) -> str:
    return _CAPITAL.sub(r"_\1", camel).lower()
