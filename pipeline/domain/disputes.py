"""Disputes: what a provider's reports on them bring about, in whatever order they come.

Each report counts once. Money follows the withdrawals and reinstatements, the merchant's account follows the decision;
neither waits for the other. A dispute that is decided again, as after an appeal, stands as it was decided last.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from pipeline import ids
from pipeline.domain.decision import Draft, remember
from pipeline.messages.facts import (
    DisputeFundsReinstated,
    DisputeFundsWithdrawn,
    DisputeLost,
    DisputeOpened,
    DisputeWon,
)
from pipeline.messages.inputs import DisputeReport
from pipeline.messages.values import DisputeStep


class Dispute(msgspec.Struct, frozen=True, kw_only=True):
    """What must be known of a dispute. `decision` is WON or LOST once there is one."""

    dispute_id: str
    decision: DisputeStep | None = None
    seen: tuple[str, ...] = ()


Disputes = tuple[Dispute, ...]


def decide(disputes: Disputes, report: DisputeReport, draft: Draft) -> Disputes:
    """The disputes after `report`, whose facts are added to `draft`."""
    dispute_id = ids.derive("dispute", report.payment_id, report.provider, report.dispute_reference)
    known = next((d for d in disputes if d.dispute_id == dispute_id), None)
    if known is not None and report.report_id in known.seen:
        return disputes
    if known is None:
        _fact(draft, DisputeOpened, report, dispute_id, reason=report.reason, evidence_due_at=report.evidence_due_at)
    dispute = _stepped(known or Dispute(dispute_id=dispute_id), report, draft)
    dispute = replace(dispute, seen=remember(dispute.seen, report.report_id))
    return (*(d for d in disputes if d.dispute_id != dispute_id), dispute)


def _stepped(dispute: Dispute, report: DisputeReport, draft: Draft) -> Dispute:
    match report.step:
        case DisputeStep.FUNDS_WITHDRAWN:
            _fact(draft, DisputeFundsWithdrawn, report, dispute.dispute_id, fee=report.fee)
        case DisputeStep.FUNDS_REINSTATED:
            _fact(draft, DisputeFundsReinstated, report, dispute.dispute_id, fee=report.fee)
        case DisputeStep.WON if dispute.decision is not DisputeStep.WON:
            after_loss = dispute.decision is DisputeStep.LOST
            _fact(draft, DisputeWon, report, dispute.dispute_id, after_loss=after_loss)
            return replace(dispute, decision=DisputeStep.WON)
        case DisputeStep.LOST if dispute.decision is not DisputeStep.LOST:
            _fact(draft, DisputeLost, report, dispute.dispute_id)
            return replace(dispute, decision=DisputeStep.LOST)
    return dispute


def _fact(draft: Draft, kind: type, report: DisputeReport, dispute_id: str, **fields: object) -> None:
    draft.fact(
        kind,
        report.report_id,
        dispute_id=dispute_id,
        provider=report.provider,
        dispute_reference=report.dispute_reference,
        amount=report.amount,
        currency=report.currency,
        **fields,
    )
