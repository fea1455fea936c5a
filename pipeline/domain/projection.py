"""The payment as people see it: a pure fold of its facts. The sink keeps it in Postgres, replay and `verify`
recompute it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from pipeline import ids
from pipeline.messages.facts import (
    ActionCompleted,
    ActionRequired,
    AttemptDeclined,
    AttemptStarted,
    AuthorizationOrphaned,
    CaptureFailed,
    CaptureRequested,
    CommandRejected,
    DisputeFact,
    DisputeFundsReinstated,
    DisputeFundsWithdrawn,
    DisputeLost,
    DisputeOpened,
    DisputeWon,
    EntryReversed,
    Fact,
    HoldExpired,
    HoldExpiring,
    IntentCreated,
    MethodSet,
    OrphanReturned,
    OrphanReturnFailed,
    OutcomeUnresolved,
    PaymentAuthorized,
    PaymentCanceled,
    PaymentCaptured,
    PaymentFailed,
    PaymentRefunded,
    PaymentVoided,
    RefundFailed,
    RefundRequested,
    RetryScheduled,
    ReviewNeeded,
    ReviewResolved,
    VoidFailed,
    VoidRequested,
)
from pipeline.messages.public import DisputeSnapshot, PaymentEvent, PaymentSnapshot
from pipeline.messages.values import CaptureMethod, Decline, NextAction, Operation, PaymentMethod
from pipeline.topics import PublicTopic


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


def apply(view: PaymentView | None, fact: Fact) -> PaymentView:
    """The payment after `fact`. `view` None is a payment not seen before."""
    view = view or _blank(fact)
    if not _concerns(view, fact):
        return replace(view, sequence=fact.sequence)
    changed = _APPLY[type(fact)](view, fact)
    if changed.reviews:
        changed = _reviewed(changed, fact)
    return replace(changed, sequence=fact.sequence, updated_at=fact.occurred_at)


def _blank(fact: Fact) -> PaymentView:
    return PaymentView(
        payment_id=fact.payment_id,
        merchant_id=fact.merchant_id,
        status=PaymentStatus.NONE,
        created_at=fact.occurred_at,
        updated_at=fact.occurred_at,
        sequence=0,
    )


def _concerns(view: PaymentView, fact: Fact) -> bool:
    """Another merchant's rejected command is none of this payment's reader's business."""
    return view.status is PaymentStatus.NONE or fact.merchant_id == view.merchant_id


def _created(view: PaymentView, fact: IntentCreated) -> PaymentView:
    return replace(
        view,
        merchant_id=fact.merchant_id,
        status=PaymentStatus.REQUIRES_AUTHORIZATION if fact.payment_method else PaymentStatus.REQUIRES_METHOD,
        amount=fact.amount,
        currency=fact.currency,
        provider=fact.provider,
        capture_method=fact.capture_method,
        customer_id=fact.customer_id,
        merchant_reference=fact.merchant_reference,
        order_id=fact.order_id,
        payment_method=fact.payment_method,
        metadata=fact.metadata,
        return_url=fact.return_url,
        created_at=fact.occurred_at,
    )


def _method_set(view: PaymentView, fact: MethodSet) -> PaymentView:
    return replace(view, payment_method=fact.payment_method, status=PaymentStatus.REQUIRES_AUTHORIZATION, retry=None)


def _attempt_started(view: PaymentView, fact: AttemptStarted) -> PaymentView:
    attempt = AttemptView(
        attempt_id=fact.attempt_id,
        number=fact.number,
        state=MoveState.PENDING,
        provider=fact.provider,
        payment_method=fact.payment_method,
        started_at=fact.occurred_at,
    )
    return replace(
        view,
        attempts=(*view.attempts, attempt),
        provider=fact.provider,
        status=PaymentStatus.AUTHORIZING,
        retry=None,
        decline=None,
    )


def _attempt(view: PaymentView, attempt_id: str, **changes: Any) -> tuple[AttemptView, ...]:
    return tuple(replace(a, **changes) if a.attempt_id == attempt_id else a for a in view.attempts)


def _action_required(view: PaymentView, fact: ActionRequired) -> PaymentView:
    attempts = _attempt(
        view,
        fact.attempt_id,
        state=MoveState.REQUIRES_ACTION,
        provider_reference=fact.provider_reference,
        **({"next_action": fact.next_action} if fact.next_action else {}),
    )
    return replace(view, attempts=attempts, status=PaymentStatus.REQUIRES_ACTION)


