"""The rules for a provider's yes and no to a capture, void or refund, asked for or not."""

from __future__ import annotations

from msgspec.structs import replace

from pipeline.domain.capture.hold import claim, close, held_again
from pipeline.domain.capture.moves import draft_for, fail, reported
from pipeline.domain.capture.state import CaptureState, Item, Move, MoveStatus, Phase, Result, move_of, with_move
from pipeline.domain.decision import Schedule
from pipeline.messages.facts import CaptureFailed, PaymentRefunded, PaymentVoided, RefundFailed, VoidFailed


def capture_done(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    """The money was claimed."""
    _, move = reported(state, item)
    draft = draft_for(state, item)
    return draft.done(held_again(claim(state, draft, move), draft))


def capture_failed(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    """Refused; or taken back after it was done, whole as it stands in the books, whatever amount the report names."""
    report, move = reported(state, item)
    before = move_of(state, move.subject_id)
    was_done = before is not None and before.status is MoveStatus.DONE
    if before is not None and was_done:
        move = replace(move, amount=before.amount)
    draft = draft_for(state, item)
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
    return draft.done(held_again(fail(state, move, report), draft))


def _take_back(state: CaptureState, move: Move) -> CaptureState:
    """Nothing else is changed by it: what the capture claimed of the hold is gone, another move may be under way."""
    return replace(state, moves=with_move(state, replace(move, status=MoveStatus.FAILED, taken_back=True)))


def void_done(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    """The hold was given back."""
    _, move = reported(state, item)
    draft = draft_for(state, item)
    draft.fact(
        PaymentVoided,
        move.operation_id,
        void_id=move.subject_id,
        provider=state.provider,
        hold_released=state.held,
        currency=state.currency,
    )
    moves = with_move(state, replace(move, status=MoveStatus.DONE))
    return draft.done(close(replace(state, moves=moves), Phase.VOIDED))


def void_failed(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    """Refused: the hold stands as before."""
    report, move = reported(state, item)
    draft = draft_for(state, item)
    draft.fact(VoidFailed, move.operation_id, void_id=move.subject_id, detail=report.detail)
    return draft.done(held_again(fail(state, move, report), draft))


def refund_done(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    """The money went back."""
    _, move = reported(state, item)
    draft = draft_for(state, item)
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
    return draft.done(replace(state, moves=with_move(state, replace(move, status=MoveStatus.DONE))))


def refund_failed(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    """Refused, or failed on its way after the provider had said that it was done."""
    report, move = reported(state, item)
    draft = draft_for(state, item)
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
    return draft.done(fail(state, move, report))
