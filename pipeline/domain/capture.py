"""The capture stage's decisions: from the hold to the money, and back.

It is the last writer before the system of record, so it numbers every fact of a payment, its own and those it passes
on. `TABLE` is the state machine of the hold: a row a phase, a column a kind of input. Captures, voids and refunds are
moves, each with its own linear states; one capture or void is under way at a time, refunds may be several.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from pipeline import ids
from pipeline.domain import disputes, reversals
from pipeline.domain.decision import (
    DECISIONS,
    Decision,
    Draft,
    Output,
    Schedule,
    decided_report,
    remember,
    resolve,
)
from pipeline.domain.disputes import Disputes
from pipeline.messages import Input
from pipeline.messages.commands import Capture, Command, Refund, Void
from pipeline.messages.facts import (
    AuthorizationOrphaned,
    CaptureFailed,
    CaptureRequested,
    Fact,
    HoldExpired,
    HoldExpiring,
    IntentCreated,
    OrphanReturned,
    OrphanReturnFailed,
    OutcomeUnresolved,
    PaymentAuthorized,
    PaymentCaptured,
    PaymentRefunded,
    PaymentVoided,
    RefundFailed,
    RefundRequested,
    ReviewNeeded,
    VoidFailed,
    VoidRequested,
)
from pipeline.messages.inputs import DisputeReport, ProviderReport, ReverseEntry, ReviewDecision, TimerFired
from pipeline.messages.requests import CaptureRequest, RefundRequest, VoidRequest
from pipeline.messages.values import CaptureMethod, Operation, Outcome, RejectionReason, TimerKind


class Phase(StrEnum):
    """Where the hold stands."""

    NO_HOLD = "no_hold"
    HELD = "held"
    CAPTURING = "capturing"
    VOIDING = "voiding"
    CAPTURED = "captured"
    """The hold is closed and at least part of it was captured."""
    VOIDED = "voided"
    EXPIRED = "expired"


class Kind(StrEnum):
    """What an input means to this stage, given the state: the columns of the table."""

    AUTHORIZED = "authorized"
    FACT = "fact"
    CAPTURE = "capture"
    VOID = "void"
    REFUND = "refund"
    CAPTURE_DONE = "capture_done"
    CAPTURE_FAILED = "capture_failed"
    VOID_DONE = "void_done"
    VOID_FAILED = "void_failed"
    REFUND_DONE = "refund_done"
    REFUND_FAILED = "refund_failed"
    ORPHANED = "orphaned"
    ORPHAN_RETURNED = "orphan_returned"
    ORPHAN_RETURN_FAILED = "orphan_return_failed"
    UNRESOLVED = "unresolved"
    NOT_FOUND = "not_found"
    DISPUTE = "dispute"
    HOLD_EXPIRING = "hold_expiring"
    HOLD_DUE = "hold_due"
    RECOVERY_DUE = "recovery_due"
    REVIEW_DECIDED = "review_decided"
    STALE = "stale"
    """A report or timer that no longer applies."""


class MoveStatus(StrEnum):
    """The linear states of a capture, void or refund."""

    OPEN = "open"
    DONE = "done"
    FAILED = "failed"
    REVIEW = "review"


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """A capture, void or refund. `generation` counts its recovery timers. `orphan`: the attempt whose hold or money it
    gives back, which is none of the payment's own; then `provider` and `provider_reference` are the orphan's.
    """

    subject_id: str
    operation_id: str
    operation: Operation
    amount: int
    started_at: int
    final: bool = True
    status: MoveStatus = MoveStatus.OPEN
    generation: int = 1
    unresolved: bool = False
    taken_back: bool = False
    """Failed after the provider had said that it was done: that word, come late, counts no more."""
    external: bool = False
    reason: str | None = None
    operation_reference: str | None = None
    orphan: str | None = None
    provider: str | None = None
    provider_reference: str | None = None


class CaptureState(msgspec.Struct, frozen=True, kw_only=True):
    """All that this stage knows of a payment. `held` is what is left of the hold."""

    phase: Phase = Phase.NO_HOLD
    sequence: int = 0
    merchant_id: str = ""
    provider: str = ""
    currency: str = ""
    merchant_reference: str | None = None
    attempt_id: str = ""
    operation_id: str = ""
    provider_reference: str = ""
    hold_expires_at: int = 0
    held: int = 0
    warned: bool = False
    """Whether the hold's last timer is set: its merchant was warned, or was capturing or voiding at the time."""
    lapsed: bool = False
    """Whether the hold ran out while a capture or void is under review: what a person decides goes first."""
    moves: tuple[Move, ...] = ()
    disputes: Disputes = ()
    reversals: dict[str, str] = {}
    seen: tuple[str, ...] = ()

    def total(self, operation: Operation, *statuses: MoveStatus) -> int:
        """The sum of the payment's own moves of a kind that stand in one of `statuses`."""
        own = (m for m in self.moves if m.orphan is None)
        return sum(m.amount for m in own if m.operation is operation and m.status in statuses)

    @property
    def captured(self) -> int:
        """What was captured."""
        return self.total(Operation.CAPTURE, MoveStatus.DONE)

    @property
    def refundable(self) -> int:
        """What was captured and neither went back nor is on its way back."""
        back = self.total(Operation.REFUND, MoveStatus.DONE, MoveStatus.OPEN, MoveStatus.REVIEW)
        return self.captured - back

    def move(self, report: ProviderReport) -> Move | None:
        """The move a report speaks of: by its id, else by the provider's reference, else the one that is under way."""
        same = [m for m in self.moves if m.operation is report.operation]
        for m in same:
            if m.subject_id == report.subject_id:
                return m
        if report.subject_id is not None:
            return None
        if orphans := self.orphans(report.provider_reference):
            return next((m for m in orphans if m.operation is report.operation), None)
        same = [m for m in same if m.orphan is None]
        for m in same:
            if report.operation_reference and m.operation_reference == report.operation_reference:
                return m
        if report.after_success:
            done = [m for m in same if m.status is MoveStatus.DONE]
            return done[0] if len(done) == 1 else None
        # Only a capture or void is alone under way; of several refunds a nameless report could be any.
        alone = [m for m in same if m.status is MoveStatus.OPEN and m.operation is not Operation.REFUND]
        return alone[0] if alone else None

    def orphans(self, provider_reference: str | None) -> list[Move]:
        """The moves that give back an orphan, known by its reference at the provider."""
        if provider_reference is None:
            return []
        return [m for m in self.moves if m.orphan and m.provider_reference == provider_reference]


