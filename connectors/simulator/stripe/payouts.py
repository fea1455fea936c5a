"""Payouts: the balance goes to the bank. Source: docs.stripe.com/payouts, docs.stripe.com/api/payouts/object."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from msgspec.structs import replace

from connectors.simulator.stripe.errors import StripeError, no_such
from connectors.simulator.stripe.objects import Payout, PayoutStatus, TransactionType
from connectors.simulator.stripe.records import Call, Records
from connectors.simulator.stripe.store import Store

_ARRIVES_AFTER: Final = 2 * 24 * 3600


class Payouts:
    """An account that is paid out when it is told to, in whole, as an automatic schedule would."""

    def __init__(self, store: Store, records: Records) -> None:
        self._store = store
        self._records = records

    def pay_out(self, call: Call) -> list[Payout]:
        """Everything on the balance that no payout has taken yet: a payout for each currency with more than nothing."""
        open_by_currency: dict[str, list[str]] = defaultdict(list)
        for transaction in self._store.transactions.values():
            if transaction.id not in self._store.paid_out_by:
                open_by_currency[transaction.currency].append(transaction.id)
        made = (self._make(currency, taken, call) for currency, taken in open_by_currency.items())
        return [payout for payout in made if payout is not None]

    def settle(self, identifier: str, status: PayoutStatus, call: Call) -> Payout:
        """A payout arrives, or comes back to the balance. Raises StripeError."""
        payout = self._store.payouts.get(identifier)
        if payout is None:
            raise no_such("payout", identifier, "payout")
        if payout.status is not PayoutStatus.IN_TRANSIT:
            raise StripeError(400, f"Payout {identifier} is {payout.status} already.", param="payout")
        changed = replace(payout, status=status)
        if status is PayoutStatus.FAILED:
            back = self._records.transact(TransactionType.PAYOUT_FAILURE, payout, payout.amount, call)
            changed = replace(changed, failure_balance_transaction=back.id)
        self._records.put(changed)
        self._records.emit(call, f"payout.{status}", changed)
        return changed

    def _make(self, currency: str, taken: list[str], call: Call) -> Payout | None:
        amount = sum(self._store.transactions[one].net for one in taken)
        if amount <= 0:
            return None
        payout = Payout(
            id=self._records.ids.new("po"),
            created=call.now,
            amount=amount,
            currency=currency,
            status=PayoutStatus.IN_TRANSIT,
            arrival_date=call.now + _ARRIVES_AFTER,
        )
        out = self._records.transact(TransactionType.PAYOUT, payout, -amount, call)
        self._store.paid_out_by |= dict.fromkeys([*taken, out.id], payout.id)
        made = self._records.put(replace(payout, balance_transaction=out.id))
        self._records.emit(call, "payout.created", made)
        self._records.emit(call, "payout.reconciliation_completed", made)
        return made
