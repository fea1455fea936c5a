"""What a provider says it did with the money: one record a line of its reports, whatever the report's format.

Signs are the account's: what raises the balance that the provider holds for us is positive, what lowers it negative. A
fee is a cost when it is positive, so that net is gross minus fee.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from pipeline.messages.base import Millis, Minor, Record
from pipeline.messages.journal import Posting


class LineKind(StrEnum):
    """What a line of a settlement report is about."""

    CHARGE = "charge"
    """Captured money; negative where the provider takes a capture, or a part of it, back."""
    REFUND = "refund"
    REFUND_FAILED = "refund_failed"
    DISPUTE = "dispute"
    """Withdrawn by a chargeback. A fee on the line itself is part of what the dispute's facts book."""
    DISPUTE_REVERSED = "dispute_reversed"
    FEE = "fee"
    """A cost of the account, or of a payment apart from its charge; positive where it is given back."""
    DISPUTE_FEE = "dispute_fee"
    PAYOUT = "payout"
    """Left the balance for the bank."""
    PAYOUT_ARRIVED = "payout_arrived"
    """The bank has it: positive, and no movement of the balance."""
    PAYOUT_FAILED = "payout_failed"
    """Came back to the balance."""
    CONVERSION = "conversion"
    """One side of an exchange between two balances of ours."""
    RESERVE = "reserve"
    """Withheld, or carried over to the next batch; positive where it is released."""
    ADJUSTMENT = "adjustment"
    """Anything else: a person has to say what it is."""


class SettlementLine(Record, frozen=True, kw_only=True):
    """One line of a provider's report. Amounts are in `currency`, in which the provider settles."""

    line_id: Annotated[
        str, msgspec.Meta(description="derived from the provider's own id of the line; the record's key")
    ]
    provider: str
    account: Annotated[str | None, msgspec.Meta(description="the provider's account, where its ids need it")] = None
    report_id: Annotated[str, msgspec.Meta(description="derived from the file's bytes")]
    line_number: Annotated[int, msgspec.Meta(description="where it stands in the file, from 1")]
    occurred_at: Millis
    kind: LineKind
    provider_kind: Annotated[str, msgspec.Meta(description="the provider's own word for the kind, unchanged")]
    provider_line: Annotated[str, msgspec.Meta(description="the provider's own id of the line")]
    payout_id: Annotated[str | None, msgspec.Meta(description="the provider's payout or batch that it belongs to")] = (
        None
    )
    payment_id: Annotated[str | None, msgspec.Meta(description="our payment; null while nothing of ours matches")] = (
        None
    )
    payment_reference: str | None = None
    operation_reference: str | None = None
    gross: Minor
    fee: Minor
    net: Minor
    currency: str
    payment_amount: Annotated[
        int | None, msgspec.Meta(description="gross in the currency the customer paid in, where that is another one")
    ] = None
    payment_currency: str | None = None
    expected_fee: Annotated[int | None, msgspec.Meta(description="what the contract says the fee is, if it says")] = (
        None
    )


class SettlementEntry(Record, frozen=True, kw_only=True):
    """All legs of one line. Debits equal credits in each currency."""

    entry_id: str
    line_id: str
    payment_id: str | None = None
    occurred_at: Millis
    description: str
    postings: list[Posting]


class SettlementJournalRecord(Record, frozen=True, kw_only=True):
    """A line and the entry that it posts, in one record. `explains`: the line was posted before, and only now it is
    known which payment or payout it belongs to.
    """

    line: SettlementLine
    entry: SettlementEntry | None = None
    explains: bool = False


SETTLEMENT: tuple[type[Record], ...] = (SettlementLine, SettlementJournalRecord)
