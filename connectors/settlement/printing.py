"""How a reconciliation is shown: tables for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Final, TextIO

import msgspec
from rich.table import Table

from connectors.settlement.posting import Posted
from connectors.settlement.result import Difference, Payout, Result, Sum, Verdict
from pipeline.money import decimal

_WORDS: Final = {
    Verdict.MATCHED: "[green]matched[/]",
    Verdict.MISSING_HERE: "[red]missing here[/]",
    Verdict.MISSING_THERE: "[red]missing there[/]",
    Verdict.DIFFERENT_AMOUNT: "[red]different amount[/]",
    Verdict.DIFFERENT_FEE: "[red]different fee[/]",
}


def sums_table(sums: Iterable[Sum]) -> Table:
    """What each verdict comes to."""
    table = Table("", "payments", "lines", "in the books", "in the report", "fees", title="by verdict")
    for one in sums:
        amounts = [decimal(amount, one.currency) for amount in (one.booked, one.reported, one.fee)]
        counts = [f"{one.count:,}", f"{one.lines:,}"]
        table.add_row(_WORDS[one.verdict], *counts, *(f"{amount} {one.currency}" for amount in amounts))
    return _right(table, 1)


def differences_table(differences: Iterable[Difference]) -> Table:
    """Each difference with what it is about."""
    table = Table("", "what", "payment", "provider's reference", "in the books", "in the report", title="differences")
    for one in differences:
        here, there = _sides(one)
        table.add_row(_WORDS[one.verdict], one.kind, one.payment_id or "", one.reference or "", here, there)
    return _right(table, 4)


def payouts_table(payouts: Iterable[Payout]) -> Table:
    """Each payout beside what its lines earned."""
    table = Table("", "payout", "lines", "earned", "paid out", "at the bank", "came back", title="payouts")
    for one in payouts:
        amounts = [decimal(amount, one.currency) for amount in (one.earned, one.paid_out, one.arrived, one.failed)]
        sign = {True: "[green]clears[/]", False: "[red]differs[/]", None: "[dim]open[/]"}[one.clears]
        table.add_row(sign, one.payout_id, f"{one.lines:,}", *(f"{amount} {one.currency}" for amount in amounts))
    return _right(table, 2)


def write_json(out: TextIO, posted: Posted, result: Result, differences: Iterable[Difference], *, agrees: bool) -> None:
    """One object; the differences last, one by one, so that any number of them fits."""
    head: dict[str, Any] = {
        "agrees": agrees,
        "report_id": posted.report.origin.report_id,
        "lines": posted.report.lines,
        "known_before": posted.known,
        "changed": posted.changed,
        "absent": posted.absent,
        "sums": [asdict(one) for one in result.sums],
        "payouts": [{**asdict(one), "clears": one.clears} for one in result.payouts],
    }
    out.write(_json(head)[:-1] + ',"differences":[')
    for number, one in enumerate(differences):
        out.write((",\n" if number else "\n") + _json(asdict(one)))
    out.write("]}\n")


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _sides(one: Difference) -> tuple[str, str]:
    """What the books have and what the report has."""
    if one.verdict is Verdict.DIFFERENT_FEE and one.expected_fee is not None:
        expected, fee = decimal(one.expected_fee, one.currency), decimal(one.fee, one.currency)
        return f"fee {expected} {one.currency}", f"fee {fee} {one.currency}"
    booked, reported = f"{decimal(one.booked, one.currency)} {one.currency}", decimal(one.reported, one.currency)
    here = "" if one.verdict is Verdict.MISSING_HERE else booked
    return here, "" if one.verdict is Verdict.MISSING_THERE else f"{reported} {one.currency}"


def _right(table: Table, first: int) -> Table:
    """Figures to the right."""
    for column in table.columns[first:]:
        column.justify = "right"
    return table
