"""The rules for what the merchant commands: a capture, a void, a refund."""

from __future__ import annotations

from msgspec.structs import replace

from pipeline import ids
from pipeline.domain.capture.moves import begin, draft_for
from pipeline.domain.capture.state import CaptureState, Item, Move, Phase, Result, Rule
from pipeline.domain.decision import Schedule
from pipeline.messages.commands import Capture, Command, Refund, Void
from pipeline.messages.facts import CaptureRequested, RefundRequested, VoidRequested
from pipeline.messages.values import Operation, RejectionReason


def refuse_with(reason: RejectionReason, detail: str) -> Rule:
    """A rule that refuses a command, with the reason that its record will have."""

    def rule(state: CaptureState, item: Item, schedule: Schedule) -> Result:
        assert isinstance(item, Command)
        draft = draft_for(state, item)
        draft.reject(item, reason, detail)
        return draft.done(state)

    rule.__name__ = f"refuse: {reason}"
    return rule


def capture(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    """Claim all that is left of the hold, or a part of it."""
    assert isinstance(item, Capture)
    draft = draft_for(state, item)
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
    return draft.done(replace(begin(state, draft, move, schedule), phase=Phase.CAPTURING))


def void(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    """Give the hold back."""
    assert isinstance(item, Void)
    draft = draft_for(state, item)
    move = Move(
        subject_id=ids.subject_id("void", item.payment_id, item.command_id),
        operation_id=item.command_id,
        operation=Operation.VOID,
        amount=state.held,
        started_at=draft.at,
    )
    draft.fact(VoidRequested, move.operation_id, void_id=move.subject_id, reason=item.reason)
    return draft.done(replace(begin(state, draft, move, schedule), phase=Phase.VOIDING))


def refund(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    """Give back all that was captured, or a part of it."""
    assert isinstance(item, Refund)
    draft = draft_for(state, item)
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
    return draft.done(begin(state, draft, move, schedule))
