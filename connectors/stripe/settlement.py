"""Stripe's financial reports as settlement lines. Sources: docs.stripe.com/reports/report-types/balance,
/payout-reconciliation, docs.stripe.com/reports/reporting-categories.

Read are the itemized reports, by their column names: `balance_change_from_activity.itemized.*`,
`payout_reconciliation.itemized.*`, `ending_balance_reconciliation.itemized.*` and `payouts.itemized.*`. Amounts are
decimals in major units; `net` is `gross` less `fee`. Balance transactions have ids of their own, the same in each
report, so a line that stands in two of them is one line.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TextIO

from connectors.settlement.report import Origin, ReportError, Row, Table, our_payment, table_rows
from pipeline import ids
from pipeline.messages.settlement import LineKind, SettlementLine

NAME: Final = "stripe"
_REQUIRED: Final = ("balance_transaction_id", "currency", "gross", "fee", "net", "reporting_category")
_CUSTOMER_FACING: Final = ("customer_facing_amount", "customer_facing_currency")
_OUR_PAYMENT: Final = "payment_metadata[payment_id]"

KINDS: Final = {
    "charge": LineKind.CHARGE,
    "charge_failure": LineKind.CHARGE,
    "partial_capture_reversal": LineKind.CHARGE,
    "refund": LineKind.REFUND,
    "refund_failure": LineKind.REFUND_FAILED,
    "dispute": LineKind.DISPUTE,
    "dispute_reversal": LineKind.DISPUTE_REVERSED,
    "fee": LineKind.FEE,
    "network_cost": LineKind.FEE,
    "tax": LineKind.FEE,
    "payout": LineKind.PAYOUT,
    "payout_reversal": LineKind.PAYOUT_FAILED,
    "currency_conversion": LineKind.CONVERSION,
    "connect_reserved_funds": LineKind.RESERVE,
    "risk_reserved_funds": LineKind.RESERVE,
    "payment_network_reserved_funds": LineKind.RESERVE,
    "minimum_balance_hold": LineKind.RESERVE,
}
"""By `reporting_category`. A partial capture is two lines: the whole authorization, and the rest of it taken back. Any
other category is an adjustment, for a person to explain.
"""


def read(text: TextIO, origin: Origin) -> Iterator[SettlementLine]:
    """The lines of a report; of a payout that was paid, two. Raises ReportError."""
    for row in table_rows(text, _require_columns):
        yield _line(row, origin)
        if row.text("payout_status") == "paid" and row.text("reporting_category") == "payout":
            yield _arrival(row, origin)


def _require_columns(table: Table, line: int) -> None:
    """Without the customer's currency a conversion would be booked in the wrong one; payouts have none."""
    table.require(line, *_REQUIRED, *(() if "payout_id" in table else _CUSTOMER_FACING))


def _line(row: Row, origin: Origin) -> SettlementLine:
    category, own = row.need("reporting_category"), row.need("balance_transaction_id")
    amounts = _amounts(row)
    facing = _customer_facing(row, amounts["currency"])
    return SettlementLine(
        line_id=ids.line_id(NAME, own),
        provider=NAME,
        account=origin.account,
        report_id=origin.report_id,
        line_number=row.line,
        occurred_at=_time(row),
        kind=KINDS.get(category, LineKind.ADJUSTMENT),
        provider_kind=category,
        provider_line=own,
        payout_id=row.text("automatic_payout_id", "payout_id"),
        payment_id=our_payment(row.text(_OUR_PAYMENT)),
        payment_reference=row.text("payment_intent_id"),
        operation_reference=row.text("charge_id", "source_id"),
        **amounts,
        **facing,
    )


def arrival_id(payout: str) -> str:
    """Our name of a payout's arrival, which Stripe has no transaction for."""
    return f"{payout}/paid"


def _arrival(row: Row, origin: Origin) -> SettlementLine:
    """The payout's money is at the bank: the report's status says so, no balance transaction does."""
    payout = row.need("payout_id")
    currency = row.currency("currency")
    arrived = -row.minor("gross", currency)
    own = arrival_id(payout)
    return SettlementLine(
        line_id=ids.line_id(NAME, own),
        provider=NAME,
        account=origin.account,
        report_id=origin.report_id,
        line_number=row.line,
        occurred_at=row.time("payout_expected_arrival_date", "effective_at_utc", "effective_at"),
        kind=LineKind.PAYOUT_ARRIVED,
        provider_kind="paid",
        provider_line=own,
        payout_id=payout,
        gross=arrived,
        fee=0,
        net=arrived,
        currency=currency,
    )


def _amounts(row: Row) -> dict[str, Any]:
    currency = row.currency("currency")
    gross, fee, net = (row.minor(name, currency) for name in ("gross", "fee", "net"))
    if net != gross - fee:
        raise ReportError(row.line, "net is not gross less fee")
    return {"gross": gross, "fee": fee, "net": net, "currency": currency}


def _customer_facing(row: Row, currency: str) -> dict[str, Any]:
    """What the customer paid, where it is in another currency than the balance."""
    if row.text("customer_facing_currency") is None:
        return {}
    facing = row.currency("customer_facing_currency")
    if facing == currency:
        return {}
    return {"payment_amount": row.minor("customer_facing_amount", facing), "payment_currency": facing}


def _time(row: Row) -> int:
    return row.time(
        "created_utc", "created", "effective_at_utc", "effective_at", "automatic_payout_effective_at_utc",
        "automatic_payout_effective_at",
    )  # fmt: skip
