"""Adyen's Settlement details report. The transactions are the samples of Adyen's documentation."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest

from connectors.adyen.settlement import read
from connectors.settlement.report import Origin, ReportError
from pipeline.domain.settlement import entry_of
from pipeline.messages.settlement import LineKind, SettlementLine

PAYMENT = "8e42fd4c-e8b2-547c-b2f7-6256b5676e50"
HEADER = (
    "Company Account,Merchant Account,Psp Reference,Merchant Reference,Payment Method,Creation Date,TimeZone,Type,"
    "Modification Reference,Gross Currency,Gross Debit (GC),Gross Credit (GC),Exchange Rate,Net Currency,"
    "Net Debit (NC),Net Credit (NC),Commission (NC),Markup (NC),Scheme Fees (NC),Interchange (NC),"
    "Payment Method Variant,Modification Merchant Reference,Batch Number"
)
SETTLED = (
    "TestCompany,TestMerchant,1813702551707653,3vpzf7,visa,2013-06-03 11:26:49,CET,Settled,1713702551795048,GBP,,5.00,"
    "1,GBP,,4.88,,0.04,0.01,0.07,visaclassic,,4"
)
CHARGEBACK = (
    "TestCompany,TestMerchant,1313642467023511,324959451,visa,2013-03-26 22:37:26,CET,Chargeback,2313642467170922,EUR,"
    "349.99,,1,EUR,357.49,,7.5,,,,visaclassic,,4"
)
FEE = "TestCompany,TestMerchant,,,,2013-06-11 04:55:40,BST,Fee,Transaction Fees June 2013,,,,,GBP,1.20,,,,,,,,4"
PAYOUT = "TestCompany,TestMerchant,,,,2013-06-12 00:00:00,CET,MerchantPayout,TX1,,,,,GBP,3.68,,,,,,,,4"


def lines(*rows: str, header: str = HEADER) -> list[SettlementLine]:
    return list(read(io.StringIO("\n".join([header, *rows])), Origin("r")))


def test_a_settled_capture() -> None:
    (line,) = lines(SETTLED)
    assert (line.kind, line.gross, line.fee, line.net, line.currency) == (LineKind.CHARGE, 500, 12, 488, "GBP")
    assert (line.payment_reference, line.operation_reference) == ("1813702551707653", "1713702551795048")
    assert (line.account, line.payout_id) == ("TestMerchant", "TestMerchant/4")
    assert line.occurred_at == round(datetime(2013, 6, 3, 10, 26, 49, tzinfo=UTC).timestamp() * 1000)
    assert line.payment_id is None


@pytest.mark.parametrize("reference", [PAYMENT, f"{PAYMENT}_c_{PAYMENT}"])
def test_our_reference_names_the_payment(reference: str) -> None:
    (line,) = lines(SETTLED.replace("3vpzf7", reference))
    assert line.payment_id == PAYMENT


def test_a_chargeback_and_its_cost_are_two_lines() -> None:
    dispute, fee = lines(CHARGEBACK)
    assert (dispute.kind, dispute.gross, dispute.fee, dispute.net) == (LineKind.DISPUTE, -34_999, 0, -34_999)
    assert (fee.kind, fee.net) == (LineKind.DISPUTE_FEE, -750)
    assert fee.line_id != dispute.line_id
    entry = entry_of(fee)
    assert entry is not None
    assert {posting.account for posting in entry.postings} == {"dispute_fees:adyen:EUR", "provider_balance:adyen:EUR"}


def test_costs_that_are_alike_are_told_apart_and_known_again() -> None:
    first, second = lines(FEE, FEE)
    assert (first.kind, first.gross, first.fee, first.net) == (LineKind.FEE, -120, 0, -120)
    assert first.line_id != second.line_id
    assert [line.line_id for line in lines(FEE, FEE)] == [first.line_id, second.line_id]


def test_a_batch_is_paid_out() -> None:
    found = lines(SETTLED, FEE, PAYOUT)
    assert (found[-1].kind, found[-1].net) == (LineKind.PAYOUT, -368)
    assert {line.payout_id for line in found} == {"TestMerchant/4"}
    assert sum(line.net for line in found) == 0


def test_settled_in_another_currency() -> None:
    (line,) = lines(SETTLED.replace(",GBP,,5.00,1,", ",EUR,,6.00,0.8333,"))
    assert (line.gross, line.fee, line.net, line.currency) == (500, 12, 488, "GBP")
    assert (line.payment_amount, line.payment_currency) == (600, "EUR")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (SETTLED.replace("CET", "XYZ"), "TimeZone: 'XYZ' is not known"),
        (SETTLED.replace("4.88", "4,88"), "cells, the header has"),
        (SETTLED.replace("4.88", "4.8x"), "Net Credit (NC): '4.8x' is no plain decimal"),
        (SETTLED.replace("Settled", ""), "Type is empty"),
        (SETTLED[:-1], "Batch Number is empty"),
    ],
)
def test_a_line_that_cannot_be_read_is_refused_with_its_number(row: str, reason: str) -> None:
    with pytest.raises(ReportError) as refused:
        lines(SETTLED, row)
    assert refused.value.line == 3
    assert reason in str(refused.value)


def test_a_report_without_its_batch_is_refused() -> None:
    with pytest.raises(ReportError, match="no column Batch Number"):
        lines(SETTLED, header=HEADER.replace("Batch Number", "Reserved"))