Result = Decision[CaptureState]
Item = Fact | Input


def decide(state: CaptureState | None, item: Item, schedule: Schedule) -> Result:
    """What `item` brings about. Total: whatever the state and input, it returns a decision and never raises."""
    state = state or CaptureState()
    if isinstance(item, Fact):
        return _numbered(_pass_on(state, item, schedule), state)
    if isinstance(item, ReverseEntry):
        return _numbered(_reverse(state, item), state)
    if isinstance(item, Command) and item.command_id in state.seen:
        return Decision(state)
    decision = TABLE[state.phase].cell(kind_of(state, item))(state, item, schedule)
    if isinstance(item, Command) and decision.state is not None:
        seen = remember(decision.state.seen, item.command_id)
        decision = Decision(replace(decision.state, seen=seen), decision.outputs)
    return _numbered(decision, state)


def _numbered(decision: Result, before: CaptureState) -> Result:
    """The facts of the decision with the payment's next sequence numbers."""
    assert decision.state is not None
    sequence, outputs = before.sequence, list[Output]()
    for output in decision.outputs:
        if isinstance(output, Fact):
            sequence += 1
            outputs.append(replace(output, sequence=sequence))
        else:
            outputs.append(output)
    return Decision(replace(decision.state, sequence=sequence), tuple(outputs))


def kind_of(state: CaptureState, item: Item) -> Kind:
    """The column of the table that an input belongs to."""
    match item:
        case ProviderReport():
            return _report_kind(state, item)
        case DisputeReport():
            return Kind.DISPUTE
        case TimerFired():
            return _timer_kind(state, item)
        case ReviewDecision():
            return _decision_kind(state, item)
    return _KINDS.get(type(item), Kind.FACT if isinstance(item, Fact) else Kind.STALE)


_KINDS: Final[dict[type[Item], Kind]] = {
    PaymentAuthorized: Kind.AUTHORIZED,
    AuthorizationOrphaned: Kind.ORPHANED,
    Capture: Kind.CAPTURE,
    Void: Kind.VOID,
    Refund: Kind.REFUND,
}


def _decision_kind(state: CaptureState, decision: ReviewDecision) -> Kind:
    move = _move_of(state, decision.subject_id)
    if move is None or move.status is not MoveStatus.REVIEW or move.operation is not decision.operation:
        return Kind.STALE
    # An orphan is under review until it is back: that it is not yet decides nothing.
    decides = {Outcome.APPROVED} if move.orphan else DECISIONS
    return Kind.REVIEW_DECIDED if decision.outcome in decides else Kind.STALE


