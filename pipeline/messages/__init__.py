"""Every record on Kafka, as frozen structs. Their contracts are in `avro/`, one file a record."""

from __future__ import annotations

from pipeline.messages.base import Input, Record
from pipeline.messages.clearing import CLEARING
from pipeline.messages.commands import COMMANDS
from pipeline.messages.deadletters import DeadLetter
from pipeline.messages.facts import FACTS
from pipeline.messages.inputs import INPUTS
from pipeline.messages.journal import JournalRecord
from pipeline.messages.public import PaymentEvent
from pipeline.messages.reports import REPORTS
from pipeline.messages.requests import REQUESTS
from pipeline.messages.routing import ROUTING
from pipeline.messages.settlement import SETTLEMENT
from pipeline.messages.timers import Timer

RECORDS: tuple[type[Record], ...] = (
    *COMMANDS,
    *INPUTS,
    *FACTS,
    *REQUESTS,
    Timer,
    JournalRecord,
    PaymentEvent,
    *ROUTING,
    *SETTLEMENT,
    *CLEARING,
    *REPORTS,
    DeadLetter,
)
"""Every record that has a contract of its own."""

__all__ = ["RECORDS", "Input", "Record"]
