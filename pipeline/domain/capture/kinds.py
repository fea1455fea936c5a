"""What an input means to the capture stage, given the state: the columns of its table."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from pipeline.domain.capture.state import CaptureState, Item, MoveStatus, Phase, move_of
from pipeline.domain.decision import DECISIONS
from pipeline.messages.commands import Capture, Refund, Void
from pipeline.messages.facts import AuthorizationOrphaned, Fact, PaymentAuthorized
from pipeline.messages.inputs import DisputeReport, ProviderReport, ReviewDecision, TimerFired
from pipeline.messages.values import Operation, Outcome, TimerKind


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


def kind_of(state: CaptureState, item: Item) -> Kind:
    """The column of the table that an input belongs to."""
    match item:
        case ProviderReport():
            return report_kind(state, item)
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
    move = move_of(state, decision.subject_id)
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


def report_kind(state: CaptureState, report: ProviderReport) -> Kind:
    """The column of a provider's report."""
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
    move = move_of(state, timer.subject_id)
    live = move is not None and move.status is MoveStatus.OPEN and move.generation == timer.generation
    return Kind.RECOVERY_DUE if live else Kind.STALE
