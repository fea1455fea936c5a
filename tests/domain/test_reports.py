"""When a provider's report is fetched, and when it is given up."""

from __future__ import annotations

from msgspec.structs import replace

from pipeline.domain.reports import DELAYS, Decision, ReportState, Status, decide, key_of
from pipeline.messages.inputs import TimerFired
from pipeline.messages.reports import ReadOutcome, ReportAnnounced, ReportRead, ReportRequest
from pipeline.messages.timers import Timer
from pipeline.messages.values import TimerKind

NOW = 1_790_000_000_000
ANNOUNCED = ReportAnnounced(
    report=key_of("stripe", None, "po_1"), provider="stripe", reference="po_1", event_id="evt_1", announced_at=NOW
)


def asked() -> tuple[ReportState, ReportRequest]:
    return requested(decide(None, ANNOUNCED))


def requested(decision: Decision) -> tuple[ReportState, ReportRequest]:
    (request,) = decision.outputs
    assert isinstance(request, ReportRequest)
    assert decision.state is not None
    return decision.state, request


def read(request: ReportRequest, outcome: ReadOutcome, **fields: object) -> ReportRead:
    made = ReportRead(report=request.report, request_id=request.request_id, outcome=outcome, read_at=NOW)
    return replace(made, **fields)


def fired(timer: Timer) -> TimerFired:
    return TimerFired(
        payment_id=timer.payment_id, occurred_at=timer.due_at, timer_id=timer.timer_id, kind=timer.kind,
        subject_id=timer.subject_id, operation=timer.operation, generation=timer.generation, due_at=timer.due_at,
    )  # fmt: skip


def unavailable(state: ReportState, request: ReportRequest, scale: float = 1.0) -> tuple[ReportState, Timer]:
    decision = decide(state, read(request, ReadOutcome.UNAVAILABLE, detail="the provider answered 503"), scale=scale)
    (timer,) = decision.outputs
    assert isinstance(timer, Timer)
    assert decision.state is not None
    return decision.state, timer


def test_what_is_announced_is_asked_for_once() -> None:
    state, request = asked()
    assert (request.report, request.reference, request.number) == ("stripe:po_1", "po_1", 1)
    assert decide(state, ANNOUNCED) == Decision(state)
    assert decide(None, ANNOUNCED).outputs == (request,), "a replay asks under the same id"


def test_another_announcement_asks_again() -> None:
    """The payout arrived: the same report says more."""
    state, request = asked()
    done = decide(state, read(request, ReadOutcome.POSTED, lines=7)).state
    assert done is not None
    assert (done.status, done.lines) == (Status.POSTED, 7)
    state, again = requested(decide(done, replace(ANNOUNCED, event_id="evt_2")))
    assert (again.number, state.status) == (2, Status.AWAITED)
    assert again.request_id != request.request_id


def test_a_late_answer_to_an_earlier_request_counts_for_nothing() -> None:
    state, request = asked()
    state, _ = requested(decide(state, replace(ANNOUNCED, event_id="evt_2")))
    assert decide(state, read(request, ReadOutcome.UNREADABLE)) == Decision(state)


def test_what_is_not_there_is_asked_for_with_growing_patience_and_then_given_up() -> None:
    state, request = asked()
    for number, delay in enumerate(DELAYS, 1):
        state, timer = unavailable(state, request)
        assert (timer.kind, timer.payment_id, timer.due_at) == (TimerKind.REPORT, "stripe:po_1", NOW + delay)
        state, request = requested(decide(state, fired(timer)))
        assert request.number == number + 1
    last = decide(state, read(request, ReadOutcome.UNAVAILABLE, detail="the provider answered 503"))
    assert last.outputs == ()
    assert last.state is not None
    assert (last.state.status, last.state.detail) == (Status.FAILED, "the provider answered 503")
    state, request = requested(decide(last.state, replace(ANNOUNCED, event_id="asked by hand")))
    unavailable(state, request)


def test_delays_are_scaled() -> None:
    _, timer = unavailable(*asked(), scale=0.1)
    assert timer.due_at == NOW + DELAYS[0] // 10


def test_a_timer_fires_once_and_never_after_the_report_came() -> None:
    state, request = asked()
    waiting, timer = unavailable(state, request)
    further, again = requested(decide(waiting, fired(timer)))
    assert decide(further, fired(timer)) == Decision(further)
    done = decide(further, read(again, ReadOutcome.POSTED)).state
    assert decide(done, fired(timer)) == Decision(done)


def test_what_cannot_be_read_or_had_is_for_a_person() -> None:
    for outcome in (ReadOutcome.UNREADABLE, ReadOutcome.REFUSED):
        state, request = asked()
        failed = decide(state, read(request, outcome, detail="line 3: no"))
        assert failed.outputs == ()
        assert failed.state is not None
        assert (failed.state.status, failed.state.detail) == (Status.FAILED, "line 3: no")


def test_what_nobody_announced_is_nothing() -> None:
    _, request = asked()
    assert decide(None, read(request, ReadOutcome.POSTED)) == Decision(None)


def test_accounts_do_not_share_a_name() -> None:
    assert key_of("stripe", "eu", "po_1") != key_of("stripe", "us", "po_1")
