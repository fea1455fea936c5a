"""What the rules share: how an attempt is begun, asked for, followed, called off and told of."""

from __future__ import annotations

from msgspec.structs import replace

from pipeline import ids
from pipeline.domain.authorization.state import Attempt, AttemptStatus, AuthorizationState, Status
from pipeline.domain.decision import Draft, Schedule
from pipeline.messages import Input
from pipeline.messages.facts import AttemptDeclined, AttemptStarted, PaymentFailed
from pipeline.messages.inputs import ProviderReport
from pipeline.messages.requests import AuthorizeRequest, VoidRequest
from pipeline.messages.values import Decline, Operation, TimerKind


def draft_for(state: AuthorizationState, item: Input, attempt: Attempt | None = None) -> Draft:
    """What is asked goes to the attempt's own provider, wherever the payment may have gone since."""
    return Draft.of(item, state.merchant_id, attempt.provider if attempt else state.provider)


def with_attempt(state: AuthorizationState, attempt: Attempt, status: Status | None = None) -> AuthorizationState:
    """The state with `attempt` in the place of its former self, and with another status if one is given."""
    attempts = tuple(attempt if old.attempt_id == attempt.attempt_id else old for old in state.attempts)
    return replace(state, attempts=attempts, status=status or state.status)


def reported(state: AuthorizationState, item: Input) -> tuple[AuthorizationState, ProviderReport, Attempt]:
    """The attempt a report speaks of, with the provider's reference that the report may bring."""
    assert isinstance(item, ProviderReport)
    attempt = state.attempt(item.subject_id, item.provider_reference)
    assert attempt is not None
    return (
        state,
        item,
        replace(attempt, provider_reference=item.provider_reference or attempt.provider_reference),
    )


def start_attempt(state: AuthorizationState, draft: Draft, operation_id: str, schedule: Schedule) -> AuthorizationState:
    """A new attempt with the present method at the present provider: asked for, and watched."""
    assert state.method is not None
    number = len(state.attempts) + 1
    attempt = Attempt(
        attempt_id=ids.attempt_id(draft.payment_id, number),
        number=number,
        operation_id=operation_id,
        method=state.method,
        provider=state.provider,
        started_at=draft.at,
    )
    draft.provider = state.provider
    draft.fact(
        AttemptStarted,
        operation_id,
        attempt_id=attempt.attempt_id,
        number=number,
        provider=state.provider,
        amount=state.amount,
        currency=state.currency,
        payment_method=state.method,
    )
    send(state, attempt, draft, 0)
    recovery_timer(attempt, draft, schedule.recovery[0])
    return replace(state, status=Status.AUTHORIZING, attempts=(*state.attempts, attempt))


def send(state: AuthorizationState, attempt: Attempt, draft: Draft, number: int) -> None:
    """Ask the attempt's provider for the hold. `number` tells repeated questions apart; the key stays the same."""
    draft.request(
        AuthorizeRequest,
        attempt.attempt_id,
        number,
        amount=state.amount,
        currency=state.currency,
        capture_method=state.capture_method,
        payment_method=attempt.method.at(attempt.provider),
        customer_id=state.customer_id,
        merchant_reference=state.merchant_reference,
        attempt_number=attempt.number,
    )


def recovery_timer(attempt: Attempt, draft: Draft, delay: int) -> None:
    """Wake up after `delay` milliseconds, in case the provider never answers."""
    draft.timer(TimerKind.RECOVERY, attempt.attempt_id, Operation.AUTHORIZE, attempt.generation, draft.at + delay)


def look_up(state: AuthorizationState, attempt: Attempt, draft: Draft) -> None:
    """Ask the provider what became of the attempt."""
    draft.lookup(
        attempt.attempt_id,
        attempt.generation,
        operation=Operation.AUTHORIZE,
        provider_reference=attempt.provider_reference,
        asked_at=attempt.started_at,
        amount=state.amount,
        currency=state.currency,
        merchant_reference=state.merchant_reference,
        given_up=attempt.status is AttemptStatus.GIVEN_UP,
        action_result=attempt.action_result,
    )


def give_up(draft: Draft, attempt: Attempt, schedule: Schedule) -> Attempt:
    """Call the attempt off at the provider, and find out what became of it there: the customer may have been faster."""
    cancel_at_provider(draft, attempt)
    given_up = replace(attempt, status=AttemptStatus.GIVEN_UP, generation=attempt.generation + 1)
    recovery_timer(given_up, draft, schedule.recovery[0])
    return given_up


def cancel_at_provider(draft: Draft, attempt: Attempt) -> None:
    """Call it off there, if the provider ever gave it a reference."""
    if attempt.provider_reference:
        draft.request(
            VoidRequest,
            ids.derive("cancel", attempt.attempt_id, attempt.checks),
            provider_reference=attempt.provider_reference,
        )


def fact_declined(draft: Draft, state: AuthorizationState, attempt: Attempt, decline: Decline) -> None:
    """Tell that the attempt was declined."""
    draft.fact(
        AttemptDeclined,
        attempt.operation_id,
        attempt_id=attempt.attempt_id,
        number=attempt.number,
        provider=attempt.provider,
        amount=state.amount,
        currency=state.currency,
        decline=decline,
        provider_reference=attempt.provider_reference,
    )


def fact_failed(
    draft: Draft, state: AuthorizationState, attempt: Attempt, reason: str, decline: Decline | None
) -> None:
    """Tell that the payment failed."""
    draft.fact(
        PaymentFailed,
        attempt.operation_id,
        attempt_id=attempt.attempt_id,
        amount=state.amount,
        currency=state.currency,
        reason=reason,
        decline=decline,
    )
