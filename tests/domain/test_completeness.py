"""The reconciler's decision: whatever was lost of a payment, it names what to write again, under the same ids."""

from __future__ import annotations

from random import Random

import pytest

from pipeline.domain import retry
from pipeline.domain.capture import decide as decide_capture
from pipeline.domain.completeness import repairs
from pipeline.domain.decision import Schedule
from pipeline.messages import Input
from pipeline.messages.facts import AttemptDeclined, Fact
from pipeline.messages.values import CaptureMethod
from tests.domain.test_simulation import life
from tests.domain.world import World

SCHEDULE = Schedule()


@pytest.mark.parametrize("seed", range(150))
def test_what_was_lost_is_named_and_nothing_else_is_invented(seed: int) -> None:
    world = life(seed)
    random = Random(seed)
    lost = {fact.fact_id for fact in world.chain.facts if random.random() < 0.3}
    known = {fact.fact_id for fact in world.chain.facts} - lost
    found = repairs(world.log, known, SCHEDULE)
    named = {fact.fact_id for fact in found.facts}
    assert lost <= named
    again = [fact for fact in found.facts if fact.fact_id in named - lost]
    assert [type(fact) for fact in again] == [AttemptDeclined] * len(again)
    assert len(again) <= len(world.plans), "only a decline whose plan has not come is said again"
    assert all(fact in world.chain.facts for fact in found.facts), "byte for byte what was written before"


@pytest.mark.parametrize("seed", range(150))
def test_a_complete_payment_needs_no_facts(seed: int) -> None:
    world = life(seed)
    found = repairs(world.log, {fact.fact_id for fact in world.chain.facts}, SCHEDULE)
    waits_for_a_plan = bool(world.plans)
    assert {type(fact) for fact in found.facts} <= ({AttemptDeclined} if waits_for_a_plan else set())
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


def test_a_lost_plan_is_asked_for_again() -> None:
    lives = (life(seed) for seed in range(400))
    world = next(w for w in lives if w.plans and w.chain.authorization and w.chain.authorization.status == "declined")
    known = {fact.fact_id for fact in world.chain.facts}
    found = repairs(world.log, known, SCHEDULE)
    declined = [fact for fact in found.facts if isinstance(fact, AttemptDeclined)]
    assert [fact.attempt_id for fact in declined] == [world.chain.authorization.current.attempt_id]  # type: ignore[union-attr]
    assert retry.decide(world.retries, declined[0], world.policy).outputs[0] in world.plans
