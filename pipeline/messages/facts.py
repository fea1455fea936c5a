"""What happened: the system of record. `payments.events` holds every fact of every payment, in one order, for good.

A fact never changes. Money facts carry all that its journal entry needs, so that the ledger is a pure function of
the fact.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from pipeline.messages.base import Millis, Minor, Record
from pipeline.messages.journal import Posting
from pipeline.messages.values import (
    CaptureMethod,
    Decline,
    NextAction,
    Operation,
    Outcome,
    PaymentMethod,
    RejectionReason,
)


class Fact(Record, frozen=True, kw_only=True):
    """One thing that happened to one payment."""

    fact_id: str
    payment_id: Annotated[str, msgspec.Meta(description="UUID of the payment; the record's key")]
    merchant_id: str
    sequence: Annotated[
        int,
        msgspec.Meta(description="1, 2, 3, ... within the payment; 0 until the capture stage has numbered it"),
    ] = 0
    occurred_at: Millis
    cause_id: Annotated[str, msgspec.Meta(description="the input that brought it about")]
    operation_id: Annotated[
        str, msgspec.Meta(description="the command or timer that began the operation this fact belongs to")
    ]


class IntentCreated(Fact, frozen=True, kw_only=True):
    """A payment intent exists."""

    amount: Minor
    currency: str
    provider: str
    capture_method: CaptureMethod
    customer_id: str | None = None
    merchant_reference: str | None = None
    order_id: str | None = None
    payment_method: PaymentMethod | None = None
    metadata: dict[str, str] = {}
    return_url: Annotated[str | None, msgspec.Meta(description="where the customer goes after an action elsewhere")] = (
        None
    )


class MethodSet(Fact, frozen=True, kw_only=True):
    """The method to pay with was chosen or changed."""

    payment_method: PaymentMethod


class AttemptStarted(Fact, frozen=True, kw_only=True):
    """An immutable authorization attempt began; its request is on its way to the provider."""

    attempt_id: str
    number: int
    provider: str
    amount: Minor
    currency: str
    payment_method: PaymentMethod


class ActionRequired(Fact, frozen=True, kw_only=True):
    """The customer has to act before the provider decides."""

    attempt_id: str
    provider_reference: str | None = None
    next_action: NextAction | None = None


class ActionCompleted(Fact, frozen=True, kw_only=True):
    """The customer is said to have acted; the provider is being asked what it makes of it."""

    attempt_id: str
    provider_reference: str | None = None


class OutcomeUnresolved(Fact, frozen=True, kw_only=True):
    """The provider's answer leaves the outcome open (pending, or lost after sending); it will be looked up."""

    operation: Operation
    subject_id: str
    provider_reference: str | None = None
    detail: str | None = None


class PaymentAuthorized(Fact, frozen=True, kw_only=True):
    """The issuer promised the money: a hold exists."""

    attempt_id: str
    provider: str
    amount: Minor
    currency: str
    capture_method: CaptureMethod
    provider_reference: str
    operation_reference: str | None = None
    hold_expires_at: Millis
    merchant_reference: str | None = None


class AttemptDeclined(Fact, frozen=True, kw_only=True):
    """The attempt ended without a hold."""

    attempt_id: str
    number: int
    provider: str
    amount: Minor
    currency: str
    decline: Decline
    provider_reference: str | None = None


class RetryScheduled(Fact, frozen=True, kw_only=True):
    """Another attempt will be made at `due_at`."""

    attempt_id: Annotated[str, msgspec.Meta(description="the declined attempt")]
    due_at: Millis
    rule: str
    moved_by: Annotated[
        list[str], msgspec.Meta(description="what put it off beyond the rule's delay: network limits, payday, hours")
    ] = []


class PaymentFailed(Fact, frozen=True, kw_only=True):
    """No further attempt with this method; a new method may revive the intent."""

    attempt_id: str | None = None
    amount: Minor
    currency: str
    reason: Annotated[str, msgspec.Meta(description="the rule that ended it")]
    decline: Decline | None = None


class PaymentCanceled(Fact, frozen=True, kw_only=True):
    """The intent was cancelled before any hold existed."""

    reason: str | None = None


class AuthorizationOrphaned(Fact, frozen=True, kw_only=True):
    """The provider approved an attempt that we had given up; it is being voided or refunded."""

    attempt_id: str
    provider: str
    amount: Minor
    currency: str
    capture_method: CaptureMethod
    provider_reference: str


class OrphanReturned(Fact, frozen=True, kw_only=True):
    """What the provider had approved after we gave up went back: the hold released, or the money refunded."""

    attempt_id: str
    return_id: Annotated[str, msgspec.Meta(description="the void or refund that gave it back")]
    provider: str
    amount: Minor
    currency: str
    capture_method: CaptureMethod
    provider_reference: str
    operation_reference: str | None = None


class OrphanReturnFailed(Fact, frozen=True, kw_only=True):
    """The provider would not give it back; a person has to. `after_success`: it had said that it did."""

    attempt_id: str
    return_id: str
    provider: str
    amount: Minor
    currency: str
    capture_method: CaptureMethod
    after_success: bool = False
    detail: str | None = None


class CaptureRequested(Fact, frozen=True, kw_only=True):
    """A capture is on its way to the provider."""

    capture_id: str
    amount: Minor
    currency: str
    final: bool


