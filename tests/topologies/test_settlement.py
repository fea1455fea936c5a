"""The settlement stage, without a broker."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from pipeline import topics
from pipeline.domain.settlement import entry_of
from pipeline.messages.deadletters import DeadLetter
from pipeline.messages.settlement import SettlementJournalRecord
from tests.domain.test_settlement import CHARGE, PAYOUT
from tests.topologies.driver import Driver


def test_a_line_is_posted_once_also_after_a_restart(drive: Callable[[str], Driver]) -> None:
    stage = drive("settlement")
    (written,) = stage.send(CHARGE)
    assert written.topic == topics.JOURNAL
    assert written.key == CHARGE.line_id.encode()
    assert written.record == SettlementJournalRecord(line=CHARGE, entry=entry_of(CHARGE))
    assert stage.send(CHARGE) == []
    stage.commit()
    restarted = drive("settlement")
    assert restarted.send(CHARGE) == []
    assert len(restarted.send(PAYOUT)) == 1


def test_what_a_crash_forgets_is_posted_under_the_same_ids(drive: Callable[[str], Driver]) -> None:
    stage = drive("settlement")
    (first,) = stage.send(CHARGE)
    stage.crash()
    (again,) = stage.send(CHARGE)
    assert again.value == first.value


def test_a_line_that_contradicts_itself_is_a_dead_letter(drive: Callable[[str], Driver]) -> None:
    stage = drive("settlement")
    stage.send(CHARGE)
    (changed,) = stage.send(replace(CHARGE, gross=7_000, net=6_796))
    (crooked,) = stage.send(replace(PAYOUT, net=-1))
    assert changed.topic == crooked.topic == topics.dlq(topics.SETTLEMENT_LINES)
    letters = [changed.record, crooked.record]
    assert all(isinstance(letter, DeadLetter) for letter in letters)
    assert [letter.reason for letter in letters] == ["line_changed", "contradictory_figures"]
