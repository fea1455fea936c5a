"""PayPal's Settlement Report, made from the published rows and columns of version 9."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest

from connectors.paypal.settlement import read
from connectors.settlement.report import Origin, ReportError
from pipeline.messages.settlement import LineKind, SettlementLine

PAYMENT = "8e42fd4c-e8b2-547c-b2f7-6256b5676e50"
HEAD = """"RH",2026/11/23 02:44:19 -0800,"A","MERCHANT1",009,
"FH",01
"SH",2026/11/22 00:00:00 -0800,2026/11/22 23:59:59 -0800,"MERCHANT1",""
"CH","Transaction ID","Invoice ID","PayPal Reference ID","PayPal Reference ID Type","Transaction Event Code",\
"Transaction Initiation Date","Transaction Completion Date","Transaction Debit or Credit","Gross Transaction Amount",\
"Gross Transaction Currency","Fee Debit or Credit","Fee Amount","Fee Currency","Custom Field","Consumer ID",\
"Payment Tracking ID","Store ID","Bank Reference ID","Credit Transactional Fee","Credit Promotional Fee","Credit Term"
"""
PAID = (
    f'"SB","TX1","","","","T0006",2026/11/22 00:01:17 -0800,2026/11/22 00:01:17 -0800,"CR",6000,"USD","DR",204,"USD",'
    f'"{PAYMENT}","","","","",,,'
)


def lines(*rows: str, count: int | None = None, tail: str = '"RC",9\n"FF",1\n') -> list[SettlementLine]:
    body = "".join(f"{row}\n" for row in rows)
    text = f'{HEAD}{body}"SF","USD",5796,0,0,0,0,0\n"SC",{len(rows) if count is None else count}\n{tail}'
    return list(read(io.StringIO(text), Origin("r")))


def row(own: str, code: str, side: str, amount: int, *, currency: str = "USD", reference: str = "") -> str:
    return (
        f'"SB","{own}","","{reference}","TXN","{code}",2026/11/22 10:00:00 -0800,2026/11/22 10:00:00 -0800,"{side}",'
        f'{amount},"{currency}","",,"","","","","","",,,'
    )


def test_a_payment_with_its_fee() -> None:
    (line,) = lines(PAID)
    assert (line.kind, line.gross, line.fee, line.net, line.currency) == (LineKind.CHARGE, 6_000, 204, 5_796, "USD")
    assert (line.payment_id, line.operation_reference, line.account) == (PAYMENT, "TX1", "MERCHANT1")
    assert line.occurred_at == round(datetime(2026, 11, 22, 8, 1, 17, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("code", "side", "kind"),
    [
        ("T1107", "DR", LineKind.REFUND),
        ("T1201", "DR", LineKind.DISPUTE),
        ("T1202", "CR", LineKind.DISPUTE_REVERSED),
        ("T0106", "DR", LineKind.DISPUTE_FEE),
        ("T0100", "DR", LineKind.FEE),
        ("T0200", "CR", LineKind.CONVERSION),
        ("T0400", "DR", LineKind.PAYOUT),
        ("T0400", "CR", LineKind.PAYOUT_FAILED),
        ("T2101", "DR", LineKind.RESERVE),
        ("T0006", "DR", LineKind.ADJUSTMENT),
        ("T9800", "DR", LineKind.ADJUSTMENT),
    ],
)
def test_event_codes(code: str, side: str, kind: LineKind) -> None:
    (line,) = lines(row("TX2", code, side, 1_000))
    assert (line.kind, line.gross) == (kind, 1_000 if side == "CR" else -1_000)


def test_a_refund_names_what_it_refunds() -> None:
    (line,) = lines(row("TX2", "T1107", "DR", 1_000, reference="TX1"))
    assert (line.payment_reference, line.operation_reference) == ("TX1", "TX2")


def test_both_sides_of_a_conversion_are_two_lines() -> None:
    out, into = lines(row("TX3", "T0200", "DR", 1_000), row("TX3", "T0200", "CR", 920, currency="EUR"))
    assert out.line_id != into.line_id
    assert (out.currency, out.gross, into.currency, into.gross) == ("USD", -1_000, "EUR", 920)


@pytest.mark.parametrize(("currency", "minor"), [("JPY", 500), ("HUF", 50_000), ("TWD", 50_000), ("USD", 500)])
def test_amounts_are_in_paypals_smallest_unit(currency: str, minor: int) -> None:
    (line,) = lines(row("TX4", "T0006", "CR", 500, currency=currency))
    assert line.gross == minor


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (PAID.replace(',"CR",6000', ',"",6000'), "neither CR nor DR"),
        (PAID.replace("6000", "60.00"), "'60.00' is no unsigned integer"),
        (PAID.replace('204,"USD"', '204,"EUR"'), "the fee is in another currency"),
        (PAID.replace("T0006", "T1300"), "moves no money"),
        (PAID.replace("T0006", "6"), "is none"),
        (PAID.replace("2026/11/22 00:01:17 -0800", "22.11.2026"), "is no time"),
        (PAID.replace('"SB"', '"XX"'), "is no row of a settlement report"),
        (PAID + ",", "cells, the header has"),
    ],
)
def test_a_line_that_cannot_be_read_is_refused_with_its_number(wrong: str, reason: str) -> None:
    with pytest.raises(ReportError) as refused:
        lines(PAID, wrong)
    assert refused.value.line == 6
    assert reason in str(refused.value)


def test_a_file_that_was_cut_off_is_refused() -> None:
    with pytest.raises(ReportError, match="says that it has 2"):
        lines(PAID, count=2)
    with pytest.raises(ReportError, match="cut off"):
        list(read(io.StringIO(HEAD + PAID + "\n"), Origin("r")))
