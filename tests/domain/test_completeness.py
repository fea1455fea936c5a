"""The reconciler's decision: whatever was lost of a payment, it names what to write again, under the same ids."""

from __future__ import annotations

from random import Random

import pytest

from pipeline.domain.capture import decide as decide_capture
from pipeline.domain.completeness import repairs
from pipeline.domain.decision import Schedule
from pipeline.messages import Input
from pipeline.messages.facts import Fact
from pipeline.messages.values import CaptureMethod
from tests.domain.test_simulation import World, play, wild_step

SCHEDULE = Schedule()


def life(seed: int) -> World:
    """A payment with some history."""
    random = Random(seed)
    return play(random.choice(list(CaptureMethod)), [wild_step(random) for _ in range(random.randrange(5, 40))])


@pytest.mark.parametrize("seed", range(150))
def test_what_was_lost_is_named_and_nothing_else_is_invented(seed: int) -> None:
    world = life(seed)
    random = Random(seed)
    lost = {fact.fact_id for fact in world.chain.facts if random.random() < 0.3}
    known = {fact.fact_id for fact in world.chain.facts} - lost
    found = repairs(world.log, known, SCHEDULE)
    assert {fact.fact_id for fact in found.facts} == lost
    assert all(fact in world.chain.facts for fact in found.facts), "byte for byte what was written before"


@pytest.mark.parametrize("seed", range(150))
def test_a_complete_payment_needs_no_facts(seed: int) -> None:
    world = life(seed)
    found = repairs(world.log, {fact.fact_id for fact in world.chain.facts}, SCHEDULE)
    assert found.facts == ()
    assert found.authorizations == ()
    under_way = {request.subject_id for request in found.requests}
    assert under_way <= {request.subject_id for request in world.requests} | under_way


@pytest.mark.parametrize("seed", range(150))
def test_a_capture_stage_that_missed_records_catches_up(seed: int) -> None:
    """Everything from a point on is lost between the two stages: what is written again brings the second one level."""
    world = life(seed)
    replay = World(CaptureMethod.MANUAL).chain.__class__(SCHEDULE)
    cut = Random(seed).randrange(len(world.log))
    behind, facts = None, list[Fact]()
    for number, item in enumerate(world.log):
        for part in replay.feed(item).authorizations:
            if number < cut:
                decision = decide_capture(behind, part, SCHEDULE)
                behind = decision.state
                facts.extend(decision.facts)
    found = repairs(world.log, {fact.fact_id for fact in facts}, SCHEDULE)
    for part in found.authorizations:
        assert isinstance(part, Fact | Input)
        decision = decide_capture(behind, part, SCHEDULE)
        behind = decision.state
        facts.extend(decision.facts)
    assert facts == world.chain.facts
