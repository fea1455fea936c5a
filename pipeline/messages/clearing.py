"""What the clearing monitor says: each clearing account's running balance, and which of them stand open too long."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from pipeline.messages.base import Millis, Minor, Record


class AlertState(StrEnum):
    """What became of an alert."""

    RAISED = "raised"
    ENDED = "ended"


class LedgerBalance(Record, frozen=True, kw_only=True):
    """A clearing account as it stands. An item is what belongs together: a payment's entries, a payout's, a line's."""

    account: Annotated[str, msgspec.Meta(description="e.g. provider_receivable:stripe:USD; the record's key")]
    currency: str
    balance: Annotated[Minor, msgspec.Meta(description="debit minus credit, in minor units")]
    open_items: int
    oldest_at: Annotated[
        int | None, msgspec.Meta(description="since when the oldest item is open, in milliseconds")
    ] = None
    as_of: Millis


class OpenEntry(Record, frozen=True, kw_only=True):
    """One entry of an open item."""

    entry_id: str
    item: Annotated[str, msgspec.Meta(description="the payment, payout or settlement line that it belongs to")]
    description: str
    amount: Annotated[Minor, msgspec.Meta(description="debit minus credit, in minor units")]
    occurred_at: Millis


class LedgerAlert(Record, frozen=True, kw_only=True):
    """A clearing account stands open beyond its limit, or no longer does."""

    alert_id: str
    account: Annotated[str, msgspec.Meta(description="the record's key")]
    currency: str
    state: AlertState
    balance: Annotated[Minor, msgspec.Meta(description="debit minus credit, in minor units")]
    overdue: Annotated[Minor, msgspec.Meta(description="sum of the items open beyond the age, each without its sign")]
    overdue_items: int
    oldest_at: Annotated[
        int | None, msgspec.Meta(description="since when the oldest item is open, in milliseconds")
    ] = None
    limit_amount: Minor
    limit_age: Annotated[int, msgspec.Meta(description="milliseconds")]
    raised_at: Millis
    at: Millis
    entries: Annotated[list[OpenEntry], msgspec.Meta(description="what the oldest items are made of, at most 100")] = []


CLEARING: tuple[type[Record], ...] = (LedgerBalance, LedgerAlert)
