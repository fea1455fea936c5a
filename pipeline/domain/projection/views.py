"""The payment as people see it, part by part."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from pipeline.messages.values import CaptureMethod, Decline, NextAction, Operation, PaymentMethod


class PaymentStatus(StrEnum):
    """Where a payment stands, for its reader."""

    NONE = "none"
    """There is no such payment: somebody commanded one that was never created. The API answers 404."""
    REQUIRES_METHOD = "requires_method"
    REQUIRES_AUTHORIZATION = "requires_authorization"
    AUTHORIZING = "authorizing"
    REQUIRES_ACTION = "requires_action"
    DECLINED = "declined"
    RETRY_SCHEDULED = "retry_scheduled"
    NEEDS_REVIEW = "needs_review"
    AUTHORIZED = "authorized"
    PARTIALLY_CAPTURED = "partially_captured"
    CAPTURED = "captured"
    PARTIALLY_REFUNDED = "partially_refunded"
    REFUNDED = "refunded"
    VOIDED = "voided"
    EXPIRED = "expired"
    FAILED = "failed"
    CANCELED = "canceled"


class MoveState(StrEnum):
    """Where an attempt, capture, void or refund stands, for its reader."""

    PENDING = "pending"
    REQUIRES_ACTION = "requires_action"
    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    FAILED = "failed"
    NEEDS_REVIEW = "needs_review"
    ORPHANED = "orphaned"
    """Approved after we gave up; on its way back."""
    RETURNED = "returned"
    """Approved after we gave up, and given back."""


class AttemptView(msgspec.Struct, frozen=True, kw_only=True):
    """One authorization attempt."""

    attempt_id: str
    number: int
    state: MoveState
    provider: str
    payment_method: PaymentMethod
    started_at: int
    provider_reference: str | None = None
    next_action: NextAction | None = None
    decline: Decline | None = None


class MoveView(msgspec.Struct, frozen=True, kw_only=True):
    """One capture, void or refund."""

    id: str
    state: MoveState
    amount: int
    requested_at: int
    final: bool | None = None
    provider_reference: str | None = None
    reason: str | None = None
    detail: str | None = None


class DisputeStatus(StrEnum):
    """Where a dispute stands, for its reader."""

    OPEN = "open"
    WON = "won"
    LOST = "lost"


class DisputeView(msgspec.Struct, frozen=True, kw_only=True):
    """One dispute; `withdrawn` is what the provider holds back for it at present."""

    dispute_id: str
    dispute_reference: str
    status: DisputeStatus
    amount: int
    withdrawn: int
    opened_at: int
    reason: str | None = None
    evidence_due_at: int | None = None


class HoldView(msgspec.Struct, frozen=True, kw_only=True):
    """The hold: what was authorized, what is left of it, until when."""

    amount: int
    remaining: int
    expires_at: int
    provider_reference: str


class RetryView(msgspec.Struct, frozen=True, kw_only=True):
    """The retry that is scheduled, and why: the decline it answers, the policy's rule, what put it off further."""

    due_at: int
    rule: str
    scheduled_at: int = 0
    attempt_number: int = 0
    """The number that the attempt will have."""
    moved_by: tuple[str, ...] = ()
    decline: Decline | None = None


class RejectionView(msgspec.Struct, frozen=True, kw_only=True):
    """A command that did not fit."""

    command_id: str
    command: str
    reason: str
    detail: str
    occurred_at: int


class ReviewView(msgspec.Struct, frozen=True, kw_only=True):
    """An operation whose outcome only a person can find out, and what they found. `operator` is null when the provider
    spoke after all.
    """

    operation: Operation
    subject_id: str
    since: int
    detail: str | None = None
    resolved_at: int | None = None
    outcome: str | None = None
    operator: str | None = None
    reason: str | None = None


class PaymentView(msgspec.Struct, frozen=True, kw_only=True):
    """All that a reader may know of a payment. Amounts in minor units, times in milliseconds since 1970."""

    payment_id: str
    merchant_id: str
    status: PaymentStatus
    amount: int = 0
    currency: str = ""
    provider: str = ""
    capture_method: CaptureMethod = CaptureMethod.MANUAL
    customer_id: str | None = None
    merchant_reference: str | None = None
    order_id: str | None = None
    payment_method: PaymentMethod | None = None
    metadata: dict[str, str] = {}
    return_url: str | None = None
    created_at: int
    updated_at: int
    sequence: int
    amount_captured: int = 0
    amount_refunded: int = 0
    hold: HoldView | None = None
    retry: RetryView | None = None
    decline: Decline | None = None
    attempts: tuple[AttemptView, ...] = ()
    captures: tuple[MoveView, ...] = ()
    voids: tuple[MoveView, ...] = ()
    refunds: tuple[MoveView, ...] = ()
    disputes: tuple[DisputeView, ...] = ()
    rejections: tuple[RejectionView, ...] = ()
    reviews: tuple[ReviewView, ...] = ()
    before_review: PaymentStatus | None = None
