"""What the facts of a dispute change in the view."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from pipeline.domain.projection.views import DisputeStatus, DisputeView, PaymentView
from pipeline.messages.facts import (
    DisputeFact,
    DisputeFundsReinstated,
    DisputeFundsWithdrawn,
    DisputeLost,
    DisputeOpened,
    DisputeWon,
)


def dispute_opened(view: PaymentView, fact: DisputeOpened) -> PaymentView:
    dispute = DisputeView(
        dispute_id=fact.dispute_id,
        dispute_reference=fact.dispute_reference,
        status=DisputeStatus.OPEN,
        amount=fact.amount,
        withdrawn=0,
        opened_at=fact.occurred_at,
        reason=fact.reason,
        evidence_due_at=fact.evidence_due_at,
    )
    return replace(view, disputes=(*view.disputes, dispute))


def _dispute(view: PaymentView, fact: DisputeFact, withdrawn: int = 0, **changes: Any) -> PaymentView:
    return replace(
        view,
        disputes=tuple(
            replace(d, withdrawn=d.withdrawn + withdrawn, **changes) if d.dispute_id == fact.dispute_id else d
            for d in view.disputes
        ),
    )


def dispute_withdrawn(view: PaymentView, fact: DisputeFundsWithdrawn) -> PaymentView:
    return _dispute(view, fact, fact.amount)


def dispute_reinstated(view: PaymentView, fact: DisputeFundsReinstated) -> PaymentView:
    return _dispute(view, fact, -fact.amount)


def dispute_won(view: PaymentView, fact: DisputeWon) -> PaymentView:
    return _dispute(view, fact, status=DisputeStatus.WON)


def dispute_lost(view: PaymentView, fact: DisputeLost) -> PaymentView:
    return _dispute(view, fact, status=DisputeStatus.LOST)
