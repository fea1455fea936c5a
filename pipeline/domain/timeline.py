"""A payment explained: everything that happened to it, in order, with the rule that decided and the place in the log.

Pure: it is given the payment's records as they stand in the topics. The inputs among them are folded anew through both
state machines, which names the rule behind every fact; a fact that this fold does not give again has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import msgspec

from pipeline import money, topics
from pipeline.domain import authorization, capture
from pipeline.domain.chain import PaymentChain
from pipeline.domain.decision import Schedule
from pipeline.domain.projection import PaymentView, apply
from pipeline.messages import Input, Record
from pipeline.messages.commands import Command
from pipeline.messages.facts import Fact, PaymentFailed, RetryScheduled
from pipeline.messages.inputs import ProviderReport, RetryAbandoned, RetryPlanned, TimerFired
from pipeline.messages.journal import JournalRecord
from pipeline.messages.public import PaymentEvent
from pipeline.messages.requests import ProviderRequest
from pipeline.messages.timers import Timer
from pipeline.messages.values import Decline


class EntryKind(StrEnum):
    """What an entry of the timeline is, in the order in which one causes the next."""

    COMMAND = "command"
    REPORT = "report"
    TIMER_FIRED = "timer_fired"
    PLAN = "plan"
    INPUT = "input"
    FACT = "fact"
    REQUEST = "request"
    TIMER_SET = "timer_set"
    POSTING = "posting"
    PUBLIC_EVENT = "public_event"


_RANK: Final = {kind: number for number, kind in enumerate(EntryKind)}


@dataclass(frozen=True, slots=True)
class Placed:
    """A record where it stands; `appended_at` is the broker's time, in milliseconds."""

    record: Record
    topic: str
    partition: int
    offset: int
    appended_at: int


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened. `at` is when the record was appended, `occurred_at` its own time."""

    at: int
    occurred_at: int
    kind: EntryKind
    name: str
    summary: str
    rule: str | None
    id: str
    cause_id: str | None
    operation_id: str | None
    topic: str
    partition: int
    offset: int


def timeline(records: Iterable[Placed], schedule: Schedule) -> list[Entry]:
    """The entries of one payment's records, in the order in which the broker has them. A record that is there twice is
    shown twice; a journal record without a journal entry says no more than its fact, and is left out.
    """
    telling = (p for p in records if not (isinstance(p.record, JournalRecord) and p.record.entry is None))
    placed = sorted(telling, key=lambda p: (p.appended_at, _RANK[_kind(p.record)], p.offset))
    rules = rules_of([p for p in placed if p.topic == topics.INTAKE], schedule)
    currency = next((getattr(p.record, "currency", None) for p in placed if hasattr(p.record, "currency")), None) or ""
    return [_entry(p, rules, currency) for p in placed]


def rules_of(intake: Sequence[Placed], schedule: Schedule) -> dict[str, str]:
    """By the id of each input and each fact: the rule that decided. Folds the inputs anew, in the log's order."""
    chain, rules = PaymentChain(schedule), dict[str, str]()
    for place in sorted(intake, key=lambda p: p.offset):
        if not isinstance(place.record, Input):
            continue
        rule = _rule(chain, place.record)
        step = chain.feed(place.record)
        effect = "" if step.facts or step.requests or step.timers else ", which changes nothing"
        rules.setdefault(place.record.input_id, rule + effect)
        for fact in step.facts:
            rules[fact.fact_id] = rule
    return rules


def _rule(chain: PaymentChain, item: Input) -> str:
    """The cell of the state machine that an input meets: `authorization: authorizing + declined → declined`."""
    state = chain.authorization
    if state is None:
        return "authorization: no payment + create → create"
    if isinstance(item, Command) and item.command_id in state.seen:
        return "authorization: the same command again → ignore"
    kind = authorization.kind_of(state, item)
    cell = authorization.TABLE[state.status].cell(kind)
    if cell is not authorization.TABLE[state.status].foreign:
        return f"authorization: {state.status} + {kind} → {_name(cell)}"
    hold = chain.capture or capture.CaptureState()
    column = capture.kind_of(hold, item)
    return f"capture: {hold.phase} + {column} → {_name(capture.TABLE[hold.phase].cell(column))}"


def _name(rule: Any) -> str:
    return str(rule.__name__).removeprefix("_")


def _kind(record: Record) -> EntryKind:
    for kinds, kind in _KINDS:
        if isinstance(record, kinds):
            return kind
    return EntryKind.INPUT


