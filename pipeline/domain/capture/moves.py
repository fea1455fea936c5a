"""What the rules share: how a capture, void or refund is asked for, followed, and ended."""

from __future__ import annotations

from msgspec.structs import replace

from pipeline import ids
from pipeline.domain.capture.state import CaptureState, Item, Move, MoveStatus, Phase, with_move
from pipeline.domain.decision import Draft, Schedule
from pipeline.messages import Input
from pipeline.messages.inputs import ProviderReport
from pipeline.messages.requests import CaptureRequest, RefundRequest, VoidRequest
from pipeline.messages.values import Operation, TimerKind


def draft_for(state: CaptureState, item: Item) -> Draft:
    """A draft of what follows from a fact or an input of this payment."""
    if isinstance(item, Input):
        return Draft.of(item, state.merchant_id, state.provider)
    return Draft(item.payment_id, state.merchant_id, state.provider, item.fact_id, item.occurred_at)


def begin(state: CaptureState, draft: Draft, move: Move, schedule: Schedule) -> CaptureState:
    """Ask the provider, and watch for the answer."""
    ask(state, draft, move, 0)
    recovery_timer(draft, move, schedule.recovery[0])
    return replace(state, moves=with_move(state, move))


def ask(state: CaptureState, draft: Draft, move: Move, number: int) -> None:
    """Ask the provider for the move. `number` tells repeated questions apart; the key stays the same."""
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


def recovery_timer(draft: Draft, move: Move, delay: int) -> None:
    """Wake up after `delay` milliseconds, in case the provider never answers."""
    draft.timer(TimerKind.RECOVERY, move.subject_id, move.operation, move.generation, draft.at + delay)


def reported(state: CaptureState, item: Item) -> tuple[ProviderReport, Move]:
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


def fail(state: CaptureState, move: Move, report: ProviderReport) -> CaptureState:
    """The hold stands as before."""
    under_way = state.phase in {Phase.CAPTURING, Phase.VOIDING} and move.operation is not Operation.REFUND
    failed = replace(move, status=MoveStatus.FAILED, taken_back=report.after_success)
    return replace(state, moves=with_move(state, failed), phase=Phase.HELD if under_way else state.phase)
