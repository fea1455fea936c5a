"""The rules for the retry policy's word."""

from __future__ import annotations

from msgspec.structs import replace

from pipeline.domain.authorization.attempts import draft_for, fact_failed, start_attempt
from pipeline.domain.authorization.state import Attempt, AuthorizationState, Result, Status
from pipeline.domain.decision import Draft, Schedule
from pipeline.domain.networks import opening
from pipeline.messages import Input
from pipeline.messages.facts import RetryScheduled
from pipeline.messages.inputs import RetryAbandoned, RetryPlanned
from pipeline.messages.values import Operation, TimerKind


def planned(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """The policy lets the payment be tried again: at its time."""
    assert isinstance(item, RetryPlanned)
    attempt = state.current
    assert attempt is not None
    draft = draft_for(state, item)
    _schedule_retry(draft, attempt, item.due_at, item.rule, item.moved_by)
    return draft.done(replace(state, status=Status.RETRY_SCHEDULED))


def abandoned(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """The policy gives the payment up."""
    assert isinstance(item, RetryAbandoned)
    attempt = state.current
    assert attempt is not None
    draft = draft_for(state, item)
    fact_failed(draft, state, attempt, item.rule, None)
    return draft.done(replace(state, status=Status.FAILED))


def retry_due(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """The retry belongs to the operation that the declined attempt belonged to."""
    attempt = state.current
    assert attempt is not None
    draft = draft_for(state, item)
    tried = [made.started_at for made in state.attempts if made.method == state.method]
    allowed = opening(schedule.networks.limits, tried, draft.at)
    if allowed.at > draft.at:
        # The plan had allowed for the limits; a clock was set back since.
        _schedule_retry(draft, attempt, allowed.at, "network_limit", list(allowed.moved_by))
        return draft.done(state)
    return draft.done(start_attempt(state, draft, attempt.operation_id, schedule))


def _schedule_retry(draft: Draft, attempt: Attempt, due_at: int, rule: str, moved_by: list[str]) -> None:
    draft.fact(
        RetryScheduled,
        attempt.operation_id,
        attempt_id=attempt.attempt_id,
        due_at=due_at,
        rule=rule,
        moved_by=moved_by,
    )
    # Numbered by its time: one that is put off once more is a timer of its own.
    draft.timer(TimerKind.RETRY, attempt.attempt_id, Operation.AUTHORIZE, due_at // 1000, due_at)