def _action_completed(view: PaymentView, fact: ActionCompleted) -> PaymentView:
    attempts = _attempt(view, fact.attempt_id, state=MoveState.PENDING)
    return replace(view, attempts=attempts, status=PaymentStatus.AUTHORIZING)


def _unresolved(view: PaymentView, fact: OutcomeUnresolved) -> PaymentView:
    return view


def _authorized(view: PaymentView, fact: PaymentAuthorized) -> PaymentView:
    attempts = _attempt(
        view,
        fact.attempt_id,
        state=MoveState.SUCCEEDED,
        provider_reference=fact.provider_reference,
        next_action=None,
    )
    hold = HoldView(
        amount=fact.amount,
        remaining=fact.amount,
        expires_at=fact.hold_expires_at,
        provider_reference=fact.provider_reference,
    )
    return replace(view, attempts=attempts, hold=hold, status=PaymentStatus.AUTHORIZED, retry=None)


def _declined(view: PaymentView, fact: AttemptDeclined) -> PaymentView:
    attempts = _attempt(
        view,
        fact.attempt_id,
        state=MoveState.DECLINED,
        provider_reference=fact.provider_reference,
        decline=fact.decline,
        next_action=None,
    )
    return replace(view, attempts=attempts, decline=fact.decline, status=PaymentStatus.DECLINED)


def _retry_scheduled(view: PaymentView, fact: RetryScheduled) -> PaymentView:
    retry = RetryView(
        due_at=fact.due_at,
        rule=fact.rule,
        scheduled_at=fact.occurred_at,
        attempt_number=len(view.attempts) + 1,
        moved_by=tuple(fact.moved_by),
        decline=view.decline,
    )
    return replace(view, retry=retry, status=PaymentStatus.RETRY_SCHEDULED)


def _failed(view: PaymentView, fact: PaymentFailed) -> PaymentView:
    return replace(view, status=PaymentStatus.FAILED, retry=None, decline=fact.decline or view.decline)


def _canceled(view: PaymentView, fact: PaymentCanceled) -> PaymentView:
    waiting = {MoveState.PENDING, MoveState.REQUIRES_ACTION}
    attempts = tuple(replace(a, state=MoveState.FAILED) if a.state in waiting else a for a in view.attempts)
    return replace(view, attempts=attempts, status=PaymentStatus.CANCELED, retry=None)


def _orphaned(view: PaymentView, fact: AuthorizationOrphaned) -> PaymentView:
    return replace(view, attempts=_attempt(view, fact.attempt_id, state=MoveState.ORPHANED))


def _orphan_returned(view: PaymentView, fact: OrphanReturned) -> PaymentView:
    return replace(view, attempts=_attempt(view, fact.attempt_id, state=MoveState.RETURNED))


def _orphan_return_failed(view: PaymentView, fact: OrphanReturnFailed) -> PaymentView:
    return replace(view, attempts=_attempt(view, fact.attempt_id, state=MoveState.ORPHANED))


def _put(moves: tuple[MoveView, ...], move: MoveView) -> tuple[MoveView, ...]:
    if all(m.id != move.id for m in moves):
        return (*moves, move)
    return tuple(move if m.id == move.id else m for m in moves)


def _move(moves: tuple[MoveView, ...], move_id: str, fact: Fact) -> MoveView:
    """The move as it was, or a new one: a report may come for what nobody here had asked for."""
    known = next((m for m in moves if m.id == move_id), None)
    return known or MoveView(id=move_id, state=MoveState.PENDING, amount=0, requested_at=fact.occurred_at)


def _capture_requested(view: PaymentView, fact: CaptureRequested) -> PaymentView:
    move = _move(view.captures, fact.capture_id, fact)
    return replace(view, captures=_put(view.captures, replace(move, amount=fact.amount, final=fact.final)))


def _captured(view: PaymentView, fact: PaymentCaptured) -> PaymentView:
    move = replace(
        _move(view.captures, fact.capture_id, fact),
        state=MoveState.SUCCEEDED,
        amount=fact.amount,
        final=fact.final,
        provider_reference=fact.operation_reference,
    )
    view = replace(
        view,
        captures=_put(view.captures, move),
        amount_captured=view.amount_captured + fact.amount,
        hold=_less(view.hold, fact.hold_captured + fact.hold_released),
    )
    return replace(view, status=_money_status(view))


def _less(hold: HoldView | None, amount: int) -> HoldView | None:
    return replace(hold, remaining=hold.remaining - amount) if hold else None


