"""Every (state, input) pair of both machines: a decision, never an exception, and a reason for every refusal."""

from __future__ import annotations

from dataclasses import fields
from itertools import product

import pytest

from pipeline.domain import authorization, capture
from pipeline.domain.decision import Schedule
from pipeline.messages.facts import CommandRejected
from pipeline.messages.inputs import ReviewDecision
from pipeline.messages.values import DisputeStep, Operation, Outcome, ReportSource, TimerKind
from tests.domain.samples import (
    NOW,
    PAYMENT,
    authorization_states,
    capture_states,
    commands,
    dispute_report,
    report,
    timer,
)

SCHEDULE = Schedule()
COMMANDS = commands()
REPORTS = [
    report(operation, outcome, subject, source)
    for operation, outcome, source in product(Operation, Outcome, ReportSource)
    for subject in ("attempt-1", "capture-1", "void-1", "refund-1", "nobody", None)
]
TIMERS = [
    timer(kind, operation, subject, generation)
    for kind, operation in product(TimerKind, Operation)
    for subject in ("attempt-1", "capture-1", "refund-1")
    for generation in (0, 1, 2)
]
DISPUTES = [dispute_report(step) for step in DisputeStep]
DECISIONS = [
    ReviewDecision(
        payment_id=PAYMENT, occurred_at=NOW, decision_id=f"{operation}-{outcome}-{subject}", operation=operation,
        subject_id=subject, outcome=outcome, operator="ada", reason="looked it up",
    )
    for operation, outcome in product(Operation, Outcome)
    for subject in ("attempt-1", "capture-1", "void-1", "refund-1", "nobody")
]  # fmt: skip
INPUTS = [*COMMANDS, *REPORTS, *TIMERS, *DECISIONS, *DISPUTES]


def test_rows_have_a_cell_for_every_kind() -> None:
    assert {f.name for f in fields(authorization.Row)} == {kind.value for kind in authorization.Kind}
    assert {f.name for f in fields(capture.Row)} == {kind.value for kind in capture.Kind}
    assert set(authorization.TABLE) == set(authorization.Status)
    assert set(capture.TABLE) == set(capture.Phase)


@pytest.mark.parametrize("state", authorization_states(), ids=lambda s: s.status if s else "none")
def test_authorization_decides_on_everything(state: authorization.AuthorizationState | None) -> None:
    for item in INPUTS:
        decision = authorization.decide(state, item, SCHEDULE)
        assert decision == authorization.decide(state, item, SCHEDULE)
        assert not (decision.forward and decision.outputs)


@pytest.mark.parametrize("state", capture_states(), ids=lambda s: s.phase if s else "none")
def test_capture_decides_on_everything(state: capture.CaptureState | None) -> None:
    for item in INPUTS:
        decision = capture.decide(state, item, SCHEDULE)
        assert decision == capture.decide(state, item, SCHEDULE)
        before = state.sequence if state else 0
        assert [f.sequence for f in decision.facts] == list(range(before + 1, before + 1 + len(decision.facts)))


@pytest.mark.parametrize("state", authorization_states(), ids=lambda s: s.status if s else "none")
def test_a_command_is_never_passed_over(state: authorization.AuthorizationState | None) -> None:
    """It acts, it is refused with a reason, or the capture stage gets it."""
    for command in COMMANDS:
        decision = authorization.decide(state, command, SCHEDULE)
        assert decision.forward or decision.facts, f"{type(command).__name__} vanished"
        for fact in decision.facts:
            if isinstance(fact, CommandRejected):
                assert fact.command_id == command.command_id
                assert fact.detail


@pytest.mark.parametrize("state", authorization_states(), ids=lambda s: s.status if s else "none")
def test_another_merchants_command_looks_like_no_payment(state: authorization.AuthorizationState | None) -> None:
    if state is None:
        pytest.skip("there is nobody's payment yet")
    for command in commands(merchant="mallory"):
        decision = authorization.decide(state, command, SCHEDULE)
        assert [type(f) for f in decision.facts] == [CommandRejected]
        assert decision.facts[0].merchant_id == "mallory"
        assert decision.state == state


def test_the_same_command_again_changes_nothing() -> None:
    for state, command in product(authorization_states(), COMMANDS):
        once = authorization.decide(state, command, SCHEDULE)
        if once.forward or once.state is None:
            continue
        again = authorization.decide(once.state, command, SCHEDULE)
        assert again.outputs == ()
        assert again.state == once.state
    assert PAYMENT
