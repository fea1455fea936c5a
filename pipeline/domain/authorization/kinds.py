"""What an input means to the authorization stage, given the state: the columns of its table."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from pipeline.domain.authorization.state import Attempt, AttemptStatus, AuthorizationState
from pipeline.domain.decision import DECISIONS
from pipeline.messages import Input
from pipeline.messages.commands import (
    Authorize,
    Capture,
    Command,
    CompleteAction,
    CreateIntent,
    Refund,
    RetryNow,
    SetMethod,
    Void,
)
from pipeline.messages.inputs import ProviderReport, RetryAbandoned, RetryPlanned, ReviewDecision, TimerFired
from pipeline.messages.values import Operation, Outcome, ReportSource, TimerKind


class Kind(StrEnum):
    """What an input means to this stage, given the state: the columns of the table."""

    CREATE = "create"
    SET_METHOD = "set_method"
    AUTHORIZE = "authorize"
    RETRY_NOW = "retry_now"
    COMPLETE_ACTION = "complete_action"
    VOID = "void"
    CAPTURE = "capture"
    REFUND = "refund"
    APPROVED = "approved"
    DECLINED = "declined"
    ACTION = "action"
    ACTED = "acted"
    """The provider tells by itself that it goes on: the customer has acted."""
    UNRESOLVED = "unresolved"
    NOT_FOUND = "not_found"
    LATE_APPROVAL = "late_approval"
    GIVEN_UP_SETTLED = "given_up_settled"
    """What was given up came to nothing at the provider either."""
    GIVEN_UP_ALIVE = "given_up_alive"
    """What was given up still waits for the customer at the provider."""
    GIVEN_UP_DUE = "given_up_due"
    """Time to ask what became of what was given up."""
    REVIEW_DECIDED = "review_decided"
    RETRY_PLANNED = "retry_planned"
    RETRY_ABANDONED = "retry_abandoned"
    RETRY_DUE = "retry_due"
    RECOVERY_DUE = "recovery_due"
    ACTION_EXPIRED = "action_expired"
    STALE = "stale"
    """A report, plan or timer that no longer applies."""
    FOREIGN = "foreign"
    """The capture stage's."""


def kind_of(state: AuthorizationState, item: Input) -> Kind:
    """The column of the table that an input belongs to."""
    match item:
        case Command():
            return _COMMAND_KINDS[type(item)]
        case ProviderReport():
            return report_kind(state, item)
        case TimerFired():
            return _timer_kind(state, item)
        case RetryPlanned() | RetryAbandoned():
            return _plan_kind(state, item)
        case ReviewDecision() if item.operation is Operation.AUTHORIZE:
            attempt = state.attempt(item.subject_id, None)
            under_review = attempt is not None and attempt.reviewed and attempt.status in _UNDECIDED_STATUSES
            return Kind.REVIEW_DECIDED if under_review and item.outcome in DECISIONS else Kind.STALE
    return Kind.FOREIGN


_COMMAND_KINDS: Final[dict[type[Input], Kind]] = {
    CreateIntent: Kind.CREATE,
    SetMethod: Kind.SET_METHOD,
    Authorize: Kind.AUTHORIZE,
    RetryNow: Kind.RETRY_NOW,
    CompleteAction: Kind.COMPLETE_ACTION,
    Void: Kind.VOID,
    Capture: Kind.CAPTURE,
    Refund: Kind.REFUND,
}

_UNDECIDED_STATUSES: Final = {AttemptStatus.OPEN, AttemptStatus.GIVEN_UP}

_REPORT_KINDS: Final = {
    Outcome.APPROVED: Kind.APPROVED,
    Outcome.DECLINED: Kind.DECLINED,
    Outcome.TEMPORARY_FAILURE: Kind.DECLINED,
    Outcome.REQUIRES_ACTION: Kind.ACTION,
    Outcome.PENDING: Kind.UNRESOLVED,
    Outcome.UNKNOWN: Kind.UNRESOLVED,
    Outcome.NOT_FOUND: Kind.NOT_FOUND,
}


def report_kind(state: AuthorizationState, report: ProviderReport) -> Kind:
    """The column of a provider's report."""
    if report.operation is not Operation.AUTHORIZE:
        return Kind.FOREIGN
    attempt = state.attempt(report.subject_id, report.provider_reference)
    if attempt is None:
        return Kind.STALE
    if attempt.status is AttemptStatus.OPEN:
        return _open_kind(attempt, report)
    if attempt.status is AttemptStatus.GIVEN_UP:
        return _given_up_kind(attempt, report)
    late = attempt.status is AttemptStatus.CLOSED and report.outcome is Outcome.APPROVED
    return Kind.LATE_APPROVAL if late else Kind.STALE


def _open_kind(attempt: Attempt, report: ProviderReport) -> Kind:
    """A webhook that asks for an action is older than the customer's return."""
    by_webhook = report.source is ReportSource.WEBHOOK
    if report.report_id in attempt.heard:
        return Kind.STALE
    if by_webhook and report.outcome is Outcome.PENDING:
        return Kind.ACTED
    if by_webhook and report.outcome is Outcome.REQUIRES_ACTION and attempt.resumed:
        return Kind.STALE
    return _REPORT_KINDS[report.outcome]


def _given_up_kind(attempt: Attempt, report: ProviderReport) -> Kind:
    match report.outcome:
        case Outcome.APPROVED:
            return Kind.LATE_APPROVAL
        case Outcome.DECLINED:
            return Kind.GIVEN_UP_SETTLED
        case Outcome.NOT_FOUND:
            # A provider's search lags behind its books: once is not enough when nothing is sent again.
            return Kind.GIVEN_UP_SETTLED if attempt.checks > 1 else Kind.STALE
        case Outcome.REQUIRES_ACTION if report.source is ReportSource.LOOKUP:
            return Kind.GIVEN_UP_ALIVE
    return Kind.STALE


_HOLD_TIMERS: Final = {TimerKind.HOLD_WARNING, TimerKind.HOLD_EXPIRY}


def _timer_kind(state: AuthorizationState, timer: TimerFired) -> Kind:
    if timer.operation is not Operation.AUTHORIZE or timer.kind in _HOLD_TIMERS:
        return Kind.FOREIGN
    attempt = state.attempt(timer.subject_id, None)
    if attempt is None:
        return Kind.STALE
    if attempt.status is AttemptStatus.GIVEN_UP:
        ours = timer.kind is TimerKind.RECOVERY and timer.generation == attempt.generation
        return Kind.GIVEN_UP_DUE if ours else Kind.STALE
    if attempt is not state.current:
        return Kind.STALE
    if timer.kind is TimerKind.RETRY:
        return Kind.RETRY_DUE
    if attempt.status is not AttemptStatus.OPEN or attempt.generation != timer.generation:
        return Kind.STALE
    return Kind.RECOVERY_DUE if timer.kind is TimerKind.RECOVERY else Kind.ACTION_EXPIRED


def _plan_kind(state: AuthorizationState, plan: RetryPlanned | RetryAbandoned) -> Kind:
    attempt = state.current
    if attempt is None or attempt.attempt_id != plan.attempt_id:
        return Kind.STALE
    return Kind.RETRY_PLANNED if isinstance(plan, RetryPlanned) else Kind.RETRY_ABANDONED