def _money_status(view: PaymentView) -> PaymentStatus:
    """The status that the amounts imply, once something was captured, or was until it was taken back."""
    if view.amount_refunded:
        whole = view.amount_refunded >= view.amount_captured
        return PaymentStatus.REFUNDED if whole else PaymentStatus.PARTIALLY_REFUNDED
    open_hold = view.hold is not None and view.hold.remaining > 0
    if not view.amount_captured:
        return PaymentStatus.AUTHORIZED if open_hold else PaymentStatus.FAILED
    return PaymentStatus.PARTIALLY_CAPTURED if open_hold else PaymentStatus.CAPTURED


def _capture_failed(view: PaymentView, fact: CaptureFailed) -> PaymentView:
    move = replace(
        _move(view.captures, fact.capture_id, fact), state=MoveState.FAILED, amount=fact.amount, detail=fact.detail
    )
    view = replace(view, captures=_put(view.captures, move))
    if not fact.after_success:
        return view
    view = replace(view, amount_captured=view.amount_captured - fact.amount)
    return replace(view, status=_money_status(view))


def _void_requested(view: PaymentView, fact: VoidRequested) -> PaymentView:
    remaining = view.hold.remaining if view.hold else 0
    move = replace(_move(view.voids, fact.void_id, fact), amount=remaining, reason=fact.reason)
    return replace(view, voids=_put(view.voids, move))


def _voided(view: PaymentView, fact: PaymentVoided) -> PaymentView:
    move = replace(_move(view.voids, fact.void_id, fact), state=MoveState.SUCCEEDED, amount=fact.hold_released)
    return _released(replace(view, voids=_put(view.voids, move)), fact.hold_released, PaymentStatus.VOIDED)


def _released(view: PaymentView, amount: int, status: PaymentStatus) -> PaymentView:
    view = replace(view, hold=_less(view.hold, amount))
    return replace(view, status=_money_status(view) if view.amount_captured else status)


def _void_failed(view: PaymentView, fact: VoidFailed) -> PaymentView:
    move = replace(_move(view.voids, fact.void_id, fact), state=MoveState.FAILED, detail=fact.detail)
    return replace(view, voids=_put(view.voids, move))


def _hold_expiring(view: PaymentView, fact: HoldExpiring) -> PaymentView:
    return view


def _hold_expired(view: PaymentView, fact: HoldExpired) -> PaymentView:
    return _released(view, fact.hold_released, PaymentStatus.EXPIRED)


def _refund_requested(view: PaymentView, fact: RefundRequested) -> PaymentView:
    move = replace(_move(view.refunds, fact.refund_id, fact), amount=fact.amount, reason=fact.reason)
    return replace(view, refunds=_put(view.refunds, move))


def _refunded(view: PaymentView, fact: PaymentRefunded) -> PaymentView:
    move = replace(
        _move(view.refunds, fact.refund_id, fact),
        state=MoveState.SUCCEEDED,
        amount=fact.amount,
        provider_reference=fact.operation_reference,
    )
    view = replace(view, refunds=_put(view.refunds, move), amount_refunded=view.amount_refunded + fact.amount)
    return replace(view, status=_money_status(view))


def _refund_failed(view: PaymentView, fact: RefundFailed) -> PaymentView:
    move = replace(
        _move(view.refunds, fact.refund_id, fact), state=MoveState.FAILED, amount=fact.amount, detail=fact.detail
    )
    refunded = view.amount_refunded - (fact.amount if fact.after_success else 0)
    view = replace(view, refunds=_put(view.refunds, move), amount_refunded=refunded)
    return replace(view, status=_money_status(view))


def _dispute_opened(view: PaymentView, fact: DisputeOpened) -> PaymentView:
    dispute = DisputeView(
        dispute_id=fact.dispute_id,
        dispute_reference=fact.dispute_reference,
        status=DisputeStatus.OPEN,
        amount=fact.amount,
        withdrawn=0,
        opened_at=fact.occurred_at,
        reason=fact.reason,
        evidence_due_at=fact.evidence_due_at,
    )
    return replace(view, disputes=(*view.disputes, dispute))


def _dispute(view: PaymentView, fact: DisputeFact, withdrawn: int = 0, **changes: Any) -> PaymentView:
    return replace(
        view,
        disputes=tuple(
            replace(d, withdrawn=d.withdrawn + withdrawn, **changes) if d.dispute_id == fact.dispute_id else d
            for d in view.disputes
        ),
    )


def _dispute_withdrawn(view: PaymentView, fact: DisputeFundsWithdrawn) -> PaymentView:
    return _dispute(view, fact, fact.amount)


