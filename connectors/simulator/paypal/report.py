"""The Settlement Report (STL), version 9: every movement of the account so far, as one section of one day or more.

Source: developer.paypal.com/docs/reports/sftp-reports/settlement-report (rows and columns),
developer.paypal.com/docs/reports/reference/tcodes (event codes). Amounts are unsigned integers in PayPal's smallest
unit with CR or DR beside them. Payments carry `custom_id` in Custom Field.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from connectors.simulator.paypal.account import Account
from connectors.simulator.paypal.money import Money
from connectors.simulator.paypal.records import Capture, Dispute, DisputeOutcome, Refund, RefundStatus
from connectors.simulator.paypal.render import MERCHANT, fee

COLUMNS: Final = (
    "Transaction ID", "Invoice ID", "PayPal Reference ID", "PayPal Reference ID Type", "Transaction Event Code",
    "Transaction Initiation Date", "Transaction Completion Date", "Transaction Debit or Credit",
    "Gross Transaction Amount", "Gross Transaction Currency", "Fee Debit or Credit", "Fee Amount", "Fee Currency",
    "Custom Field", "Consumer ID", "Payment Tracking ID", "Store ID", "Bank Reference ID", "Credit Transactional Fee",
    "Credit Promotional Fee", "Credit Term",
)  # fmt: skip
_PAYMENT: Final = "T0006"
_REFUND: Final = "T1107"
_DISPUTED: Final = "T1201"
_DISPUTE_WON: Final = "T1202"

Row = dict[str, Any]


def settlement(account: Account) -> str:
    """The file. Amounts of declined, pending and failed operations did not move and are not in it."""
    rows = list(_rows(account))
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_STRINGS if hasattr(csv, "QUOTE_STRINGS") else csv.QUOTE_MINIMAL)
    times = sorted(row["Transaction Completion Date"] for row in rows) or [_time(0)]
    writer.writerow(["RH", times[-1], "A", MERCHANT, "009", ""])
    writer.writerow(["FH", "01"])
    writer.writerow(["SH", times[0], times[-1], MERCHANT, ""])
    writer.writerow(["CH", *COLUMNS])
    writer.writerows(["SB", *(row.get(column, "") for column in COLUMNS)] for row in rows)
    for tag in ("SF", "RF"):
        writer.writerows([tag, currency, *figures] for currency, figures in _totals(rows).items())
        writer.writerow([f"{tag[0]}C", len(rows)])
    writer.writerow(["FF", 1])
    return out.getvalue()


def _rows(account: Account) -> Iterator[Row]:
    """What moved, in the order of its making within each kind."""
    for capture in account.captures.values():
        if not (capture.pending or capture.declined):
            yield _capture(capture)
    for refund in account.refunds.values():
        if refund.status is RefundStatus.COMPLETED:
            yield _refund(refund)
    for dispute in account.disputes.values():
        yield _dispute(dispute, _DISPUTED, "DR", dispute.created)
        if dispute.outcome is DisputeOutcome.WON:
            yield _dispute(dispute, _DISPUTE_WON, "CR", dispute.updated)


def _capture(it: Capture) -> Row:
    held = it.authorization
    reference = {"PayPal Reference ID": held.id, "PayPal Reference ID Type": "TXN"} if held else {}
    return {
        **_row(it.id, _PAYMENT, "CR", Money(it.value, it.order.currency), it.created),
        **reference,
        "Invoice ID": it.invoice_id or "",
        "Fee Debit or Credit": "DR",
        "Fee Amount": fee(it),
        "Fee Currency": it.order.currency,
        "Custom Field": it.order.custom_id or "",
    }


def _refund(it: Refund) -> Row:
    return {
        **_row(it.id, _REFUND, "DR", Money(it.value, it.order.currency), it.updated),
        "PayPal Reference ID": it.capture.id,
        "PayPal Reference ID Type": "TXN",
        "Invoice ID": it.invoice_id or "",
        "Custom Field": it.custom_id or "",
    }


def _dispute(it: Dispute, code: str, side: str, at: int) -> Row:
    """A transaction of its own, about the capture."""
    return {
        **_row(f"{it.id[5:-1]}{code[-1]}", code, side, Money(it.value, it.order.currency), at),
        "PayPal Reference ID": it.capture.id,
        "PayPal Reference ID Type": "TXN",
    }


def _row(name: str, code: str, side: str, money: Money, at: int) -> Row:
    return {
        "Transaction ID": name,
        "Transaction Event Code": code,
        "Transaction Initiation Date": _time(at),
        "Transaction Completion Date": _time(at),
        "Transaction Debit or Credit": side,
        "Gross Transaction Amount": money.value,
        "Gross Transaction Currency": money.currency,
    }


def _totals(rows: list[Row]) -> dict[str, list[int]]:
    """Currency -> gross credits, gross debits, fee credits, fee debits."""
    sums: Counter[tuple[str, str]] = Counter()
    for row in rows:
        currency = row["Gross Transaction Currency"]
        sums[currency, row["Transaction Debit or Credit"]] += row["Gross Transaction Amount"]
        sums[currency, "fee"] += row.get("Fee Amount", 0)
    currencies = sorted({currency for currency, _ in sums})
    return {each: [sums[each, "CR"], sums[each, "DR"], 0, sums[each, "fee"]] for each in currencies}


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y/%m/%d %H:%M:%S %z")