_DONE: Final = {
    Operation.CAPTURE: Kind.CAPTURE_DONE,
    Operation.VOID: Kind.VOID_DONE,
    Operation.REFUND: Kind.REFUND_DONE,
}
_FAILED: Final = {
    Operation.CAPTURE: Kind.CAPTURE_FAILED,
    Operation.VOID: Kind.VOID_FAILED,
    Operation.REFUND: Kind.REFUND_FAILED,
}
_REFUSED: Final = {Outcome.DECLINED, Outcome.TEMPORARY_FAILURE}


def _report_kind(state: CaptureState, report: ProviderReport) -> Kind:
    if report.operation not in _DONE:
        return Kind.STALE
    move = state.move(report)
    if move is None:
        return _unasked_kind(state, report)
    done = Kind.ORPHAN_RETURNED if move.orphan else _DONE[report.operation]
    failed = Kind.ORPHAN_RETURN_FAILED if move.orphan else _FAILED[report.operation]
    if report.outcome is Outcome.APPROVED:
        return Kind.STALE if move.status is MoveStatus.DONE or move.taken_back else done
    if move.status is MoveStatus.DONE:
        return failed if _is_taken_back(report) else Kind.STALE
    if move.status is MoveStatus.FAILED:
        return Kind.STALE
    if report.outcome in _REFUSED:
        return failed
    return Kind.NOT_FOUND if report.outcome is Outcome.NOT_FOUND else Kind.UNRESOLVED


def _is_taken_back(report: ProviderReport) -> bool:
    """Whether the provider says that what it had done came to nothing. A refund's failure always says so."""
    return report.outcome is Outcome.DECLINED and (report.after_success or report.operation is Operation.REFUND)


def _unasked_kind(state: CaptureState, report: ProviderReport) -> Kind:
    """Done at the provider's own console. One that names a subject of ours which is not here concerns no hold of
    ours.
    """
    nameless = report.subject_id is None and not state.orphans(report.provider_reference)
    unasked = nameless and report.outcome is Outcome.APPROVED and _could_be(state, report.operation)
    return _DONE[report.operation] if unasked else Kind.STALE


def _could_be(state: CaptureState, operation: Operation) -> bool:
    """Whether there is anything such an operation could have moved; else it repeats what is known."""
    match operation:
        case Operation.REFUND:
            return state.captured > 0
        case Operation.CAPTURE:
            return state.phase in {Phase.HELD, Phase.VOIDED, Phase.EXPIRED}
    return state.phase is Phase.HELD


_HOLD_KINDS: Final = {TimerKind.HOLD_WARNING: Kind.HOLD_EXPIRING, TimerKind.HOLD_EXPIRY: Kind.HOLD_DUE}


def _timer_kind(state: CaptureState, timer: TimerFired) -> Kind:
    if timer.kind in _HOLD_KINDS:
        again = timer.kind is TimerKind.HOLD_WARNING and state.warned
        return _HOLD_KINDS[timer.kind] if timer.subject_id == state.attempt_id and not again else Kind.STALE
    if timer.kind is not TimerKind.RECOVERY:
        return Kind.STALE
    move = _move_of(state, timer.subject_id)
    live = move is not None and move.status is MoveStatus.OPEN and move.generation == timer.generation
    return Kind.RECOVERY_DUE if live else Kind.STALE


def _move_of(state: CaptureState, subject_id: str) -> Move | None:
    return next((m for m in state.moves if m.subject_id == subject_id), None)


def _with_move(state: CaptureState, move: Move) -> tuple[Move, ...]:
    """The moves with `move` in the place of its former self, or at the end."""
    if _move_of(state, move.subject_id) is None:
        return (*state.moves, move)
    return tuple(move if m.subject_id == move.subject_id else m for m in state.moves)


# The rules. Each takes the state before and the input; what does not apply to a rule never reaches it.

Rule = Callable[[CaptureState, Item, Schedule], Result]


def _draft(state: CaptureState, item: Item) -> Draft:
    if isinstance(item, Input):
        return Draft.of(item, state.merchant_id, state.provider)
    return Draft(item.payment_id, state.merchant_id, state.provider, item.fact_id, item.occurred_at)


def _refuse(reason: RejectionReason, detail: str) -> Rule:
    def rule(state: CaptureState, item: Item, schedule: Schedule) -> Result:
        assert isinstance(item, Command)
        draft = _draft(state, item)
        draft.reject(item, reason, detail)
        return draft.done(state)

    rule.__name__ = f"refuse: {reason}"
    return rule


