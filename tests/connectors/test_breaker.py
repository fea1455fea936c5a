"""The circuit breaker, at its own clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from connectors.breaker import Breaker, BreakerPolicy, BreakerState

POLICY = BreakerPolicy(window=4, failures=3, pause=1.0, longest=4.0)


class Clock:
    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def broken(clock: Clock) -> Breaker:
    breaker = Breaker(POLICY, clock)
    for _ in range(3):
        assert breaker.admit()
        breaker.record(False)
    return breaker


def test_it_opens_on_failures_within_the_window_only() -> None:
    breaker = Breaker(POLICY, Clock())
    for reached in (False, False, True, True, False, False):
        breaker.record(reached)
        assert breaker.state is BreakerState.CLOSED
    breaker.record(False)
    assert breaker.state is BreakerState.OPEN


def test_one_call_probes_and_closes_it() -> None:
    clock = Clock()
    breaker = broken(clock)
    assert not breaker.admit()
    assert breaker.wait == 1.0
    clock.at += 1.0
    assert breaker.admit()
    assert not breaker.admit(), "one probe at a time"
    breaker.record(True)
    assert breaker.state is BreakerState.CLOSED
    breaker.record(False)
    assert breaker.state is BreakerState.CLOSED, "it begins with a clean window"


def test_a_failed_probe_waits_twice_as_long_up_to_a_limit() -> None:
    clock = Clock()
    breaker = broken(clock)
    waits = []
    for _ in range(4):
        waits.append(breaker.wait)
        clock.at += breaker.wait
        assert breaker.admit()
        breaker.record(False)
    assert waits == [1.0, 2.0, 4.0, 4.0]


def test_a_probe_that_is_given_up_leaves_the_place_to_another() -> None:
    clock = Clock()
    breaker = broken(clock)
    clock.at += 1.0
    assert breaker.admit()
    breaker.abandon()
    assert not breaker.admit()
    clock.at += 1.0
    assert breaker.admit()


def test_late_words_of_old_calls_change_nothing_while_it_is_open() -> None:
    breaker = broken(Clock())
    breaker.record(True)
    breaker.record(False)
    assert breaker.state is BreakerState.OPEN


@given(st.lists(st.sampled_from(["good", "bad", "wait", "abandon"]), max_size=200))
def test_it_never_stays_shut_for_good(steps: list[str]) -> None:
    clock = Clock()
    breaker = Breaker(POLICY, clock)
    for step in steps:
        if step == "wait":
            clock.at += 1.0
        elif breaker.admit():
            breaker.abandon() if step == "abandon" else breaker.record(step == "good")
    clock.at += POLICY.longest
    assert breaker.admit()
    breaker.record(True)
    assert breaker.state is BreakerState.CLOSED
