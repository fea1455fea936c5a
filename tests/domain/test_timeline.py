"""A payment explained, and how far its operations have come."""

from __future__ import annotations

import pytest

from pipeline import topics
from pipeline.domain.decision import Schedule
from pipeline.domain.postings import journal_record
from pipeline.domain.recovery import RecoveryPoint, Written, progress
from pipeline.domain.timeline import EntryKind, Placed, rules_of, timeline, view_of
from pipeline.messages import Record
from pipeline.messages.commands import Authorize, Capture, Void
from pipeline.messages.facts import CommandRejected, PaymentCaptured, RetryScheduled
from pipeline.messages.journal import JournalRecord
from pipeline.messages.values import CaptureMethod, Outcome
from pipeline.partitions import murmur2, partition_of
from tests.domain.samples import VISA
from tests.domain.test_simulation import life
from tests.domain.world import World


def placed(world: World) -> list[Placed]:
    """The world's records as they would stand in the topics."""
    records: list[tuple[Record, str]] = [(item, topics.INTAKE) for item in world.log]
    for fact in world.chain.facts:
        records += [(fact, topics.EVENTS), (journal_record(fact, b"x"), topics.JOURNAL)]
    return [
        Placed(record, topic, 3, offset, getattr(record, "occurred_at", 0))
        for offset, (record, topic) in enumerate(records)
    ]


def captured_life() -> World:
    world = World(CaptureMethod.MANUAL)
    world.feed(Authorize(**world.command("pay"), payment_method=VISA))
    world.answer(0, Outcome.APPROVED, keep=False)
    world.feed(Capture(**world.command("take"), amount=6_000))
    world.answer(0, Outcome.APPROVED, keep=False)
    world.feed(Void(**world.command("too-late")))
    return world


def test_every_record_is_an_entry_with_its_place() -> None:
    """A journal record without a journal entry is none: it says nothing that its fact does not."""
    world = captured_life()
    everything = placed(world)
    records = [p for p in everything if not isinstance(p.record, JournalRecord) or p.record.entry]
    entries = timeline(everything, Schedule())
    assert {(e.topic, e.partition, e.offset) for e in entries} == {(p.topic, p.partition, p.offset) for p in records}
    assert [e.at for e in entries] == sorted(e.at for e in entries)
    kinds = {entry.kind for entry in entries}
    assert kinds == {EntryKind.COMMAND, EntryKind.REPORT, EntryKind.FACT, EntryKind.POSTING}


def test_every_fact_has_the_rule_that_made_it() -> None:
    entries = {entry.name: entry for entry in timeline(placed(captured_life()), Schedule())}
    assert entries["PaymentAuthorized"].rule == "authorization: authorizing + approved → approved"
    assert entries["PaymentCaptured"].rule == "capture: capturing + capture_done → capture_done"
    assert entries["CommandRejected"].rule == "capture: captured + void → refuse: already_captured"
    assert "60.00 USD" in entries["PaymentCaptured"].summary
    assert "debit provider_receivable:stripe:USD 60.00 USD" in entries["JournalRecord"].summary


@pytest.mark.parametrize("seed", range(60))
def test_every_fact_of_any_life_is_explained(seed: int) -> None:
    world = life(seed)
    records = placed(world)
    rules = rules_of([p for p in records if p.topic == topics.INTAKE], Schedule())
    assert all(fact.fact_id in rules for fact in world.chain.facts)
    assert all(item.input_id in rules for item in world.log)
    assert view_of(records) == world.chain.view
    for entry in timeline(records, Schedule()):
        assert entry.kind is not EntryKind.FACT or entry.rule


def test_what_changes_nothing_says_so() -> None:
    world = captured_life()
    world.feed(world.log[2])
    last = [e for e in timeline(placed(world), Schedule()) if e.kind is EntryKind.REPORT][-1]
    assert last.rule is not None
    rules = rules_of([p for p in placed(world) if p.topic == topics.INTAKE], Schedule())
    assert not any(rule.endswith("changes nothing") for rule in rules.values()), "the first time, everything did"


def test_a_retry_is_explained_by_the_policys_rule() -> None:
    lives = (life(seed) for seed in range(100))
    entries = (entry for world in lives for entry in timeline(placed(world), Schedule()))
    entry = next(entry for entry in entries if entry.name == RetryScheduled.__name__)
    assert "by the policy's rule" in entry.summary
    assert entry.rule == "authorization: declined + retry_planned → planned"


def test_recovery_points_follow_one_another() -> None:
    world = captured_life()
    facts = world.chain.facts
    operations = progress(Written(fact, fact.occurred_at + 50) for fact in facts)
    assert set(operations["take"].points) == set(RecoveryPoint)
    assert operations["take"].point is RecoveryPoint.COMPLETED
    assert operations["pay"].point is RecoveryPoint.COMPLETED
    assert set(operations["too-late"].points) == {RecoveryPoint.STARTED}
    assert operations["too-late"].state == "rejected"
    assert isinstance(facts[-1], CommandRejected)


def test_an_operation_whose_ledger_rows_are_not_there_is_not_completed() -> None:
    facts = captured_life().chain.facts
    operations = progress(
        Written(fact, None if isinstance(fact, PaymentCaptured) else fact.occurred_at) for fact in facts
    )
    assert operations["take"].point is RecoveryPoint.AUTHORIZED


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_kafkas(key: bytes, hashed: int) -> None:
    """The vectors of Kafka's own UtilsTest.testMurmur2."""
    assert murmur2(key) == hashed % 2**32
    assert partition_of(key.decode(), 12) == (hashed & 0x7FFFFFFF) % 12
