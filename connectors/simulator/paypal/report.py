"""The Settlement Report (STL), version 9: every movement of the account so far, as one section of one day or more.

Source: developer.paypal.com/docs/reports/sftp-reports/settlement-report (rows and columns),
developer.paypal.com/docs/reports/reference/tcodes (event codes). Amounts are unsigned integers in PayPal's smallest
unit with CR or DR beside them. Payments carry `custom_id` in Custom Field.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from datetime import UTC, datetime
from typing import Any, Final

from connectors.simulator.paypal.account import Account
from connectors.simulator.paypal.render import MERCHANT
from connectors.simulator.paypal.transactions import Code, Transaction, transactions

COLUMNS: Final = (
    "Transaction ID", "Invoice ID", "PayPal Reference ID", "PayPal Reference ID Type", "Transaction Event Code",
    "Transaction Initiation Date", "Transaction Completion Date", "Transaction Debit or Credit",
    "Gross Transaction Amount", "Gross Transaction Currency", "Fee Debit or Credit", "Fee Amount", "Fee Currency",
    "Custom Field", "Consumer ID", "Payment Tracking ID", "Store ID", "Bank Reference ID", "Credit Transactional Fee",
    "Credit Promotional Fee", "Credit Term",
)  # fmt: skip
Row = dict[str, Any]


def settlement(account: Account) -> str:
    """The file. Amounts of declined, pending and failed operations did not move and are not in it."""
    rows = [_row(each) for each in transactions(account) if each.moves_money]
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


def _row(it: Transaction) -> Row:
    currency = it.money.currency
    charged = {"Fee Debit or Credit": "DR", "Fee Amount": it.fee, "Fee Currency": currency} if it.fee else {}
    return {
        "Transaction ID": it.id,
        "Invoice ID": it.invoice_id or "",
        **({"PayPal Reference ID": it.reference, "PayPal Reference ID Type": "TXN"} if it.reference else {}),
        "Transaction Event Code": it.code.value,
        "Transaction Initiation Date": _time(it.made),
        "Transaction Completion Date": _time(it.updated if it.code is Code.REFUND else it.made),
        "Transaction Debit or Credit": "CR" if it.money.value > 0 else "DR",
        "Gross Transaction Amount": abs(it.money.value),
        "Gross Transaction Currency": currency,
        **charged,
        "Custom Field": it.custom_field or "",
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
