"""Adyen's payments through the whole system: captures, voids and refunds wait for their webhooks."""

from __future__ import annotations

import base64
import json

import httpx
import pytest

from tests.system.conftest import System, until
from tests.system.test_chain import WAIT, Calls

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


def test_from_the_hold_to_the_refund(system: System) -> None:
    calls = Calls(system, "adyen")
    payment = calls.create(token="adyen_ok")
    assert calls.post(f"/intents/{payment}/authorize", {}, 200, **WAIT)["status"] == "authorized"
    assert calls.post(f"/intents/{payment}/capture", {"amount": "60.00"}, 200, **WAIT)["status"] == "captured"
    calls.post(f"/intents/{payment}/refund", {"amount": "15.50"}, 200, **WAIT)
    read = calls.read(payment)
    assert (read["amount_captured"], read["amount_refunded"]) == ("60.00", "15.50")
    (page,) = system.book([payment])
    assert (page["provider"], page["authorized"], page["captured"], page["refunded"]) == ("adyen", 10_000, 6_000, 1_550)
    rows = system.query("SELECT sum(debit) - sum(credit) FROM ledger.balances WHERE account LIKE %s", "%adyen%")
    assert rows, "the books know Adyen"


def test_a_void_and_a_decline(system: System) -> None:
    calls = Calls(system, "adyen")
    voided = calls.create(token="adyen_ok")
    calls.post(f"/intents/{voided}/authorize", {}, 200, **WAIT)
    assert calls.post(f"/intents/{voided}/void", {}, 200, **WAIT)["status"] == "voided"
    declined = calls.create(token="adyen_refused_5_raw43")
    problem = calls.post(f"/intents/{declined}/authorize", {}, 402, **WAIT)
    assert problem["decline"]["category"] == "fraud"


@pytest.mark.parametrize("kind", ["reset_after", "timeout_before", "rate_limit", "unavailable"])
def test_a_call_that_goes_wrong_charges_once(system: System, kind: str) -> None:
    calls = Calls(system, "adyen")
    payment = calls.create(token="adyen_ok")
    fault = {"kind": kind, "operation": "authorize", "payment_id": payment, "count": 1, "seconds": 1.0}
    with system.simulator() as simulator:
        simulator.post("/_sim/faults", json=fault).raise_for_status()
        calls.post(f"/intents/{payment}/authorize", {}, 202)
        calls.becomes(payment, "authorized")
    (page,) = system.book([payment])
    assert page["authorized"] == 10_000


def test_a_batch_with_one_forged_item_leaves_nothing(system: System) -> None:
    """Over HTTP, with the right credentials; and the genuine one is acknowledged in Adyen's words."""
    calls = Calls(system, "adyen")
    payment = calls.create(token="adyen_ok")
    calls.post(f"/intents/{payment}/authorize", {}, 200, **WAIT)
    settings = system.settings
    credentials = f"{settings.adyen_webhook_username}:{settings.reveal('adyen_webhook_password')}"
    headers = {"Authorization": "Basic " + base64.b64encode(credentials.encode()).decode()}
    url = f"http://{settings.gateway_host}:{settings.gateway_port}/webhooks/adyen"
    forged = {
        "live": "false",
        "notificationItems": [
            {
                "NotificationRequestItem": {
                    "eventCode": "CAPTURE",
                    "success": "true",
                    "pspReference": "FORGED",
                    "additionalData": {"hmacSignature": base64.b64encode(bytes(32)).decode()},
                }
            }
        ],
    }
    for given, status in ((headers, 400), ({}, 401)):
        answer = httpx.post(url, content=json.dumps(forged), headers=given)
        assert answer.status_code == status, answer.text
    with system.simulator() as simulator:
        sent = simulator.post("/_sim/webhooks/resend", params={"payment_id": payment}).json()["sent"]
        assert sent >= 1
        until(lambda: simulator.get("/_sim/stats").json()["webhooks_waiting"] == 0, "every webhook was taken")
    assert calls.read(payment)["status"] == "authorized"
