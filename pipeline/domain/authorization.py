"""The authorization stage's decisions: from the intent to a hold, or to a final no.

`TABLE` is the whole state machine: a row a status, a column a kind of input. A cell either acts, refuses a command
with a recorded reason, ignores what no longer applies, or forwards what the capture stage owns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec
from msgspec.structs import replace

from pipeline import ids
from pipeline.domain.decision import Decision, Draft, Schedule, remember
from pipeline.messages import Input
from pipeline.messages.commands import (
    Authorize,
    Capture,
    Command,
    CreateIntent,
    Refund,
    RetryNow,
    SetMethod,
    Void,
)
from pipeline.messages.facts import (
    ActionRequired,
    AttemptDeclined,
    AttemptStarted,
    AuthorizationOrphaned,
    IntentCreated,
    MethodSet,
    OutcomeUnresolved,
    PaymentAuthorized,
    PaymentCanceled,
    PaymentFailed,
    RetryScheduled,
    ReviewNeeded,
)
from pipeline.messages.inputs import ProviderReport, RetryAbandoned, RetryPlanned, TimerFired
from pipeline.messages.requests import AuthorizeRequest, RefundRequest, VoidRequest
from pipeline.messages.values import (
    CaptureMethod,
    Decline,
    DeclineCategory,
    Operation,
    Outcome,
    PaymentMethod,
    RejectionReason,
    TimerKind,
)


class Status(StrEnum):
    """Where the intent stands, up to the hold."""

    REQUIRES_METHOD = "requires_method"
    REQUIRES_AUTHORIZATION = "requires_authorization"
    AUTHORIZING = "authorizing"
    REQUIRES_ACTION = "requires_action"
    DECLINED = "declined"
    """Declined, and the retry policy has yet to speak."""
    RETRY_SCHEDULED = "retry_scheduled"
    NEEDS_REVIEW = "needs_review"
    AUTHORIZED = "authorized"
    FAILED = "failed"
    CANCELED = "canceled"


class Kind(StrEnum):
    """What an input means to this stage, given the state: the columns of the table."""

    CREATE = "create"
    SET_METHOD = "set_method"
    AUTHORIZE = "authorize"
    RETRY_NOW = "retry_now"
    VOID = "void"
    CAPTURE = "capture"
    REFUND = "refund"
    APPROVED = "approved"
    DECLINED = "declined"
    ACTION = "action"
    UNRESOLVED = "unresolved"
    NOT_FOUND = "not_found"
    LATE_APPROVAL = "late_approval"
    RETRY_PLANNED = "retry_planned"
    RETRY_ABANDONED = "retry_abandoned"
    RETRY_DUE = "retry_due"
    RECOVERY_DUE = "recovery_due"
    ACTION_EXPIRED = "action_expired"
    STALE = "stale"
    """A report, plan or timer that no longer applies."""
    FOREIGN = "foreign"
    """The capture stage's."""


class AttemptStatus(StrEnum):
    """An attempt's own linear states."""

    OPEN = "open"
    APPROVED = "approved"
    CLOSED = "closed"
    ORPHANED = "orphaned"


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One immutable try: what was sent never changes, only its outcome becomes known. `generation` counts its
    recovery timers.
    """

    attempt_id: str
    number: int
    operation_id: str
    method: PaymentMethod
    provider: str
    started_at: int
    status: AttemptStatus = AttemptStatus.OPEN
    generation: int = 1
    unresolved: bool = False
    provider_reference: str | None = None


class AuthorizationState(msgspec.Struct, frozen=True, kw_only=True):
    """All that this stage knows of a payment."""

    status: Status
    merchant_id: str
    provider: str
    amount: int
    currency: str
    capture_method: CaptureMethod
    customer_id: str | None = None
    merchant_reference: str | None = None
    method: PaymentMethod | None = None
    fallbacks: tuple[str, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    seen: tuple[str, ...] = ()

    @property
    def current(self) -> Attempt | None:
        """The newest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def next_provider(self) -> str | None:
        """Who is asked when the provider is out: the next one at which the method has a token."""
        tokens = self.method.tokens if self.method else {}
        return next((name for name in self.fallbacks if name in tokens), None)

    def attempt(self, attempt_id: str | None, provider_reference: str | None) -> Attempt | None:
        """The attempt with that id, or else with that reference at the provider."""
        for attempt in reversed(self.attempts):
            if attempt.attempt_id == attempt_id:
                return attempt
            if attempt_id is None and provider_reference and attempt.provider_reference == provider_reference:
                return attempt
        return None