class PaymentCaptured(Fact, frozen=True, kw_only=True):
    """Held money was claimed. `hold_captured` + `hold_released` leave the hold."""

    capture_id: str
    provider: str
    amount: Minor
    currency: str
    final: bool
    hold_captured: Minor
    hold_released: Minor
    provider_reference: str
    operation_reference: str | None = None


class CaptureFailed(Fact, frozen=True, kw_only=True):
    """The provider refused the capture; the hold stands as before. `after_success`: it had said that it was done, and
    the money does not come; the part of the hold that it claimed is gone.
    """

    capture_id: str
    amount: Minor
    currency: str
    decline: Decline | None = None
    detail: str | None = None
    provider: Annotated[str | None, msgspec.Meta(description="null in facts older than the field")] = None
    after_success: bool = False


class VoidRequested(Fact, frozen=True, kw_only=True):
    """A void is on its way to the provider."""

    void_id: str
    reason: str | None = None


class PaymentVoided(Fact, frozen=True, kw_only=True):
    """What was left of the hold was given back."""

    void_id: str
    provider: str
    hold_released: Minor
    currency: str


class VoidFailed(Fact, frozen=True, kw_only=True):
    """The provider refused the void; the hold stands as before."""

    void_id: str
    detail: str | None = None


class HoldExpiring(Fact, frozen=True, kw_only=True):
    """The hold lapses soon: capture what is left of it, or lose it."""

    attempt_id: str
    provider: str
    remaining: Minor
    currency: str
    expires_at: Millis


class HoldExpired(Fact, frozen=True, kw_only=True):
    """The hold lapsed unclaimed."""

    provider: str
    hold_released: Minor
    currency: str


class RefundRequested(Fact, frozen=True, kw_only=True):
    """A refund is on its way to the provider."""

    refund_id: str
    provider: str
    amount: Minor
    currency: str
    reason: str | None = None


class PaymentRefunded(Fact, frozen=True, kw_only=True):
    """Captured money went back. `was_pending`: our books had it among the refunds under way. They did not when it was
    made at the provider's own console, or succeeded after all.
    """

    refund_id: str
    provider: str
    amount: Minor
    currency: str
    was_pending: bool = True
    operation_reference: str | None = None


class RefundFailed(Fact, frozen=True, kw_only=True):
    """The provider could not give the money back; it is the merchant's again. `after_success`: it had said it did."""

    refund_id: str
    provider: str
    amount: Minor
    currency: str
    after_success: bool = False
    detail: str | None = None


class DisputeFact(Fact, frozen=True, kw_only=True):
    """One thing that happened in a dispute."""

    dispute_id: str
    provider: str
    dispute_reference: Annotated[str, msgspec.Meta(description="the provider's id of the dispute")]
    amount: Minor
    currency: str


class DisputeOpened(DisputeFact, frozen=True, kw_only=True):
    """The cardholder disputes the payment. No money has moved yet, and after an inquiry none may."""

    reason: str | None = None
    evidence_due_at: Millis | None = None


class DisputeFundsWithdrawn(DisputeFact, frozen=True, kw_only=True):
    """The provider took the disputed money back, and `fee` for it."""

    fee: Minor = 0


class DisputeFundsReinstated(DisputeFact, frozen=True, kw_only=True):
    """The provider gave the disputed money back to us, and `fee` of what it had charged."""

    fee: Minor = 0


class DisputeWon(DisputeFact, frozen=True, kw_only=True):
    """Decided for the merchant. `after_loss`: it had been decided against them before."""

    after_loss: bool = False


class DisputeLost(DisputeFact, frozen=True, kw_only=True):
    """Decided against the merchant, who bears the loss."""


class ReviewNeeded(Fact, frozen=True, kw_only=True):
    """Every look-up left the outcome open: a person has to decide."""

    operation: Operation
    subject_id: str
    detail: str | None = None


class ReviewResolved(Fact, frozen=True, kw_only=True):
    """A person decided what became of an operation, and why they say so."""

    operation: Operation
    subject_id: str
    outcome: Outcome
    operator: str
    reason: str


class CommandRejected(Fact, frozen=True, kw_only=True):
    """A command did not fit the payment's state. Nothing else happened."""

    command_id: str
    command: Annotated[str, msgspec.Meta(description="the command's record name")]
    reason: RejectionReason
    detail: str


class EntryReversed(Fact, frozen=True, kw_only=True):
    """A journal entry was corrected by its opposite. The payment itself stands as before."""

    entry_id: Annotated[str, msgspec.Meta(description="the entry that is reversed")]
    postings: Annotated[list[Posting], msgspec.Meta(description="the reversed entry's legs, as they stood")]
    reason: str
    operator: str


FACTS: tuple[type[Fact], ...] = (
    IntentCreated,
    MethodSet,
    AttemptStarted,
    ActionRequired,
    ActionCompleted,
    OutcomeUnresolved,
    PaymentAuthorized,
    AttemptDeclined,
    RetryScheduled,
    PaymentFailed,
    PaymentCanceled,
    AuthorizationOrphaned,
    OrphanReturned,
    OrphanReturnFailed,
    CaptureRequested,
    PaymentCaptured,
    CaptureFailed,
    VoidRequested,
    PaymentVoided,
    VoidFailed,
    HoldExpiring,
    HoldExpired,
    RefundRequested,
    PaymentRefunded,
    RefundFailed,
    DisputeOpened,
    DisputeFundsWithdrawn,
    DisputeFundsReinstated,
    DisputeWon,
    DisputeLost,
    ReviewNeeded,
    ReviewResolved,
    CommandRejected,
    EntryReversed,
)
