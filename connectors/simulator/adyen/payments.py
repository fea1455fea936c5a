"""What an Adyen account keeps: payments, and the modifications that were asked for."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from typing import Any, Final

from connectors.simulator.adyen.methods import Method

_LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"
_RUN: Final = 6
_NUMBER: Final = 8
_SUFFIX: Final = "82"


class References:
    """`pspReference`: 16 characters, never two alike, not even across restarts."""

    def __init__(self, seed: int | None = None) -> None:
        self._run = "".join(random.Random(seed).choices(_LETTERS, k=_RUN))
        self._numbers = count(1)

    def new(self) -> str:
        """The next one."""
        number, letters = next(self._numbers), ""
        for _ in range(_NUMBER):
            number, digit = divmod(number, len(_LETTERS))
            letters = _LETTERS[digit] + letters
        return self._run + letters + _SUFFIX


class State(StrEnum):
    """Where a payment stands."""

    WAITING = "waiting"
    """For the shopper, or for somebody else's word."""
    REFUSED = "refused"
    AUTHORISED = "authorised"
    CLOSED = "closed"
    """The shopper never came back."""


class Kind(StrEnum):
    """What a modification does."""

    CAPTURE = "captures"
    CANCEL = "cancels"
    REFUND = "refunds"
    REVERSAL = "reversals"
    TECHNICAL_CANCEL = "technical_cancel"


@dataclass(slots=True)
class Payment:
    """A payment; amounts in Adyen's units."""

    psp: str
    reference: str
    account: str
    value: int
    currency: str
    method: Method
    created: int
    key: str | None
    automatic: bool = False
    order: str | None = None
    return_url: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    state: State = State.WAITING
    captured: int = 0
    released: int = 0
    refunded: int = 0

    @property
    def left(self) -> int:
        """What is left of the hold."""
        return self.value - self.captured - self.released if self.state is State.AUTHORISED else 0

    @property
    def ours(self) -> str | None:
        """Our payment, as the metadata have it."""
        return self.metadata.get("payment_id")

    @property
    def amount(self) -> dict[str, Any]:
        """The whole of it."""
        return {"currency": self.currency, "value": self.value}


@dataclass(slots=True)
class Modification:
    """A capture, cancel or refund that was accepted; `value` None is all there is."""

    psp: str
    kind: Kind
    payment: Payment
    reference: str
    value: int | None
    key: str | None
    decided: bool = False

    @property
    def amount(self) -> dict[str, Any]:
        """What it is about."""
        value = self.payment.value if self.value is None else self.value
        return {"currency": self.payment.currency, "value": value}
