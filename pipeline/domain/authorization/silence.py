"""The rules for outcomes that nobody knows: look up, never send again under another key; in the end ask a person."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from pipeline.domain.authorization.attempts import (
    cancel_at_provider,
    draft_for,
    look_up,
    recovery_timer,
    reported,
    send,
    with_attempt,
)
from pipeline.domain.authorization.state import AttemptStatus, AuthorizationState, Result, Status
from pipeline.domain.decision import Decision, Schedule
from pipeline.messages import Input
from pipeline.messages.facts import OutcomeUnresolved, ReviewNeeded
from pipeline.messages.inputs import TimerFired
from pipeline.messages.values import Decline, DeclineCategory, Operation, Outcome


def unresolved(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """Nobody knows: look it up soon, never send it again under another key. Said again, it changes nothing."""
    state, report, attempt = reported(state, item)
    if attempt.unresolved:
        return Decision(with_attempt(state, attempt))
    draft = draft_for(state, item, attempt)
    draft.fact(
        OutcomeUnresolved,
        attempt.operation_id,
        operation=Operation.AUTHORIZE,
        subject_id=attempt.attempt_id,
        provider_reference=attempt.provider_reference,
        detail=report.detail,
    )
    attempt = replace(attempt, unresolved=True)
    if report.outcome is Outcome.UNKNOWN:
        attempt = replace(attempt, generation=attempt.generation + 1)
        recovery_timer(attempt, draft, schedule.after_unknown)
    return draft.done(with_attempt(state, attempt))


def not_found(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """The provider never saw it: send it again under the same key. The recovery timer keeps watching."""
    state, _, attempt = reported(state, item)
    draft = draft_for(state, item, attempt)
    send(state, attempt, draft, attempt.generation)
    return draft.done(state)


def recovery_due(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """No answer yet: look it up, as often as the schedule says; then a person has to."""
    attempt = state.current
    assert attempt is not None
    draft = draft_for(state, item)
    if attempt.asked > len(schedule.recovery):
        draft.fact(
            ReviewNeeded,
            attempt.operation_id,
            operation=Operation.AUTHORIZE,
            subject_id=attempt.attempt_id,
            detail=f"no outcome after {attempt.asked - 1} look-ups",
        )
        return draft.done(with_attempt(state, replace(attempt, reviewed=True), Status.NEEDS_REVIEW))
    look_up(state, attempt, draft)
    delay = schedule.recovery[min(attempt.asked, len(schedule.recovery) - 1)]
    attempt = replace(attempt, generation=attempt.generation + 1)
    recovery_timer(attempt, draft, delay)
    return draft.done(with_attempt(state, attempt))


def given_up_settled(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """Nothing came of it, as we had it in our books."""
    state, _, attempt = reported(state, item)
    return Decision(with_attempt(state, replace(attempt, status=AttemptStatus.CLOSED)))


def given_up_alive(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """Calling it off did not work: again."""
    state, _, attempt = reported(state, item)
    draft = draft_for(state, item)
    cancel_at_provider(draft, attempt)
    return draft.done(with_attempt(state, attempt))


def given_up_due(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """Ask what became of it, as often as of an attempt that never answered; then a person has to."""
    assert isinstance(item, TimerFired)
    attempt = state.attempt(item.subject_id, None)
    assert attempt is not None
    draft = draft_for(state, item)
    if attempt.checks >= len(schedule.recovery):
        draft.fact(
            ReviewNeeded,
            attempt.operation_id,
            operation=Operation.AUTHORIZE,
            subject_id=attempt.attempt_id,
            detail=f"given up; no outcome after {attempt.checks} look-ups",
        )
        return draft.done(with_attempt(state, replace(attempt, reviewed=True)))
    look_up(state, attempt, draft)
    delay = schedule.recovery[min(attempt.checks + 1, len(schedule.recovery) - 1)]
    attempt = replace(attempt, generation=attempt.generation + 1, checks=attempt.checks + 1)
    recovery_timer(attempt, draft, delay)
    return draft.done(with_attempt(state, attempt))


NOT_CHARGED: Final = Decline(
    category=DeclineCategory.NEEDS_CUSTOMER,
    code="not_charged",
    raw_code="",
    message="The payment did not go through. Please try again.",
)
