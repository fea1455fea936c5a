"""payments.authorizations → [capture] → payments.events, providers.requests.<provider>, timers.<tier>"""

from __future__ import annotations

from functools import partial
from typing import Final

from pipeline import topics
from pipeline.domain.capture import CaptureState, decide
from pipeline.domain.decision import Schedule
from pipeline.messages import Input
from pipeline.messages.facts import FACTS, Fact
from pipeline.messages.requests import REQUESTS
from pipeline.messages.timers import Timer
from pipeline.settings import Settings
from topologies.stage import REQUESTS_AND_TIMERS, Decider, Stage, run_stage

STAGE: Final = "capture"


def topology(stage: Stage, schedule: Schedule) -> None:
    """From the hold to the money, and back. The last writer before the system of record: it numbers every fact."""
    stage.decides(
        source=topics.AUTHORIZATIONS,
        accepts=(Fact, Input),
        decider=Decider(CaptureState, partial(decide, schedule=schedule)),
        to=topics.EVENTS,
        also=REQUESTS_AND_TIMERS,
    )


def run(settings: Settings) -> None:
    """Run the stage until it is told to stop."""
    schedule = Schedule().scaled(settings.recovery_scale)
    run_stage(STAGE, settings, partial(topology, schedule=schedule), writes=(*FACTS, *REQUESTS, Timer))
