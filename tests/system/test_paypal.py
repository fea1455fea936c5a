"""PayPal's payments through the whole system: an order each attempt, a payer who approves, disputes by the capture."""

from __future__ import annotations

import httpx
import pytest

from tests.system.conftest import System, until
from tests.system.test_chain import WAIT, Calls

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


def test_from_the_hold_to_the_refund(system: System) -> None:
    """Captured in two parts, refunded from one of them."""
    calls = Calls(system, "paypal")
    payment = calls.create(token="paypal_ok")
    assert calls.post(f"/intents/{payment}/authorize", {}, 200, **WAIT)["status"] == "authorized"
    calls.post(f"/intents/{payment}/capture", {"amount": "30.00", "final": False}, 200, **WAIT)
    assert calls.post(f"/intents/{payment}/capture", {"amount": "60.00"}, 200, **WAIT)["status"] == "captured"
    calls.post(f"/intents/{payment}/refund", {"amount": "45.50"}, 200, **WAIT)
    read = calls.read(payment)
    assert (read["amount_captured"], read["amount_refunded"]) == ("90.00", "45.50")
    (page,) = system.book([payment])
    assert page["provider"] == "paypal"
    assert (page["authorized"], page["captured"], page["refunded"]) == (10_000, 9_000, 4_550)


def test_a_void_and_a_decline(system: System) -> None:
    calls = Calls(system, "paypal")
    voided = calls.create(token="paypal_ok")
    calls.post(f"/intents/{voided}/authorize", {}, 200, **WAIT)
    assert calls.post(f"/intents/{voided}/void", {}, 200, **WAIT)["status"] == "voided"
    declined = calls.create(token="paypal_declined_9520")
    problem = calls.post(f"/intents/{declined}/authorize", {}, 402, **WAIT)
    assert (problem["decline"]["category"], problem["decline"]["raw_code"]) == ("fraud", "9520")


@pytest.mark.parametrize("capture_method", ["manual", "automatic"])
def test_a_payer_approves_at_paypal(system: System, capture_method: str) -> None:
    """Approved, the order waits for us: the webhook makes the pipeline go on."""
    calls = Calls(system, "paypal")
    payment = calls.create(token="paypal_payer_action", capture_method=capture_method)
    calls.post(f"/intents/{payment}/authorize", {}, 200, **WAIT)
    url = calls.read(payment)["attempts"][-1]["next_action"]["url"]
    httpx.post(url, data={"outcome": "success", "finish": "true"}).raise_for_status()
    calls.becomes(payment, "captured" if capture_method == "automatic" else "authorized")
    (page,) = system.book([payment])
    assert page["authorized"] == 10_000


@pytest.mark.parametrize("kind", ["reset_after", "timeout_before", "rate_limit", "unavailable"])
def test_a_call_that_goes_wrong_charges_once(system: System, kind: str) -> None:
    calls = Calls(system, "paypal")
    payment = calls.create(token="paypal_ok")
    fault = {"kind": kind, "operation": "authorize", "payment_id": payment, "count": 1, "seconds": 1.0}
    with system.simulator() as simulator:
        simulator.post("/_sim/faults", json=fault).raise_for_status()
        calls.post(f"/intents/{payment}/authorize", {}, 202)
        calls.becomes(payment, "authorized")
    (page,) = system.book([payment])
    assert page["authorized"] == 10_000


def test_what_is_pending_is_decided_by_webhook(system: System) -> None:
    calls = Calls(system, "paypal")
    payment = calls.create(token="paypal_capture_pending_completed")
    calls.post(f"/intents/{payment}/authorize", {}, 200, **WAIT)
    calls.post(f"/intents/{payment}/capture", {}, 202)
    calls.becomes(payment, "captured")


def test_a_dispute_finds_its_payment_by_the_capture(system: System) -> None:
    """And what PayPal takes back is withdrawn."""
    calls = Calls(system, "paypal")
    payment = calls.create(token="paypal_capture_disputed")
    calls.post(f"/intents/{payment}/authorize", {}, 200, **WAIT)
    calls.post(f"/intents/{payment}/capture", {}, 200, **WAIT)
    until(lambda: calls.read(payment)["disputes"], "the dispute is known")
    reversed_ = calls.create(token="paypal_capture_reversed")
    calls.post(f"/intents/{reversed_}/authorize", {}, 200, **WAIT)
    calls.post(f"/intents/{reversed_}/capture", {}, 200, **WAIT)
    until(lambda: calls.read(reversed_)["disputes"], "the reversal is known")
    assert calls.read(reversed_)["disputes"][0]["withdrawn"] == "100.00"


def test_a_forged_webhook_leaves_nothing(system: System) -> None:
    """Everything is there but PayPal's signature."""
    settings = system.settings
    url = f"http://{settings.gateway_host}:{settings.gateway_port}/webhooks/paypal"
    headers = {
        "paypal-transmission-id": "69cd13f0-d67a-11e5-baa3-778b53f4ae55",
        "paypal-transmission-time": "2026-02-18T20:01:35Z",
        "paypal-cert-url": "https://evil.example/v1/notifications/certs/CERT-1",
        "paypal-auth-algo": "SHA256withRSA",
        "paypal-transmission-sig": "AAAA",
    }
    body = {"id": "WH-1", "event_type": "PAYMENT.CAPTURE.COMPLETED", "resource": {"id": "2GG279541U471931P"}}
    answer = httpx.post(url, json=body, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
