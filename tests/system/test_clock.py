"""Days of a payment's life in seconds, on the system as it runs in production: only its clock is put forward."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from gateway.keys import create_key
from pipeline.domain.deliveries import ALERT_TYPES, OPERATOR
from pipeline.messages.public import PaymentEvent
from pipeline.topics import PublicTopic
from tests.system.conftest import System, running, until
from tests.system.test_chain import WAIT, Calls, read
from tests.system.test_webhooks import receiver

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


def test_what_the_provider_does_not_report_is_told_to_the_operator(apart: System) -> None:
    """At the operator's own server, signed, with the entries it is made of; and again when the payout clears it."""
    key = create_key(apart.settings.reveal("postgres_gateway_url"), OPERATOR)
    operator, calls = Calls(System(apart.home, apart.settings, key)), Calls(apart)
    with receiver() as (url, got):
        endpoint = operator.post("/webhook-endpoints", {"url": url, "event_types": sorted(ALERT_TYPES)}, 201)
        payment = calls.create("70.00")
        for what in ("authorize", "capture"):
            calls.post(f"/intents/{payment}/{what}", {}, 200, **WAIT)
        apart.command("clock", "forward", "6d")

        def told(kind: str) -> list[dict[str, Any]]:
            events = [Webhook(endpoint["secret"]).verify(body, headers) for headers, body in got]
            return [event["data"] for event in events if event["type"] == kind]

        until(lambda: told("ledger.alert.raised"), "the operator is told of what is open")
        (raised,) = told("ledger.alert.raised")
        assert (raised["account_id"], raised["overdue"]) == ("provider_receivable:stripe:USD", "70.00")
        assert [(entry["item"], entry["amount"]) for entry in raised["entries"]] == [(payment, "70.00")]
        (entry,) = raised["entries"]
        assert calls.client.get(f"/journal/{entry['entry_id']}").json()["payment_id"] == payment

        with apart.simulator() as simulator:
            (payout,) = simulator.post("/_sim/stripe/payouts").json()
            simulator.post(f"/_sim/stripe/payouts/{payout['id']}", params={"outcome": "paid"}).raise_for_status()
        until(lambda: told("ledger.alert.ended"), "the operator is told that it is cleared")
        (ended,) = told("ledger.alert.ended")
        assert (ended["alert_id"], ended["overdue"], ended["entries"]) == (raised["alert_id"], "0.00", [])
    apart.command("verify")
