"""settlement.reports → [reports] → settlement.requests, timers.<tier>"""

from __future__ import annotations

from functools import partial
from typing import Final

import structlog
from prometheus_client import Counter

from pipeline import topics
from pipeline.domain.reports import Decision, ReportState, Status, decide
from pipeline.messages.inputs import TimerFired
from pipeline.messages.reports import ReportAnnounced, ReportRead, ReportRecord, ReportRequest
from pipeline.messages.timers import Timer
from pipeline.settings import Settings
from topologies.stage import TIERS, Decider, Stage, run_stage

STAGE: Final = "reports"

log = structlog.get_logger()
GIVEN_UP: Final = Counter(
    "settlement_reports_given_up_total", "Settlement reports that only a person can get now", ["provider"]
)


def topology(stage: Stage, scale: float) -> None:
    """What is announced is asked for; what could not be had is asked for again when its timer fires."""
    stage.decides(
        source=topics.REPORTS,
        accepts=(ReportAnnounced, ReportRead, TimerFired),
        decider=Decider(ReportState, partial(decide_aloud, scale=scale)),
        to=topics.REPORT_REQUESTS,
        also=TIERS,
    )


def decide_aloud(state: ReportState | None, item: ReportRecord | TimerFired, *, scale: float = 1.0) -> Decision:
    """The decision; if it gives a report up, an operator is told."""
    decision = decide(state, item, scale=scale)
    after = decision.state
    if after is not None and after.status is Status.FAILED and (state is None or state.status is not Status.FAILED):
        GIVEN_UP.labels(after.announced.provider).inc()
        log.error("a person has to look: payments reports list", report=after.announced.report, detail=after.detail)
    return decision


def run(settings: Settings) -> None:
    """Run the stage until it is told to stop."""
    built = partial(topology, scale=settings.recovery_scale)
    run_stage(STAGE, settings, built, writes=(ReportRequest, Timer))
