"""payments.intake → [authorization] → payments.authorizations, providers.requests.<provider>, timers.<tier>"""

from __future__ import annotations

from functools import partial
from typing import Final

from pipeline import topics
from pipeline.domain.authorization import AuthorizationState, decide
from pipeline.domain.decision import Schedule
from pipeline.messages import Input
from pipeline.messages.facts import FACTS
from pipeline.messages.requests import REQUESTS
from pipeline.messages.timers import Timer
from pipeline.settings import Settings
from topologies.stage import REQUESTS_AND_TIMERS, Decider, Stage, run_stage

STAGE: Final = "authorization"


def topology(stage: Stage, schedule: Schedule) -> None:
    """From the intent to a hold, or to a final no; what the capture stage owns passes through unchanged."""
    stage.decides(
        source=topics.INTAKE,
        accepts=(Input,),
        decider=Decider(AuthorizationState, partial(decide, schedule=schedule)),
        to=topics.AUTHORIZATIONS,
        also=REQUESTS_AND_TIMERS,
    )


def run(settings: Settings) -> None:
    """Run the stage until it is told to stop."""
    schedule = Schedule().scaled(settings.recovery_scale)
    run_stage(STAGE, settings, partial(topology, schedule=schedule), writes=(*FACTS, *REQUESTS, Timer))