def _ignore(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    return Decision(state)


def _pass_on(state: CaptureState, fact: Fact, schedule: Schedule) -> Result:
    """A fact of the authorization stage goes into the system of record, once, whatever brought it here again."""
    if fact.fact_id in state.seen:
        return Decision(state)
    decision = TABLE[state.phase].cell(kind_of(state, fact))(state, fact, schedule)
    assert decision.state is not None
    seen = remember(decision.state.seen, fact.fact_id)
    return Decision(replace(decision.state, seen=seen), (fact, *decision.outputs))


def _reverse(state: CaptureState, item: ReverseEntry) -> Result:
    """A correction of the books, whatever the hold's phase."""
    if item.command_id in state.seen:
        return Decision(state)
    draft = _draft(state, item)
    found = reversals.decide(state.reversals, state.sequence, item, draft)
    return draft.done(replace(state, reversals=found, seen=remember(state.seen, item.command_id)))


def _fact(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    if not isinstance(item, IntentCreated):
        return Decision(state)
    return Decision(
        replace(
            state,
            merchant_id=item.merchant_id,
            provider=item.provider,
            currency=item.currency,
            merchant_reference=item.merchant_reference,
        )
    )


def _authorized(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    """The hold opens. With automatic capture the provider has claimed the money in the same call."""
    assert isinstance(item, PaymentAuthorized)
    state = replace(
        state,
        phase=Phase.HELD,
        provider=item.provider,
        attempt_id=item.attempt_id,
        operation_id=item.operation_id,
        provider_reference=item.provider_reference,
        hold_expires_at=item.hold_expires_at,
        held=item.amount,
    )
    draft = _draft(state, item)
    if item.capture_method is CaptureMethod.AUTOMATIC:
        move = Move(
            subject_id=ids.subject_id("capture", item.payment_id, item.attempt_id),
            operation_id=item.operation_id,
            operation=Operation.CAPTURE,
            amount=item.amount,
            started_at=draft.at,
            operation_reference=item.operation_reference,
        )
        return draft.done(_claim(state, draft, move))
    warn_at = state.hold_expires_at - schedule.hold_warning
    if warn_at > draft.at:
        _hold_timer(state, draft, warn_at, TimerKind.HOLD_WARNING)
    else:
        _hold_timer(state, draft, state.hold_expires_at)
    return draft.done(state)


def _hold_timer(state: CaptureState, draft: Draft, due_at: int, kind: TimerKind = TimerKind.HOLD_EXPIRY) -> None:
    # Numbered by its time: each re-check is a timer of its own.
    draft.timer(kind, state.attempt_id, Operation.AUTHORIZE, due_at // 1000, due_at)


def _warn_of_expiry(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    """Whoever wants the money has to claim it soon."""
    draft = _draft(state, item)
    draft.fact(
        HoldExpiring,
        state.operation_id,
        attempt_id=state.attempt_id,
        provider=state.provider,
        remaining=state.held,
        currency=state.currency,
        expires_at=state.hold_expires_at,
    )
    _hold_timer(state, draft, state.hold_expires_at)
    return draft.done(replace(state, warned=True))


def _await_expiry(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    """No warning while a capture or void is under way."""
    draft = _draft(state, item)
    _hold_timer(state, draft, state.hold_expires_at)
    return draft.done(replace(state, warned=True))


def _orphaned(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    """Approved after we gave up: give it back, and watch until it is back, whatever becomes of the payment."""
    assert isinstance(item, AuthorizationOrphaned)
    draft = _draft(state, item)
    subject = ids.orphan_id(item.attempt_id)
    move = Move(
        subject_id=subject,
        operation_id=subject,
        operation=Operation.REFUND if item.capture_method is CaptureMethod.AUTOMATIC else Operation.VOID,
        amount=item.amount,
        started_at=draft.at,
        orphan=item.attempt_id,
        provider=item.provider,
        provider_reference=item.provider_reference,
    )
    return draft.done(_begin(state, draft, move, schedule))


def _orphan_returned(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    _, move = _reported(state, item)
    draft = _draft(state, item)
    draft.fact(
        OrphanReturned,
        move.operation_id,
        **_orphan(state, move),
        provider_reference=move.provider_reference,
        operation_reference=move.operation_reference,
    )
    return draft.done(replace(state, moves=_with_move(state, replace(move, status=MoveStatus.DONE))))


def _orphan_return_failed(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    """Nothing of ours can give it back: a person has to."""
    report, move = _reported(state, item)
    if move.status is MoveStatus.REVIEW:
        return Decision(state)
    draft = _draft(state, item)
    draft.fact(
        OrphanReturnFailed,
        move.operation_id,
        **_orphan(state, move),
        after_success=move.status is MoveStatus.DONE,
        detail=report.detail,
    )
    detail = f"the provider would not give it back: {report.detail or 'it did not say why'}"
    draft.fact(ReviewNeeded, move.operation_id, operation=move.operation, subject_id=move.subject_id, detail=detail)
    return draft.done(replace(state, moves=_with_move(state, replace(move, status=MoveStatus.REVIEW))))


def _orphan(state: CaptureState, move: Move) -> dict[str, Any]:
    automatic = move.operation is Operation.REFUND
    return {
        "attempt_id": move.orphan,
        "return_id": move.subject_id,
        "provider": move.provider or state.provider,
        "amount": move.amount,
        "currency": state.currency,
        "capture_method": CaptureMethod.AUTOMATIC if automatic else CaptureMethod.MANUAL,
    }


def _review_decided(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    """The operator's word counts as the provider's."""
    assert isinstance(item, ReviewDecision)
    report = decided_report(item, state.provider)
    draft = _draft(state, item)
    resolve(draft, item)
    follows = TABLE[state.phase].cell(_report_kind(state, report))(state, report, schedule)
    return Decision(follows.state, (*draft.outputs, *follows.outputs))


def _capture(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    assert isinstance(item, Capture)
    draft = _draft(state, item)
    amount = state.held if item.amount is None else item.amount
    if not 0 < amount <= state.held:
        draft.reject(item, RejectionReason.AMOUNT_EXCEEDS_HOLD, f"{state.held} is left of the hold")
        return draft.done(state)
    move = Move(
        subject_id=ids.subject_id("capture", item.payment_id, item.command_id),
        operation_id=item.command_id,
        operation=Operation.CAPTURE,
        amount=amount,
        final=item.final,
        started_at=draft.at,
    )
    draft.fact(
        CaptureRequested,
        move.operation_id,
        capture_id=move.subject_id,
        amount=amount,
        currency=state.currency,
        final=item.final,
    )
    return draft.done(replace(_begin(state, draft, move, schedule), phase=Phase.CAPTURING))


def _void(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    assert isinstance(item, Void)
    draft = _draft(state, item)
    move = Move(
        subject_id=ids.subject_id("void", item.payment_id, item.command_id),
        operation_id=item.command_id,
        operation=Operation.VOID,
        amount=state.held,
        started_at=draft.at,
    )
    draft.fact(VoidRequested, move.operation_id, void_id=move.subject_id, reason=item.reason)
    return draft.done(replace(_begin(state, draft, move, schedule), phase=Phase.VOIDING))


def _refund(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    assert isinstance(item, Refund)
    draft = _draft(state, item)
    amount = state.refundable if item.amount is None else item.amount
    if state.captured == 0:
        draft.reject(item, RejectionReason.NOTHING_CAPTURED, "nothing was captured")
        return draft.done(state)
    if not 0 < amount <= state.refundable:
        draft.reject(item, RejectionReason.AMOUNT_EXCEEDS_CAPTURED, f"{state.refundable} can be refunded")
        return draft.done(state)
    move = Move(
        subject_id=ids.subject_id("refund", item.payment_id, item.command_id),
        operation_id=item.command_id,
        operation=Operation.REFUND,
        amount=amount,
        started_at=draft.at,
        reason=item.reason,
    )
    draft.fact(
        RefundRequested,
        move.operation_id,
        refund_id=move.subject_id,
        provider=state.provider,
        amount=amount,
        currency=state.currency,
        reason=item.reason,
    )
    return draft.done(_begin(state, draft, move, schedule))


def _begin(state: CaptureState, draft: Draft, move: Move, schedule: Schedule) -> CaptureState:
    """Ask the provider, and watch for the answer."""
    _ask(state, draft, move, 0)
    _recovery_timer(draft, move, schedule.recovery[0])
    return replace(state, moves=_with_move(state, move))


def _ask(state: CaptureState, draft: Draft, move: Move, number: int) -> None:
    reference = move.provider_reference or state.provider_reference
    draft.provider = move.provider or state.provider
    common = {"provider_reference": reference, "merchant_reference": state.merchant_reference}
    if move.operation is Operation.VOID:
        draft.request(VoidRequest, move.subject_id, number, **common)
        return
    amount = {"amount": move.amount, "currency": state.currency}
    if move.operation is Operation.CAPTURE:
        draft.request(CaptureRequest, move.subject_id, number, final=move.final, **amount, **common)
    else:
        draft.request(RefundRequest, move.subject_id, number, reason=move.reason, **amount, **common)


def _recovery_timer(draft: Draft, move: Move, delay: int) -> None:
    draft.timer(TimerKind.RECOVERY, move.subject_id, move.operation, move.generation, draft.at + delay)


def _reported(state: CaptureState, item: Item) -> tuple[ProviderReport, Move]:
    """The move a report speaks of, with what the report adds; one of its own for what we did not ask for."""
    assert isinstance(item, ProviderReport)
    move = state.move(item)
    if move is None:
        return item, _unasked(state, item)
    return item, replace(
        move,
        amount=item.amount if item.amount is not None else move.amount,
        operation_reference=item.operation_reference or move.operation_reference,
    )


def _unasked(state: CaptureState, report: ProviderReport) -> Move:
    left = {Operation.CAPTURE: state.held, Operation.VOID: state.held, Operation.REFUND: state.refundable}
    reference = report.operation_reference or report.report_id
    return Move(
        subject_id=ids.subject_id(report.operation, report.payment_id, reference),
        operation_id=report.report_id,
        operation=report.operation,
        amount=report.amount if report.amount is not None else left[report.operation],
        started_at=report.occurred_at,
        external=True,
        operation_reference=report.operation_reference,
    )


def _capture_done(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    _, move = _reported(state, item)
    draft = _draft(state, item)
    return draft.done(_held_again(_claim(state, draft, move), draft))


def _held_again(state: CaptureState, draft: Draft) -> CaptureState:
    """What is left of a hold that ran out meanwhile is to expire now."""
    if state.phase is not Phase.HELD or not state.lapsed:
        return state
    _hold_timer(state, draft, draft.at)
    return replace(state, lapsed=False)


def _claim(state: CaptureState, draft: Draft, move: Move) -> CaptureState:
    """The capture's money leaves the hold; a final one lets the rest of the hold go."""
    claimed = min(move.amount, state.held)
    released = state.held - claimed if move.final else 0
    draft.fact(
        PaymentCaptured,
        move.operation_id,
        capture_id=move.subject_id,
        provider=state.provider,
        amount=move.amount,
        currency=state.currency,
        final=move.final,
        hold_captured=claimed,
        hold_released=released,
        provider_reference=state.provider_reference,
        operation_reference=move.operation_reference,
    )
    left = state.held - claimed - released
    moves = _with_move(state, replace(move, status=MoveStatus.DONE))
    return replace(state, held=left, moves=moves, phase=Phase.HELD if left else Phase.CAPTURED)


def _capture_failed(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    """Refused; or taken back after it was done, whole as it stands in the books, whatever amount the report names."""
    report, move = _reported(state, item)
    before = _move_of(state, move.subject_id)
    was_done = before is not None and before.status is MoveStatus.DONE
    if before is not None and was_done:
        move = replace(move, amount=before.amount)
    draft = _draft(state, item)
    draft.fact(
        CaptureFailed,
        move.operation_id,
        capture_id=move.subject_id,
        amount=move.amount,
        currency=state.currency,
        decline=report.decline,
        detail=report.detail,
        provider=state.provider,
        after_success=was_done,
    )
    if was_done:
        return draft.done(_take_back(state, move))
    return draft.done(_held_again(_fail(state, move, report), draft))


def _take_back(state: CaptureState, move: Move) -> CaptureState:
    """Nothing else is changed by it: what the capture claimed of the hold is gone, another move may be under way."""
    return replace(state, moves=_with_move(state, replace(move, status=MoveStatus.FAILED, taken_back=True)))


def _fail(state: CaptureState, move: Move, report: ProviderReport) -> CaptureState:
    """The hold stands as before."""
    under_way = state.phase in {Phase.CAPTURING, Phase.VOIDING} and move.operation is not Operation.REFUND
    failed = replace(move, status=MoveStatus.FAILED, taken_back=report.after_success)
    return replace(state, moves=_with_move(state, failed), phase=Phase.HELD if under_way else state.phase)


def _void_done(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    _, move = _reported(state, item)
    draft = _draft(state, item)
    draft.fact(
        PaymentVoided,
        move.operation_id,
        void_id=move.subject_id,
        provider=state.provider,
        hold_released=state.held,
        currency=state.currency,
    )
    moves = _with_move(state, replace(move, status=MoveStatus.DONE))
    return draft.done(_close(replace(state, moves=moves), Phase.VOIDED))


def _close(state: CaptureState, phase: Phase) -> CaptureState:
    """The hold is gone. What was captured before stays captured."""
    return replace(state, held=0, phase=Phase.CAPTURED if state.captured else phase)


def _void_failed(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    report, move = _reported(state, item)
    draft = _draft(state, item)
    draft.fact(VoidFailed, move.operation_id, void_id=move.subject_id, detail=report.detail)
    return draft.done(_held_again(_fail(state, move, report), draft))


def _refund_done(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    _, move = _reported(state, item)
    draft = _draft(state, item)
    draft.fact(
        PaymentRefunded,
        move.operation_id,
        refund_id=move.subject_id,
        provider=state.provider,
        amount=move.amount,
        currency=state.currency,
        was_pending=move.status is not MoveStatus.FAILED and not move.external,
        operation_reference=move.operation_reference,
    )
    return draft.done(replace(state, moves=_with_move(state, replace(move, status=MoveStatus.DONE))))


def _refund_failed(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    report, move = _reported(state, item)
    draft = _draft(state, item)
    draft.fact(
        RefundFailed,
        move.operation_id,
        refund_id=move.subject_id,
        provider=state.provider,
        amount=move.amount,
        currency=state.currency,
        after_success=move.status is MoveStatus.DONE,
        detail=report.detail,
    )
    return draft.done(_fail(state, move, report))


def _unresolved(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    """Pending at the provider, or lost after sending: the recovery timer, or a sooner one, asks again."""
    report, move = _reported(state, item)
    if move.unresolved:
        return Decision(replace(state, moves=_with_move(state, move)))
    draft = _draft(state, item)
    draft.fact(
        OutcomeUnresolved,
        move.operation_id,
        operation=move.operation,
        subject_id=move.subject_id,
        provider_reference=move.provider_reference or state.provider_reference,
        detail=report.detail,
    )
    move = replace(move, unresolved=True)
    if report.outcome is Outcome.UNKNOWN:
        move = replace(move, generation=move.generation + 1)
        _recovery_timer(draft, move, schedule.after_unknown)
    return draft.done(replace(state, moves=_with_move(state, move)))


def _not_found(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    """The provider never saw it: ask again under the same key. The recovery timer keeps watching."""
    _, move = _reported(state, item)
    draft = _draft(state, item)
    _ask(state, draft, move, move.generation)
    return draft.done(state)


def _recovery_due(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    assert isinstance(item, TimerFired)
    move = _move_of(state, item.subject_id)
    assert move is not None
    draft = _draft(state, item)
    if move.generation > len(schedule.recovery):
        detail = f"no outcome after {move.generation - 1} look-ups"
        draft.fact(ReviewNeeded, move.operation_id, operation=move.operation, subject_id=move.subject_id, detail=detail)
        return draft.done(replace(state, moves=_with_move(state, replace(move, status=MoveStatus.REVIEW))))
    draft.provider = move.provider or state.provider
    draft.lookup(
        move.subject_id,
        move.generation,
        operation=move.operation,
        provider_reference=move.provider_reference or state.provider_reference,
        operation_reference=move.operation_reference,
        asked_at=move.started_at,
        amount=move.amount,
        currency=state.currency,
        merchant_reference=state.merchant_reference,
    )
    delay = schedule.recovery[min(move.generation, len(schedule.recovery) - 1)]
    move = replace(move, generation=move.generation + 1)
    _recovery_timer(draft, move, delay)
    return draft.done(replace(state, moves=_with_move(state, move)))


def _dispute(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    """Whatever the phase: a dispute may come of a payment that our books have at another point."""
    assert isinstance(item, DisputeReport)
    draft = _draft(state, item)
    found = disputes.decide(state.disputes, item, draft)
    return draft.done(replace(state, disputes=found))


def _expire(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    """The issuer let the hold go."""
    draft = _draft(state, item)
    draft.fact(
        HoldExpired,
        state.operation_id,
        provider=state.provider,
        hold_released=state.held,
        currency=state.currency,
    )
    return draft.done(_close(state, Phase.EXPIRED))


def _recheck_hold(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    """A capture or void is under way: its outcome decides. If it fails, the hold is still to expire."""
    if not any(m.status is MoveStatus.OPEN for m in state.moves if m.operation is not Operation.REFUND):
        return Decision(replace(state, lapsed=True))
    draft = _draft(state, item)
    _hold_timer(state, draft, draft.at + schedule.hold_recheck)
    return draft.done(state)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One phase: what it makes of each kind of input. No cell has a default, so none can be forgotten."""

    authorized: Rule
    fact: Rule
    capture: Rule
    void: Rule
    refund: Rule
    capture_done: Rule
    capture_failed: Rule
    void_done: Rule
    void_failed: Rule
    refund_done: Rule
    refund_failed: Rule
    orphaned: Rule
    orphan_returned: Rule
    orphan_return_failed: Rule
    unresolved: Rule
    not_found: Rule
    dispute: Rule
    hold_expiring: Rule
    hold_due: Rule
    recovery_due: Rule
    review_decided: Rule
    stale: Rule

    def cell(self, kind: Kind) -> Rule:
        """The rule for a kind of input."""
        rule: Rule = getattr(self, kind.value)
        return rule


_no_hold = _refuse(RejectionReason.NOT_AUTHORIZED, "the payment is not authorized")
_capturing = _refuse(RejectionReason.CAPTURE_IN_PROGRESS, "a capture is in progress")
_voiding = _refuse(RejectionReason.VOID_IN_PROGRESS, "a void is in progress")
_captured = _refuse(RejectionReason.ALREADY_CAPTURED, "nothing is left of the hold")
_voided = _refuse(RejectionReason.ALREADY_VOIDED, "the hold was given back")
_expired = _refuse(RejectionReason.HOLD_EXPIRED, "the hold expired")

_ALWAYS: Final[dict[str, Rule]] = {
    "orphaned": _orphaned,
    "orphan_returned": _orphan_returned,
    "orphan_return_failed": _orphan_return_failed,
    "dispute": _dispute,
    "review_decided": _review_decided,
}
"""What concerns an orphan, a dispute, or a move under review, wherever the hold stands."""

TABLE: Final[dict[Phase, Row]] = {
    Phase.NO_HOLD: Row(
        authorized=_authorized, fact=_fact, capture=_no_hold, void=_no_hold, refund=_no_hold,
        capture_done=_ignore, capture_failed=_ignore, void_done=_ignore, void_failed=_ignore,
        refund_done=_ignore, refund_failed=_ignore, unresolved=_unresolved, not_found=_not_found, hold_expiring=_ignore,
        hold_due=_ignore, recovery_due=_recovery_due, stale=_ignore, **_ALWAYS,
    ),
    Phase.HELD: Row(
        authorized=_ignore, fact=_fact, capture=_capture, void=_void, refund=_refund,
        capture_done=_capture_done, capture_failed=_capture_failed, void_done=_void_done,
        void_failed=_void_failed, refund_done=_refund_done, refund_failed=_refund_failed,
        unresolved=_unresolved, not_found=_not_found, hold_expiring=_warn_of_expiry, hold_due=_expire,
        recovery_due=_recovery_due, stale=_ignore, **_ALWAYS,
    ),
    Phase.CAPTURING: Row(
        authorized=_ignore, fact=_fact, capture=_capturing, void=_capturing, refund=_refund,
        capture_done=_capture_done, capture_failed=_capture_failed, void_done=_void_done,
        void_failed=_void_failed, refund_done=_refund_done, refund_failed=_refund_failed,
        unresolved=_unresolved, not_found=_not_found, hold_expiring=_await_expiry, hold_due=_recheck_hold,
        recovery_due=_recovery_due, stale=_ignore, **_ALWAYS,
    ),
    Phase.VOIDING: Row(
        authorized=_ignore, fact=_fact, capture=_voiding, void=_voiding, refund=_refund,
        capture_done=_capture_done, capture_failed=_capture_failed, void_done=_void_done,
        void_failed=_void_failed, refund_done=_refund_done, refund_failed=_refund_failed,
        unresolved=_unresolved, not_found=_not_found, hold_expiring=_await_expiry, hold_due=_recheck_hold,
        recovery_due=_recovery_due, stale=_ignore, **_ALWAYS,
    ),
    Phase.CAPTURED: Row(
        authorized=_ignore, fact=_fact, capture=_captured, void=_captured, refund=_refund,
        capture_done=_capture_done, capture_failed=_capture_failed, void_done=_ignore,
        void_failed=_void_failed, refund_done=_refund_done, refund_failed=_refund_failed,
        unresolved=_unresolved, not_found=_not_found, hold_expiring=_ignore, hold_due=_ignore,
        recovery_due=_recovery_due, stale=_ignore, **_ALWAYS,
    ),
    Phase.VOIDED: Row(
        authorized=_ignore, fact=_fact, capture=_voided, void=_voided, refund=_refund,
        capture_done=_capture_done, capture_failed=_capture_failed, void_done=_ignore,
        void_failed=_void_failed, refund_done=_refund_done, refund_failed=_refund_failed,
        unresolved=_unresolved, not_found=_not_found, hold_expiring=_ignore, hold_due=_ignore,
        recovery_due=_recovery_due, stale=_ignore, **_ALWAYS,
    ),
    Phase.EXPIRED: Row(
        authorized=_ignore, fact=_fact, capture=_expired, void=_expired, refund=_refund,
        capture_done=_capture_done, capture_failed=_capture_failed, void_done=_ignore,
        void_failed=_void_failed, refund_done=_refund_done, refund_failed=_refund_failed,
        unresolved=_unresolved, not_found=_not_found, hold_expiring=_ignore, hold_due=_ignore,
        recovery_due=_recovery_due, stale=_ignore, **_ALWAYS,
    ),
}  # fmt: skip
