"""The authorization stage's state machine: a row a status, a column a kind of input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from pipeline.domain.authorization.actions import acted, acted_early, action, action_expired, complete_action
from pipeline.domain.authorization.answers import approved, declined, late_approval
from pipeline.domain.authorization.attempts import draft_for
from pipeline.domain.authorization.commands import (
    authorize,
    authorize_needs_method,
    cancel,
    create,
    no_such_payment,
    refuse_with,
    retry_now,
    set_method,
)
from pipeline.domain.authorization.kinds import Kind, kind_of, report_kind
from pipeline.domain.authorization.retries import abandoned, planned, retry_due
from pipeline.domain.authorization.silence import (
    NOT_CHARGED,
    given_up_alive,
    given_up_due,
    given_up_settled,
    not_found,
    recovery_due,
    unresolved,
)
from pipeline.domain.authorization.state import AuthorizationState, Result, Rule, Status
from pipeline.domain.decision import Decision, Schedule, decided_report, remember, resolve
from pipeline.messages import Input
from pipeline.messages.commands import Command, CreateIntent
from pipeline.messages.inputs import ReviewDecision
from pipeline.messages.values import RejectionReason


def decide(state: AuthorizationState | None, item: Input, schedule: Schedule) -> Result:
    """What `item` brings about. Total: whatever the state and input, it returns a decision and never raises."""
    decision = _at_no_payment(item) if state is None else _at_payment(state, item, schedule)
    if decision.state is None or decision.forward or not _is_theirs(decision.state, item):
        return decision
    seen = remember(decision.state.seen, item.input_id)
    return Decision(replace(decision.state, seen=seen), decision.outputs)


def _at_no_payment(item: Input) -> Result:
    """Only a create command makes a payment. A stray report or timer has nothing to move, here or further on."""
    if isinstance(item, CreateIntent):
        return create(item)
    return no_such_payment(None, item) if isinstance(item, Command) else Decision(None)


def _is_theirs(state: AuthorizationState, item: Input) -> bool:
    """Whether it is a command of the payment's own merchant: another's must not use up the ids of theirs."""
    return isinstance(item, Command) and item.merchant_id == state.merchant_id


def _at_payment(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    if isinstance(item, Command):
        if item.merchant_id != state.merchant_id:
            return no_such_payment(state, item)
        if item.command_id in state.seen:
            return Decision(state)
    return TABLE[state.status].cell(kind_of(state, item))(state, item, schedule)


def _ignore(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    return Decision(state)


def _forward(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    return Decision(state, forward=True)


def _review_decided(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """The operator's word counts as the provider's."""
    assert isinstance(item, ReviewDecision)
    report = decided_report(item, state.provider, NOT_CHARGED)
    draft = draft_for(state, item)
    resolve(draft, item)
    follows = TABLE[state.status].cell(report_kind(state, report))(state, report, schedule)
    return Decision(follows.state, (*draft.outputs, *follows.outputs))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One status: what it makes of each kind of input. No cell has a default, so none can be forgotten."""

    create: Rule
    set_method: Rule
    authorize: Rule
    retry_now: Rule
    complete_action: Rule
    void: Rule
    capture: Rule
    refund: Rule
    approved: Rule
    declined: Rule
    action: Rule
    acted: Rule
    unresolved: Rule
    not_found: Rule
    late_approval: Rule
    given_up_settled: Rule
    given_up_alive: Rule
    given_up_due: Rule
    review_decided: Rule
    retry_planned: Rule
    retry_abandoned: Rule
    retry_due: Rule
    recovery_due: Rule
    action_expired: Rule
    stale: Rule
    foreign: Rule

    def cell(self, kind: Kind) -> Rule:
        """The rule for a kind of input."""
        rule: Rule = getattr(self, kind.value)
        return rule


_exists = refuse_with(RejectionReason.PAYMENT_ALREADY_EXISTS, "the payment exists already")
_in_progress = refuse_with(RejectionReason.AUTHORIZATION_IN_PROGRESS, "an authorization is in progress")
_held = refuse_with(RejectionReason.ALREADY_AUTHORIZED, "the payment is authorized")
_no_hold = refuse_with(RejectionReason.NOT_AUTHORIZED, "the payment is not authorized")
_no_retry = refuse_with(RejectionReason.NO_RETRY_PENDING, "no retry is pending")
_no_action = refuse_with(RejectionReason.NO_ACTION_PENDING, "no action of the customer is awaited")
_canceled = refuse_with(RejectionReason.PAYMENT_CANCELED, "the payment was canceled")
_failed = refuse_with(RejectionReason.PAYMENT_FAILED, "the payment failed; a new method revives it")
_review = refuse_with(RejectionReason.NEEDS_REVIEW, "the outcome of an attempt is unknown and under review")
_waiting = authorize_needs_method(
    RejectionReason.RETRY_SCHEDULED, "a retry is pending: retry now, or bring another method"
)
_declined_method = authorize_needs_method(
    RejectionReason.METHOD_DECLINED, "the method was declined for good: bring another"
)

_GIVEN_UP: Final[dict[str, Rule]] = {
    "given_up_settled": given_up_settled,
    "given_up_alive": given_up_alive,
    "given_up_due": given_up_due,
    "review_decided": _review_decided,
}
"""What concerns an attempt by its own status, the same wherever the payment stands."""

