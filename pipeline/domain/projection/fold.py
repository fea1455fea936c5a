"""The fold: each fact changes the view in its own way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec.structs import replace

from pipeline.domain.projection.attempts import (
    action_completed,
    action_required,
    attempt_started,
    authorized,
    canceled,
    declined,
    failed,
    orphan_return_failed,
    orphan_returned,
    orphaned,
    retry_scheduled,
)
from pipeline.domain.projection.disputes import (
    dispute_lost,
    dispute_opened,
    dispute_reinstated,
    dispute_withdrawn,
    dispute_won,
)
from pipeline.domain.projection.money import (
    capture_failed,
    capture_requested,
    captured,
    hold_expired,
    refund_failed,
    refund_requested,
    refunded,
    void_failed,
    void_requested,
    voided,
)
from pipeline.domain.projection.reviews import review_needed, review_resolved, reviewed
from pipeline.domain.projection.views import PaymentStatus, PaymentView, RejectionView
from pipeline.messages.facts import (
    ActionCompleted,
    ActionRequired,
    AttemptDeclined,
    AttemptStarted,
    AuthorizationOrphaned,
    CaptureFailed,
    CaptureRequested,
    CommandRejected,
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


def apply(view: PaymentView | None, fact: Fact) -> PaymentView:
    """The payment after `fact`. `view` None is a payment not seen before."""
    view = view or _blank(fact)
    if not _concerns(view, fact):
        return replace(view, sequence=fact.sequence)
    changed = _APPLY[type(fact)](view, fact)
    if changed.reviews:
        changed = reviewed(changed, fact)
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


def _unresolved(view: PaymentView, fact: OutcomeUnresolved) -> PaymentView:
    return view


def _hold_expiring(view: PaymentView, fact: HoldExpiring) -> PaymentView:
    return view


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
    AttemptStarted: attempt_started,
    ActionRequired: action_required,
    ActionCompleted: action_completed,
    OutcomeUnresolved: _unresolved,
    PaymentAuthorized: authorized,
    AttemptDeclined: declined,
    RetryScheduled: retry_scheduled,
    PaymentFailed: failed,
    PaymentCanceled: canceled,
    AuthorizationOrphaned: orphaned,
    OrphanReturned: orphan_returned,
    OrphanReturnFailed: orphan_return_failed,
    CaptureRequested: capture_requested,
    PaymentCaptured: captured,
    CaptureFailed: capture_failed,
    VoidRequested: void_requested,
    PaymentVoided: voided,
    VoidFailed: void_failed,
    HoldExpiring: _hold_expiring,
    HoldExpired: hold_expired,
    RefundRequested: refund_requested,
    PaymentRefunded: refunded,
    RefundFailed: refund_failed,
    DisputeOpened: dispute_opened,
    DisputeFundsWithdrawn: dispute_withdrawn,
    DisputeFundsReinstated: dispute_reinstated,
    DisputeWon: dispute_won,
    DisputeLost: dispute_lost,
    ReviewNeeded: review_needed,
    ReviewResolved: review_resolved,
    CommandRejected: _rejected,
    EntryReversed: _entry_reversed,
}
