"""Routing: an event finds its payment by the provider's reference, whichever of the two is there first."""

from __future__ import annotations

from itertools import permutations

import pytest
from msgspec.structs import replace

from pipeline.domain.routing import HOUR, Reference, decide, key_of, references
from pipeline.messages import Input, Record
from pipeline.messages.commands import Capture
from pipeline.messages.inputs import TimerFired
from pipeline.messages.routing import ReferenceLearned, RoutingRecord, UnmatchedEvent, UnroutedEvent
from pipeline.messages.timers import Timer
from pipeline.messages.values import DisputeStep, Operation, Outcome, TimerKind
from tests.domain.samples import NOW, PAYMENT, dispute_report, report, unrouted_event
from tests.domain.test_postings import authorized, command

LEARNED = ReferenceLearned(reference="stripe:pi_1", payment_id=PAYMENT, fact_id="f", learned_at=NOW)


def translate(event: UnroutedEvent, payment_id: str) -> list[Input]:
    return [dispute_report(DisputeStep.OPENED, event.event_id, payment_id=payment_id)]


def run(*items: RoutingRecord | TimerFired, state: Reference | None = None) -> tuple[Reference, list[Record]]:
    written: list[Record] = []
    for item in items:
        result = decide(state, item, translate=translate)
        assert result == decide(state, item, translate=translate)
        state = result.state
        written.extend(result.outputs)
    assert state is not None
    return state, written


def inputs(written: list[Record]) -> set[str]:
    return {item.input_id for item in written if isinstance(item, Input)}


@pytest.mark.parametrize("order", [*permutations([LEARNED, unrouted_event("a"), unrouted_event("b")])])
def test_every_event_finds_its_payment_in_every_order(order: tuple[RoutingRecord, ...]) -> None:
    state, written = run(*order)
    assert inputs(written) == {"a", "b"}
    assert state == Reference(payment_id=PAYMENT)


def test_a_waiting_event_is_listed_once_and_still_finds_its_payment() -> None:
    state, (timer,) = run(unrouted_event("a"), unrouted_event("a"))
    assert isinstance(timer, Timer)
    assert (timer.kind, timer.payment_id, timer.due_at) == (TimerKind.UNROUTED, "stripe:pi_1", NOW + HOUR)
    due = TimerFired(
        payment_id=timer.payment_id,
        occurred_at=timer.due_at,
        timer_id=timer.timer_id,
        kind=timer.kind,
        subject_id=timer.subject_id,
        operation=timer.operation,
        generation=1,
        due_at=timer.due_at,
    )
    state, (listed,) = run(due, due, state=state)
    assert isinstance(listed, UnmatchedEvent)
    assert (listed.event_id, listed.listed_at) == ("a", NOW + HOUR)
    _, written = run(LEARNED, due, state=state)
    assert inputs(written) == {"a"}


def test_a_reference_never_changes_hands() -> None:
    state, _ = run(LEARNED, replace(LEARNED, payment_id="another"))
    assert state.payment_id == PAYMENT


def test_facts_teach_the_providers_names() -> None:
    chain = authorized()
    (request,) = chain.feed(Capture(**command("capture"))).requests
    chain.feed(report(Operation.CAPTURE, Outcome.APPROVED, request.subject_id))
    learned = [item for fact in chain.facts for item in references(fact)]
    assert {item.reference for item in learned} >= {key_of("stripe", "pi_1")}
    assert {item.payment_id for item in learned} == {PAYMENT}
