"""Timers: which tier, when ready, and what becomes of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import topics
from pipeline.codec import Codec, LocalIds
from pipeline.domain.timers import SMALLEST, ready_at, tier_for
from pipeline.messages.inputs import TimerFired
from pipeline.messages.timers import Timer
from pipeline.messages.values import Operation, TimerKind
from tests.domain.samples import NOW, PAYMENT, commands
from topologies.timer_relay import Outgoing, outgoing, waiting_of

CODEC = Codec(LocalIds())
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TIMER = Timer(
    timer_id="timer-1",
    payment_id=PAYMENT,
    kind=TimerKind.RETRY,
    subject_id="attempt-1",
    operation=Operation.AUTHORIZE,
    generation=3,
    set_at=NOW,
    due_at=NOW + 60_000,
)


@dataclass(frozen=True)
class Arrived:
    """A record of a tier, as the consumer hands it over."""

    tier: str
    content: bytes | None
    record_key: bytes | None = PAYMENT.encode()
    appended_at: int = NOW

    def topic(self) -> str:
        return topics.tier(self.tier)

    def partition(self) -> int:
        return 3

    def offset(self) -> int:
        return 17

    def timestamp(self) -> tuple[int, int]:
        return 2, self.appended_at

    def key(self) -> bytes | None:
        return self.record_key

    def value(self) -> bytes | None:
        return self.content

    def headers(self) -> list[tuple[str, bytes]]:
        return [("traceparent", TRACE.encode())]


def relayed(arrived: Arrived, now: int) -> tuple[int, Outgoing, Any]:
    ready, waiting = waiting_of(CODEC, arrived)
    out = outgoing(CODEC, arrived.topic(), waiting, now)
    return ready, out, CODEC.decode(out.value)


@pytest.mark.parametrize(
    ("remaining", "tier"),
    [
        (-5, "1s"),
        (0, "1s"),
        (999, "1s"),
        (1_000, "1s"),
        (4_999, "1s"),
        (5_000, "5s"),
        (59_999, "30s"),
        (3_600_000, "1h"),
        (30 * 86_400_000, "1d"),
    ],
)
def test_a_timer_waits_in_the_largest_tier_that_does_not_overshoot(remaining: int, tier: str) -> None:
    assert tier_for(remaining) == tier


@given(st.integers(0, 30 * 86_400_000), st.lists(st.integers(0, 50), min_size=1))
def test_any_timer_fires_when_due_and_never_before(length: int, delays: list[int]) -> None:
    """Hop through the tiers as the relay does, each hop a little late."""
    due, now, hops = NOW + length, NOW, 0
    while now < due:
        ready = ready_at(tier_for(due - now), now, due)
        assert ready <= due, "no tier overshoots"
        now = ready + delays[hops % len(delays)]
        hops += 1
    assert now - due <= max(delays)
    assert hops <= 30 + 4 + 6 + 6 + 5 + 4 + 6 + 6


def test_what_is_left_below_the_shortest_tier_is_waited_for_exactly() -> None:
    assert ready_at(SMALLEST, NOW, NOW + 300) == NOW + 300


def test_a_due_timer_fires_into_the_intake() -> None:
    ready, out, record = relayed(Arrived("30s", CODEC.encode(TIMER)), TIMER.due_at + 4)
    assert ready == NOW + 30_000
    assert (out.topic, out.key) == (topics.INTAKE, PAYMENT.encode())
    assert record == TimerFired(
        payment_id=PAYMENT,
        occurred_at=TIMER.due_at + 4,
        timer_id="timer-1",
        kind=TimerKind.RETRY,
        subject_id="attempt-1",
        operation=Operation.AUTHORIZE,
        generation=3,
        due_at=TIMER.due_at,
    )
    assert dict(out.headers)["traceparent"] == TRACE.encode()


def test_a_timer_that_is_not_due_hops_on_unchanged() -> None:
    _, out, record = relayed(Arrived("30s", CODEC.encode(TIMER)), NOW + 30_000)
    assert (out.topic, out.key) == (topics.tier("30s"), PAYMENT.encode())
    assert record == TIMER
    _, out, record = relayed(Arrived("30s", CODEC.encode(TIMER)), NOW + 55_001)
    assert out.topic == topics.tier("1s")


@pytest.mark.parametrize(
    ("arrived", "reason"),
    [
        (Arrived("5s", b"junk"), "undecodable"),
        (Arrived("5s", None), "undecodable"),
        (Arrived("5s", CODEC.encode(TIMER)[:-2]), "undecodable"),
        (Arrived("5s", CODEC.encode(commands()[0])), "unexpected_type"),
        (Arrived("5s", CODEC.encode(TIMER), record_key=None), "key_mismatch"),
        (Arrived("5s", CODEC.encode(TIMER), record_key=b"another"), "key_mismatch"),
    ],
)
def test_what_is_no_timer_goes_to_the_dead_letters_at_once(arrived: Arrived, reason: str) -> None:
    ready, out, letter = relayed(arrived, NOW)
    assert ready == 0
    assert (out.topic, out.key) == ("timers.5s.dlq", arrived.record_key)
    assert (letter.stage, letter.reason, letter.topic) == ("relay", reason, "timers.5s")
    assert (letter.partition, letter.offset, letter.failed_at) == (3, 17, NOW)
    assert (letter.key, letter.value) == (arrived.record_key, arrived.content)


def test_an_old_record_is_ready_at_once() -> None:
    ready, _, _ = relayed(replace(Arrived("1d", CODEC.encode(TIMER)), appended_at=NOW - 90 * 86_400_000), NOW)
    assert ready < NOW
