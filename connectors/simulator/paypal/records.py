"""What a PayPal account keeps. Amounts in PayPal's smallest unit, times in seconds since the epoch."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from typing import Final

from connectors.simulator.paypal.methods import APPROVED, Method

_LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"
_RUN: Final = 8
_NUMBER: Final = 9
_ID: Final = r"[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_OURS: Final = re.compile(f"({_ID})_([acvr])_({_ID})")


class References:
    """PayPal's ids: 17 characters, never two alike, not even across restarts. Letters only: no digits of a card."""

    def __init__(self, seed: int | None = None) -> None:
        self._run = "".join(random.Random(seed).choices(_LETTERS, k=_RUN))
        self._numbers = count(1)

    def new(self) -> str:
        """The next one."""
        number, letters = next(self._numbers), ""
        for _ in range(_NUMBER):
            number, digit = divmod(number, len(_LETTERS))
            letters = _LETTERS[digit] + letters
        return self._run + letters


class Intent(StrEnum):
    """What an order is made for."""

    AUTHORIZE = "AUTHORIZE"
    CAPTURE = "CAPTURE"


class OrderStatus(StrEnum):
    """order_status"""

    CREATED = "CREATED"
    PAYER_ACTION_REQUIRED = "PAYER_ACTION_REQUIRED"
    APPROVED = "APPROVED"
    COMPLETED = "COMPLETED"
    VOIDED = "VOIDED"


class AuthorizationStatus(StrEnum):
    """authorization_status"""

    CREATED = "CREATED"
    PENDING = "PENDING"
    DENIED = "DENIED"
    PARTIALLY_CAPTURED = "PARTIALLY_CAPTURED"
    CAPTURED = "CAPTURED"
    VOIDED = "VOIDED"


class CaptureStatus(StrEnum):
    """capture_status"""

    PENDING = "PENDING"
    COMPLETED = "COMPLETED"
    DECLINED = "DECLINED"
    PARTIALLY_REFUNDED = "PARTIALLY_REFUNDED"
    REFUNDED = "REFUNDED"


class RefundStatus(StrEnum):
    """refund_status"""

    PENDING = "PENDING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


class DisputeStatus(StrEnum):
    """status of a dispute"""

    OPEN = "OPEN"
    UNDER_REVIEW = "UNDER_REVIEW"
    RESOLVED = "RESOLVED"


class DisputeOutcome(StrEnum):
    """outcome_code"""

    WON = "RESOLVED_SELLER_FAVOUR"
    LOST = "RESOLVED_BUYER_FAVOUR"


class Reason(StrEnum):
    """status_details.reason"""

    PENDING_REVIEW = "PENDING_REVIEW"
    ECHECK = "ECHECK"


class SourceKind(StrEnum):
    """Which payment source an order names."""

    CARD = "card"
    PAYPAL = "paypal"
    AGREEMENT = "token"


@dataclass(slots=True, kw_only=True)
class Order:
    """An order with its one purchase unit. `method` is None until a payer or a request names one."""

    id: str
    intent: Intent
    value: int
    currency: str
    created: int
    key: str | None
    reference_id: str = "default"
    custom_id: str | None = None
    invoice_id: str | None = None
    description: str | None = None
    source: SourceKind | None = None
    method: Method | None = None
    return_url: str | None = None
    cancel_url: str | None = None
    status: OrderStatus = OrderStatus.CREATED
    authorizations: list[Authorization] = field(default_factory=list)
    captures: list[Capture] = field(default_factory=list)
    refunds: list[Refund] = field(default_factory=list)

    @property
    def ours(self) -> str | None:
        """Our payment, as `custom_id` has it."""
        return _ours(self.custom_id, 1)

    @property
    def attempt(self) -> str | None:
        """Our attempt, as `custom_id` has it."""
        return _ours(self.custom_id, 3)


