"""Adyen's Settlement details report as settlement lines. Sources: docs.adyen.com/reporting/settlement-reconciliation/
transaction-level/settlement-details-report (columns, sample lines), docs.adyen.com, "Journal types".

Each report is one settlement batch of a merchant account: its transactions, its costs, and the payout that closes it.
Debits and credits are unsigned decimals in columns of their own: what the customer paid in the gross currency (GC),
what is settled in the net currency (NC). What Adyen kept is the difference. The time zone is the account's, named in
each row.

A line has no id of its own. A transaction's is its references, its type and its batch; of a cost or payout, which has
no references, its text, currency and time, and its number among the lines that are alike in all of that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, timedelta, timezone, tzinfo
from typing import Any, Final, TextIO

from msgspec.structs import replace

from connectors.settlement.report import Origin, ReportError, Row, Table, our_payment, table_rows
from pipeline import ids
from pipeline.messages.settlement import LineKind, SettlementLine

NAME: Final = "adyen"
_REQUIRED: Final = (
    "Merchant Account", "Psp Reference", "Merchant Reference", "Creation Date", "TimeZone", "Type",
    "Modification Reference", "Gross Currency", "Gross Debit (GC)", "Gross Credit (GC)", "Net Currency",
    "Net Debit (NC)", "Net Credit (NC)", "Batch Number",
)  # fmt: skip
_COSTS: Final = ("Commission (NC)", "Markup (NC)", "Scheme Fees (NC)", "Interchange (NC)")

KINDS: Final = {
    "Settled": LineKind.CHARGE,
    "SettledInInstallments": LineKind.CHARGE,
    "SettledReversed": LineKind.CHARGE,
    "Refunded": LineKind.REFUND,
    "RefundedReversed": LineKind.REFUND_FAILED,
    "Chargeback": LineKind.DISPUTE,
    "SecondChargeback": LineKind.DISPUTE,
    "ChargebackReversed": LineKind.DISPUTE_REVERSED,
    "Fee": LineKind.FEE,
    "MiscCosts": LineKind.FEE,
    "PaymentCost": LineKind.FEE,
    "InvoiceDeduction": LineKind.FEE,
    "MerchantPayout": LineKind.PAYOUT,
    "BankInstructionReturned": LineKind.PAYOUT_FAILED,
    "Balancetransfer": LineKind.RESERVE,
    "DepositCorrection": LineKind.RESERVE,
    "ReserveAdjustment": LineKind.RESERVE,
}
"""By `Type`. Every other one is an adjustment, for a person to explain."""
_DISPUTES: Final = frozenset({LineKind.DISPUTE, LineKind.DISPUTE_REVERSED})
_ZONES: Final[dict[str, tzinfo]] = {
    "UTC": UTC,
    **{
        name: timezone(timedelta(hours=hours))
        for name, hours in {
            "GMT": 0, "WET": 0, "BST": 1, "WEST": 1, "CET": 1, "CEST": 2, "EET": 2, "EEST": 3, "MSK": 3, "GST": 4,
            "SGT": 8, "HKT": 8, "AWST": 8, "JST": 9, "AEST": 10, "AEDT": 11, "NZST": 12, "NZDT": 13, "BRT": -3,
            "EDT": -4, "EST": -5, "CDT": -5, "CST": -6, "MDT": -6, "MST": -7, "PDT": -7, "PST": -8,
        }.items()
    },
}  # fmt: skip


def read(text: TextIO, origin: Origin) -> Iterator[SettlementLine]:
    """The lines of a report; of a chargeback with costs, two. Raises ReportError."""
    alike: Counter[tuple[str, ...]] = Counter()
    for row in table_rows(text, _require_columns):
        line = _line(row, origin, alike)
        if line.kind in _DISPUTES and line.fee:
            yield replace(line, fee=0, net=line.gross)
            yield _dispute_fee(line)
        else:
            yield line


def _require_columns(table: Table, line: int) -> None:
    table.require(line, *_REQUIRED)


def _line(row: Row, origin: Origin, alike: Counter[tuple[str, ...]]) -> SettlementLine:
    account, batch, kind = row.need("Merchant Account"), row.need("Batch Number"), row.need("Type")
    psp, modification = row.text("Psp Reference"), row.text("Modification Reference")
    own: tuple[str, ...] = (account, batch, kind, psp or "", modification or "")
    if psp is None:
        own = _numbered((*own, row.need("Creation Date"), row.text("Net Currency") or ""), alike)
    return SettlementLine(
        line_id=ids.line_id(NAME, *own),
        provider=NAME,
        account=account,
        report_id=origin.report_id,
        line_number=row.line,
        occurred_at=row.time("Creation Date", zone=_zone(row)),
        kind=KINDS.get(kind, LineKind.ADJUSTMENT),
        provider_kind=kind,
        provider_line="/".join(own),
        payout_id=f"{account}/{batch}",
        payment_id=our_payment(row.text("Merchant Reference")),
        payment_reference=psp,
        operation_reference=modification if psp else None,
        **_amounts(row),
    )


def _dispute_fee(line: SettlementLine) -> SettlementLine:
    """What Adyen charges for a chargeback: the webhook does not tell it, so the facts do not book it."""
    return replace(
        line,
        line_id=ids.derive(line.line_id, "fee"),
        provider_line=f"{line.provider_line}/fee",
        kind=LineKind.DISPUTE_FEE,
        gross=-line.fee,
        fee=0,
        net=-line.fee,
        payment_amount=None,
        payment_currency=None,
    )


def _numbered(own: tuple[str, ...], alike: Counter[tuple[str, ...]]) -> tuple[str, ...]:
    """Costs are few and have no references: those that are alike are told apart by their order."""
    alike[own] += 1
    return (*own, str(alike[own]))


def _amounts(row: Row) -> dict[str, Any]:
    """Settled in the net currency; what the customer paid besides, where that was another one."""
    currency = row.currency("Net Currency")
    net = row.minor("Net Credit (NC)", currency) - row.minor("Net Debit (NC)", currency)
    settled = {"net": net, "currency": currency}
    if row.text("Gross Debit (GC)", "Gross Credit (GC)") is None:
        return {"gross": net, "fee": 0, **settled}
    paid_in = row.currency("Gross Currency")
    gross = row.minor("Gross Credit (GC)", paid_in) - row.minor("Gross Debit (GC)", paid_in)
    if paid_in == currency:
        return {"gross": gross, "fee": gross - net, **settled}
    fee = sum(row.minor(cost, currency) for cost in _COSTS)
    return {"gross": net + fee, "fee": fee, **settled, "payment_amount": gross, "payment_currency": paid_in}


def _zone(row: Row) -> tzinfo:
    name = row.need("TimeZone")
    zone = _ZONES.get(name)
    if zone is None:
        raise ReportError(row.line, f"TimeZone: {name[:20]!r} is not known; choose another one for the report")
    return zone
