"""The rules for what was approved after we gave up: it goes back."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from pipeline import ids
from pipeline.domain.capture.moves import begin, draft_for, reported
from pipeline.domain.capture.state import CaptureState, Item, Move, MoveStatus, Result, with_move
from pipeline.domain.decision import Decision, Schedule
from pipeline.messages.facts import AuthorizationOrphaned, OrphanReturned, OrphanReturnFailed, ReviewNeeded
from pipeline.messages.values import CaptureMethod, Operation


def orphaned(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    """Approved after we gave up: give it back, and watch until it is back, whatever becomes of the payment."""
    assert isinstance(item, AuthorizationOrphaned)
    draft = draft_for(state, item)
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
    return draft.done(begin(state, draft, move, schedule))


def orphan_returned(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    """It is back: nothing of it lives any more."""
    _, move = reported(state, item)
    draft = draft_for(state, item)
    draft.fact(
        OrphanReturned,
        move.operation_id,
        **_orphan(state, move),
        provider_reference=move.provider_reference,
        operation_reference=move.operation_reference,
    )
    return draft.done(replace(state, moves=with_move(state, replace(move, status=MoveStatus.DONE))))


def orphan_return_failed(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    """Nothing of ours can give it back: a person has to."""
    report, move = reported(state, item)
    if move.status is MoveStatus.REVIEW:
        return Decision(state)
    draft = draft_for(state, item)
    draft.fact(
        OrphanReturnFailed,
        move.operation_id,
        **_orphan(state, move),
        after_success=move.status is MoveStatus.DONE,
        detail=report.detail,
    )
    detail = f"the provider would not give it back: {report.detail or 'it did not say why'}"
    draft.fact(ReviewNeeded, move.operation_id, operation=move.operation, subject_id=move.subject_id, detail=detail)
    return draft.done(replace(state, moves=with_move(state, replace(move, status=MoveStatus.REVIEW))))


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
