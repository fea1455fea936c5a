"""The journal: each fact with the one balanced entry it posts, or none."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from pipeline.messages.base import Millis, Minor, Record


class Side(StrEnum):
    """Debit raises assets and expenses, credit raises liabilities and income."""

    DEBIT = "debit"
    CREDIT = "credit"


class Posting(Record, frozen=True, kw_only=True):
    """One leg of a journal entry."""

    account: Annotated[str, msgspec.Meta(description="e.g. merchant_payable:acme:USD")]
    side: Side
    amount: Minor
    currency: str


class JournalEntry(Record, frozen=True, kw_only=True):
    """All legs of one fact. Debits equal credits in each currency."""

    entry_id: str
    fact_id: str
    payment_id: str
    occurred_at: Millis
    description: str
    postings: list[Posting]


class JournalRecord(Record, frozen=True, kw_only=True):
    """A fact and its journal entry in one record, so that a torn transaction can lose or double both, never part
    them.
    """

    payment_id: str
    fact_id: str
    sequence: int
    occurred_at: Millis
    fact: Annotated[bytes, msgspec.Meta(description="the fact as it stands in payments.events, Confluent wire format")]
    entry: JournalEntry | None = None