Result = Decision[AuthorizationState]


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
        return _create(item)
    return _not_found_here(None, item) if isinstance(item, Command) else Decision(None)


def _is_theirs(state: AuthorizationState, item: Input) -> bool:
    """Whether it is a command of the payment's own merchant: another's must not use up the ids of theirs."""
    return isinstance(item, Command) and item.merchant_id == state.merchant_id


def _at_payment(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    if isinstance(item, Command):
        if item.merchant_id != state.merchant_id:
            return _not_found_here(state, item)
        if item.command_id in state.seen:
            return Decision(state)
    return TABLE[state.status].cell(kind_of(state, item))(state, item, schedule)


def _not_found_here(state: AuthorizationState | None, command: Command) -> Result:
    """Another merchant's payment looks like none at all."""
    draft = Draft.of(command, command.merchant_id, "")
    draft.reject(command, RejectionReason.PAYMENT_NOT_FOUND, "no such payment")
    return draft.done(state)


def kind_of(state: AuthorizationState, item: Input) -> Kind:
    """The column of the table that an input belongs to."""
    match item:
        case Command():
            return _COMMAND_KINDS[type(item)]
        case ProviderReport():
            return _report_kind(state, item)
        case TimerFired():
            return _timer_kind(state, item)
        case RetryPlanned() | RetryAbandoned():
            return _plan_kind(state, item)
    return Kind.FOREIGN


_COMMAND_KINDS: Final[dict[type[Input], Kind]] = {
    CreateIntent: Kind.CREATE,
    SetMethod: Kind.SET_METHOD,
    Authorize: Kind.AUTHORIZE,
    RetryNow: Kind.RETRY_NOW,
    Void: Kind.VOID,
    Capture: Kind.CAPTURE,
    Refund: Kind.REFUND,
}

_REPORT_KINDS: Final = {
    Outcome.APPROVED: Kind.APPROVED,
    Outcome.DECLINED: Kind.DECLINED,
    Outcome.TEMPORARY_FAILURE: Kind.DECLINED,
    Outcome.REQUIRES_ACTION: Kind.ACTION,
    Outcome.PENDING: Kind.UNRESOLVED,
    Outcome.UNKNOWN: Kind.UNRESOLVED,
    Outcome.NOT_FOUND: Kind.NOT_FOUND,
}


def _report_kind(state: AuthorizationState, report: ProviderReport) -> Kind:
    if report.operation is not Operation.AUTHORIZE:
        return Kind.FOREIGN
    attempt = state.attempt(report.subject_id, report.provider_reference)
    if attempt is None:
        return Kind.STALE
    if attempt.status is AttemptStatus.OPEN:
        return _REPORT_KINDS[report.outcome]
    late = attempt.status is AttemptStatus.CLOSED and report.outcome is Outcome.APPROVED
    return Kind.LATE_APPROVAL if late else Kind.STALE


def _timer_kind(state: AuthorizationState, timer: TimerFired) -> Kind:
    if timer.operation is not Operation.AUTHORIZE or timer.kind is TimerKind.HOLD_EXPIRY:
        return Kind.FOREIGN
    attempt = state.current
    if attempt is None or attempt.attempt_id != timer.subject_id:
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


# The rules. Each takes the state before and the input; what does not apply to a rule never reaches it.

Rule = Callable[[AuthorizationState, Input, Schedule], Result]


def _draft(state: AuthorizationState, item: Input, attempt: Attempt | None = None) -> Draft:
    """What is asked goes to the attempt's own provider, wherever the payment may have gone since."""
    return Draft.of(item, state.merchant_id, attempt.provider if attempt else state.provider)


def _refuse(reason: RejectionReason, detail: str) -> Rule:
    def rule(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
        assert isinstance(item, Command)
        draft = _draft(state, item)
        draft.reject(item, reason, detail)
        return draft.done(state)

    return rule


def _ignore(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    return Decision(state)


def _forward(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    return Decision(state, forward=True)


def _create(item: CreateIntent) -> Result:
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
    draft = _draft(made, item)
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
    )
    return draft.done(made)


def _set_method(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """A changed method supersedes a pending retry: its timer no longer finds the status it needs."""
    assert isinstance(item, SetMethod)
    draft = _draft(state, item)
    draft.fact(MethodSet, item.command_id, payment_method=item.payment_method)
    return draft.done(replace(state, status=Status.REQUIRES_AUTHORIZATION, method=item.payment_method))


def _authorize(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    assert isinstance(item, Authorize)
    draft = _draft(state, item)
    if item.payment_method is not None:
        draft.fact(MethodSet, item.command_id, payment_method=item.payment_method)
        state = replace(state, method=item.payment_method)
    return draft.done(_start_attempt(state, draft, item.command_id, schedule))


def _authorize_needs_method(reason: RejectionReason, detail: str) -> Rule:
    """Authorizing is allowed only with the new method that the command brings."""
    refuse = _refuse(reason, detail)

    def rule(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
        assert isinstance(item, Authorize)
        return (_authorize if item.payment_method else refuse)(state, item, schedule)

    return rule


def _retry_now(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    draft = _draft(state, item)
    return draft.done(_start_attempt(state, draft, item.input_id, schedule))


def _retry_due(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """The retry belongs to the operation that the declined attempt belonged to."""
    assert state.current is not None
    draft = _draft(state, item)
    return draft.done(_start_attempt(state, draft, state.current.operation_id, schedule))


def _start_attempt(
    state: AuthorizationState, draft: Draft, operation_id: str, schedule: Schedule
) -> AuthorizationState:
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
    _request(state, attempt, draft, 0)
    _recovery_timer(attempt, draft, schedule.recovery[0])
    return replace(state, status=Status.AUTHORIZING, attempts=(*state.attempts, attempt))


def _request(state: AuthorizationState, attempt: Attempt, draft: Draft, number: int) -> None:
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


def _recovery_timer(attempt: Attempt, draft: Draft, delay: int) -> None:
    draft.timer(TimerKind.RECOVERY, attempt.attempt_id, Operation.AUTHORIZE, attempt.generation, draft.at + delay)


def _with_attempt(state: AuthorizationState, attempt: Attempt, status: Status | None = None) -> AuthorizationState:
    attempts = tuple(attempt if old.attempt_id == attempt.attempt_id else old for old in state.attempts)
    return replace(state, attempts=attempts, status=status or state.status)


def _reported(state: AuthorizationState, item: Input) -> tuple[AuthorizationState, ProviderReport, Attempt]:
    """The attempt a report speaks of, with the provider's reference that the report may bring."""
    assert isinstance(item, ProviderReport)
    attempt = state.attempt(item.subject_id, item.provider_reference)
    assert attempt is not None
    return (
        state,
        item,
        replace(attempt, provider_reference=item.provider_reference or attempt.provider_reference),
    )


def _approved(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    state, report, attempt = _reported(state, item)
    draft = _draft(state, item, attempt)
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
        hold_expires_at=report.hold_expires_at or draft.at + schedule.hold,
        merchant_reference=state.merchant_reference,
    )
    return draft.done(_with_attempt(state, replace(attempt, status=AttemptStatus.APPROVED), Status.AUTHORIZED))


_FINAL: Final = {DeclineCategory.HARD, DeclineCategory.FRAUD, DeclineCategory.NEEDS_CUSTOMER}


def _declined(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """A soft decline waits for the retry policy's word; any other ends the payment at once."""
    state, report, attempt = _reported(state, item)
    decline = report.decline or _UNDECIDED
    draft = _draft(state, item, attempt)
    _fact_declined(draft, state, attempt, decline)
    closed = replace(attempt, status=AttemptStatus.CLOSED)
    if report.outcome is Outcome.TEMPORARY_FAILURE and state.next_provider is not None:
        return draft.done(_fail_over(_with_attempt(state, closed), draft, attempt.operation_id, schedule))
    final = decline.category in _FINAL
    if final:
        _fact_failed(draft, state, attempt, f"{decline.category}_decline", decline)
    return draft.done(_with_attempt(state, closed, Status.FAILED if final else Status.DECLINED))


def _fail_over(state: AuthorizationState, draft: Draft, operation_id: str, schedule: Schedule) -> AuthorizationState:
    """The provider is out and certainly did nothing, which is never so after an unknown outcome: ask the next one."""
    chosen = state.next_provider
    assert chosen is not None
    rest = state.fallbacks[state.fallbacks.index(chosen) + 1 :]
    return _start_attempt(replace(state, provider=chosen, fallbacks=rest), draft, operation_id, schedule)


_UNDECIDED: Final = Decline(
    category=DeclineCategory.TEMPORARY,
    code="provider_unavailable",
    raw_code="",
    message="The payment could not be processed right now.",
)


def _fact_declined(draft: Draft, state: AuthorizationState, attempt: Attempt, decline: Decline) -> None:
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


def _fact_failed(
    draft: Draft, state: AuthorizationState, attempt: Attempt, reason: str, decline: Decline | None
) -> None:
    draft.fact(
        PaymentFailed,
        attempt.operation_id,
        attempt_id=attempt.attempt_id,
        amount=state.amount,
        currency=state.currency,
        reason=reason,
        decline=decline,
    )


def _action(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """The customer has to act: the attempt waits for the webhook, at most until the action expires."""
    state, report, attempt = _reported(state, item)
    if state.status is Status.REQUIRES_ACTION:
        return Decision(state)
    draft = _draft(state, item, attempt)
    draft.fact(
        ActionRequired,
        attempt.operation_id,
        attempt_id=attempt.attempt_id,
        provider_reference=attempt.provider_reference,
        next_action=report.next_action,
    )
    waiting = replace(attempt, generation=attempt.generation + 1)
    draft.timer(
        TimerKind.ACTION_EXPIRY,
        attempt.attempt_id,
        Operation.AUTHORIZE,
        waiting.generation,
        draft.at + schedule.action_expiry,
    )
    return draft.done(_with_attempt(state, waiting, Status.REQUIRES_ACTION))


def _unresolved(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """Nobody knows: look it up soon, never send it again under another key. Said again, it changes nothing."""
    state, report, attempt = _reported(state, item)
    if attempt.unresolved:
        return Decision(_with_attempt(state, attempt))
    draft = _draft(state, item, attempt)
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
        _recovery_timer(attempt, draft, schedule.after_unknown)
    return draft.done(_with_attempt(state, attempt))


def _not_found(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """The provider never saw it: send it again under the same key. The recovery timer keeps watching."""
    state, _, attempt = _reported(state, item)
    draft = _draft(state, item, attempt)
    _request(state, attempt, draft, attempt.generation)
    return draft.done(state)


def _recovery_due(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    attempt = state.current
    assert attempt is not None
    draft = _draft(state, item)
    if attempt.generation > len(schedule.recovery):
        draft.fact(
            ReviewNeeded,
            attempt.operation_id,
            operation=Operation.AUTHORIZE,
            subject_id=attempt.attempt_id,
            detail=f"no outcome after {attempt.generation - 1} look-ups",
        )
        return draft.done(_with_attempt(state, attempt, Status.NEEDS_REVIEW))
    draft.lookup(
        attempt.attempt_id,
        attempt.generation,
        operation=Operation.AUTHORIZE,
        provider_reference=attempt.provider_reference,
        asked_at=attempt.started_at,
        amount=state.amount,
        currency=state.currency,
        merchant_reference=state.merchant_reference,
    )
    delay = schedule.recovery[min(attempt.generation, len(schedule.recovery) - 1)]
    attempt = replace(attempt, generation=attempt.generation + 1)
    _recovery_timer(attempt, draft, delay)
    return draft.done(_with_attempt(state, attempt))


def _action_expired(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """The customer never came back: cancel at the provider, and fail."""
    attempt = state.current
    assert attempt is not None
    draft = _draft(state, item)
    _fact_declined(draft, state, attempt, _EXPIRED)
    _fact_failed(draft, state, attempt, "action_expired", _EXPIRED)
    _cancel_at_provider(draft, attempt)
    return draft.done(_with_attempt(state, replace(attempt, status=AttemptStatus.CLOSED), Status.FAILED))


_EXPIRED: Final = Decline(
    category=DeclineCategory.NEEDS_CUSTOMER,
    code="authentication_expired",
    raw_code="",
    message="The payment was not confirmed in time.",
)


def _cancel(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """Nothing is held yet: the intent ends here. A customer action under way is called off at the provider."""
    assert isinstance(item, Void)
    draft = _draft(state, item)
    draft.fact(PaymentCanceled, item.command_id, reason=item.reason)
    attempt = state.current
    if attempt is None or attempt.status is not AttemptStatus.OPEN:
        return draft.done(replace(state, status=Status.CANCELED))
    _cancel_at_provider(draft, attempt)
    return draft.done(_with_attempt(state, replace(attempt, status=AttemptStatus.CLOSED), Status.CANCELED))


def _cancel_at_provider(draft: Draft, attempt: Attempt) -> None:
    if attempt.provider_reference:
        draft.request(
            VoidRequest,
            ids.derive("cancel", attempt.attempt_id),
            provider_reference=attempt.provider_reference,
        )


def _late_approval(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """Approved after we gave up: no second hold may live, so it goes back where it came from."""
    state, report, attempt = _reported(state, item)
    amount = report.amount if report.amount is not None else state.amount
    reference = attempt.provider_reference or attempt.attempt_id
    draft = _draft(state, item, attempt)
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
    subject = ids.derive("orphan", attempt.attempt_id)
    if state.capture_method is CaptureMethod.AUTOMATIC:
        draft.request(RefundRequest, subject, provider_reference=reference, amount=amount, currency=state.currency)
    else:
        draft.request(VoidRequest, subject, provider_reference=reference)
    return draft.done(_with_attempt(state, replace(attempt, status=AttemptStatus.ORPHANED)))


def _planned(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    assert isinstance(item, RetryPlanned)
    attempt = state.current
    assert attempt is not None
    draft = _draft(state, item)
    draft.fact(
        RetryScheduled,
        attempt.operation_id,
        attempt_id=attempt.attempt_id,
        due_at=item.due_at,
        rule=item.rule,
        moved_by=item.moved_by,
    )
    draft.timer(TimerKind.RETRY, attempt.attempt_id, Operation.AUTHORIZE, 0, item.due_at)
    return draft.done(replace(state, status=Status.RETRY_SCHEDULED))


def _abandoned(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    assert isinstance(item, RetryAbandoned)
    attempt = state.current
    assert attempt is not None
    draft = _draft(state, item)
    _fact_failed(draft, state, attempt, item.rule, None)
    return draft.done(replace(state, status=Status.FAILED))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One status: what it makes of each kind of input. No cell has a default, so none can be forgotten."""

    create: Rule
    set_method: Rule
    authorize: Rule
    retry_now: Rule
    void: Rule
    capture: Rule
    refund: Rule
    approved: Rule
    declined: Rule
    action: Rule
    unresolved: Rule
    not_found: Rule
    late_approval: Rule
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


_exists = _refuse(RejectionReason.PAYMENT_ALREADY_EXISTS, "the payment exists already")
_in_progress = _refuse(RejectionReason.AUTHORIZATION_IN_PROGRESS, "an authorization is in progress")
_held = _refuse(RejectionReason.ALREADY_AUTHORIZED, "the payment is authorized")
_no_hold = _refuse(RejectionReason.NOT_AUTHORIZED, "the payment is not authorized")
_no_retry = _refuse(RejectionReason.NO_RETRY_PENDING, "no retry is pending")
_canceled = _refuse(RejectionReason.PAYMENT_CANCELED, "the payment was canceled")
_failed = _refuse(RejectionReason.PAYMENT_FAILED, "the payment failed; a new method revives it")
_review = _refuse(RejectionReason.NEEDS_REVIEW, "the outcome of an attempt is unknown and under review")
_waiting = _authorize_needs_method(
    RejectionReason.RETRY_SCHEDULED, "a retry is pending: retry now, or bring another method"
)
_declined_method = _authorize_needs_method(
    RejectionReason.METHOD_DECLINED, "the method was declined for good: bring another"
)

TABLE: Final[dict[Status, Row]] = {
    Status.REQUIRES_METHOD: Row(
        create=_exists, set_method=_set_method,
        authorize=_authorize_needs_method(RejectionReason.METHOD_REQUIRED, "set a payment method first"),
        retry_now=_no_retry, void=_cancel, capture=_no_hold, refund=_no_hold,
        approved=_ignore, declined=_ignore, action=_ignore, unresolved=_ignore, not_found=_ignore,
        late_approval=_late_approval, retry_planned=_ignore, retry_abandoned=_ignore, retry_due=_ignore,
        recovery_due=_ignore, action_expired=_ignore, stale=_ignore, foreign=_forward,
    ),
    Status.REQUIRES_AUTHORIZATION: Row(
        create=_exists, set_method=_set_method, authorize=_authorize, retry_now=_no_retry, void=_cancel,
        capture=_no_hold, refund=_no_hold, approved=_ignore, declined=_ignore, action=_ignore,
        unresolved=_ignore, not_found=_ignore, late_approval=_late_approval, retry_planned=_ignore,
        retry_abandoned=_ignore, retry_due=_ignore, recovery_due=_ignore, action_expired=_ignore,
        stale=_ignore, foreign=_forward,
    ),
    Status.AUTHORIZING: Row(
        create=_exists, set_method=_in_progress, authorize=_in_progress, retry_now=_in_progress,
        void=_in_progress, capture=_no_hold, refund=_no_hold, approved=_approved, declined=_declined,
        action=_action, unresolved=_unresolved, not_found=_not_found, late_approval=_late_approval,
        retry_planned=_ignore, retry_abandoned=_ignore, retry_due=_ignore, recovery_due=_recovery_due,
        action_expired=_ignore, stale=_ignore, foreign=_forward,
    ),
    Status.REQUIRES_ACTION: Row(
        create=_exists, set_method=_in_progress, authorize=_in_progress, retry_now=_in_progress, void=_cancel,
        capture=_no_hold, refund=_no_hold, approved=_approved, declined=_declined, action=_action,
        unresolved=_ignore, not_found=_ignore, late_approval=_late_approval, retry_planned=_ignore,
        retry_abandoned=_ignore, retry_due=_ignore, recovery_due=_ignore, action_expired=_action_expired,
        stale=_ignore, foreign=_forward,
    ),
    Status.DECLINED: Row(
        create=_exists, set_method=_set_method, authorize=_waiting, retry_now=_retry_now, void=_cancel,
        capture=_no_hold, refund=_no_hold, approved=_ignore, declined=_ignore, action=_ignore,
        unresolved=_ignore, not_found=_ignore, late_approval=_late_approval, retry_planned=_planned,
        retry_abandoned=_abandoned, retry_due=_ignore, recovery_due=_ignore, action_expired=_ignore,
        stale=_ignore, foreign=_forward,
    ),
    Status.RETRY_SCHEDULED: Row(
        create=_exists, set_method=_set_method, authorize=_waiting, retry_now=_retry_now, void=_cancel,
        capture=_no_hold, refund=_no_hold, approved=_ignore, declined=_ignore, action=_ignore,
        unresolved=_ignore, not_found=_ignore, late_approval=_late_approval, retry_planned=_ignore,
        retry_abandoned=_ignore, retry_due=_retry_due, recovery_due=_ignore, action_expired=_ignore,
        stale=_ignore, foreign=_forward,
    ),
    Status.NEEDS_REVIEW: Row(
        create=_exists, set_method=_review, authorize=_review, retry_now=_review, void=_review,
        capture=_review, refund=_review, approved=_approved, declined=_declined, action=_action,
        unresolved=_ignore, not_found=_ignore, late_approval=_late_approval, retry_planned=_ignore,
        retry_abandoned=_ignore, retry_due=_ignore, recovery_due=_ignore, action_expired=_ignore,
        stale=_ignore, foreign=_forward,
    ),
    Status.AUTHORIZED: Row(
        create=_exists, set_method=_held, authorize=_held, retry_now=_held, void=_forward,
        capture=_forward, refund=_forward, approved=_ignore, declined=_ignore, action=_ignore,
        unresolved=_ignore, not_found=_ignore, late_approval=_late_approval, retry_planned=_ignore,
        retry_abandoned=_ignore, retry_due=_ignore, recovery_due=_ignore, action_expired=_ignore,
        stale=_ignore, foreign=_forward,
    ),
    Status.FAILED: Row(
        create=_exists, set_method=_set_method, authorize=_declined_method, retry_now=_no_retry, void=_cancel,
        capture=_failed, refund=_failed, approved=_ignore, declined=_ignore, action=_ignore,
        unresolved=_ignore, not_found=_ignore, late_approval=_late_approval, retry_planned=_ignore,
        retry_abandoned=_ignore, retry_due=_ignore, recovery_due=_ignore, action_expired=_ignore,
        stale=_ignore, foreign=_forward,
    ),
    Status.CANCELED: Row(
        create=_exists, set_method=_canceled, authorize=_canceled, retry_now=_canceled, void=_canceled,
        capture=_canceled, refund=_canceled, approved=_ignore, declined=_ignore, action=_ignore,
        unresolved=_ignore, not_found=_ignore, late_approval=_late_approval, retry_planned=_ignore,
        retry_abandoned=_ignore, retry_due=_ignore, recovery_due=_ignore, action_expired=_ignore,
        stale=_ignore, foreign=_forward,
    ),
}  # fmt: skip
