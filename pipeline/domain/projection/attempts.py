"""What the facts of the authorization stage change in the view."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from pipeline.domain.projection.views import AttemptView, HoldView, MoveState, PaymentStatus, PaymentView, RetryView
from pipeline.messages.facts import (
    ActionCompleted,
    ActionRequired,
    AttemptDeclined,
    AttemptStarted,
    AuthorizationOrphaned,
    OrphanReturned,
    OrphanReturnFailed,
    PaymentAuthorized,
    PaymentCanceled,
    PaymentFailed,
    RetryScheduled,
)


def attempt(view: PaymentView, attempt_id: str, **changes: Any) -> tuple[AttemptView, ...]:
    return tuple(replace(a, **changes) if a.attempt_id == attempt_id else a for a in view.attempts)


def attempt_started(view: PaymentView, fact: AttemptStarted) -> PaymentView:
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


def action_required(view: PaymentView, fact: ActionRequired) -> PaymentView:
    attempts = attempt(
        view,
        fact.attempt_id,
        state=MoveState.REQUIRES_ACTION,
        provider_reference=fact.provider_reference,
        **({"next_action": fact.next_action} if fact.next_action else {}),
    )
    return replace(view, attempts=attempts, status=PaymentStatus.REQUIRES_ACTION)


def action_completed(view: PaymentView, fact: ActionCompleted) -> PaymentView:
    attempts = attempt(view, fact.attempt_id, state=MoveState.PENDING)
    return replace(view, attempts=attempts, status=PaymentStatus.AUTHORIZING)


def authorized(view: PaymentView, fact: PaymentAuthorized) -> PaymentView:
    attempts = attempt(
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


def declined(view: PaymentView, fact: AttemptDeclined) -> PaymentView:
    attempts = attempt(
        view,
        fact.attempt_id,
        state=MoveState.DECLINED,
        provider_reference=fact.provider_reference,
        decline=fact.decline,
        next_action=None,
    )
    return replace(view, attempts=attempts, decline=fact.decline, status=PaymentStatus.DECLINED)


def retry_scheduled(view: PaymentView, fact: RetryScheduled) -> PaymentView:
    retry = RetryView(
        due_at=fact.due_at,
        rule=fact.rule,
        scheduled_at=fact.occurred_at,
        attempt_number=len(view.attempts) + 1,
        moved_by=tuple(fact.moved_by),
        decline=view.decline,
    )
    return replace(view, retry=retry, status=PaymentStatus.RETRY_SCHEDULED)


def failed(view: PaymentView, fact: PaymentFailed) -> PaymentView:
    return replace(view, status=PaymentStatus.FAILED, retry=None, decline=fact.decline or view.decline)


def canceled(view: PaymentView, fact: PaymentCanceled) -> PaymentView:
    waiting = {MoveState.PENDING, MoveState.REQUIRES_ACTION}
    attempts = tuple(replace(a, state=MoveState.FAILED) if a.state in waiting else a for a in view.attempts)
    return replace(view, attempts=attempts, status=PaymentStatus.CANCELED, retry=None)


def orphaned(view: PaymentView, fact: AuthorizationOrphaned) -> PaymentView:
    return replace(view, attempts=attempt(view, fact.attempt_id, state=MoveState.ORPHANED))


def orphan_returned(view: PaymentView, fact: OrphanReturned) -> PaymentView:
    return replace(view, attempts=attempt(view, fact.attempt_id, state=MoveState.RETURNED))


def orphan_return_failed(view: PaymentView, fact: OrphanReturnFailed) -> PaymentView:
    return replace(view, attempts=attempt(view, fact.attempt_id, state=MoveState.ORPHANED))