@dataclass(slots=True, kw_only=True)
class Authorization:
    """An authorized payment. `captured` counts pending captures, too; `ends`: how a pending one is decided."""

    id: str
    order: Order
    value: int
    created: int
    expires: int
    updated: int
    response: str | None = None
    advice: str | None = None
    pending: bool = False
    ends: str | None = None
    denied: bool = False
    voided: bool = False
    expired: bool = False
    closed: bool = False
    """By a final capture."""
    captured: int = 0
    released: int = 0
    captures: int = 0

    @property
    def is_open(self) -> bool:
        """Whether it holds money."""
        return not (self.pending or self.denied or self.voided)

    @property
    def uncaptured(self) -> int:
        """What was neither captured nor given back."""
        return max(0, self.value - self.captured - self.released)

    @property
    def left(self) -> int:
        """What is left of the hold."""
        return self.uncaptured if self.is_open else 0

    @property
    def status(self) -> AuthorizationStatus:
        """Where it stands."""
        if self.voided:
            return AuthorizationStatus.VOIDED
        if self.denied:
            return AuthorizationStatus.DENIED
        if self.pending:
            return AuthorizationStatus.PENDING
        if self.closed or self.captured >= self.value:
            return AuthorizationStatus.CAPTURED
        return AuthorizationStatus.PARTIALLY_CAPTURED if self.captured else AuthorizationStatus.CREATED


@dataclass(slots=True, kw_only=True)
class Capture:
    """A captured payment. `refunded` counts pending refunds, too; `returned` only what went back."""

    id: str
    order: Order
    value: int
    created: int
    updated: int
    key: str | None
    authorization: Authorization | None = None
    invoice_id: str | None = None
    final: bool = True
    response: str | None = APPROVED
    advice: str | None = None
    reason: Reason | None = None
    ends: str | None = None
    declined: bool = False
    refunded: int = 0
    returned: int = 0
    dispute: Dispute | None = None

    @property
    def pending(self) -> bool:
        """Whether it is still to be decided."""
        return self.reason is not None and not self.declined

    @property
    def status(self) -> CaptureStatus:
        """Where it stands."""
        if self.declined:
            return CaptureStatus.DECLINED
        if self.reason is not None:
            return CaptureStatus.PENDING
        if self.returned >= self.value:
            return CaptureStatus.REFUNDED
        return CaptureStatus.PARTIALLY_REFUNDED if self.returned else CaptureStatus.COMPLETED


@dataclass(slots=True, kw_only=True)
class Refund:
    """A refund, or what PayPal took back."""

    id: str
    capture: Capture
    value: int
    created: int
    updated: int
    key: str | None
    status: RefundStatus = RefundStatus.COMPLETED
    custom_id: str | None = None
    invoice_id: str | None = None
    note: str | None = None
    ends: str | None = None
    total: int = 0
    """What had been refunded of the capture then, this included."""

    @property
    def order(self) -> Order:
        """What is refunded."""
        return self.capture.order

    @property
    def pending(self) -> bool:
        """Whether it is still to be decided."""
        return self.status is RefundStatus.PENDING


@dataclass(slots=True, kw_only=True)
class Dispute:
    """A payer's dispute of a capture. `transactions`: the ids of what is taken, and of what comes back if it is won."""

    id: str
    transactions: tuple[str, str]
    capture: Capture
    value: int
    created: int
    updated: int
    status: DisputeStatus = DisputeStatus.OPEN
    outcome: DisputeOutcome | None = None

    @property
    def order(self) -> Order:
        """What was disputed."""
        return self.capture.order

    @property
    def is_lost(self) -> bool:
        """Whether the payer keeps the money."""
        return self.outcome is DisputeOutcome.LOST


Pending = Authorization | Capture | Refund
"""What may be decided later."""


def ours(*references: object) -> dict[str, str]:
    """Our payment's id, and the subject's under its letter's name, as the first reference of ours has them."""
    for reference in references:
        match = _OURS.fullmatch(str(reference)) if reference else None
        if match is not None:
            name = {"a": "attempt_id", "c": "capture_id", "v": "void_id", "r": "refund_id"}[match[2]]
            return {"payment_id": match[1], name: match[3]}
    return {}


def _ours(reference: str | None, group: int) -> str | None:
    match = _OURS.fullmatch(reference or "")
    return match[group] if match else None
