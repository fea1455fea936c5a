"""The delivery schedule: growing pauses, deterministic jitter, when it ends and when an endpoint is disabled."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain.deliveries import (
    ALERT_TYPES,
    EVENT_TYPES,
    FAILING_LIMIT,
    JITTER,
    LONGEST_PAUSE,
    PAUSES,
    PING,
    AttemptError,
    DeliveryStatus,
    DisabledReason,
    Outcome,
    Verdict,
    judge,
    pause_after,
    wants,
)

ids = st.uuids().map(str)
statuses = st.integers(100, 599)
failures = st.builds(Outcome, statuses.filter(lambda s: not 200 <= s <= 299 and s != 410)) | st.builds(
    Outcome, error=st.sampled_from(AttemptError)
)


@given(ids, st.integers(1, 20), st.none() | st.floats(0, 1e7), st.integers(200, 299))
def test_every_2xx_delivers_and_disables_nothing(delivery: str, tries: int, failing: float | None, status: int) -> None:
    assert judge(delivery, tries, failing, Outcome(status)) == Verdict(DeliveryStatus.DELIVERED)


@given(ids, st.integers(1, len(PAUSES)), failures)
def test_every_failure_before_the_last_is_followed_by_another_attempt(
    delivery: str, tries: int, outcome: Outcome
) -> None:
    verdict = judge(delivery, tries, None, outcome)
    assert verdict.status is DeliveryStatus.PENDING
    assert verdict.pause is not None
    assert abs(verdict.pause - PAUSES[tries - 1]) <= JITTER * PAUSES[tries - 1]
    assert verdict == judge(delivery, tries, None, outcome), "a delivery's pauses are its own, whenever asked"


@given(ids, failures, st.integers(len(PAUSES) + 1, 50))
def test_after_the_last_pause_the_delivery_has_failed(delivery: str, outcome: Outcome, tries: int) -> None:
    assert judge(delivery, tries, None, outcome) == Verdict(DeliveryStatus.FAILED)


@given(ids)
def test_the_pauses_grow_and_span_three_days(delivery: str) -> None:
    pauses = [pause_after(delivery, tries) for tries in range(1, len(PAUSES) + 1)]
    assert all(before < after for before, after in pairwise(PAUSES))
    assert 3 * 86_400 * (1 - JITTER) < sum(pauses) < 4 * 86_400


def test_deliveries_that_failed_together_do_not_come_back_together() -> None:
    pauses = sorted(pause_after(f"delivery {number}", 2) for number in range(1_000))
    assert len(set(pauses)) == 1_000
    assert pauses[0] < 300 * (1 - 0.8 * JITTER) < 300 * (1 + 0.8 * JITTER) < pauses[-1]


@given(ids, st.integers(1, 20), st.none() | st.floats(0, 1e7))
def test_gone_disables_at_once_and_ends_the_delivery(delivery: str, tries: int, failing: float | None) -> None:
    gone = Verdict(DeliveryStatus.FAILED, disable=DisabledReason.GONE)
    assert judge(delivery, tries, failing, Outcome(410)) == gone


@given(ids, st.integers(1, 20), failures)
def test_five_days_of_failure_disable_the_endpoint(delivery: str, tries: int, outcome: Outcome) -> None:
    assert judge(delivery, tries, FAILING_LIMIT, outcome).disable is DisabledReason.FAILING
    assert judge(delivery, tries, FAILING_LIMIT - 1, outcome).disable is None
    assert FAILING_LIMIT == 5 * 86_400


@pytest.mark.parametrize(("asked", "pause"), [(600, 600), (1, PAUSES[0]), (10 * LONGEST_PAUSE, LONGEST_PAUSE)])
def test_a_receiver_may_ask_for_a_longer_pause_within_limits(asked: float, pause: float) -> None:
    verdict = judge("x", 1, None, Outcome(503, retry_after=asked))
    assert verdict.pause == pytest.approx(pause, rel=JITTER)
    assert verdict.pause is not None
    assert verdict.pause >= min(asked, LONGEST_PAUSE)


def test_the_pauses_can_be_scaled() -> None:
    assert judge("x", 3, None, Outcome(500), scale=0.001).pause == pytest.approx(PAUSES[2] / 1000, rel=JITTER)


def test_who_wants_which_event() -> None:
    assert all(wants(["*"], event_type) for event_type in EVENT_TYPES)
    assert wants(["payments.captured"], "payments.captured")
    assert not wants(["payments.captured"], "payments.authorized")
    assert not wants([], "payments.captured")
    assert not any(wants(["*"], alert) for alert in ALERT_TYPES), "an alert is no payment's"
    assert wants(list(ALERT_TYPES), ALERT_TYPES[0])
    assert not wants(["*"], PING), "a ping goes to the endpoint that asked for it"
