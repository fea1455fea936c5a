"""Stages to drive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from connectors.stripe.webhook import StripeWebhooks
from pipeline.domain import provider_choice
from pipeline.domain.decision import Schedule
from pipeline.domain.retry import parse
from pipeline.domain.routing import HOUR
from pipeline.settings import PROJECT
from tests.topologies.driver import Driver
from topologies import authorization, capture, intake, ledger, reports, retry, routing, settlement
from topologies.stage import Stage

SCHEDULE = Schedule()
RULES = (PROJECT / "pipeline" / "policies" / "providers.toml").read_text()
POLICY = parse((PROJECT / "pipeline" / "policies" / "retry.toml").read_text())
TOPOLOGIES: dict[str, Callable[[Stage], None]] = {
    intake.STAGE: partial(intake.topology, rules=provider_choice.parse(RULES)),
    authorization.STAGE: partial(authorization.topology, schedule=SCHEDULE),
    capture.STAGE: partial(capture.topology, schedule=SCHEDULE),
    retry.STAGE: partial(retry.topology, policy=POLICY),
    ledger.STAGE: ledger.topology,
    routing.STAGE: partial(routing.topology, webhooks={"stripe": StripeWebhooks(())}, patience=HOUR),
    settlement.STAGE: settlement.topology,
    reports.STAGE: partial(reports.topology, scale=1.0),
}


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Callable[[str], Driver]]:
    """Builds the driver of a stage by its name; the same name again is the stage restarted on the same state."""
    drivers: dict[str, Driver] = {}

    def build(name: str) -> Driver:
        if name in drivers:
            drivers[name].close()
        drivers[name] = Driver(name, TOPOLOGIES[name], tmp_path / name)
        return drivers[name]

    yield build
    for driver in drivers.values():
        driver.close()
