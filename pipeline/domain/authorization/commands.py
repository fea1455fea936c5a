"""The rules for what the merchant commands, and why a command may be refused."""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec.structs import replace

from pipeline.domain.authorization.attempts import draft_for, give_up, start_attempt, with_attempt
from pipeline.domain.authorization.state import AttemptStatus, AuthorizationState, Result, Rule, Status
from pipeline.domain.decision import Draft, Schedule
from pipeline.domain.networks import opening
from pipeline.messages import Input
from pipeline.messages.commands import Authorize, Command, CreateIntent, SetMethod, Void
from pipeline.messages.facts import IntentCreated, MethodSet, PaymentCanceled
from pipeline.messages.values import RejectionReason


def no_such_payment(state: AuthorizationState | None, command: Command) -> Result:
    """Another merchant's payment looks like none at all."""
    draft = Draft.of(command, command.merchant_id, "")
    draft.reject(command, RejectionReason.PAYMENT_NOT_FOUND, "no such payment")
    return draft.done(state)


def refuse_with(reason: RejectionReason, detail: str) -> Rule:
    """A rule that refuses a command, with the reason that its record will have."""

    def rule(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
        assert isinstance(item, Command)
        draft = draft_for(state, item)
        draft.reject(item, reason, detail)
        return draft.done(state)

    rule.__name__ = f"refuse: {reason}"
    return rule


def create(item: CreateIntent) -> Result:
    """The intent begins."""
    made = AuthorizationState(
        status=Status.REQUIRES_AUTHORIZATION if item.payment_method else Status.REQUIRES_METHOD,
        merchant_id=item.merchant_id,
        provider=item.provider,
        amount=item.amount,
        currency=item.currency,
        capture_method=item.capture_method,
        customer_id=item.customer_id,
        merchant_reference=item.merchant_reference,
        method=item.payment_method,
        fallbacks=tuple(item.fallbacks),
    )
    draft = draft_for(made, item)
    draft.fact(
        IntentCreated,
        item.command_id,
        amount=item.amount,
        currency=item.currency,
        provider=item.provider,
        capture_method=item.capture_method,
        customer_id=item.customer_id,
        merchant_reference=item.merchant_reference,
        order_id=item.order_id,
        payment_method=item.payment_method,
        metadata=item.metadata,
        return_url=item.return_url,
    )
    return draft.done(made)


def set_method(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """A changed method supersedes a pending retry: its timer no longer finds the status it needs."""
    assert isinstance(item, SetMethod)
    draft = draft_for(state, item)
    draft.fact(MethodSet, item.command_id, payment_method=item.payment_method)
    return draft.done(replace(state, status=Status.REQUIRES_AUTHORIZATION, method=item.payment_method))


def authorize(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """A first attempt, or another one, with the method that the command brings or the payment has."""
    assert isinstance(item, Authorize)
    chosen = replace(state, method=item.payment_method or state.method)
    if refusal := _refusal(chosen, item.occurred_at, schedule):
        return refusal(state, item, schedule)
    draft = draft_for(state, item)
    if item.payment_method is not None:
        draft.fact(MethodSet, item.command_id, payment_method=item.payment_method)
    return draft.done(start_attempt(chosen, draft, item.command_id, schedule))


def _refusal(state: AuthorizationState, at: int, schedule: Schedule) -> Rule | None:
    """Why no attempt with the present method may be made now, whoever asks for it: the card networks' rules."""
    tried = [attempt for attempt in state.attempts if attempt.method == state.method]
    if any(attempt.barred for attempt in tried):
        return _barred
    allowed = opening(schedule.networks.limits, [attempt.started_at for attempt in tried], at)
    if allowed.at > at:
        words = f"{', '.join(allowed.moved_by)}: not before {_utc(allowed.at)} with this method"
        return refuse_with(RejectionReason.NETWORK_LIMIT, words)
    return None


def _utc(millis: int) -> str:
    return datetime.fromtimestamp(millis / 1000, UTC).isoformat(timespec="seconds")


def authorize_needs_method(reason: RejectionReason, detail: str) -> Rule:
    """Authorizing is allowed only with the new method that the command brings."""
    refuse = refuse_with(reason, detail)

    def rule(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
        assert isinstance(item, Authorize)
        return (authorize if item.payment_method else refuse)(state, item, schedule)

    rule.__name__ = f"authorize if it brings a method, else {refuse.__name__}"
    return rule


def retry_now(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """An attempt ahead of the scheduled retry."""
    if refusal := _refusal(state, item.occurred_at, schedule):
        return refusal(state, item, schedule)
    draft = draft_for(state, item)
    return draft.done(start_attempt(state, draft, item.input_id, schedule))


def cancel(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """Nothing is held yet: the intent ends here. A customer action under way is called off at the provider."""
    assert isinstance(item, Void)
    draft = draft_for(state, item)
    draft.fact(PaymentCanceled, item.command_id, reason=item.reason)
    attempt = state.current
    if attempt is None or attempt.status is not AttemptStatus.OPEN:
        return draft.done(replace(state, status=Status.CANCELED))
    return draft.done(with_attempt(state, give_up(draft, attempt, schedule), Status.CANCELED))


_barred = refuse_with(RejectionReason.METHOD_DECLINED, "the method was declined for good: bring another")
