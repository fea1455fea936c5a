"""Token buckets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import limits
from gateway.limits import Buckets, address_group
from gateway.problems import RATE_LIMITED, Problem


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_the_rate() -> None:
    clock = Clock()
    buckets = Buckets(rate=2, burst=3, clock=clock)
    for _ in range(3):
        buckets.take("a")
    with pytest.raises(Problem) as caught:
        buckets.take("a")
    assert caught.value.kind is RATE_LIMITED
    assert caught.value.headers["Retry-After"] == "1"
    buckets.take("b")
    clock.now = 0.5
    buckets.take("a")
    with pytest.raises(Problem):
        buckets.take("a")


def test_retry_after_is_when_there_is_a_token_again() -> None:
    clock = Clock()
    buckets = Buckets(rate=0.1, burst=1, clock=clock)
    buckets.take("a")
    with pytest.raises(Problem) as caught:
        buckets.take("a")
    clock.now = float(caught.value.headers["Retry-After"])
    buckets.take("a")


@given(st.lists(st.floats(0, 5), min_size=1, max_size=200), st.floats(0.5, 20), st.integers(1, 20))
def test_never_more_than_burst_and_rate_allow(gaps: list[float], rate: float, burst: int) -> None:
    clock = Clock()
    buckets = Buckets(rate=rate, burst=burst, clock=clock)
    taken = 0
    for gap in gaps:
        clock.now += gap
        try:
            buckets.take("a")
            taken += 1
        except Problem:
            pass
    assert taken <= burst + clock.now * rate + 1e-6


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REMEMBERED", 10)
    buckets = Buckets(rate=1, burst=1)
    for number in range(100):
        buckets.take(str(number))
    assert len(buckets._buckets) == 10


@pytest.mark.parametrize(
    ("host", "group"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("testclient", "testclient"),
    ],
)
def test_an_ipv6_client_is_its_network(host: str, group: str) -> None:
    assert address_group(host) == group
