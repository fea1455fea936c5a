"""A lane forgets nothing and repeats nothing, in whatever order its records get ready and wherever it is stopped."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from topologies.lanes import Lane

WINDOW = 2_048


def test_records_are_taken_as_they_get_ready_not_as_they_came() -> None:
    lane: Lane[str] = Lane(WINDOW)
    for offset, ready in enumerate([300, 100, 200]):
        assert lane.read(offset)
        lane.wait(offset, ready, f"r{offset}")
    assert lane.take(99) is None
    assert lane.ready_at == 100
    assert [lane.take(300), lane.take(300), lane.take(300)] == [(1, "r1"), (2, "r2"), (0, "r0")]


def test_the_committed_offset_stays_before_the_first_unfinished_record() -> None:
    lane: Lane[str] = Lane(WINDOW)
    for offset in (5, 7, 8, 11):  # gaps are transaction markers
        lane.read(offset)
    lane.finish(7)
    lane.finish(11)
    assert lane.position()[0] == 5
    lane.finish(5)
    assert lane.position()[0] == 8
    lane.finish(8)
    assert lane.position() == (12, "")


def test_a_full_window_stops_reading_until_the_oldest_is_finished() -> None:
    lane: Lane[str] = Lane(window=3)
    for offset in range(3):
        assert not lane.full
        lane.read(offset)
    assert lane.full
    lane.finish(1)
    assert lane.full
    lane.finish(0)
    assert not lane.full


def test_the_metadata_of_a_full_window_fits_the_broker() -> None:
    lane: Lane[str] = Lane(WINDOW)
    for offset in range(WINDOW + 2_000):  # a batch may overshoot the window
        lane.read(1_000_000 + offset)
    for offset in range(1, WINDOW + 2_000):
        lane.finish(1_000_000 + offset)
    base, metadata = lane.position()
    assert base == 1_000_000
    assert len(metadata) <= 4_096


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 5)), min_size=1, max_size=60),
    st.lists(st.integers(0, 8), max_size=8),
)
def test_no_record_is_lost_or_repeated_over_any_restarts(records: list[tuple[int, int]], restarts: list[int]) -> None:
    """`records`: gap to the offset before, and when ready. A restart goes back to what was committed last."""
    offsets, at = [], 0
    for gap, _ in records:
        at += gap
        offsets.append(at)
    ready = {offset: when for offset, (_, when) in zip(offsets, records, strict=True)}
    acted: list[int] = []
    committed: tuple[int, str] = (0, "")
    for now in [*restarts, 9]:
        lane: Lane[None] = Lane.resumed(WINDOW, *committed)
        for offset in offsets:
            if offset >= committed[0] and lane.read(offset):
                lane.wait(offset, ready[offset], None)
        while taken := lane.take(now):
            acted.append(taken[0])
            lane.finish(taken[0])
        committed = lane.position()
    assert sorted(acted) == offsets
    assert committed == (offsets[-1] + 1, "")
