"""Stripe's reports, as docs.stripe.com/reports/report-types/balance lists their columns."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest

from connectors.settlement.report import Origin, ReportError
from connectors.stripe.settlement import KINDS, read
from pipeline.messages.settlement import LineKind, SettlementLine

PAYMENT = "8e42fd4c-e8b2-547c-b2f7-6256b5676e50"
HEADER = (
    "balance_transaction_id,created_utc,currency,gross,fee,net,reporting_category,source_id,customer_facing_amount,"
    "customer_facing_currency,automatic_payout_id,charge_id,payment_intent_id,payment_metadata[payment_id]"
)
CHARGE = f"txn_1,2026-11-23 10:00:01,usd,60.00,2.04,57.96,charge,ch_1,60.00,usd,po_1,ch_1,pi_1,{PAYMENT}"


def lines(*rows: str, header: str = HEADER) -> list[SettlementLine]:
    return list(read(io.StringIO("\n".join([header, *rows])), Origin("r")))


def test_a_charge() -> None:
    (line,) = lines(CHARGE)
    assert (line.kind, line.gross, line.fee, line.net, line.currency) == (LineKind.CHARGE, 6_000, 204, 5_796, "USD")
    assert (line.payment_id, line.payment_reference, line.operation_reference) == (PAYMENT, "pi_1", "ch_1")
    assert (line.payout_id, line.provider_line, line.line_number) == ("po_1", "txn_1", 2)
    assert line.occurred_at == round(datetime(2026, 11, 23, 10, 0, 1, tzinfo=UTC).timestamp() * 1000)
    assert line.payment_amount is None


def test_a_partial_capture_is_two_lines_that_add_up() -> None:
    whole = CHARGE.replace("60.00,2.04,57.96", "100.00,3.20,96.80")
    back = "txn_2,2026-11-23 10:00:02,usd,-40.00,-1.16,-38.84,partial_capture_reversal,re_1,-40.00,usd,,ch_1,pi_1,"
    found = lines(whole, back)
    assert [line.kind for line in found] == [LineKind.CHARGE, LineKind.CHARGE]
    assert (sum(line.gross for line in found), sum(line.fee for line in found)) == (6_000, 204)


def test_settled_in_another_currency() -> None:
    (line,) = lines(CHARGE.replace(",60.00,usd,", ",7000,jpy,"))
    assert (line.payment_amount, line.payment_currency, line.gross, line.currency) == (7_000, "JPY", 6_000, "USD")


def test_a_payout_that_was_paid_is_out_and_arrived() -> None:
    header = (
        "payout_id,effective_at_utc,currency,gross,fee,net,reporting_category,balance_transaction_id,"
        "payout_expected_arrival_date,payout_status"
    )
    out, arrived, pending = lines(
        "po_1,2026-11-23 00:00:00,usd,-57.96,0.00,-57.96,payout,txn_9,2026-11-25,paid",
        "po_2,2026-11-24 00:00:00,usd,-1.00,0.00,-1.00,payout,txn_10,2026-11-26,in_transit",
        header=header,
    )
    assert (out.kind, out.gross, out.payout_id) == (LineKind.PAYOUT, -5_796, "po_1")
    assert (arrived.kind, arrived.gross, arrived.payout_id) == (LineKind.PAYOUT_ARRIVED, 5_796, "po_1")
    assert arrived.line_id != out.line_id
    assert pending.kind is LineKind.PAYOUT


def test_a_line_is_the_same_in_every_report() -> None:
    shuffled = HEADER.split(",")[::-1]
    (first,), (second,) = lines(CHARGE), lines(",".join(CHARGE.split(",")[::-1]), header=",".join(shuffled))
    assert first == second


def test_a_category_that_is_not_known_is_for_a_person() -> None:
    (line,) = lines(CHARGE.replace(",charge,", ",climate_order_purchase,"))
    assert (line.kind, line.provider_kind) == (LineKind.ADJUSTMENT, "climate_order_purchase")
    assert "climate_order_purchase" not in KINDS


def test_a_claim_that_cannot_be_ours_is_none() -> None:
    (line,) = lines(CHARGE.replace(PAYMENT, "order-17"))
    assert line.payment_id is None


@pytest.mark.parametrize(
    ("rows", "number", "reason"),
    [
        ([CHARGE, CHARGE.replace("60.00,2.04", "sixty,2.04")], 3, "gross: 'sixty' is no plain decimal"),
        ([CHARGE.replace("60.00,2.04", "60.001,2.04")], 2, "gross: '60.001' has more than the 2 decimals of USD"),
        ([CHARGE.replace("57.96", "57.97")], 2, "net is not gross less fee"),
        ([CHARGE.replace(",usd,60", ",uds,60")], 2, "currency: 'UDS' is no ISO 4217 currency"),
        ([CHARGE.replace("txn_1", "")], 2, "balance_transaction_id is empty"),
        ([CHARGE.replace("2026-11-23", "yesterday")], 2, "is no time"),
        ([CHARGE + ",more"], 2, "15 cells, the header has 14"),
        ([CHARGE, 'txn_2,"open'], 3, "no CSV"),
    ],
)
def test_a_line_that_cannot_be_read_is_refused_with_its_number(rows: list[str], number: int, reason: str) -> None:
    with pytest.raises(ReportError) as refused:
        lines(*rows)
    assert refused.value.line == number
    assert reason in str(refused.value)


@pytest.mark.parametrize("column", ["net", "customer_facing_currency", "balance_transaction_id"])
def test_a_report_without_a_column_that_is_needed_is_refused(column: str) -> None:
    with pytest.raises(ReportError, match=f"no column {column}"):
        lines(CHARGE, header=HEADER.replace(column, "other"))


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(ReportError, match="empty"):
        list(read(io.StringIO(""), Origin("r")))
