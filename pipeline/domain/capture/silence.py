"""The rules for outcomes that nobody knows: look up, ask again under the same key; in the end ask a person."""

from __future__ import annotations

from msgspec.structs import replace

from pipeline.domain.capture.moves import ask, draft_for, recovery_timer, reported
from pipeline.domain.capture.state import CaptureState, Item, MoveStatus, Result, move_of, with_move
from pipeline.domain.decision import Decision, Schedule
from pipeline.messages.facts import OutcomeUnresolved, ReviewNeeded
from pipeline.messages.inputs import TimerFired
from pipeline.messages.values import Outcome


def unresolved(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    """Pending at the provider, or lost after sending: the recovery timer, or a sooner one, asks again."""
    report, move = reported(state, item)
    if move.unresolved:
        return Decision(replace(state, moves=with_move(state, move)))
    draft = draft_for(state, item)
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
        recovery_timer(draft, move, schedule.after_unknown)
    return draft.done(replace(state, moves=with_move(state, move)))


def not_found(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    """The provider never saw it: ask again under the same key. The recovery timer keeps watching."""
    _, move = reported(state, item)
    draft = draft_for(state, item)
    ask(state, draft, move, move.generation)
    return draft.done(state)


def recovery_due(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    """No answer yet: look it up, as often as the schedule says; then a person has to."""
    assert isinstance(item, TimerFired)
    move = move_of(state, item.subject_id)
    assert move is not None
    draft = draft_for(state, item)
    if move.generation > len(schedule.recovery):
        detail = f"no outcome after {move.generation - 1} look-ups"
        draft.fact(ReviewNeeded, move.operation_id, operation=move.operation, subject_id=move.subject_id, detail=detail)
        return draft.done(replace(state, moves=with_move(state, replace(move, status=MoveStatus.REVIEW))))
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
    recovery_timer(draft, move, delay)
    return draft.done(replace(state, moves=with_move(state, move)))