def _dispute_reinstated(view: PaymentView, fact: DisputeFundsReinstated) -> PaymentView:
    return _dispute(view, fact, -fact.amount)


def _dispute_won(view: PaymentView, fact: DisputeWon) -> PaymentView:
    return _dispute(view, fact, status=DisputeStatus.WON)


def _dispute_lost(view: PaymentView, fact: DisputeLost) -> PaymentView:
    return _dispute(view, fact, status=DisputeStatus.LOST)


def _review_needed(view: PaymentView, fact: ReviewNeeded) -> PaymentView:
    def marked(moves: tuple[MoveView, ...]) -> tuple[MoveView, ...]:
        return tuple(replace(m, state=MoveState.NEEDS_REVIEW) if m.id == fact.subject_id else m for m in moves)

    review = ReviewView(
        operation=fact.operation, subject_id=fact.subject_id, since=fact.occurred_at, detail=fact.detail
    )
    return replace(
        view,
        status=PaymentStatus.NEEDS_REVIEW,
        before_review=view.before_review if view.status is PaymentStatus.NEEDS_REVIEW else view.status,
        attempts=_attempt(view, fact.subject_id, state=MoveState.NEEDS_REVIEW),
        captures=marked(view.captures),
        voids=marked(view.voids),
        refunds=marked(view.refunds),
        reviews=(*view.reviews, review),
    )


def _review_resolved(view: PaymentView, fact: ReviewResolved) -> PaymentView:
    """The facts that follow say what it means; here is who said so. An attempt given up has none that follow."""
    decided = {
        "resolved_at": fact.occurred_at,
        "outcome": fact.outcome.value,
        "operator": fact.operator,
        "reason": fact.reason,
    }
    return replace(
        view,
        attempts=_attempt(view, fact.subject_id, state=MoveState.FAILED),
        reviews=_closed(view.reviews, fact.subject_id, **decided),
    )


def _closed(reviews: tuple[ReviewView, ...], subject_id: str, **changes: Any) -> tuple[ReviewView, ...]:
    """The reviews with those of a subject that were still open changed."""
    return tuple(
        replace(review, **changes) if review.subject_id == subject_id and review.resolved_at is None else review
        for review in reviews
    )


def _reviewed(view: PaymentView, fact: Fact) -> PaymentView:
    """A review ends when the provider's word settles its subject; the last one gives the payment its status back."""
    if subject := _settles(fact):
        view = replace(view, reviews=_closed(view.reviews, subject, resolved_at=fact.occurred_at, outcome="settled"))
    still = any(review.resolved_at is None for review in view.reviews)
    if not still and view.status is PaymentStatus.NEEDS_REVIEW:
        return replace(view, status=view.before_review or view.status, before_review=None)
    return view


def _settles(fact: Fact) -> str | None:
    """The subject that a fact says the outcome of."""
    match fact:
        case PaymentAuthorized() | AttemptDeclined() | AuthorizationOrphaned():
            return fact.attempt_id
        case PaymentCaptured() | CaptureFailed():
            return fact.capture_id
        case PaymentVoided() | VoidFailed():
            return fact.void_id
        case PaymentRefunded() | RefundFailed():
            return fact.refund_id
        case OrphanReturned() | OrphanReturnFailed():
            return fact.return_id
    return None


def _rejected(view: PaymentView, fact: CommandRejected) -> PaymentView:
    rejection = RejectionView(
        command_id=fact.command_id,
        command=fact.command,
        reason=fact.reason,
        detail=fact.detail,
        occurred_at=fact.occurred_at,
    )
    return replace(view, rejections=(*view.rejections, rejection))


def _entry_reversed(view: PaymentView, fact: EntryReversed) -> PaymentView:
    """The books were corrected; the payment stands as before."""
    return view