TABLE: Final[dict[Status, Row]] = {
    Status.REQUIRES_METHOD: Row(
        create=_exists, set_method=set_method,
        authorize=authorize_needs_method(RejectionReason.METHOD_REQUIRED, "set a payment method first"),
        retry_now=_no_retry, complete_action=_no_action, void=cancel, capture=_no_hold, refund=_no_hold,
        approved=_ignore, declined=_ignore, action=_ignore, acted=_ignore, unresolved=_ignore,
        not_found=_ignore, late_approval=late_approval, **_GIVEN_UP, retry_planned=_ignore,
        retry_abandoned=_ignore, retry_due=_ignore, recovery_due=_ignore, action_expired=_ignore, stale=_ignore,
        foreign=_forward,
    ),
    Status.REQUIRES_AUTHORIZATION: Row(
        create=_exists, set_method=set_method, authorize=authorize, retry_now=_no_retry,
        complete_action=_no_action, void=cancel, capture=_no_hold, refund=_no_hold, approved=_ignore,
        declined=_ignore, action=_ignore, acted=_ignore, unresolved=_ignore, not_found=_ignore,
        late_approval=late_approval, **_GIVEN_UP, retry_planned=_ignore, retry_abandoned=_ignore,
        retry_due=_ignore, recovery_due=_ignore, action_expired=_ignore, stale=_ignore, foreign=_forward,
    ),
    Status.AUTHORIZING: Row(
        create=_exists, set_method=_in_progress, authorize=_in_progress, retry_now=_in_progress,
        complete_action=_in_progress, void=_in_progress, capture=_no_hold, refund=_no_hold, approved=approved,
        declined=declined, action=action, acted=acted_early, unresolved=unresolved, not_found=not_found,
        late_approval=late_approval, **_GIVEN_UP, retry_planned=_ignore, retry_abandoned=_ignore,
        retry_due=_ignore, recovery_due=recovery_due, action_expired=_ignore, stale=_ignore, foreign=_forward,
    ),
    Status.REQUIRES_ACTION: Row(
        create=_exists, set_method=_in_progress, authorize=_in_progress, retry_now=_in_progress,
        complete_action=complete_action, void=cancel, capture=_no_hold, refund=_no_hold, approved=approved,
        declined=declined, action=action, acted=acted, unresolved=_ignore, not_found=_ignore,
        late_approval=late_approval, **_GIVEN_UP, retry_planned=_ignore, retry_abandoned=_ignore,
        retry_due=_ignore, recovery_due=_ignore, action_expired=action_expired, stale=_ignore,
        foreign=_forward,
    ),
    Status.DECLINED: Row(
        create=_exists, set_method=set_method, authorize=_waiting, retry_now=retry_now,
        complete_action=_no_action, void=cancel, capture=_no_hold, refund=_no_hold, approved=_ignore,
        declined=_ignore, action=_ignore, acted=_ignore, unresolved=_ignore, not_found=_ignore,
        late_approval=late_approval, **_GIVEN_UP, retry_planned=planned, retry_abandoned=abandoned,
        retry_due=_ignore, recovery_due=_ignore, action_expired=_ignore, stale=_ignore, foreign=_forward,
    ),
    Status.RETRY_SCHEDULED: Row(
        create=_exists, set_method=set_method, authorize=_waiting, retry_now=retry_now,
        complete_action=_no_action, void=cancel, capture=_no_hold, refund=_no_hold, approved=_ignore,
        declined=_ignore, action=_ignore, acted=_ignore, unresolved=_ignore, not_found=_ignore,
        late_approval=late_approval, **_GIVEN_UP, retry_planned=_ignore, retry_abandoned=_ignore,
        retry_due=retry_due, recovery_due=_ignore, action_expired=_ignore, stale=_ignore, foreign=_forward,
    ),
    Status.NEEDS_REVIEW: Row(
        create=_exists, set_method=_review, authorize=_review, retry_now=_review, complete_action=_review,
        void=_review, capture=_review, refund=_review, approved=approved, declined=declined, action=action,
        acted=_ignore, unresolved=_ignore, not_found=_ignore, late_approval=late_approval, **_GIVEN_UP,
        retry_planned=_ignore, retry_abandoned=_ignore, retry_due=_ignore, recovery_due=_ignore,
        action_expired=_ignore, stale=_ignore, foreign=_forward,
    ),
    Status.AUTHORIZED: Row(
        create=_exists, set_method=_held, authorize=_held, retry_now=_held, complete_action=_held,
        void=_forward, capture=_forward, refund=_forward, approved=_ignore, declined=_ignore, action=_ignore,
        acted=_ignore, unresolved=_ignore, not_found=_ignore, late_approval=late_approval, **_GIVEN_UP,
        retry_planned=_ignore, retry_abandoned=_ignore, retry_due=_ignore, recovery_due=_ignore,
        action_expired=_ignore, stale=_ignore, foreign=_forward,
    ),
    Status.FAILED: Row(
        create=_exists, set_method=set_method, authorize=_declined_method, retry_now=_no_retry,
        complete_action=_failed, void=cancel, capture=_failed, refund=_failed, approved=_ignore,
        declined=_ignore, action=_ignore, acted=_ignore, unresolved=_ignore, not_found=_ignore,
        late_approval=late_approval, **_GIVEN_UP, retry_planned=_ignore, retry_abandoned=_ignore,
        retry_due=_ignore, recovery_due=_ignore, action_expired=_ignore, stale=_ignore, foreign=_forward,
    ),
    Status.CANCELED: Row(
        create=_exists, set_method=_canceled, authorize=_canceled, retry_now=_canceled,
        complete_action=_canceled, void=_canceled, capture=_canceled, refund=_canceled, approved=_ignore,
        declined=_ignore, action=_ignore, acted=_ignore, unresolved=_ignore, not_found=_ignore,
        late_approval=late_approval, **_GIVEN_UP, retry_planned=_ignore, retry_abandoned=_ignore,
        retry_due=_ignore, recovery_due=_ignore, action_expired=_ignore, stale=_ignore, foreign=_forward,
    ),
}  # fmt: skip
