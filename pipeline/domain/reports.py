"""Which report is fetched when: announced, asked for, asked for again while the provider does not have it. Pure.

A report is the same however often it is fetched, for its lines have the provider's own ids. So an announcement that
is new asks for it again, and the one that is known asks for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec
from msgspec.structs import replace

from pipeline import ids
from pipeline.messages import Record
from pipeline.messages.inputs import TimerFired
from pipeline.messages.reports import ReadOutcome, ReportAnnounced, ReportRead, ReportRecord, ReportRequest
from pipeline.messages.timers import Timer
from pipeline.messages.values import Operation, TimerKind

MINUTE: Final = 60 * 1000
HOUR: Final = 60 * MINUTE
DELAYS: Final = (
    MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, 24 * HOUR, 24 * HOUR,
)  # fmt: skip
"""Milliseconds between the requests for a report that the provider does not give: three days in all."""


class Status(StrEnum):
    """How a report stands."""

    AWAITED = "awaited"
    POSTED = "posted"
    FAILED = "failed"
    """A person has to look; it is fetched again when it is announced again."""


class ReportState(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one report. `number`: requests so far; `since`: the first of them for this announcement."""

    announced: ReportAnnounced
    number: int
    since: int
    status: Status = Status.AWAITED
    lines: int = 0
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What a record brings about."""

    state: ReportState | None
    outputs: tuple[Record, ...] = ()
    forward: bool = False


def key_of(provider: str, account: str | None, reference: str) -> str:
    """The name of a report: what one account's payout is called, another's may be called as well."""
    return f"{provider}/{account}:{reference}" if account else f"{provider}:{reference}"


def decide(state: ReportState | None, item: ReportRecord | TimerFired, *, scale: float = 1.0) -> Decision:
    """A request for what is announced, and for what could not be had; `scale` stretches the delays between them."""
    match item:
        case ReportAnnounced():
            return _announced(state, item)
        case ReportRead() if state is not None and item.request_id == _request_id(state):
            return _read(state, item, scale)
        case TimerFired() if state is not None and _is_due(state, item):
            return _ask(replace(state, number=state.number + 1), item.occurred_at)
    return Decision(state)


def _announced(state: ReportState | None, item: ReportAnnounced) -> Decision:
    if state is not None and state.announced.event_id == item.event_id:
        return Decision(state)
    number = state.number + 1 if state else 1
    return _ask(ReportState(announced=item, number=number, since=number), item.announced_at)


def _read(state: ReportState, item: ReportRead, scale: float) -> Decision:
    if state.status is not Status.AWAITED:
        return Decision(state)
    tried = state.number - state.since
    if item.outcome is ReadOutcome.POSTED:
        return Decision(replace(state, status=Status.POSTED, lines=item.lines, detail=None))
    if item.outcome is not ReadOutcome.UNAVAILABLE or tried >= len(DELAYS):
        return Decision(replace(state, status=Status.FAILED, detail=item.detail))
    timer = _timer(state, item.read_at, round(DELAYS[tried] * scale))
    return Decision(replace(state, detail=item.detail), (timer,))


def _is_due(state: ReportState, timer: TimerFired) -> bool:
    return state.status is Status.AWAITED and timer.generation == state.number


def _ask(state: ReportState, at: int) -> Decision:
    announced = state.announced
    request = ReportRequest(
        report=announced.report,
        request_id=_request_id(state),
        provider=announced.provider,
        account=announced.account,
        reference=announced.reference,
        url=announced.url,
        number=state.number,
        issued_at=at,
    )
    return Decision(state, (request,))


def _request_id(state: ReportState) -> str:
    return ids.request_id(state.announced.report, "report", state.number)


def _timer(state: ReportState, at: int, delay: int) -> Timer:
    report = state.announced.report
    return Timer(
        timer_id=ids.timer_id(report, TimerKind.REPORT, report, state.number),
        payment_id=report,
        kind=TimerKind.REPORT,
        subject_id=report,
        operation=Operation.AUTHORIZE,
        generation=state.number,
        set_at=at,
        due_at=at + delay,
    )
