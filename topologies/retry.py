"""payments.events → [retry] → payments.intake"""

from __future__ import annotations

from functools import partial
from typing import Final

from pipeline import topics
from pipeline.domain.retry import Policy, RetryState, decide, parse
from pipeline.messages.facts import Fact
from pipeline.messages.inputs import RetryAbandoned, RetryPlanned
from pipeline.settings import Settings
from topologies.stage import Decider, Stage, run_stage

STAGE: Final = "retry"


def topology(stage: Stage, policy: Policy) -> None:
    """The policy's word on every decline that may pass later; the authorization stage acts on it."""
    stage.decides(
        source=topics.EVENTS,
        accepts=(Fact,),
        decider=Decider(RetryState, partial(decide, policy=policy)),
        to=topics.INTAKE,
    )


def run(settings: Settings) -> None:
    """Run the stage until it is told to stop. Raises PolicyError when the policy cannot be followed."""
    policy = parse(settings.retry_policy.read_text()).scaled(settings.recovery_scale)
    run_stage(STAGE, settings, partial(topology, policy=policy), writes=(RetryPlanned, RetryAbandoned))
