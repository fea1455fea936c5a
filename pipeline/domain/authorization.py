"""The authorization stage's decisions: from the intent to a hold, or to a final no.

`TABLE` is the whole state machine: a row a status, a column a kind of input. A cell either acts, refuses a command
with a recorded reason, ignores what no longer applies, or forwards what the capture stage owns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

import msgspec
from msgspec.structs import replace

from pipeline import ids
from pipeline.domain.decision import DECISIONS, Decision, Draft, Schedule, decided_report, remember, resolve
from pipeline.domain.networks import opening
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
from pipeline.messages.facts import (
    ActionCompleted,
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
from pipeline.messages.inputs import ProviderReport, RetryAbandoned, RetryPlanned, ReviewDecision, TimerFired
from pipeline.messages.requests import AuthorizeRequest, VoidRequest
from pipeline.messages.values import (
    CaptureMethod,
    Decline,
    DeclineCategory,
    Operation,
    Outcome,
    PaymentMethod,
    RejectionReason,
    ReportSource,
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


class AttemptStatus(StrEnum):
    """An attempt's own linear states."""

    OPEN = "open"
    APPROVED = "approved"
    CLOSED = "closed"
    GIVEN_UP = "given_up"
    """Ended by us, its outcome at the provider not known: asked for until it is."""
    ORPHANED = "orphaned"


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One immutable try: what was sent never changes, only its outcome becomes known. `generation` counts its timers,
    `checks` the questions after it was given up. `barred`: the card must not be tried again.

    `resumed` is the generation in which the customer's return set it going again, 0 when it never did; `returned_early`
    that the return was told of before the action. `action_due` is when the customer's time ends, whatever they send.
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
    barred: bool = False
    reviewed: bool = False
    checks: int = 0
    provider_reference: str | None = None
    resumed: int = 0
    returned_early: bool = False
    action_due: int = 0
    action_result: str | None = None
    heard: tuple[str, ...] = ()
    """The reports on the customer's action that have had their effect: said again, they have none."""

    @property
    def asked(self) -> int:
        """How many answers of the provider it has waited for in vain since it was last set going, and one."""
        return self.generation - self.resumed


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


def _report_kind(state: AuthorizationState, report: ProviderReport) -> Kind:
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

    rule.__name__ = f"refuse: {reason}"
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
        return_url=item.return_url,
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
    chosen = replace(state, method=item.payment_method or state.method)
    if refusal := _refusal(chosen, item.occurred_at, schedule):
        return refusal(state, item, schedule)
    draft = _draft(state, item)
    if item.payment_method is not None:
        draft.fact(MethodSet, item.command_id, payment_method=item.payment_method)
    return draft.done(_start_attempt(chosen, draft, item.command_id, schedule))


def _refusal(state: AuthorizationState, at: int, schedule: Schedule) -> Rule | None:
    """Why no attempt with the present method may be made now, whoever asks for it: the card networks' rules."""
    tried = [attempt for attempt in state.attempts if attempt.method == state.method]
    if any(attempt.barred for attempt in tried):
        return _barred
    allowed = opening(schedule.networks.limits, [attempt.started_at for attempt in tried], at)
    if allowed.at > at:
        words = f"{', '.join(allowed.moved_by)}: not before {_utc(allowed.at)} with this method"
        return _refuse(RejectionReason.NETWORK_LIMIT, words)
    return None


def _utc(millis: int) -> str:
    return datetime.fromtimestamp(millis / 1000, UTC).isoformat(timespec="seconds")


