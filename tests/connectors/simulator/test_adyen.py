"""Adyen's part of the simulator, through Adyen's own library: it must work unchanged."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import Adyen
import httpx
import pytest
from Adyen.exceptions import AdyenAPICommunicationError, AdyenAPIResponseError, AdyenAPIUnprocessableEntity

from connectors.simulator.adyen.methods import REFUSALS, Method, method_of
from connectors.simulator.adyen.payments import References
from tests.connectors.simulators import ADYEN, Simulator, simulator

ACCOUNT = ADYEN["PAYMENTS_ADYEN_MERCHANT_ACCOUNT"]
CARD = {"type": "scheme", "encryptedCardNumber": "test_visa", "encryptedSecurityCode": "test_737"}


@pytest.fixture(scope="module")
def running() -> Iterator[Simulator]:
    with simulator(flags=["--adyen-modification-seconds", "600"]) as found:
        yield found


@pytest.fixture
def sim(running: Simulator) -> Simulator:
    httpx.post(f"{running.url}/_sim/reset").raise_for_status()
    return running


@pytest.fixture
def sdk(sim: Simulator) -> Any:
    return client(sim)


def client(sim: Simulator, key: str = ADYEN["PAYMENTS_ADYEN_API_KEY"]) -> Any:
    """The official library, told where to go and nothing else."""
    checkout = Adyen.Adyen(xapikey=key, platform="test").checkout
    for service in (checkout.payments_api, checkout.modifications_api):
        service.baseUrl = f"{sim.url}/checkout/v72"
    return checkout


def payment(method: dict[str, Any] | str = "adyen_ok", **fields: Any) -> dict[str, Any]:
    stored = {"type": "scheme", "storedPaymentMethodId": method} if isinstance(method, str) else method
    return {
        "amount": {"value": 1_000, "currency": "EUR"},
        "merchantAccount": ACCOUNT,
        "paymentMethod": stored,
        "reference": f"order-{uuid4()}",
        "returnUrl": "https://shop.example/return?order=17",
        "additionalData": {"manualCapture": "true"},
        **fields,
    }


def modification(value: int | None = None, **fields: Any) -> dict[str, Any]:
    amount = {} if value is None else {"amount": {"value": value, "currency": "EUR"}}
    return {"merchantAccount": ACCOUNT, "reference": "mine", **amount, **fields}


def settle(sim: Simulator) -> None:
    httpx.post(f"{sim.url}/_sim/adyen/settle").raise_for_status()


def page(sim: Simulator, psp: str) -> dict[str, Any]:
    (found,) = [found for found in sim.whole_book() if found.get("psp_reference") == psp]
    return found


def test_authorize_capture_refund(sim: Simulator, sdk: Any) -> None:
    answer = sdk.payments_api.payments(payment(), idempotency_key=str(uuid4()))
    assert (answer.status_code, answer.message["resultCode"]) == (200, "Authorised")
    psp = answer.message["pspReference"]
    assert len(psp) == 16
    capture = sdk.modifications_api.capture_authorised_payment(modification(600), psp)
    assert (capture.status_code, capture.message["status"]) == (201, "received")
    assert (capture.message["paymentPspReference"], capture.message["reference"]) == (psp, "mine")
    assert page(sim, psp)["captured"] == 0, "only taken"
    settle(sim)
    sdk.modifications_api.refund_captured_payment(modification(200), psp)
    settle(sim)
    found = page(sim, psp)
    assert (found["authorized"], found["captured"], found["voided"], found["refunded"]) == (1_000, 600, 400, 200)


def test_cancels(sim: Simulator, sdk: Any) -> None:
    asked = payment()
    first = sdk.payments_api.payments(asked).message["pspReference"]
    second = sdk.payments_api.payments(payment()).message["pspReference"]
    third = sdk.payments_api.payments(payment(additionalData={}, captureDelayHours=0)).message["pspReference"]
    sdk.modifications_api.cancel_authorised_payment(modification(paymentReference=asked["reference"]))
    sdk.modifications_api.cancel_authorised_payment_by_psp_reference(modification(), second)
    sdk.modifications_api.refund_or_cancel_payment(modification(), third)
    settle(sim)
    assert [page(sim, psp)["voided"] for psp in (first, second, third)] == [1_000, 1_000, 0]
    assert page(sim, third)["refunded"] == 1_000


def test_nothing_moves_beyond_what_there_is(sim: Simulator, sdk: Any) -> None:
    psp = sdk.payments_api.payments(payment()).message["pspReference"]
    sdk.modifications_api.capture_authorised_payment(modification(1_001), psp)
    sdk.modifications_api.refund_captured_payment(modification(1), psp)
    settle(sim)
    found = page(sim, psp)
    assert (found["captured"], found["refunded"]) == (0, 0)


@pytest.mark.parametrize("code", list(REFUSALS))
def test_every_refusal_can_be_had_as_adyens_test_system_has_it(sdk: Any, code: str) -> None:
    refusal = REFUSALS[code]
    by_name = payment({**CARD, "holderName": refusal.holder})
    by_code = payment(CARD, additionalData={"RequestedTestAcquirerResponseCode": int(code)})
    for asked in (by_name, by_code, payment(f"adyen_refused_{code}")):
        answer = sdk.payments_api.payments(asked).message
        assert answer["resultCode"] == refusal.result
        assert (answer["refusalReason"], answer["refusalReasonCode"]) == (refusal.reason, code)


def test_what_the_network_says_can_be_had(sdk: Any) -> None:
    answer = sdk.payments_api.payments(payment({**CARD, "holderName": "DECLINED : 06 : ERROR"})).message
    assert answer["refusalReasonCode"] == "2"
    assert answer["additionalData"]["refusalReasonRaw"].startswith("06 : ERROR")
    answer = sdk.payments_api.payments(payment("adyen_refused_12_raw51_mac02")).message
    assert answer["additionalData"]["refusalReasonRaw"].startswith("51 : ")
    assert answer["additionalData"]["merchantAdviceCode"].startswith("02 : ")


def test_a_payment_that_is_refused_at_first(sdk: Any) -> None:
    asked = [payment("adyen_refused_12_times1", metadata={"payment_id": "p1"}) for _ in range(2)]
    assert [sdk.payments_api.payments(a).message["resultCode"] for a in asked] == ["Refused", "Authorised"]


@pytest.mark.parametrize(("back", "result"), [("success", "Authorised"), ("fail", "Refused")])
def test_a_redirect(sim: Simulator, sdk: Any, back: str, result: str) -> None:
    answer = sdk.payments_api.payments(payment("adyen_redirect")).message
    assert (answer["resultCode"], answer["action"]["type"]) == ("RedirectShopper", "redirect")
    assert "pspReference" not in answer
    assert "Confirm" in httpx.get(answer["action"]["url"]).text
    sent_back = httpx.post(answer["action"]["url"], data={"outcome": back})
    where = httpx.URL(sent_back.headers["location"])
    assert (where.host, where.params["order"]) == ("shop.example", "17")
    details = {"details": {"redirectResult": where.params["redirectResult"]}}
    results = [sdk.payments_api.payments_details(details).message for _ in range(2)]
    assert [r["resultCode"] for r in results] == [result, result]
    assert page(sim, results[0]["pspReference"])["authorized"] == (1_000 if result == "Authorised" else 0)


def test_a_key_answers_what_it_answered_first(sim: Simulator, sdk: Any) -> None:
    key, asked = str(uuid4()), payment()
    first = sdk.payments_api.payments(asked, idempotency_key=key)
    again = sdk.payments_api.payments(asked, idempotency_key=key)
    assert first.message == again.message
    refused = [_refused(sdk, payment("nobody_knows"), "refused-key") for _ in range(2)]
    assert refused[0] == refused[1], "errors are kept, too"
    assert len(sim.whole_book()) == 1
    sim.forget_keys()
    assert sdk.payments_api.payments(asked, idempotency_key=key).message["pspReference"] != first.psp


def _refused(sdk: Any, asked: dict[str, Any], key: str) -> Any:
    with pytest.raises(AdyenAPIUnprocessableEntity) as caught:
        sdk.payments_api.payments(asked, idempotency_key=key)
    return caught.value.raw_response


def test_a_key_in_use_is_a_transient_704(sim: Simulator) -> None:
    sim.fault("latency", "authorize", seconds=0.5)
    headers = {"X-API-Key": ADYEN["PAYMENTS_ADYEN_API_KEY"], "Idempotency-Key": "k"}
    url, asked = f"{sim.url}/checkout/v72/payments", payment()
    slow = threading.Thread(target=httpx.post, args=(url,), kwargs={"json": asked, "headers": headers})
    slow.start()
    while not any(f["happened"] for f in httpx.get(f"{sim.url}/_sim/faults").json()["faults"]):
        time.sleep(0.01)
    answer = httpx.post(url, json=asked, headers=headers)
    slow.join()
    assert (answer.status_code, answer.json()["errorCode"]) == (422, "704")
    assert answer.headers["transient-error"] == "true"
    assert httpx.post(url, json=asked, headers=headers).json()["resultCode"] == "Authorised"
    assert len(sim.whole_book()) == 1


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"merchantAccount": "Other"}, 403, "901"),
        ({"merchantAccount": None}, 422, "702"),
        ({"amount": None}, 422, "100"),
        ({"amount": {"value": -1, "currency": "EUR"}}, 422, "137"),
        ({"amount": {"value": 1, "currency": "euro"}}, 422, "138"),
        ({"reference": ""}, 422, "702"),
        ({"returnUrl": ""}, 422, "14_030"),
        ({"paymentMethod": {"type": "scheme", "storedPaymentMethodId": "x"}, "shopperReference": "s"}, 422, "803"),
        ({"paymentMethod": {"type": "scheme", "storedPaymentMethodId": "x"}}, 422, "702"),
    ],
)
def test_requests_that_make_no_sense(sdk: Any, change: dict[str, Any], status: int, code: str) -> None:
    with pytest.raises(AdyenAPIResponseError) as caught:
        sdk.payments_api.payments(payment(**change))
    assert (caught.value.status_code, caught.value.error_code) == (status, code)


def test_strangers_and_unknown_payments(sim: Simulator, sdk: Any) -> None:
    with pytest.raises(AdyenAPIResponseError) as caught:
        client(sim, "wrong").payments_api.payments(payment())
    assert caught.value.status_code == 401
    with pytest.raises(AdyenAPIUnprocessableEntity) as unknown:
        sdk.modifications_api.capture_authorised_payment(modification(1), "QFQTPCQ8HXSKGK82")
    assert unknown.value.error_code == "167"
    assert httpx.get(f"{sim.url}/checkout/v72/payments").status_code == 401
    headers = {"X-API-Key": ADYEN["PAYMENTS_ADYEN_API_KEY"]}
    assert httpx.post(f"{sim.url}/checkout/v72/unicorns", json={}, headers=headers).status_code == 404
    broken = httpx.post(f"{sim.url}/checkout/v72/payments", content="{", headers=headers)
    assert (broken.status_code, broken.json()["errorCode"]) == (400, "702")


@pytest.mark.parametrize(("kind", "status"), [("rate_limit", 429), ("server_error", 500), ("unavailable", 503)])
def test_faults(sim: Simulator, sdk: Any, kind: str, status: int) -> None:
    sim.fault(kind, "authorize", provider="adyen")
    with pytest.raises((AdyenAPIResponseError, AdyenAPICommunicationError)) as caught:
        sdk.payments_api.payments(payment())
    assert caught.value.status_code == status
    assert sim.whole_book() == []


def test_faults_of_one_provider_spare_the_other(sim: Simulator, sdk: Any) -> None:
    sim.fault("server_error", "authorize", provider="stripe")
    assert sdk.payments_api.payments(payment()).message["resultCode"] == "Authorised"


def test_one_account_has_both_providers_in_its_book(sim: Simulator, sdk: Any) -> None:
    metadata = {"payment_id": "p9", "attempt_id": "a9"}
    sdk.payments_api.payments(payment(metadata=metadata), idempotency_key="k9")
    (found,) = sim.book("p9")
    assert (found["provider"], found["attempt_id"], found["status"]) == ("adyen", "a9", "authorised")
    by_key = httpx.get(f"{sim.url}/_sim/book/sums", params={"by": "idempotency_key"}).json()
    assert by_key["k9"]["authorized"] == 1_000
    assert "adyen.payments" in httpx.get(f"{sim.url}/_sim/stats").json()["operations"]


@pytest.mark.parametrize(
    "name", ["adyen", "adyen_", "adyen_ok_1", "adyen_refused", "adyen_refused_99", "adyen_unicorn", "adyen_ok_raw05"]
)
def test_names_that_mean_nothing(name: str) -> None:
    assert method_of({"type": "scheme", "storedPaymentMethodId": name}) is None


def test_a_card_without_a_wish_is_authorised() -> None:
    assert method_of({**CARD, "holderName": "J. Smith"}) == Method(name="J. Smith")
    assert method_of({"type": "scheme"}) is None


def test_references_are_never_alike() -> None:
    first, second = References(), References()
    made = {references.new() for references in (first, second) for _ in range(1_000)}
    assert len(made) == 2_000
    assert {len(reference) for reference in made} == {16}