_APPLY: Final[dict[type[Fact], Callable[[PaymentView, Any], PaymentView]]] = {
    IntentCreated: _created,
    MethodSet: _method_set,
    AttemptStarted: _attempt_started,
    ActionRequired: _action_required,
    ActionCompleted: _action_completed,
    OutcomeUnresolved: _unresolved,
    PaymentAuthorized: _authorized,
    AttemptDeclined: _declined,
    RetryScheduled: _retry_scheduled,
    PaymentFailed: _failed,
    PaymentCanceled: _canceled,
    AuthorizationOrphaned: _orphaned,
    OrphanReturned: _orphan_returned,
    OrphanReturnFailed: _orphan_return_failed,
    CaptureRequested: _capture_requested,
    PaymentCaptured: _captured,
    CaptureFailed: _capture_failed,
    VoidRequested: _void_requested,
    PaymentVoided: _voided,
    VoidFailed: _void_failed,
    HoldExpiring: _hold_expiring,
    HoldExpired: _hold_expired,
    RefundRequested: _refund_requested,
    PaymentRefunded: _refunded,
    RefundFailed: _refund_failed,
    DisputeOpened: _dispute_opened,
    DisputeFundsWithdrawn: _dispute_withdrawn,
    DisputeFundsReinstated: _dispute_reinstated,
    DisputeWon: _dispute_won,
    DisputeLost: _dispute_lost,
    ReviewNeeded: _review_needed,
    ReviewResolved: _review_resolved,
    CommandRejected: _rejected,
    EntryReversed: _entry_reversed,
}


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

_PUBLIC: Final[dict[type[Fact], PublicTopic]] = {
    IntentCreated: PublicTopic.CREATED,
    PaymentAuthorized: PublicTopic.AUTHORIZED,
    PaymentCaptured: PublicTopic.CAPTURED,
    PaymentVoided: PublicTopic.VOIDED,
    PaymentCanceled: PublicTopic.VOIDED,
    HoldExpiring: PublicTopic.EXPIRING,
    HoldExpired: PublicTopic.VOIDED,
    PaymentRefunded: PublicTopic.REFUNDED,
    PaymentFailed: PublicTopic.FAILED,
    CaptureFailed: PublicTopic.FAILED,
    DisputeOpened: PublicTopic.DISPUTED,
    DisputeWon: PublicTopic.DISPUTED,
    DisputeLost: PublicTopic.DISPUTED,
}


def public_event(view: PaymentView, fact: Fact) -> PaymentEvent | None:
    """What consumer teams learn of a fact, `view` being the payment right after it; None for what is internal."""
    topic = _PUBLIC.get(type(fact))
    if topic is None or (isinstance(fact, CaptureFailed) and not fact.after_success):
        return None
    amount, subject = _moved(fact)
    return PaymentEvent(
        event_id=ids.outbox_id(fact.fact_id),
        type=topic,
        payment_id=fact.payment_id,
        sequence=fact.sequence,
        occurred_at=fact.occurred_at,
        amount=amount,
        subject_id=subject,
        decline=fact.decline if isinstance(fact, PaymentFailed | CaptureFailed) else None,
        dispute=_disputed(view, fact) if isinstance(fact, DisputeFact) else None,
        payment=_snapshot(view),
    )


def _moved(fact: Fact) -> tuple[int | None, str | None]:
    """What a fact moved, and the attempt, capture, void or refund that moved it."""
    match fact:
        case PaymentAuthorized() | PaymentFailed():
            return fact.amount, fact.attempt_id
        case PaymentCaptured() | CaptureFailed():
            return fact.amount, fact.capture_id
        case PaymentVoided():
            return fact.hold_released, fact.void_id
        case HoldExpiring():
            return fact.remaining, fact.attempt_id
        case HoldExpired():
            return fact.hold_released, None
        case PaymentRefunded():
            return fact.amount, fact.refund_id
        case DisputeFact():
            return fact.amount, fact.dispute_id
    return None, None


def _disputed(view: PaymentView, fact: DisputeFact) -> DisputeSnapshot | None:
    found = next((d for d in view.disputes if d.dispute_id == fact.dispute_id), None)
    if found is None:
        return None
    return DisputeSnapshot(
        dispute_id=found.dispute_id,
        dispute_reference=found.dispute_reference,
        status=found.status,
        amount=found.amount,
        reason=found.reason,
        evidence_due_at=found.evidence_due_at,
    )


def _snapshot(view: PaymentView) -> PaymentSnapshot:
    return PaymentSnapshot(
        payment_id=view.payment_id,
        merchant_id=view.merchant_id,
        status=view.status,
        amount=view.amount,
        currency=view.currency,
        provider=view.provider,
        capture_method=view.capture_method,
        customer_id=view.customer_id,
        merchant_reference=view.merchant_reference,
        order_id=view.order_id,
        metadata=view.metadata,
        amount_authorized=view.hold.amount if view.hold else 0,
        amount_captured=view.amount_captured,
        amount_refunded=view.amount_refunded,
        provider_reference=view.hold.provider_reference if view.hold else None,
        hold_expires_at=view.hold.expires_at if view.hold else None,
    )
