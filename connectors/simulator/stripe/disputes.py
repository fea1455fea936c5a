"""Disputes: opened by the cardholder, answered with evidence, won or lost."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from connectors.simulator.book import Movement
from connectors.simulator.settings import StripeSettings
from connectors.simulator.stripe import errors
from connectors.simulator.stripe.errors import StripeError
from connectors.simulator.stripe.forms import Params
from connectors.simulator.stripe.objects import Charge, Dispute, DisputeStatus, TransactionType
from connectors.simulator.stripe.records import Call, Records
from connectors.simulator.stripe.schedule import Schedule
from connectors.simulator.stripe.store import Store

_DUE_SECONDS: Final = 9 * 24 * 3600
_FEE: Final = 1500


class Disputes:
    """The account's disputes."""

    def __init__(self, settings: StripeSettings, store: Store, records: Records, schedule: Schedule) -> None:
        self._settings = settings
        self._store = store
        self._records = records
        self._schedule = schedule

    def answer(self, identifier: str, params: Params, call: Call) -> Dispute:
        """POST /v1/disputes/{id}: `uncategorized_text` of winning_evidence or losing_evidence decides at once."""
        dispute = self._store.disputes.get(identifier)
        if dispute is None:
            raise errors.no_such("dispute", identifier, "dispute")
        evidence = {**dispute.evidence, **params.table("evidence")}
        dispute = replace(dispute, evidence=evidence, metadata=params.metadata(dispute.metadata))
        if not params.boolean("submit", default=True):
            return self._records.put(dispute)
        verdict = {"winning_evidence": DisputeStatus.WON, "losing_evidence": DisputeStatus.LOST}
        status = verdict.get(evidence.get("uncategorized_text", ""), DisputeStatus.UNDER_REVIEW)
        return self._close(self._records.put(dispute), status, call)

    def close(self, identifier: str, call: Call) -> Dispute:
        """POST /v1/disputes/{id}/close: it is accepted, and lost."""
        dispute = self._store.disputes.get(identifier)
        if dispute is None:
            raise errors.no_such("dispute", identifier, "dispute")
        return self._close(dispute, DisputeStatus.LOST, call)

    def open(self, charge_id: str, reason: str, *, inquiry: bool = False) -> Dispute:
        """The cardholder disputes a charge; an inquiry withdraws nothing yet. Raises StripeError."""
        charge = self._store.charge(charge_id, "charge")
        if charge.amount_captured == 0 or charge.disputed:
            raise StripeError(400, f"Charge {charge_id} cannot be disputed.", param="charge")
        call = Call(self._records.clock.now())
        dispute = Dispute(
            id=self._records.ids.new("du"),
            created=call.now,
            amount=charge.amount_captured - charge.amount_refunded,
            currency=charge.currency,
            reason=reason,
            status=DisputeStatus.WARNING_NEEDS_RESPONSE if inquiry else DisputeStatus.NEEDS_RESPONSE,
            charge=charge.id,
            payment_intent=charge.payment_intent,
            due_by=call.now + _DUE_SECONDS,
        )
        self._records.put(replace(charge, disputed=not inquiry))
        self._records.emit(call, "charge.dispute.created", self._records.put(dispute))
        if not inquiry:
            dispute = self._withdraw(dispute, call)
        self._schedule.publish(call.events)
        return dispute

    def foresee(self, charge: Charge) -> None:
        """A captured charge of a disputing card will be disputed."""
        if charge.card.dispute is not None and charge.captured:
            self._schedule.later(self._settings.dispute_seconds, lambda: self._open_later(charge.id))

    def _open_later(self, charge_id: str) -> None:
        charge = self._store.charges.get(charge_id)
        if charge is not None and not charge.disputed:
            self.open(charge_id, charge.card.dispute or "general", inquiry=charge.card.inquiry)

    def _withdraw(self, dispute: Dispute, call: Call) -> Dispute:
        out = self._records.transact(TransactionType.ADJUSTMENT, dispute, -dispute.amount, call, fee=_FEE)
        withdrawn = self._records.put(replace(dispute, balance_transactions=(out,)))
        self._records.emit(call, "charge.dispute.funds_withdrawn", withdrawn)
        self._enter(Movement.DISPUTED, withdrawn, call)
        return withdrawn

    def _close(self, dispute: Dispute, status: DisputeStatus, call: Call) -> Dispute:
        if dispute.status in (DisputeStatus.WON, DisputeStatus.LOST, DisputeStatus.WARNING_CLOSED):
            raise StripeError(400, "This dispute is already closed.", param="dispute")
        inquiry = dispute.status in (DisputeStatus.WARNING_NEEDS_RESPONSE, DisputeStatus.WARNING_UNDER_REVIEW)
        if inquiry:
            reviewed = status is DisputeStatus.UNDER_REVIEW
            status = DisputeStatus.WARNING_UNDER_REVIEW if reviewed else DisputeStatus.WARNING_CLOSED
        changed = self._records.put(replace(dispute, status=status))
        if status in (DisputeStatus.UNDER_REVIEW, DisputeStatus.WARNING_UNDER_REVIEW):
            self._records.emit(call, "charge.dispute.updated", changed, {"status": dispute.status.value})
            return changed
        self._records.emit(call, "charge.dispute.closed", changed)
        return self._reinstate(changed, call) if status is DisputeStatus.WON else changed

    def _reinstate(self, dispute: Dispute, call: Call) -> Dispute:
        back = self._records.transact(TransactionType.ADJUSTMENT, dispute, dispute.amount, call, fee=-_FEE)
        reinstated = self._records.put(replace(dispute, balance_transactions=(*dispute.balance_transactions, back)))
        self._records.emit(call, "charge.dispute.funds_reinstated", reinstated)
        self._enter(Movement.DISPUTE_WON, reinstated, call)
        return reinstated

    def _enter(self, movement: Movement, dispute: Dispute, call: Call) -> None:
        intent = self._store.intents[dispute.payment_intent]
        self._records.enter(movement, intent, dispute.amount, dispute.id, call)
