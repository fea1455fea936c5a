"""Providers' settlement reports that are there to be fetched: announced, asked for, read. One subject a report."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from pipeline.messages.base import Millis, Record


class ReadOutcome(StrEnum):
    """What became of fetching a report."""

    POSTED = "posted"
    """Every line of it is on `settlement.lines`."""
    UNAVAILABLE = "unavailable"
    """The provider did not answer, or does not have it yet: it is asked for again."""
    REFUSED = "refused"
    """The provider will not give it, or it may not be asked there."""
    UNREADABLE = "unreadable"
    """It came, and cannot be read. Nothing of it was posted."""


class ReportRecord(Record, frozen=True, kw_only=True):
    """About one report; `report` is the record's key."""

    report: Annotated[
        str,
        msgspec.Meta(description="provider, account and reference, e.g. stripe:po_1 or adyen/eu:file; the key"),
    ]


class ReportAnnounced(ReportRecord, frozen=True, kw_only=True):
    """A provider said, or it is known, that a report can be fetched."""

    provider: str
    account: Annotated[str | None, msgspec.Meta(description="our name of the account; null for the only one")] = None
    reference: Annotated[str, msgspec.Meta(description="the provider's name of it: a payout, a file, a day")]
    url: Annotated[str | None, msgspec.Meta(description="where the provider says it is")] = None
    event_id: Annotated[str, msgspec.Meta(description="what announced it; the same again asks for nothing")]
    announced_at: Millis


class ReportRequest(ReportRecord, frozen=True, kw_only=True):
    """Fetch the report, read it, and send its lines."""

    request_id: str
    provider: str
    account: str | None = None
    reference: str
    url: str | None = None
    number: Annotated[int, msgspec.Meta(description="the number of this request for the report, from 1")]
    issued_at: Millis


class ReportRead(ReportRecord, frozen=True, kw_only=True):
    """What became of a request. Made again after a crash it may say otherwise: another record."""

    request_id: str
    outcome: ReadOutcome
    lines: Annotated[int, msgspec.Meta(description="how many were sent; those that were known change nothing")] = 0
    detail: Annotated[str | None, msgspec.Meta(description="what was wrong, in words that quote no secret")] = None
    read_at: Millis


REPORTS: tuple[type[ReportRecord], ...] = (ReportAnnounced, ReportRequest, ReportRead)
