"""The rules for the hold: it opens, gives up its money, and runs out."""

from __future__ import annotations

from msgspec.structs import replace

from pipeline import ids
from pipeline.domain.capture.moves import draft_for
from pipeline.domain.capture.state import CaptureState, Item, Move, MoveStatus, Phase, Result, with_move
from pipeline.domain.decision import Decision, Draft, Schedule
from pipeline.messages.facts import HoldExpired, HoldExpiring, PaymentAuthorized, PaymentCaptured
from pipeline.messages.values import CaptureMethod, Operation, TimerKind


def authorized(state: CaptureState, item: Item, schedule: Schedule) -> Result:
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
    draft = draft_for(state, item)
    if item.capture_method is CaptureMethod.AUTOMATIC:
        move = Move(
            subject_id=ids.subject_id("capture", item.payment_id, item.attempt_id),
            operation_id=item.operation_id,
            operation=Operation.CAPTURE,
            amount=item.amount,
            started_at=draft.at,
            operation_reference=item.operation_reference,
        )
        return draft.done(claim(state, draft, move))
    warn_at = state.hold_expires_at - schedule.hold_warning
    if warn_at > draft.at:
        _hold_timer(state, draft, warn_at, TimerKind.HOLD_WARNING)
    else:
        _hold_timer(state, draft, state.hold_expires_at)
    return draft.done(state)


def claim(state: CaptureState, draft: Draft, move: Move) -> CaptureState:
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
    moves = with_move(state, replace(move, status=MoveStatus.DONE))
    return replace(state, held=left, moves=moves, phase=Phase.HELD if left else Phase.CAPTURED)


def held_again(state: CaptureState, draft: Draft) -> CaptureState:
    """What is left of a hold that ran out meanwhile is to expire now."""
    if state.phase is not Phase.HELD or not state.lapsed:
        return state
    _hold_timer(state, draft, draft.at)
    return replace(state, lapsed=False)


def _hold_timer(state: CaptureState, draft: Draft, due_at: int, kind: TimerKind = TimerKind.HOLD_EXPIRY) -> None:
    # Numbered by its time: each re-check is a timer of its own.
    draft.timer(kind, state.attempt_id, Operation.AUTHORIZE, due_at // 1000, due_at)


def warn_of_expiry(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    """Whoever wants the money has to claim it soon."""
    draft = draft_for(state, item)
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


def await_expiry(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    """No warning while a capture or void is under way."""
    draft = draft_for(state, item)
    _hold_timer(state, draft, state.hold_expires_at)
    return draft.done(replace(state, warned=True))


def expire(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    """The issuer let the hold go."""
    draft = draft_for(state, item)
    draft.fact(
        HoldExpired,
        state.operation_id,
        provider=state.provider,
        hold_released=state.held,
        currency=state.currency,
    )
    return draft.done(close(state, Phase.EXPIRED))


def recheck_hold(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    """A capture or void is under way: its outcome decides. If it fails, the hold is still to expire."""
    if not any(m.status is MoveStatus.OPEN for m in state.moves if m.operation is not Operation.REFUND):
        return Decision(replace(state, lapsed=True))
    draft = draft_for(state, item)
    _hold_timer(state, draft, draft.at + schedule.hold_recheck)
    return draft.done(state)


def close(state: CaptureState, phase: Phase) -> CaptureState:
    """The hold is gone. What was captured before stays captured."""
    return replace(state, held=0, phase=Phase.CAPTURED if state.captured else phase)
