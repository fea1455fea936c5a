"""What payers dispute: the money is taken when the dispute is opened, and comes back if it is won."""

from __future__ import annotations

from connectors.simulator.book import Movement
from connectors.simulator.paypal import events
from connectors.simulator.paypal.account import Account, Call
from connectors.simulator.paypal.events import EventType
from connectors.simulator.paypal.records import Capture, Dispute, DisputeOutcome, DisputeStatus


class Disputes:
    """What becomes of disputes."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def open(self, made: Capture, call: Call) -> None:
        """The payer disputes what is left of a capture; once."""
        left = made.value - made.refunded
        if made.dispute is not None or made.pending or made.declined or not left:
            return
        new = self._account.references.new
        name, pair = f"PP-D-{new()}", (new(), new())
        dispute = Dispute(id=name, transactions=pair, capture=made, value=left, created=call.now, updated=call.now)
        made.dispute = self._account.disputes[name] = dispute
        self._account.book(Movement.DISPUTED, dispute, left, call.now, call.key)
        self._tell(EventType.DISPUTE_CREATED, dispute, call)

    def update(self, dispute: Dispute, call: Call) -> None:
        """PayPal reviews it."""
        if dispute.status is not DisputeStatus.RESOLVED:
            dispute.status, dispute.updated = DisputeStatus.UNDER_REVIEW, call.now
            self._tell(EventType.DISPUTE_UPDATED, dispute, call)

    def resolve(self, dispute: Dispute, outcome: DisputeOutcome, call: Call) -> None:
        """It ends; what is won comes back."""
        if dispute.status is DisputeStatus.RESOLVED:
            return
        dispute.status, dispute.outcome, dispute.updated = DisputeStatus.RESOLVED, outcome, call.now
        if outcome is DisputeOutcome.WON:
            self._account.book(Movement.DISPUTE_WON, dispute, dispute.value, call.now, call.key)
        self._tell(EventType.DISPUTE_RESOLVED, dispute, call)

    def _tell(self, kind: EventType, dispute: Dispute, call: Call) -> None:
        name = self._account.references.new()
        call.events.append(events.of(kind, dispute, name, call.now, call.base_url))
