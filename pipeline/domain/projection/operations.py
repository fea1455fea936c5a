"""What became of a command: a pure fold of the facts that belong to it."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from pipeline.domain.projection.views import PaymentStatus
from pipeline.messages.facts import (
    ActionCompleted,
    ActionRequired,
    AttemptDeclined,
    AttemptStarted,
    CaptureFailed,
    CaptureRequested,
    CommandRejected,
    EntryReversed,
    Fact,
    IntentCreated,
    MethodSet,
    PaymentAuthorized,
    PaymentCanceled,
    PaymentCaptured,
    PaymentFailed,
    PaymentRefunded,
    PaymentVoided,
    RefundFailed,
    RefundRequested,
    ReviewNeeded,
    VoidFailed,
    VoidRequested,
)


class OperationState(StrEnum):
    """What became of a command."""

    STARTED = "started"
    COMPLETED = "completed"
    REJECTED = "rejected"
    FAILED = "failed"


class OperationUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """What a fact says of the operation it belongs to. A later update of the same operation replaces an earlier one."""

    operation_id: str
    kind: str
    state: OperationState
    reason: str | None = None
    detail: str | None = None


class OperationView(msgspec.Struct, frozen=True, kw_only=True):
    """A command and what became of it: a row of `payments.operations`. `sequence` is its latest fact's; `updated_at`
    milliseconds since 1970.
    """

    payment_id: str
    operation_id: str
    merchant_id: str
    kind: str
    state: OperationState
    reason: str | None
    detail: str | None
    sequence: int
    updated_at: int


def operation_update(fact: Fact) -> OperationUpdate | None:
    """What the fact says of its operation, or None."""
    if isinstance(fact, CommandRejected):
        return OperationUpdate(
            operation_id=fact.operation_id,
            kind=fact.command,
            state=OperationState.REJECTED,
            reason=fact.reason,
            detail=fact.detail,
        )
    rule = _OPERATIONS.get(type(fact))
    if rule is None:
        return None
    kind, state = rule
    return OperationUpdate(operation_id=fact.operation_id, kind=kind, state=state, reason=_reason(fact))


def operation_after(before: OperationView | None, fact: Fact, update: OperationUpdate) -> OperationView:
    """The operation after the fact that brings the update. Its first fact says whose it is and of which kind; only a
    method that was set on the way to what was asked for gives way. So two facts at once and one by one come to the
    same, and the rows do not depend on how the sink batched.
    """
    return OperationView(
        payment_id=fact.payment_id,
        operation_id=update.operation_id,
        merchant_id=before.merchant_id if before else fact.merchant_id,
        kind=before.kind if before and before.kind != _GIVES_WAY else update.kind,
        state=update.state,
        reason=update.reason,
        detail=update.detail,
        sequence=fact.sequence,
        updated_at=fact.occurred_at,
    )


_GIVES_WAY: Final = "SetMethod"


def _reason(fact: Fact) -> str | None:
    match fact:
        case AttemptDeclined():
            return fact.decline.code
        case PaymentFailed():
            return fact.decline.code if fact.decline else fact.reason
        case ActionRequired():
            return PaymentStatus.REQUIRES_ACTION
        case CaptureFailed():
            return fact.decline.code if fact.decline else "capture_failed"
        case VoidFailed():
            return "void_failed"
        case RefundFailed():
            return "refund_failed"
        case ReviewNeeded():
            return PaymentStatus.NEEDS_REVIEW
    return None


_OPERATIONS: Final[dict[type[Fact], tuple[str, OperationState]]] = {
    IntentCreated: ("CreateIntent", OperationState.COMPLETED),
    MethodSet: ("SetMethod", OperationState.COMPLETED),
    AttemptStarted: ("Authorize", OperationState.STARTED),
    ActionRequired: ("Authorize", OperationState.COMPLETED),
    ActionCompleted: ("Authorize", OperationState.STARTED),
    PaymentAuthorized: ("Authorize", OperationState.COMPLETED),
    AttemptDeclined: ("Authorize", OperationState.FAILED),
    PaymentFailed: ("Authorize", OperationState.FAILED),
    PaymentCanceled: ("Void", OperationState.COMPLETED),
    CaptureRequested: ("Capture", OperationState.STARTED),
    PaymentCaptured: ("Capture", OperationState.COMPLETED),
    CaptureFailed: ("Capture", OperationState.FAILED),
    VoidRequested: ("Void", OperationState.STARTED),
    PaymentVoided: ("Void", OperationState.COMPLETED),
    VoidFailed: ("Void", OperationState.FAILED),
    RefundRequested: ("Refund", OperationState.STARTED),
    PaymentRefunded: ("Refund", OperationState.COMPLETED),
    RefundFailed: ("Refund", OperationState.FAILED),
    ReviewNeeded: ("Review", OperationState.FAILED),
    EntryReversed: ("ReverseEntry", OperationState.COMPLETED),
}
