"""The rules for a provider's yes and no."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from pipeline.domain.authorization.attempts import (
    draft_for,
    fact_declined,
    fact_failed,
    reported,
    start_attempt,
    with_attempt,
)
from pipeline.domain.authorization.state import AttemptStatus, AuthorizationState, Result, Status
from pipeline.domain.decision import Draft, Schedule
from pipeline.messages import Input
from pipeline.messages.facts import AuthorizationOrphaned, PaymentAuthorized
from pipeline.messages.values import Decline, DeclineCategory, Outcome


def approved(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """The hold stands: the payment is authorized."""
    state, report, attempt = reported(state, item)
    draft = draft_for(state, item, attempt)
    draft.fact(
        PaymentAuthorized,
        attempt.operation_id,
        attempt_id=attempt.attempt_id,
        provider=attempt.provider,
        amount=report.amount if report.amount is not None else state.amount,
        currency=state.currency,
        capture_method=state.capture_method,
        provider_reference=attempt.provider_reference or attempt.attempt_id,
        operation_reference=report.operation_reference,
        hold_expires_at=report.hold_expires_at or draft.at + schedule.hold_of(attempt.provider),
        merchant_reference=state.merchant_reference,
    )
    return draft.done(with_attempt(state, replace(attempt, status=AttemptStatus.APPROVED), Status.AUTHORIZED))


_NEVER: Final = {DeclineCategory.HARD, DeclineCategory.FRAUD}
_FINAL: Final = _NEVER | {DeclineCategory.NEEDS_CUSTOMER}


def declined(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """A soft decline waits for the retry policy's word; any other ends the payment at once."""
    state, report, attempt = reported(state, item)
    decline = report.decline or _UNDECIDED
    draft = draft_for(state, item, attempt)
    fact_declined(draft, state, attempt, decline)
    closed = replace(attempt, status=AttemptStatus.CLOSED)
    if report.outcome is Outcome.TEMPORARY_FAILURE and state.next_provider is not None:
        return draft.done(_fail_over(with_attempt(state, closed), draft, attempt.operation_id, schedule))
    final = decline.category in _FINAL
    if final:
        fact_failed(draft, state, attempt, f"{decline.category}_decline", decline)
    barred = decline.category in _NEVER or schedule.networks.bar(decline) is not None
    closed = replace(attempt, status=AttemptStatus.CLOSED, barred=barred)
    return draft.done(with_attempt(state, closed, Status.FAILED if final else Status.DECLINED))


def _fail_over(state: AuthorizationState, draft: Draft, operation_id: str, schedule: Schedule) -> AuthorizationState:
    """The provider is out and certainly did nothing, which is never so after an unknown outcome: ask the next one."""
    chosen = state.next_provider
    assert chosen is not None
    rest = state.fallbacks[state.fallbacks.index(chosen) + 1 :]
    return start_attempt(replace(state, provider=chosen, fallbacks=rest), draft, operation_id, schedule)


_UNDECIDED: Final = Decline(
    category=DeclineCategory.TEMPORARY,
    code="provider_unavailable",
    raw_code="",
    message="The payment could not be processed right now.",
)


def late_approval(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """Approved after we gave up: no second hold may live. The capture stage gives it back."""
    state, report, attempt = reported(state, item)
    amount = report.amount if report.amount is not None else state.amount
    reference = attempt.provider_reference or attempt.attempt_id
    draft = draft_for(state, item, attempt)
    draft.fact(
        AuthorizationOrphaned,
        attempt.operation_id,
        attempt_id=attempt.attempt_id,
        provider=attempt.provider,
        amount=amount,
        currency=state.currency,
        capture_method=state.capture_method,
        provider_reference=reference,
    )
    return draft.done(with_attempt(state, replace(attempt, status=AttemptStatus.ORPHANED)))
