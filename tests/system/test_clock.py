"""Days of a payment's life in seconds, on the system as it runs in production: only its clock is put forward."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.messages.public import PaymentEvent
from pipeline.topics import PublicTopic
from tests.system.conftest import System, running
from tests.system.test_chain import WAIT, Calls, read

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]

LATER = "pm_sim_declineTimes1_card_velocity_exceeded"
"""Declined for a limit, which the local policy tries again three days later; then approved."""


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system of its own: where a week passes, other tests' holds would lapse."""
    with running(tmp_path_factory.mktemp("clock")) as made:
        yield made


def test_days_pass(apart: System) -> None:
    """A retry three days later, the warning a day before its hold lapses, and the lapse."""
    calls = Calls(apart)
    payment = calls.create(token=LATER)
    waiting = calls.post(f"/intents/{payment}/authorize", {}, 402, **WAIT)["intent"]
    assert waiting["decline"]["code"] == "limit_exceeded"
    calls.becomes(payment, "retry_scheduled")

    apart.command("clock", "forward", "2d")
    apart.command("clock", "forward", "23h")
    assert calls.read(payment)["status"] == "retry_scheduled"
    apart.command("clock", "forward", "1h")
    calls.becomes(payment, "authorized")
    assert len(calls.read(payment)["attempts"]) == 2
    assert "put forward by 3 d" in apart.command("clock")

    apart.command("clock", "forward", "6d")
    (warning,) = read(apart, PublicTopic.EXPIRING, payment, 1)
    assert isinstance(warning, PaymentEvent)
    assert calls.read(payment)["status"] == "authorized"
    apart.command("clock", "forward", "1d")
    calls.becomes(payment, "expired")

    explained = apart.command("explain", payment)
    assert "all facts found" in explained
    assert "HoldExpired" in explained
    apart.command("verify")
