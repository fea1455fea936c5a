"""Settlement batches: what was captured, refunded and disputed since the last one, and the payout that closes it.

Source: docs.adyen.com/reporting/settlement-reconciliation/transaction-level/settlement-details-report (columns, types).
Each is a report that can be downloaded; Adyen keeps a markup of 1 % and 12 minor units of what is settled.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any, Final

from connectors.simulator.book import Book, Entry, Movement, Query
from pipeline.money import decimal

COLUMNS: Final = (
    "Company Account", "Merchant Account", "Psp Reference", "Merchant Reference", "Payment Method", "Creation Date",
    "TimeZone", "Type", "Modification Reference", "Gross Currency", "Gross Debit (GC)", "Gross Credit (GC)",
    "Exchange Rate", "Net Currency", "Net Debit (NC)", "Net Credit (NC)", "Commission (NC)", "Markup (NC)",
    "Scheme Fees (NC)", "Interchange (NC)", "Payment Method Variant", "Modification Merchant Reference", "Batch Number",
)  # fmt: skip
_TYPES: Final = {
    Movement.CAPTURED: ("Settled", 1),
    Movement.CAPTURE_FAILED: ("SettledReversed", -1),
    Movement.REFUNDED: ("Refunded", -1),
    Movement.REFUND_FAILED: ("RefundedReversed", 1),
    Movement.DISPUTED: ("Chargeback", -1),
}
"""What settles, and whether it raises the balance."""
Row = dict[str, Any]


class Batches:
    """The batches of one merchant account."""

    def __init__(self, book: Book, provider: str, account: str) -> None:
        self._book = book
        self._query = Query(provider=provider)
        self._account = account
        self._settled = 0
        self._reports: dict[str, str] = {}

    def close(self, now: int) -> str:
        """Settle what is open; the name of its report."""
        entries = self._book.entries(self._query)
        number = len(self._reports) + 1
        rows = [self._row(entry, number) for entry in entries[self._settled :] if entry.movement in _TYPES]
        self._settled = len(entries)
        name = f"settlement_detail_report_batch_{number}.csv"
        self._reports[name] = _csv([*rows, *self._payouts(rows, number, now)])
        return name

    def report(self, name: str) -> str | None:
        """The file, if there is one of that name."""
        return self._reports.get(name)

    def reset(self) -> None:
        """An account without a history."""
        self._settled = 0
        self._reports.clear()

    def _row(self, entry: Entry, number: int) -> Row:
        kind, sign = _TYPES[entry.movement]
        markup = 12 + entry.amount // 100 if kind == "Settled" else 0
        return {
            **self._common(number, entry.at, kind, entry.currency),
            "Psp Reference": entry.reference,
            "Merchant Reference": entry.payment_id or "",
            "Payment Method": "visa",
            "Modification Reference": entry.operation_reference or entry.reference,
            "Gross Currency": entry.currency,
            **_side("Gross", "GC", sign * entry.amount, entry.currency),
            "Exchange Rate": "1",
            **_side("Net", "NC", sign * entry.amount - markup, entry.currency),
            "Markup (NC)": decimal(markup, entry.currency) if markup else "",
            "net": sign * entry.amount - markup,
        }

    def _payouts(self, rows: list[Row], number: int, now: int) -> list[Row]:
        """What each currency comes to, if that is more than nothing."""
        nets: dict[str, int] = defaultdict(int)
        for row in rows:
            nets[row["Net Currency"]] += row["net"]
        return [
            {
                **self._common(number, now, "MerchantPayout", currency),
                **_side("Net", "NC", -net, currency),
                "Modification Reference": f"TX{number}{currency}",
            }
            for currency, net in nets.items()
            if net > 0
        ]

    def _common(self, number: int, at: int, kind: str, currency: str) -> Row:
        return {
            "Company Account": "TestCompany",
            "Merchant Account": self._account,
            "Creation Date": datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S"),
            "TimeZone": "UTC",
            "Type": kind,
            "Net Currency": currency,
            "Batch Number": number,
        }


def _side(name: str, which: str, amount: int, currency: str) -> Row:
    """An unsigned decimal in the column of its side."""
    return {f"{name} {'Credit' if amount > 0 else 'Debit'} ({which})": decimal(abs(amount), currency)}


def _csv(rows: list[Row]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