def _authorize_needs_method(reason: RejectionReason, detail: str) -> Rule:
    """Authorizing is allowed only with the new method that the command brings."""
    refuse = _refuse(reason, detail)

    def rule(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
        assert isinstance(item, Authorize)
        return (_authorize if item.payment_method else refuse)(state, item, schedule)

    rule.__name__ = f"authorize if it brings a method, else {refuse.__name__}"
    return rule


def _retry_now(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    if refusal := _refusal(state, item.occurred_at, schedule):
        return refusal(state, item, schedule)
    draft = _draft(state, item)
    return draft.done(_start_attempt(state, draft, item.input_id, schedule))


def _retry_due(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """The retry belongs to the operation that the declined attempt belonged to."""
    attempt = state.current
    assert attempt is not None
    draft = _draft(state, item)
    tried = [made.started_at for made in state.attempts if made.method == state.method]
    allowed = opening(schedule.networks.limits, tried, draft.at)
    if allowed.at > draft.at:
        # The plan had allowed for the limits; a clock was set back since.
        _schedule_retry(draft, attempt, allowed.at, "network_limit", list(allowed.moved_by))
        return draft.done(state)
    return draft.done(_start_attempt(state, draft, attempt.operation_id, schedule))


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
        hold_expires_at=report.hold_expires_at or draft.at + schedule.hold_of(attempt.provider),
        merchant_reference=state.merchant_reference,
    )
    return draft.done(_with_attempt(state, replace(attempt, status=AttemptStatus.APPROVED), Status.AUTHORIZED))


_NEVER: Final = {DeclineCategory.HARD, DeclineCategory.FRAUD}
_FINAL: Final = _NEVER | {DeclineCategory.NEEDS_CUSTOMER}


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
    barred = decline.category in _NEVER or schedule.networks.bar(decline) is not None
    closed = replace(attempt, status=AttemptStatus.CLOSED, barred=barred)
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
    """The customer has to act: the attempt waits for their return or the webhook, at most until the action expires. An
    action asked for again, after they returned, expires when the first one does: returning buys no time.
    """
    state, report, attempt = _reported(state, item)
    attempt = _hear(attempt, report)
    if state.status is Status.REQUIRES_ACTION:
        return Decision(_with_attempt(state, attempt))
    draft = _draft(state, item, attempt)
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
    return draft.done(_with_attempt(state, waiting, Status.REQUIRES_ACTION))


def _hear(attempt: Attempt, report: ProviderReport) -> Attempt:
    return replace(attempt, heard=remember(attempt.heard, report.report_id))


def _complete_action(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """The customer is back: the outcome belongs to the command that says so."""
    assert isinstance(item, CompleteAction)
    attempt = state.current
    assert attempt is not None
    draft = _draft(state, item, attempt)
    attempt = replace(attempt, operation_id=item.command_id, action_result=item.result)
    return draft.done(_resume(state, attempt, draft, schedule))


def _acted(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """The provider says that the customer acted, and waits for us."""
    state, report, attempt = _reported(state, item)
    draft = _draft(state, item, attempt)
    return draft.done(_resume(state, _hear(attempt, report), draft, schedule))


def _acted_early(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """The webhook overtook the answer that asks for the action, or the look-up that is under way: remember it."""
    state, report, attempt = _reported(state, item)
    heard = _with_attempt(state, replace(_hear(attempt, report), returned_early=True))
    return Decision(heard) if attempt.resumed else _unresolved(heard, item, schedule)


def _resume(state: AuthorizationState, attempt: Attempt, draft: Draft, schedule: Schedule) -> AuthorizationState:
    """Ask the provider at once; the recovery timer asks again, with the same result, until it has answered."""
    draft.fact(
        ActionCompleted,
        attempt.operation_id,
        attempt_id=attempt.attempt_id,
        provider_reference=attempt.provider_reference,
    )
    _look_up(state, attempt, draft)
    attempt = replace(attempt, generation=attempt.generation + 1, resumed=attempt.generation, returned_early=False)
    _recovery_timer(attempt, draft, schedule.recovery[0])
    return _with_attempt(state, attempt, Status.AUTHORIZING)


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
    if attempt.asked > len(schedule.recovery):
        draft.fact(
            ReviewNeeded,
            attempt.operation_id,
            operation=Operation.AUTHORIZE,
            subject_id=attempt.attempt_id,
            detail=f"no outcome after {attempt.asked - 1} look-ups",
        )
        return draft.done(_with_attempt(state, replace(attempt, reviewed=True), Status.NEEDS_REVIEW))
    _look_up(state, attempt, draft)
    delay = schedule.recovery[min(attempt.asked, len(schedule.recovery) - 1)]
    attempt = replace(attempt, generation=attempt.generation + 1)
    _recovery_timer(attempt, draft, delay)
    return draft.done(_with_attempt(state, attempt))


def _look_up(state: AuthorizationState, attempt: Attempt, draft: Draft) -> None:
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


def _action_expired(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """The customer never came back: cancel at the provider, and fail."""
    attempt = state.current
    assert attempt is not None
    draft = _draft(state, item)
    _fact_declined(draft, state, attempt, _EXPIRED)
    _fact_failed(draft, state, attempt, "action_expired", _EXPIRED)
    return draft.done(_with_attempt(state, _give_up(draft, attempt, schedule), Status.FAILED))


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
    return draft.done(_with_attempt(state, _give_up(draft, attempt, schedule), Status.CANCELED))


def _give_up(draft: Draft, attempt: Attempt, schedule: Schedule) -> Attempt:
    """Call the attempt off at the provider, and find out what became of it there: the customer may have been faster."""
    _cancel_at_provider(draft, attempt)
    given_up = replace(attempt, status=AttemptStatus.GIVEN_UP, generation=attempt.generation + 1)
    _recovery_timer(given_up, draft, schedule.recovery[0])
    return given_up


def _cancel_at_provider(draft: Draft, attempt: Attempt) -> None:
    if attempt.provider_reference:
        draft.request(
            VoidRequest,
            ids.derive("cancel", attempt.attempt_id, attempt.checks),
            provider_reference=attempt.provider_reference,
        )


def _given_up_settled(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """Nothing came of it, as we had it in our books."""
    state, _, attempt = _reported(state, item)
    return Decision(_with_attempt(state, replace(attempt, status=AttemptStatus.CLOSED)))


def _given_up_alive(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """Calling it off did not work: again."""
    state, _, attempt = _reported(state, item)
    draft = _draft(state, item)
    _cancel_at_provider(draft, attempt)
    return draft.done(_with_attempt(state, attempt))


def _given_up_due(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """Ask what became of it, as often as of an attempt that never answered; then a person has to."""
    assert isinstance(item, TimerFired)
    attempt = state.attempt(item.subject_id, None)
    assert attempt is not None
    draft = _draft(state, item)
    if attempt.checks >= len(schedule.recovery):
        draft.fact(
            ReviewNeeded,
            attempt.operation_id,
            operation=Operation.AUTHORIZE,
            subject_id=attempt.attempt_id,
            detail=f"given up; no outcome after {attempt.checks} look-ups",
        )
        return draft.done(_with_attempt(state, replace(attempt, reviewed=True)))
    _look_up(state, attempt, draft)
    delay = schedule.recovery[min(attempt.checks + 1, len(schedule.recovery) - 1)]
    attempt = replace(attempt, generation=attempt.generation + 1, checks=attempt.checks + 1)
    _recovery_timer(attempt, draft, delay)
    return draft.done(_with_attempt(state, attempt))


def _review_decided(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """The operator's word counts as the provider's."""
    assert isinstance(item, ReviewDecision)
    report = decided_report(item, state.provider, _NOT_CHARGED)
    draft = _draft(state, item)
    resolve(draft, item)
    follows = TABLE[state.status].cell(_report_kind(state, report))(state, report, schedule)
    return Decision(follows.state, (*draft.outputs, *follows.outputs))


_NOT_CHARGED: Final = Decline(
    category=DeclineCategory.NEEDS_CUSTOMER,
    code="not_charged",
    raw_code="",
    message="The payment did not go through. Please try again.",
)


def _late_approval(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    """Approved after we gave up: no second hold may live. The capture stage gives it back."""
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
    return draft.done(_with_attempt(state, replace(attempt, status=AttemptStatus.ORPHANED)))


def _planned(state: AuthorizationState, item: Input, schedule: Schedule) -> Result:
    assert isinstance(item, RetryPlanned)
    attempt = state.current
    assert attempt is not None
    draft = _draft(state, item)
    _schedule_retry(draft, attempt, item.due_at, item.rule, item.moved_by)
    return draft.done(replace(state, status=Status.RETRY_SCHEDULED))


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


_barred = _refuse(RejectionReason.METHOD_DECLINED, "the method was declined for good: bring another")
_exists = _refuse(RejectionReason.PAYMENT_ALREADY_EXISTS, "the payment exists already")
_in_progress = _refuse(RejectionReason.AUTHORIZATION_IN_PROGRESS, "an authorization is in progress")
_held = _refuse(RejectionReason.ALREADY_AUTHORIZED, "the payment is authorized")
_no_hold = _refuse(RejectionReason.NOT_AUTHORIZED, "the payment is not authorized")
_no_retry = _refuse(RejectionReason.NO_RETRY_PENDING, "no retry is pending")
_no_action = _refuse(RejectionReason.NO_ACTION_PENDING, "no action of the customer is awaited")
_canceled = _refuse(RejectionReason.PAYMENT_CANCELED, "the payment was canceled")
_failed = _refuse(RejectionReason.PAYMENT_FAILED, "the payment failed; a new method revives it")
_review = _refuse(RejectionReason.NEEDS_REVIEW, "the outcome of an attempt is unknown and under review")
_waiting = _authorize_needs_method(
    RejectionReason.RETRY_SCHEDULED, "a retry is pending: retry now, or bring another method"
)
_declined_method = _authorize_needs_method(
    RejectionReason.METHOD_DECLINED, "the method was declined for good: bring another"
)

_GIVEN_UP: Final[dict[str, Rule]] = {
    "given_up_settled": _given_up_settled,
    "given_up_alive": _given_up_alive,
    "given_up_due": _given_up_due,
    "review_decided": _review_decided,
}
"""What concerns an attempt by its own status, the same wherever the payment stands."""

TABLE: Final[dict[Status, Row]] = {
    Status.REQUIRES_METHOD: Row(
        create=_exists, set_method=_set_method,
        authorize=_authorize_needs_method(RejectionReason.METHOD_REQUIRED, "set a payment method first"),
        retry_now=_no_retry, complete_action=_no_action, void=_cancel, capture=_no_hold, refund=_no_hold,
        approved=_ignore, declined=_ignore, action=_ignore, acted=_ignore, unresolved=_ignore,
        not_found=_ignore, late_approval=_late_approval, **_GIVEN_UP, retry_planned=_ignore,
        retry_abandoned=_ignore, retry_due=_ignore, recovery_due=_ignore, action_expired=_ignore, stale=_ignore,
        foreign=_forward,
    ),
    Status.REQUIRES_AUTHORIZATION: Row(
        create=_exists, set_method=_set_method, authorize=_authorize, retry_now=_no_retry,
        complete_action=_no_action, void=_cancel, capture=_no_hold, refund=_no_hold, approved=_ignore,
        declined=_ignore, action=_ignore, acted=_ignore, unresolved=_ignore, not_found=_ignore,
        late_approval=_late_approval, **_GIVEN_UP, retry_planned=_ignore, retry_abandoned=_ignore,
        retry_due=_ignore, recovery_due=_ignore, action_expired=_ignore, stale=_ignore, foreign=_forward,
    ),
    Status.AUTHORIZING: Row(
        create=_exists, set_method=_in_progress, authorize=_in_progress, retry_now=_in_progress,
        complete_action=_in_progress, void=_in_progress, capture=_no_hold, refund=_no_hold, approved=_approved,
        declined=_declined, action=_action, acted=_acted_early, unresolved=_unresolved, not_found=_not_found,
        late_approval=_late_approval, **_GIVEN_UP, retry_planned=_ignore, retry_abandoned=_ignore,
        retry_due=_ignore, recovery_due=_recovery_due, action_expired=_ignore, stale=_ignore, foreign=_forward,
    ),
    Status.REQUIRES_ACTION: Row(
        create=_exists, set_method=_in_progress, authorize=_in_progress, retry_now=_in_progress,
        complete_action=_complete_action, void=_cancel, capture=_no_hold, refund=_no_hold, approved=_approved,
        declined=_declined, action=_action, acted=_acted, unresolved=_ignore, not_found=_ignore,
        late_approval=_late_approval, **_GIVEN_UP, retry_planned=_ignore, retry_abandoned=_ignore,
        retry_due=_ignore, recovery_due=_ignore, action_expired=_action_expired, stale=_ignore,
        foreign=_forward,
    ),
    Status.DECLINED: Row(
        create=_exists, set_method=_set_method, authorize=_waiting, retry_now=_retry_now,
        complete_action=_no_action, void=_cancel, capture=_no_hold, refund=_no_hold, approved=_ignore,
        declined=_ignore, action=_ignore, acted=_ignore, unresolved=_ignore, not_found=_ignore,
        late_approval=_late_approval, **_GIVEN_UP, retry_planned=_planned, retry_abandoned=_abandoned,
        retry_due=_ignore, recovery_due=_ignore, action_expired=_ignore, stale=_ignore, foreign=_forward,
    ),
    Status.RETRY_SCHEDULED: Row(
        create=_exists, set_method=_set_method, authorize=_waiting, retry_now=_retry_now,
        complete_action=_no_action, void=_cancel, capture=_no_hold, refund=_no_hold, approved=_ignore,
        declined=_ignore, action=_ignore, acted=_ignore, unresolved=_ignore, not_found=_ignore,
        late_approval=_late_approval, **_GIVEN_UP, retry_planned=_ignore, retry_abandoned=_ignore,
        retry_due=_retry_due, recovery_due=_ignore, action_expired=_ignore, stale=_ignore, foreign=_forward,
    ),
    Status.NEEDS_REVIEW: Row(
        create=_exists, set_method=_review, authorize=_review, retry_now=_review, complete_action=_review,
        void=_review, capture=_review, refund=_review, approved=_approved, declined=_declined, action=_action,
        acted=_ignore, unresolved=_ignore, not_found=_ignore, late_approval=_late_approval, **_GIVEN_UP,
        retry_planned=_ignore, retry_abandoned=_ignore, retry_due=_ignore, recovery_due=_ignore,
        action_expired=_ignore, stale=_ignore, foreign=_forward,
    ),
    Status.AUTHORIZED: Row(
        create=_exists, set_method=_held, authorize=_held, retry_now=_held, complete_action=_held,
        void=_forward, capture=_forward, refund=_forward, approved=_ignore, declined=_ignore, action=_ignore,
        acted=_ignore, unresolved=_ignore, not_found=_ignore, late_approval=_late_approval, **_GIVEN_UP,
        retry_planned=_ignore, retry_abandoned=_ignore, retry_due=_ignore, recovery_due=_ignore,
        action_expired=_ignore, stale=_ignore, foreign=_forward,
    ),
    Status.FAILED: Row(
        create=_exists, set_method=_set_method, authorize=_declined_method, retry_now=_no_retry,
        complete_action=_failed, void=_cancel, capture=_failed, refund=_failed, approved=_ignore,
        declined=_ignore, action=_ignore, acted=_ignore, unresolved=_ignore, not_found=_ignore,
        late_approval=_late_approval, **_GIVEN_UP, retry_planned=_ignore, retry_abandoned=_ignore,
        retry_due=_ignore, recovery_due=_ignore, action_expired=_ignore, stale=_ignore, foreign=_forward,
    ),
    Status.CANCELED: Row(
        create=_exists, set_method=_canceled, authorize=_canceled, retry_now=_canceled,
        complete_action=_canceled, void=_canceled, capture=_canceled, refund=_canceled, approved=_ignore,
        declined=_ignore, action=_ignore, acted=_ignore, unresolved=_ignore, not_found=_ignore,
        late_approval=_late_approval, **_GIVEN_UP, retry_planned=_ignore, retry_abandoned=_ignore,
        retry_due=_ignore, recovery_due=_ignore, action_expired=_ignore, stale=_ignore, foreign=_forward,
    ),
}  # fmt: skip