_KINDS: Final[tuple[tuple[Any, EntryKind], ...]] = (
    (Command, EntryKind.COMMAND),
    (ProviderReport, EntryKind.REPORT),
    (TimerFired, EntryKind.TIMER_FIRED),
    ((RetryPlanned, RetryAbandoned), EntryKind.PLAN),
    (Fact, EntryKind.FACT),
    (ProviderRequest, EntryKind.REQUEST),
    (Timer, EntryKind.TIMER_SET),
    (JournalRecord, EntryKind.POSTING),
    (PaymentEvent, EntryKind.PUBLIC_EVENT),
)


def _entry(placed: Placed, rules: dict[str, str], currency: str) -> Entry:
    record: Any = placed.record
    identity = id_of(record)
    own_times = (getattr(record, name, None) for name in ("occurred_at", "issued_at", "set_at"))
    return Entry(
        at=placed.appended_at,
        occurred_at=next((time for time in own_times if time), placed.appended_at),
        kind=_kind(record),
        name=record.type if isinstance(record, PaymentEvent) else type(record).__name__,
        summary=summary(record, currency),
        rule=rules.get(identity) if isinstance(record, Input | Fact) else None,
        id=identity,
        cause_id=getattr(record, "cause_id", None),
        operation_id=getattr(record, "operation_id", None),
        topic=placed.topic,
        partition=placed.partition,
        offset=placed.offset,
    )


def id_of(record: Record) -> str:
    """The record's own id."""
    if isinstance(record, Input):
        return record.input_id
    for name in ("fact_id", "request_id", "timer_id", "event_id"):
        if hasattr(record, name):
            return str(getattr(record, name))
    return ""


def summary(record: Any, currency: str) -> str:
    """One line of words on a record; `currency` is the payment's, for records that name only an amount."""
    match record:
        case JournalRecord():
            return _entry_words(record)
        case Timer() | TimerFired():
            return f"{record.kind} of {record.operation} {record.subject_id[:8]}, due {utc(record.due_at)}"
        case RetryScheduled() | RetryPlanned():
            moved = f", put off by {' and '.join(record.moved_by)}" if record.moved_by else ""
            return f"next attempt {utc(record.due_at)} by the policy's rule {record.rule}{moved}"
        case RetryAbandoned():
            return f"no further attempt by the policy's rule {record.rule}"
        case ProviderReport():
            return _report_words(record, currency)
        case PaymentFailed():
            return f"for good: {record.reason}"
    return _field_words(record, currency)


def _entry_words(record: JournalRecord) -> str:
    postings = record.entry.postings if record.entry else []
    legs = (f"{leg.side} {leg.account} {_amount(leg.amount, leg.currency)}" for leg in postings)
    return "; ".join(legs)


def _report_words(record: ProviderReport, currency: str) -> str:
    parts = [f"{record.operation} {record.outcome} by {record.source}"]
    if record.amount is not None:
        parts.append(_amount(record.amount, record.currency or currency))
    if record.decline:
        parts.append(_decline_words(record.decline))
    if record.provider_reference:
        parts.append(record.provider_reference)
    return ", ".join(parts)


def _decline_words(decline: Decline) -> str:
    codes = [decline.raw_code or "no code"]
    if decline.network_code:
        codes.append(f"network {decline.network_code}")
    if decline.network_advice_code:
        codes.append(f"advice {decline.network_advice_code}")
    return f"{decline.category} {decline.code} ({', '.join(codes)})"


_SHOWN: Final = (
    "command", "reason", "operation", "outcome", "number", "final", "provider_reference", "operation_reference", "rule",
    "after_success", "operator", "detail",
)  # fmt: skip
"""What is worth a word, of whatever record has it."""


def _field_words(record: Any, currency: str) -> str:
    parts = list[str]()
    amount = getattr(record, "amount", None)
    if isinstance(amount, int):
        parts.append(_amount(amount, getattr(record, "currency", None) or currency))
    if isinstance(decline := getattr(record, "decline", None), Decline):
        parts.append(_decline_words(decline))
    for name in _SHOWN:
        value = getattr(record, name, None)
        if value is not None and value is not False:
            parts.append(f"{name.replace('_', ' ')} {value}")
    for name in ("hold_expires_at", "expires_at"):
        if value := getattr(record, name, None):
            parts.append(f"{name.replace('_', ' ')} {utc(value)}")
    return ", ".join(parts)


def _amount(minor: int, currency: str) -> str:
    try:
        return f"{money.decimal(minor, currency)} {currency}"
    except money.MoneyError:
        return f"{minor} minor units"


def utc(millis: int) -> str:
    """RFC 3339 to the second, for people."""
    return datetime.fromtimestamp(millis / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def view_of(records: Iterable[Placed]) -> PaymentView | None:
    """The payment as its facts in `payments.events` make it."""
    facts = {p.record.sequence: p.record for p in records if isinstance(p.record, Fact) and p.topic == topics.EVENTS}
    view: PaymentView | None = None
    for sequence in sorted(facts):
        view = apply(view, facts[sequence])
    return view
