"""Sample states and inputs, one of each kind."""

from __future__ import annotations

import json
from typing import Any

from msgspec.structs import replace

from pipeline.domain.authorization import Attempt, AttemptStatus, AuthorizationState, Status
from pipeline.domain.capture import CaptureState, Move, MoveStatus, Phase
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
from pipeline.messages.inputs import DisputeReport, ProviderReport, TimerFired
from pipeline.messages.routing import UnroutedEvent
from pipeline.messages.values import (
    CaptureMethod,
    DisputeStep,
    Operation,
    Outcome,
    PaymentMethod,
    ReportSource,
    TimerKind,
)

PAYMENT = "7b2f8f52-5b5f-5b55-9b3e-0b8a8a1f2f10"
VISA = PaymentMethod(token="pm_card_visa")
NOW = 1_790_000_000_000


def commands(merchant: str = "acme") -> list[Command]:
    """One of each command."""

    def common(name: str) -> dict[str, Any]:
        return {"command_id": name, "merchant_id": merchant, "payment_id": PAYMENT, "occurred_at": NOW}

    return [
        CreateIntent(
            amount=10_000, currency="USD", provider="stripe", capture_method=CaptureMethod.MANUAL, **common("create")
        ),
        SetMethod(payment_method=VISA, **common("method")),
        Authorize(**common("authorize")),
        Authorize(payment_method=VISA, **common("authorize-with")),
        Capture(amount=4_000, final=False, **common("capture")),
        Capture(**common("capture-all")),
        Void(**common("void")),
        Refund(amount=1_000, **common("refund")),
        Refund(**common("refund-all")),
        RetryNow(**common("retry")),
        CompleteAction(**common("complete")),
        CompleteAction(result="redirect-result", **common("complete-with")),
    ]


def dispute_report(step: DisputeStep, report_id: str | None = None, **fields: Any) -> DisputeReport:
    """A provider's word on a dispute."""
    return DisputeReport(
        **{
            "payment_id": PAYMENT,
            "occurred_at": NOW,
            "report_id": report_id or f"dispute-{step}",
            "provider": "stripe",
            "step": step,
            "dispute_reference": "dp_1",
            "amount": 10_000,
            "currency": "USD",
            **fields,
        }
    )


def unrouted_event(event_id: str = "evt_1", reference: str = "stripe:pi_1") -> UnroutedEvent:
    """A dispute that names no payment of ours."""
    disputed = {"id": "dp_1", "payment_intent": "pi_1", "amount": 10_000, "currency": "usd"}
    body = {"id": event_id, "type": "charge.dispute.created", "data": {"object": disputed}}
    return UnroutedEvent(
        reference=reference,
        provider="stripe",
        event_id=event_id,
        event_type="charge.dispute.created",
        reason="unknown_payment",
        received_at=NOW,
        body=json.dumps(body).encode(),
    )


def report(
    operation: Operation, outcome: Outcome, subject: str | None, source: ReportSource = ReportSource.ANSWER
) -> ProviderReport:
    """A provider's word."""
    return ProviderReport(
        payment_id=PAYMENT,
        occurred_at=NOW,
        report_id=f"{operation}-{outcome}-{subject}-{source}",
        provider="stripe",
        source=source,
        operation=operation,
        outcome=outcome,
        subject_id=subject,
        provider_reference="pi_1",
    )


def timer(kind: TimerKind, operation: Operation, subject: str, generation: int) -> TimerFired:
    """A timer that fell due."""
    return TimerFired(
        payment_id=PAYMENT,
        occurred_at=NOW,
        timer_id=f"{kind}-{operation}-{subject}-{generation}",
        kind=kind,
        subject_id=subject,
        operation=operation,
        generation=generation,
        due_at=NOW,
    )


def authorization_states() -> list[AuthorizationState | None]:
    """No payment, and one in each status."""
    opened = Attempt(
        attempt_id="attempt-1", number=1, operation_id="op", method=VISA, provider="stripe", started_at=NOW
    )
    closed = replace(opened, status=AttemptStatus.CLOSED, provider_reference="pi_1")
    attempts = {
        Status.REQUIRES_METHOD: (),
        Status.REQUIRES_AUTHORIZATION: (),
        Status.AUTHORIZING: (opened,),
        Status.REQUIRES_ACTION: (replace(opened, provider_reference="pi_1"),),
        Status.DECLINED: (closed,),
        Status.RETRY_SCHEDULED: (closed,),
        Status.NEEDS_REVIEW: (opened,),
        Status.AUTHORIZED: (replace(closed, status=AttemptStatus.APPROVED),),
        Status.FAILED: (closed,),
        Status.CANCELED: (closed,),
    }
    return [
        None,
        *(
            AuthorizationState(
                status=status,
                merchant_id="acme",
                provider="stripe",
                amount=10_000,
                currency="USD",
                capture_method=CaptureMethod.MANUAL,
                method=None if status is Status.REQUIRES_METHOD else VISA,
                attempts=attempts[status],
            )
            for status in Status
        ),
    ]


def capture_states() -> list[CaptureState | None]:
    """No payment, and one in each phase."""
    held = {Phase.HELD: 6_000, Phase.CAPTURING: 6_000, Phase.VOIDING: 6_000}
    return [
        None,
        *(
            CaptureState(
                phase=phase,
                sequence=5,
                merchant_id="acme",
                provider="stripe",
                currency="USD",
                attempt_id="attempt-1",
                operation_id="op",
                provider_reference="pi_1",
                held=held.get(phase, 0),
                moves=_moves(phase),
            )
            for phase in Phase
        ),
    ]


def _moves(phase: Phase) -> tuple[Move, ...]:
    capture = Move(
        subject_id="capture-1",
        operation_id="op-capture",
        operation=Operation.CAPTURE,
        amount=4_000,
        started_at=NOW,
        status=MoveStatus.OPEN if phase is Phase.CAPTURING else MoveStatus.DONE,
    )
    void = Move(subject_id="void-1", operation_id="op-void", operation=Operation.VOID, amount=6_000, started_at=NOW)
    refund = Move(
        subject_id="refund-1", operation_id="op-refund", operation=Operation.REFUND, amount=500, started_at=NOW
    )
    match phase:
        case Phase.NO_HOLD | Phase.VOIDED | Phase.EXPIRED:
            return ()
        case Phase.VOIDING:
            return (capture, void)
    return (capture, refund)
