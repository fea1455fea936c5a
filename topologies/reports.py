"""settlement.reports → [reports] → settlement.requests, timers.<tier>"""

from __future__ import annotations

from functools import partial
from typing import Final

from pipeline import topics
from pipeline.domain.reports import ReportState, decide
from pipeline.messages.inputs import TimerFired
from pipeline.messages.reports import ReportAnnounced, ReportRead, ReportRequest
from pipeline.messages.timers import Timer
from pipeline.settings import Settings
from topologies.stage import TIERS, Decider, Stage, run_stage

STAGE: Final = "reports"


def topology(stage: Stage, scale: float) -> None:
    """What is announced is asked for; what could not be had is asked for again when its timer fires."""
    stage.decides(
        source=topics.REPORTS,
        accepts=(ReportAnnounced, ReportRead, TimerFired),
        decider=Decider(ReportState, partial(decide, scale=scale)),
        to=topics.REPORT_REQUESTS,
        also=TIERS,
    )


def run(settings: Settings) -> None:
    """Run the stage until it is told to stop."""
    built = partial(topology, scale=settings.recovery_scale)
    run_stage(STAGE, settings, built, writes=(ReportRequest, Timer))
