"""Stripe's objects as the simulator keeps them: immutable, with only what varies. `render` gives them Stripe's shape.

A change makes a new object under the same id, so that an event and a saved answer hold the object as it was.
Attribute names are Stripe's wherever Stripe has the attribute.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from connectors.simulator.stripe.cards import Card


class IntentStatus(StrEnum):
    """`payment_intent.status`."""

    REQUIRES_PAYMENT_METHOD = "requires_payment_method"
    REQUIRES_CONFIRMATION = "requires_confirmation"
    REQUIRES_ACTION = "requires_action"
    REQUIRES_CAPTURE = "requires_capture"
    CANCELED = "canceled"
    SUCCEEDED = "succeeded"


class ChargeStatus(StrEnum):
    """`charge.status`."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"


class RefundStatus(StrEnum):
    """`refund.status`."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class DisputeStatus(StrEnum):
    """`dispute.status`."""

    WARNING_NEEDS_RESPONSE = "warning_needs_response"
    WARNING_UNDER_REVIEW = "warning_under_review"
    WARNING_CLOSED = "warning_closed"
    NEEDS_RESPONSE = "needs_response"
    UNDER_REVIEW = "under_review"
    WON = "won"
    LOST = "lost"


class TransactionType(StrEnum):
    """`balance_transaction.type`."""

    CHARGE = "charge"
    REFUND = "refund"
    REFUND_FAILURE = "refund_failure"
    ADJUSTMENT = "adjustment"
    PAYOUT = "payout"
    PAYOUT_FAILURE = "payout_failure"


class PayoutStatus(StrEnum):
    """`payout.status`."""

    IN_TRANSIT = "in_transit"
    PAID = "paid"
    FAILED = "failed"


Metadata = Mapping[str, str]


class Failure(msgspec.Struct, frozen=True, gc=False):
    """Why a charge or an authentication failed."""

    code: str
    message: str
    kind: str = "card_error"
    decline_code: str | None = None
    network: str | None = None
    network_advice: str | None = None
    advice: str | None = None
    param: str | None = None
    charge: str | None = None
    payment_method: str | None = None
    blocked: bool = False


class Intent(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A payment intent."""

    id: str
    created: int
    amount: int
    currency: str
    status: IntentStatus
    capture_method: str = "automatic"
    confirmation_method: str = "automatic"
    amount_capturable: int = 0
    amount_received: int = 0
    captures: int = 0
    metadata: Metadata = {}
    payment_method: str | None = None
    payment_method_types: tuple[str, ...] = ("card",)
    automatic_payment_methods: bool = False
    request_multicapture: bool = False
    latest_charge: str | None = None
    last_payment_error: Failure | None = None
    action_url: str | None = None
    return_url: str | None = None
    canceled_at: int | None = None
    cancellation_reason: str | None = None
    customer: str | None = None
    description: str | None = None
    receipt_email: str | None = None
    setup_future_usage: str | None = None
    statement_descriptor_suffix: str | None = None
    transfer_group: str | None = None


class Charge(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A charge: one attempt at the card."""

    id: str
    created: int
    amount: int
    currency: str
    status: ChargeStatus
    payment_intent: str
    payment_method: str
    card: Card
    amount_captured: int = 0
    amount_refunded: int = 0
    captured: bool = False
    disputed: bool = False
    multicapture: bool = False
    authenticated: bool = False
    metadata: Metadata = {}
    failure: Failure | None = None
    capture_before: int | None = None
    balance_transaction: str | None = None
    customer: str | None = None
    description: str | None = None

    @property
    def refunded(self) -> bool:
        """Wholly refunded; with several captures only after the last."""
        return self.captured and 0 < self.amount_captured == self.amount_refunded


class Refund(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A refund of a charge."""

    id: str
    created: int
    amount: int
    currency: str
    status: RefundStatus
    charge: str
    payment_intent: str
    reason: str | None = None
    metadata: Metadata = {}
    balance_transaction: str | None = None
    failure_balance_transaction: str | None = None
    failure_reason: str | None = None


class Dispute(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A chargeback, or an inquiry that may become one."""

    id: str
    created: int
    amount: int
    currency: str
    reason: str
    status: DisputeStatus
    charge: str
    payment_intent: str
    due_by: int
    metadata: Metadata = {}
    evidence: Mapping[str, str] = {}
    balance_transactions: tuple[BalanceTransaction, ...] = ()


class Payout(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Money on its way to the bank; only the controls make one."""

    id: str
    created: int
    amount: int
    currency: str
    status: PayoutStatus
    arrival_date: int
    balance_transaction: str | None = None
    failure_balance_transaction: str | None = None


class BalanceTransaction(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A movement on the account's balance; `net` is `amount` less `fee`."""

    id: str
    created: int
    amount: int
    fee: int
    currency: str
    type: TransactionType
    source: str
    available_on: int

    @property
    def net(self) -> int:
        """What the balance changes by."""
        return self.amount - self.fee


StripeObject = Intent | Charge | Refund | Dispute | BalanceTransaction | Payout


class Event(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What happened to an object, as it was right after; `previous` are the attributes that changed."""

    id: str
    type: str
    created: int
    object: StripeObject
    previous: dict[str, Any] | None = None
    request: str | None = None
    idempotency_key: str | None = None
