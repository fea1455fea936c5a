"""The rules for what the customer has to do in between: confirm, and come back."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from pipeline.domain.authorization.attempts import (
    draft_for,
    fact_declined,
    fact_failed,
    give_up,
    look_up,
    recovery_timer,
    reported,
    with_attempt,
)
from pipeline.domain.authorization.silence import unresolved
from pipeline.domain.authorization.state import Attempt, AuthorizationState, Result, Status
from pipeline.domain.decision import Decision, Draft, Schedule, remember
from pipeline.messages import Input
from pipeline.messages.commands import CompleteAction
from pipeline.messages.facts import ActionCompleted, ActionRequired
from pipeline.messages.inputs import ProviderReport
from pipeline.messages.values import Decline, DeclineCategory, Operation, TimerKind


def action(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """The customer has to act: the attempt waits for their return or the webhook, at most until the action expires. An
    action asked for again, after they returned, expires when the first one does: returning buys no time.
    """
    state, report, attempt = reported(state, item)
    attempt = _hear(attempt, report)
    if state.status is Status.REQUIRES_ACTION:
        return Decision(with_attempt(state, attempt))
    draft = draft_for(state, item, attempt)
    if attempt.returned_early:
        return draft.done(_resume(state, attempt, draft, schedule))
    draft.fact(
        ActionRequired,
        attempt.operation_id,
        attempt_id=attempt.attempt_id,
        provider_reference=attempt.provider_reference,
        next_action=report.next_action,
    )
    waiting = replace(
        attempt,
        generation=attempt.generation + 1,
        action_due=attempt.action_due or draft.at + schedule.action_expiry,
        action_result=None,
    )
    draft.timer(
        TimerKind.ACTION_EXPIRY,
        attempt.attempt_id,
        Operation.AUTHORIZE,
        waiting.generation,
        max(waiting.action_due, draft.at),
    )
    return draft.done(with_attempt(state, waiting, Status.REQUIRES_ACTION))


def _hear(attempt: Attempt, report: ProviderReport) -> Attempt:
    return replace(attempt, heard=remember(attempt.heard, report.report_id))


def complete_action(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """The customer is back: the outcome belongs to the command that says so."""
    assert isinstance(item, CompleteAction)
    attempt = state.current
    assert attempt is not None
    draft = draft_for(state, item, attempt)
    attempt = replace(attempt, operation_id=item.command_id, action_result=item.result)
    return draft.done(_resume(state, attempt, draft, schedule))


def acted(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """The provider says that the customer acted, and waits for us."""
    state, report, attempt = reported(state, item)
    draft = draft_for(state, item, attempt)
    return draft.done(_resume(state, _hear(attempt, report), draft, schedule))


def acted_early(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """The webhook overtook the answer that asks for the action, or the look-up that is under way: remember it."""
    state, report, attempt = reported(state, item)
    heard = with_attempt(state, replace(_hear(attempt, report), returned_early=True))
    return Decision(heard) if attempt.resumed else unresolved(heard, item, schedule)


def _resume(state: AuthorizationState, attempt: Attempt, draft: Draft, schedule: Schedule) -> AuthorizationState:
    """Ask the provider at once; the recovery timer asks again, with the same result, until it has answered."""
    draft.fact(
        ActionCompleted,
        attempt.operation_id,
        attempt_id=attempt.attempt_id,
        provider_reference=attempt.provider_reference,
    )
    look_up(state, attempt, draft)
    attempt = replace(attempt, generation=attempt.generation + 1, resumed=attempt.generation, returned_early=False)
    recovery_timer(attempt, draft, schedule.recovery[0])
    return with_attempt(state, attempt, Status.AUTHORIZING)


def action_expired(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """The customer never came back: cancel at the provider, and fail."""
    attempt = state.current
    assert attempt is not None
    draft = draft_for(state, item)
    fact_declined(draft, state, attempt, _EXPIRED)
    fact_failed(draft, state, attempt, "action_expired", _EXPIRED)
    return draft.done(with_attempt(state, give_up(draft, attempt, schedule), Status.FAILED))


_EXPIRED: Final = Decline(
    category=DeclineCategory.NEEDS_CUSTOMER,
    code="authentication_expired",
    raw_code="",
    message="The payment was not confirmed in time.",
)
