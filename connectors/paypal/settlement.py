"""PayPal's Settlement Report (STL) as settlement lines. Sources: developer.paypal.com/docs/reports/sftp-reports/
settlement-report (rows and columns, version 9), developer.paypal.com/docs/reports/reference/tcodes (event codes).

The file is CSV whose first cell names the kind of row: RH, FH (report and file header), SH (a section: an account and
its period), CH (the columns), SB (a transaction), SF (the section's totals), SC (how many transactions it has), and the
same for the report and the file. Amounts are unsigned integers in the currency's smallest unit, with CR or DR beside
them; a fee has its own. PayPal counts forint, yen and new Taiwan dollar without decimals; by ISO 4217 only the yen has
none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final, TextIO

from connectors.settlement.report import Origin, ReportError, Row, Table, numbered, our_payment
from pipeline import ids
from pipeline.messages.settlement import LineKind, SettlementLine

NAME: Final = "paypal"
_REQUIRED: Final = (
    "Transaction ID", "PayPal Reference ID", "Transaction Event Code", "Transaction Initiation Date",
    "Transaction Completion Date", "Transaction Debit or Credit", "Gross Transaction Amount",
    "Gross Transaction Currency", "Fee Debit or Credit", "Fee Amount", "Fee Currency", "Custom Field",
)  # fmt: skip
_AROUND: Final = frozenset({"RH", "FH", "SF", "RF", "RC", "FF"})
_SIGNS: Final = {"CR": 1, "DR": -1}
_SCALE: Final = {"HUF": 100, "TWD": 100}
_INTEGER: Final = re.compile(r"[0-9]{1,15}", re.ASCII)
_CODE: Final = re.compile(r"T[0-9]{4}", re.ASCII)

CODES: Final = {
    "T0106": LineKind.DISPUTE_FEE,
    "T0114": LineKind.DISPUTE_FEE,
    "T1101": LineKind.PAYOUT_FAILED,
    "T1106": LineKind.DISPUTE,
    "T1107": LineKind.REFUND,
    "T1108": LineKind.FEE,
    "T1109": LineKind.FEE,
    "T1110": LineKind.RESERVE,
    "T1111": LineKind.RESERVE,
    "T1113": LineKind.REFUND,
    "T1201": LineKind.DISPUTE,
    "T1202": LineKind.DISPUTE_REVERSED,
    "T1205": LineKind.DISPUTE_REVERSED,
}
"""Event codes that say more than their group."""
GROUPS: Final = {
    "T00": LineKind.CHARGE,
    "T01": LineKind.FEE,
    "T02": LineKind.CONVERSION,
    "T04": LineKind.PAYOUT,
    "T15": LineKind.RESERVE,
    "T21": LineKind.RESERVE,
}
"""By group. Every other one is an adjustment, for a person to explain."""


def read(text: TextIO, origin: Origin) -> Iterator[SettlementLine]:
    """The lines of a report. Raises ReportError."""
    table: Table | None = None
    account, count, ended = origin.account, 0, False
    for number, cells in numbered(text):
        match cells[0].lstrip("\ufeff"):
            case "SH":
                account, count, ended = _cell(cells, 3) or origin.account, 0, False
            case "CH":
                table = Table(cells, number)
                table.require(number, *_REQUIRED)
            case "SB":
                if table is None:
                    raise ReportError(number, "a transaction before the row that names the columns (CH)")
                count += 1
                yield _line(Row(table, cells, number), account, origin)
            case "SC":
                ended = True
                _check_count(number, _cell(cells, 1), count)
            case other if other not in _AROUND:
                raise ReportError(number, f"{other[:20]!r} is no row of a settlement report")
    if not ended:
        raise ReportError(0, "the file ends before its section does (no SC row): it was cut off")


def _check_count(line: int, said: str | None, count: int) -> None:
    if said != str(count):
        raise ReportError(line, f"the section has {count} transactions, and says that it has {(said or 'none')[:20]}")


def _line(row: Row, account: str | None, origin: Origin) -> SettlementLine:
    own, code = row.need("Transaction ID"), row.need("Transaction Event Code")
    amounts = _amounts(row)
    kind = kind_of(code, amounts["gross"], row.line)
    return SettlementLine(
        line_id=line_id(account, own, code, amounts["currency"]),
        provider=NAME,
        account=account,
        report_id=origin.report_id,
        line_number=row.line,
        occurred_at=_time(row),
        kind=kind,
        provider_kind=code,
        provider_line=own,
        payout_id=own if kind in (LineKind.PAYOUT, LineKind.PAYOUT_FAILED) else None,
        payment_id=our_payment(row.text("Custom Field")),
        payment_reference=row.text("PayPal Reference ID"),
        operation_reference=own,
        **amounts,
    )


def line_id(account: str | None, own: str, code: str, currency: str) -> str:
    """A transaction's line, whichever report it stands in: of one transaction each currency has its own."""
    return ids.line_id(NAME, account or "", own, code, currency)


def kind_of(code: str, gross: int, line: int) -> LineKind:
    """What a transaction is about. Raises ReportError for a code that moves no money, or is none."""
    if _CODE.fullmatch(code) is None:
        raise ReportError(line, f"Transaction Event Code: {code[:20]!r} is none")
    if code.startswith("T13"):
        raise ReportError(line, f"{code} is an authorization: it moves no money, and this is no settlement report")
    kind = CODES.get(code) or GROUPS.get(code[:3], LineKind.ADJUSTMENT)
    if kind is LineKind.CHARGE and gross < 0:
        return LineKind.ADJUSTMENT  # we paid somebody
    return LineKind.PAYOUT_FAILED if kind is LineKind.PAYOUT and gross > 0 else kind


def _amounts(row: Row) -> dict[str, Any]:
    currency = row.currency("Gross Transaction Currency")
    gross = _signed(row, "Gross Transaction Amount", "Transaction Debit or Credit", currency)
    fee = 0
    if row.text("Fee Amount") is not None:
        if row.currency("Fee Currency") != currency:
            raise ReportError(row.line, "the fee is in another currency than the transaction")
        fee = -_signed(row, "Fee Amount", "Fee Debit or Credit", currency)
    return {"gross": gross, "fee": fee, "net": gross - fee, "currency": currency}


def _signed(row: Row, amount: str, side: str, currency: str) -> int:
    digits, word = row.need(amount), row.text(side)
    if _INTEGER.fullmatch(digits) is None:
        raise ReportError(row.line, f"{amount}: {digits[:40]!r} is no unsigned integer")
    minor = int(digits) * _SCALE.get(currency, 1)
    if minor and word not in _SIGNS:
        raise ReportError(row.line, f"{side}: {(word or '')[:20]!r} is neither CR nor DR")
    return minor * _SIGNS.get(word or "", 1)


def _time(row: Row) -> int:
    """`2024/08/20 00:01:17 -0700`, in milliseconds."""
    cell = row.need("Transaction Completion Date", "Transaction Initiation Date")
    try:
        return round(datetime.strptime(cell, "%Y/%m/%d %H:%M:%S %z").timestamp() * 1000)
    except ValueError as error:
        raise ReportError(row.line, f"Transaction Completion Date: {cell[:40]!r} is no time") from error


def _cell(cells: Sequence[str], place: int) -> str | None:
    return cells[place].strip() or None if place < len(cells) else None
