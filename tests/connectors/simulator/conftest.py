"""One simulator for all tests, as new for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import stripe

from tests.connectors.simulator.world import World, world


@pytest.fixture(scope="session")
def running() -> Iterator[World]:
    with world("--refund-seconds", "0.05", "--dispute-seconds", "0.05", "--webhook-first-retry", "0.05") as found:
        yield found


@pytest.fixture
def sim(running: World) -> Iterator[World]:
    running.post("reset")
    running.receiver.clear()
    yield running
    running.control.delete("/_sim/faults").raise_for_status()
    running.receiver.statuses.clear()
    running.post("webhooks/drain", {"seconds": 5.0})


@pytest.fixture
def sdk(sim: World) -> stripe.StripeClient:
    return sim.sdk()
