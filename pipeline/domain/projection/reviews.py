"""What a review changes in the view: a person's question about an outcome, and its end."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from pipeline.domain.projection.attempts import attempt
from pipeline.domain.projection.views import MoveState, MoveView, PaymentStatus, PaymentView, ReviewView
from pipeline.messages.facts import (
    AttemptDeclined,
    AuthorizationOrphaned,
    CaptureFailed,
    Fact,
    OrphanReturned,
    OrphanReturnFailed,
    PaymentAuthorized,
    PaymentCaptured,
    PaymentRefunded,
    PaymentVoided,
    RefundFailed,
    ReviewNeeded,
    ReviewResolved,
    VoidFailed,
)


def review_needed(view: PaymentView, fact: ReviewNeeded) -> PaymentView:
    def marked(moves: tuple[MoveView, ...]) -> tuple[MoveView, ...]:
        return tuple(replace(m, state=MoveState.NEEDS_REVIEW) if m.id == fact.subject_id else m for m in moves)

    review = ReviewView(
        operation=fact.operation, subject_id=fact.subject_id, since=fact.occurred_at, detail=fact.detail
    )
    return replace(
        view,
        status=PaymentStatus.NEEDS_REVIEW,
        before_review=view.before_review if view.status is PaymentStatus.NEEDS_REVIEW else view.status,
        attempts=attempt(view, fact.subject_id, state=MoveState.NEEDS_REVIEW),
        captures=marked(view.captures),
        voids=marked(view.voids),
        refunds=marked(view.refunds),
        reviews=(*view.reviews, review),
    )


def review_resolved(view: PaymentView, fact: ReviewResolved) -> PaymentView:
    """The facts that follow say what it means; here is who said so. An attempt given up has none that follow."""
    decided = {
        "resolved_at": fact.occurred_at,
        "outcome": fact.outcome.value,
        "operator": fact.operator,
        "reason": fact.reason,
    }
    return replace(
        view,
        attempts=attempt(view, fact.subject_id, state=MoveState.FAILED),
        reviews=_closed(view.reviews, fact.subject_id, **decided),
    )


def _closed(reviews: tuple[ReviewView, ...], subject_id: str, **changes: Any) -> tuple[ReviewView, ...]:
    """The reviews with those of a subject that were still open changed."""
    return tuple(
        replace(review, **changes) if review.subject_id == subject_id and review.resolved_at is None else review
        for review in reviews
    )


def reviewed(view: PaymentView, fact: Fact) -> PaymentView:
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
