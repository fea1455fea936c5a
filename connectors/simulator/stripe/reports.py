"""The financial reports that Stripe publishes, of what really happened on this account, as CSV.

Sources: docs.stripe.com/reports/report-types/balance (`balance_change_from_activity.itemized.3`,
`payouts.itemized.3`), docs.stripe.com/reports/reporting-categories. Payouts are in a report of their own.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from connectors.simulator.stripe.objects import (
    BalanceTransaction,
    Charge,
    Intent,
    Payout,
    StripeObject,
    TransactionType,
)
from connectors.simulator.stripe.records import PAYMENT
from connectors.simulator.stripe.render import category
from connectors.simulator.stripe.store import Store
from pipeline.money import decimal

ACTIVITY: Final = (
    "balance_transaction_id", "created_utc", "created", "available_on_utc", "available_on", "currency", "gross", "fee",
    "net", "reporting_category", "source_id", "description", "customer_facing_amount", "customer_facing_currency",
    "automatic_payout_id", "automatic_payout_effective_at_utc", "charge_id", "payment_intent_id",
    "payment_metadata[payment_id]",
)  # fmt: skip
PAYOUTS: Final = (
    "payout_id", "effective_at_utc", "effective_at", "currency", "gross", "fee", "net", "reporting_category",
    "balance_transaction_id", "description", "payout_expected_arrival_date", "payout_status", "payout_reversed_at_utc",
    "payout_type", "payout_description", "payout_destination_id",
)  # fmt: skip
_OF_PAYOUTS: Final = frozenset({TransactionType.PAYOUT, TransactionType.PAYOUT_FAILURE})


def activity(store: Store) -> str:
    """Every balance transaction but the payouts', oldest first."""
    kept = (one for one in store.transactions.values() if one.type not in _OF_PAYOUTS)
    return _csv(ACTIVITY, (_activity_row(store, one) for one in kept))


def payouts(store: Store) -> str:
    """The payouts, and what came back of them."""
    return _csv(PAYOUTS, _payout_rows(store))


def _activity_row(store: Store, it: BalanceTransaction) -> dict[str, Any]:
    source = store.source(it.source)
    charge = source if isinstance(source, Charge) else store.charges.get(getattr(source, "charge", ""))
    intent = store.intents.get(getattr(source, "payment_intent", ""))
    payout = store.paid_out_by.get(it.id)
    return {
        **_amounts(it),
        **_times("created", it.created),
        **_times("available_on", it.available_on),
        "reporting_category": category(it),
        "source_id": it.source,
        **_customer_facing(it),
        "automatic_payout_id": payout,
        "automatic_payout_effective_at_utc": _time(store.payouts[payout].created) if payout else None,
        "charge_id": charge.id if charge else None,
        "payment_intent_id": intent.id if intent else None,
        "payment_metadata[payment_id]": _payment(intent, charge, source),
    }


def _payment(*objects: StripeObject | None) -> str | None:
    """Our payment, as the metadata of the intent, or else of the charge, has it."""
    found = (thing.metadata.get(PAYMENT) for thing in objects if isinstance(thing, Intent | Charge))
    return next((payment for payment in found if payment), None)


def _payout_rows(store: Store) -> Iterator[dict[str, Any]]:
    for payout in store.payouts.values():
        taken = (payout.balance_transaction, payout.failure_balance_transaction)
        for transaction in (store.transactions[name] for name in taken if name):
            yield {
                **_amounts(transaction),
                **_times("effective_at", transaction.created),
                "payout_id": payout.id,
                "reporting_category": category(transaction),
                "description": "STRIPE PAYOUT",
                "payout_expected_arrival_date": _time(payout.arrival_date)[:10],
                "payout_status": payout.status,
                "payout_reversed_at_utc": _reversed_at(store, payout),
                "payout_type": "bank_account",
                "payout_description": "STRIPE PAYOUT",
            }


def _reversed_at(store: Store, payout: Payout) -> str | None:
    back = payout.failure_balance_transaction
    return _time(store.transactions[back].created) if back else None


def _amounts(it: BalanceTransaction) -> dict[str, Any]:
    """In major units, the currency in lower case."""
    amounts = {"gross": it.amount, "fee": it.fee, "net": it.net}
    shown = {name: decimal(amount, it.currency.upper()) for name, amount in amounts.items()}
    return {"balance_transaction_id": it.id, "currency": it.currency, **shown}


def _customer_facing(it: BalanceTransaction) -> dict[str, Any]:
    """This account settles in the currency that the customer pays in. Disputes have none."""
    if it.type is TransactionType.ADJUSTMENT:
        return {}
    amount = decimal(it.amount, it.currency.upper())
    return {"customer_facing_amount": amount, "customer_facing_currency": it.currency}


def _times(name: str, seconds: int) -> dict[str, str]:
    """In UTC and in the time zone that was asked for: none was, so that is UTC as well."""
    return {f"{name}_utc": _time(seconds), name: _time(seconds)}


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _csv(columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(columns), restval="", quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
