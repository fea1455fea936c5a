"""Headers of every record: CloudEvents 1.0 (Kafka binding, binary mode) and W3C Trace Context."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

from pipeline import ids
from pipeline.messages import Input, Record
from pipeline.messages.clearing import LedgerAlert, LedgerBalance
from pipeline.messages.facts import Fact
from pipeline.messages.journal import JournalRecord
from pipeline.messages.reports import ReportAnnounced, ReportRead, ReportRequest
from pipeline.messages.requests import ProviderRequest
from pipeline.messages.routing import ReferenceLearned, UnmatchedEvent, UnmatchedResolved, UnroutedEvent
from pipeline.messages.settlement import SettlementJournalRecord, SettlementLine
from pipeline.messages.timers import Timer

Headers = list[tuple[str, bytes]]
TRACEPARENT: Final = "traceparent"


def headers_of(record: Record, source: str, trace: str | None = None) -> Headers:
    """The headers of `record` as `source` (a stage's name) writes it; `trace` is the traceparent of what caused it."""
    record_id, subject, at = identity(record)
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", record_id.encode()),
        ("ce_type", f"payments.v1.{type(record).__name__}".encode()),
        ("ce_source", f"/payments/{source}".encode()),
        ("ce_subject", subject.encode()),
        ("ce_time", datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").encode()),
        (TRACEPARENT, (trace or traceparent(subject, record_id)).encode()),
    ]


def traceparent(payment_id: str, record_id: str) -> str:
    """A derived trace context, so that a replay has the same one: the trace is the payment's, the span the record's."""
    trace, span = sha256(payment_id.encode()).hexdigest()[:32], sha256(record_id.encode()).hexdigest()[:16]
    return f"00-{trace}-{span}-01"


def trace_of(headers: Iterable[tuple[str, Any]] | None) -> str | None:
    """The traceparent that a record came with, if any."""
    for name, value in headers or ():
        if name == TRACEPARENT:
            return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return None


def key_of(record: Record) -> bytes:
    """The key that a record has on its topic."""
    return identity(record)[1].encode()


def identity(record: Record) -> tuple[str, str, int]:  # noqa: PLR0911, PLR0912 - one line a kind
    """A record's id, its key, and its time in milliseconds. Raises TypeError for one that is not the pipeline's."""
    match record:
        case Input():
            return record.input_id, record.payment_id, record.occurred_at
        case Fact():
            return record.fact_id, record.payment_id, record.occurred_at
        case LedgerBalance():
            return ids.derive("balance", record.account, record.as_of), record.account, record.as_of
        case LedgerAlert():
            return ids.derive(record.alert_id, record.state, record.at), record.account, record.at
        case SettlementLine():
            return record.line_id, record.line_id, record.occurred_at
        case SettlementJournalRecord():
            entry, line = record.entry, record.line
            return entry.entry_id if entry else line.line_id, line.line_id, line.occurred_at
        case ProviderRequest():
            return record.request_id, record.payment_id, record.issued_at
        case Timer():
            return record.timer_id, record.payment_id, record.set_at
        case JournalRecord():
            return record.fact_id, record.payment_id, record.occurred_at
        case ReferenceLearned():
            return record.fact_id, record.reference, record.learned_at
        case UnroutedEvent():
            return record.event_id, record.reference, record.received_at
        case UnmatchedEvent():
            return record.event_id, record.reference, record.listed_at
        case UnmatchedResolved():
            return ids.derive("resolved", record.reference, record.event_id), record.reference, record.resolved_at
        case ReportAnnounced():
            return ids.derive("announced", record.report, record.event_id), record.report, record.announced_at
        case ReportRequest():
            return record.request_id, record.report, record.issued_at
        case ReportRead():
            return ids.report_id(record.request_id, record.outcome), record.report, record.read_at
    raise TypeError(f"{type(record).__name__} has no CloudEvents identity")
