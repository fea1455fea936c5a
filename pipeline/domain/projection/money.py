"""What captures, voids, refunds and the hold's end change in the view."""

from __future__ import annotations

from msgspec.structs import replace

from pipeline.domain.projection.views import HoldView, MoveState, MoveView, PaymentStatus, PaymentView
from pipeline.messages.facts import (
    CaptureFailed,
    CaptureRequested,
    Fact,
    HoldExpired,
    PaymentCaptured,
    PaymentRefunded,
    PaymentVoided,
    RefundFailed,
    RefundRequested,
    VoidFailed,
    VoidRequested,
)


def _put(moves: tuple[MoveView, ...], move: MoveView) -> tuple[MoveView, ...]:
    if all(m.id != move.id for m in moves):
        return (*moves, move)
    return tuple(move if m.id == move.id else m for m in moves)


def _move(moves: tuple[MoveView, ...], move_id: str, fact: Fact) -> MoveView:
    """The move as it was, or a new one: a report may come for what nobody here had asked for."""
    known = next((m for m in moves if m.id == move_id), None)
    return known or MoveView(id=move_id, state=MoveState.PENDING, amount=0, requested_at=fact.occurred_at)


def capture_requested(view: PaymentView, fact: CaptureRequested) -> PaymentView:
    move = _move(view.captures, fact.capture_id, fact)
    return replace(view, captures=_put(view.captures, replace(move, amount=fact.amount, final=fact.final)))


def captured(view: PaymentView, fact: PaymentCaptured) -> PaymentView:
    move = replace(
        _move(view.captures, fact.capture_id, fact),
        state=MoveState.SUCCEEDED,
        amount=fact.amount,
        final=fact.final,
        provider_reference=fact.operation_reference,
    )
    view = replace(
        view,
        captures=_put(view.captures, move),
        amount_captured=view.amount_captured + fact.amount,
        hold=_less(view.hold, fact.hold_captured + fact.hold_released),
    )
    return replace(view, status=_money_status(view))


def _less(hold: HoldView | None, amount: int) -> HoldView | None:
    return replace(hold, remaining=hold.remaining - amount) if hold else None


def _money_status(view: PaymentView) -> PaymentStatus:
    """The status that the amounts imply, once something was captured, or was until it was taken back."""
    if view.amount_refunded:
        whole = view.amount_refunded >= view.amount_captured
        return PaymentStatus.REFUNDED if whole else PaymentStatus.PARTIALLY_REFUNDED
    open_hold = view.hold is not None and view.hold.remaining > 0
    if not view.amount_captured:
        return PaymentStatus.AUTHORIZED if open_hold else PaymentStatus.FAILED
    return PaymentStatus.PARTIALLY_CAPTURED if open_hold else PaymentStatus.CAPTURED


def capture_failed(view: PaymentView, fact: CaptureFailed) -> PaymentView:
    move = replace(
        _move(view.captures, fact.capture_id, fact), state=MoveState.FAILED, amount=fact.amount, detail=fact.detail
    )
    view = replace(view, captures=_put(view.captures, move))
    if not fact.after_success:
        return view
    view = replace(view, amount_captured=view.amount_captured - fact.amount)
    return replace(view, status=_money_status(view))


def void_requested(view: PaymentView, fact: VoidRequested) -> PaymentView:
    remaining = view.hold.remaining if view.hold else 0
    move = replace(_move(view.voids, fact.void_id, fact), amount=remaining, reason=fact.reason)
    return replace(view, voids=_put(view.voids, move))


def voided(view: PaymentView, fact: PaymentVoided) -> PaymentView:
    move = replace(_move(view.voids, fact.void_id, fact), state=MoveState.SUCCEEDED, amount=fact.hold_released)
    return _released(replace(view, voids=_put(view.voids, move)), fact.hold_released, PaymentStatus.VOIDED)


def _released(view: PaymentView, amount: int, status: PaymentStatus) -> PaymentView:
    view = replace(view, hold=_less(view.hold, amount))
    return replace(view, status=_money_status(view) if view.amount_captured else status)


def void_failed(view: PaymentView, fact: VoidFailed) -> PaymentView:
    move = replace(_move(view.voids, fact.void_id, fact), state=MoveState.FAILED, detail=fact.detail)
    return replace(view, voids=_put(view.voids, move))


def hold_expired(view: PaymentView, fact: HoldExpired) -> PaymentView:
    return _released(view, fact.hold_released, PaymentStatus.EXPIRED)


def refund_requested(view: PaymentView, fact: RefundRequested) -> PaymentView:
    move = replace(_move(view.refunds, fact.refund_id, fact), amount=fact.amount, reason=fact.reason)
    return replace(view, refunds=_put(view.refunds, move))


def refunded(view: PaymentView, fact: PaymentRefunded) -> PaymentView:
    move = replace(
        _move(view.refunds, fact.refund_id, fact),
        state=MoveState.SUCCEEDED,
        amount=fact.amount,
        provider_reference=fact.operation_reference,
    )
    view = replace(view, refunds=_put(view.refunds, move), amount_refunded=view.amount_refunded + fact.amount)
    return replace(view, status=_money_status(view))


def refund_failed(view: PaymentView, fact: RefundFailed) -> PaymentView:
    move = replace(
        _move(view.refunds, fact.refund_id, fact), state=MoveState.FAILED, amount=fact.amount, detail=fact.detail
    )
    refunded = view.amount_refunded - (fact.amount if fact.after_success else 0)
    view = replace(view, refunds=_put(view.refunds, move), amount_refunded=refunded)
    return replace(view, status=_money_status(view))
