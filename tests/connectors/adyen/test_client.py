"""Every answer, error body, status and network fault is exactly one outcome; and nothing is ever done twice."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from connectors.adyen import refusals
from connectors.adyen.answers import DECLINES
from connectors.adyen.client import DAY, AdyenProvider
from connectors.provider import Answer, Provider
from connectors.transport import Timeouts
from pipeline import clock
from pipeline.messages.requests import ProviderRequest
from pipeline.messages.values import DeclineCategory, Operation, Outcome
from tests.connectors import requests
from tests.connectors.stripe.scripted import Say, Script, Trouble, scripted

FAST = Timeouts(connect=0.5, read=0.5, total=1.0)
PSP = "QFQTPCQ8HXSKGK82"
RETURN = "https://shop.example/return"


def payment(result: str, **fields: Any) -> dict[str, Any]:
    return {
        "pspReference": PSP,
        "resultCode": result,
        "amount": {"value": 1_050, "currency": "EUR"},
        "merchantReference": "x",
        **fields,
    }


def taken(**fields: Any) -> dict[str, Any]:
    return {
        "merchantAccount": "TestMerchant",
        "paymentPspReference": PSP,
        "pspReference": "993617894906488A",
        "status": "received",
        **fields,
    }


def error(status: int, code: str, kind: str = "validation", **headers: str) -> Say:
    body = {"status": status, "errorCode": code, "message": "So it is.", "errorType": kind, "pspReference": "88161182"}
    return Say(status, body, headers)


@asynccontextmanager
async def provider_at(url: str, **options: Any) -> AsyncIterator[AdyenProvider]:
    provider = AdyenProvider(url, "key", "TestMerchant", timeouts=FAST, return_url=RETURN, **options)
    try:
        yield provider
    finally:
        await provider.close()


async def ask(request: ProviderRequest, *answers: Say | Trouble, **options: Any) -> tuple[Answer, Script]:
    async with scripted(*answers) as script, provider_at(script.url, **options) as provider:
        return await provider.call(request), script


def authorize(*parts: Any, **fields: Any) -> ProviderRequest:
    return requests.authorize("M5N7TQ4TG5PFWR50", *parts, provider="adyen", **fields)


async def test_an_authorization_says_who_asks_and_under_which_key() -> None:
    request = authorize(customer_id="shopper-1")
    answer, script = await ask(request, Say(body=payment("Authorised")))
    assert (answer.outcome, answer.provider_reference) == (Outcome.APPROVED, PSP)
    assert (answer.amount, answer.currency, answer.decline) == (1_050, "EUR", None)
    (seen,) = script.seen
    assert (seen.method, seen.path, seen.key) == ("POST", "/v72/payments", request.subject_id)
    assert seen.headers["x-api-key"] == "key"
    assert seen.json["amount"] == {"value": 1_050, "currency": "EUR"}
    assert seen.json["paymentMethod"] == {"type": "scheme", "storedPaymentMethodId": "M5N7TQ4TG5PFWR50"}
    assert seen.json["reference"] == f"{request.payment_id}_a_{request.subject_id}"
    assert len(seen.json["reference"]) <= 80, "Adyen takes references of 80 characters"
    assert (seen.json["merchantAccount"], seen.json["shopperReference"]) == ("TestMerchant", "shopper-1")
    assert (seen.json["returnUrl"], seen.json["merchantOrderReference"]) == (RETURN, request.payment_id)
    assert seen.json["metadata"]["payment_id"] == request.payment_id
    assert seen.json["additionalData"] == {"manualCapture": "true"}
    assert "captureDelayHours" not in seen.json


async def test_automatic_capture_is_asked_for_at_once() -> None:
    _, script = await ask(authorize(manual=False), Say(body=payment("Authorised")))
    assert script.seen[0].json["captureDelayHours"] == 0
    assert "additionalData" not in script.seen[0].json


async def test_metadata_keep_to_adyens_limits() -> None:
    _, script = await ask(authorize(merchant_reference="x" * 300), Say(body=payment("Authorised")))
    metadata = script.seen[0].json["metadata"]
    assert max(map(len, metadata)) <= 20
    assert max(map(len, metadata.values())) == 80


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (payment("Authorised"), Outcome.APPROVED),
        (payment("PartiallyAuthorised", amount={"value": 50, "currency": "EUR"}), Outcome.APPROVED),
        ({"resultCode": "Authorised", "pspReference": PSP}, Outcome.APPROVED),
        (payment("Refused", refusalReasonCode="2"), Outcome.DECLINED),
        (payment("Refused"), Outcome.DECLINED),
        (payment("Cancelled", refusalReasonCode="15"), Outcome.DECLINED),
        (payment("Error", refusalReasonCode="4"), Outcome.DECLINED),
        (payment("Pending"), Outcome.PENDING),
        (payment("Received"), Outcome.PENDING),
        ({"resultCode": "RedirectShopper", "action": {"type": "redirect"}}, Outcome.REQUIRES_ACTION),
        ({"resultCode": "IdentifyShopper", "action": {"type": "threeDS2"}}, Outcome.REQUIRES_ACTION),
        (payment("ChallengeShopper"), Outcome.REQUIRES_ACTION),
        (payment("PresentToShopper"), Outcome.REQUIRES_ACTION),
        (payment("AuthenticationFinished"), Outcome.UNKNOWN),
        (payment("AuthenticationNotRequired"), Outcome.UNKNOWN),
        (payment("Success"), Outcome.UNKNOWN),
        (payment("ACodeOfTomorrow"), Outcome.UNKNOWN),
        ({"pspReference": PSP}, Outcome.UNKNOWN),
        ({"resultCode": "Authorised", "amount": "many"}, Outcome.UNKNOWN),
        (payment("Authorised", amount={"value": 1_050, "currency": "ISK"}), Outcome.UNKNOWN),
        ("<html>", Outcome.UNKNOWN),
        ("", Outcome.UNKNOWN),
    ],
)
async def test_every_result_is_one_outcome(body: Any, outcome: Outcome) -> None:
    answer, _ = await ask(authorize(), Say(body=body))
    assert answer.outcome is outcome
    assert (answer.decline is not None) == (outcome is Outcome.DECLINED)
    assert not answer.repeat


async def test_a_partial_authorization_is_its_own_amount() -> None:
    body = payment("PartiallyAuthorised", amount={"value": 50, "currency": "EUR"})
    assert (await ask(authorize(), Say(body=body)))[0].amount == 50


async def test_a_redirect_is_handed_on() -> None:
    action = {"type": "redirect", "method": "GET", "url": "https://adyen.example/3ds", "paymentMethodType": "scheme"}
    answer, _ = await ask(authorize(), Say(body={"resultCode": "RedirectShopper", "action": action}))
    assert answer.outcome is Outcome.REQUIRES_ACTION
    assert answer.next_action is not None
    assert answer.next_action.url == "https://adyen.example/3ds"


# docs.adyen.com/development-resources/refusal-reasons
DOCUMENTED = [*range(2, 13), *range(14, 30), *range(31, 47), 50]


@pytest.mark.parametrize("code", list(map(str, DOCUMENTED)))
async def test_every_documented_refusal_has_a_meaning(code: str) -> None:
    answer, _ = await ask(authorize(), Say(body=payment("Refused", refusalReasonCode=code)))
    assert answer.decline is not None
    assert (answer.decline.raw_code, answer.decline.code != "unknown") == (code, True)
    assert answer.decline.message


def test_the_words_of_every_refusal_are_known() -> None:
    assert {refusals.code_of(words) for words in refusals.CODES} == {"0", *map(str, DOCUMENTED)}
    assert refusals.code_of("current aid is in penalty box.") == "40"
    assert refusals.code_of("Words of tomorrow") is None


async def test_a_refusal_keeps_what_the_network_said() -> None:
    data = {"refusalReasonRaw": "5 : Do not honor", "merchantAdviceCode": "24 : Retry after 1 hour"}
    body = payment("Refused", refusalReason="Refused", refusalReasonCode="2", additionalData=data)
    answer, _ = await ask(authorize(), Say(body=body))
    assert answer.decline is not None
    assert (answer.decline.category, answer.decline.raw_code) == (DeclineCategory.SOFT, "2")
    assert (answer.decline.network_code, answer.decline.network_advice_code) == ("05", "24")


@pytest.mark.parametrize(
    ("raw", "category"),
    [
        ("51 : Insufficient funds", DeclineCategory.SOFT),
        ("41: Lost card", DeclineCategory.FRAUD),
        ("57", DeclineCategory.HARD),
        ("R1 : Revocation", DeclineCategory.HARD),
        ("AUTHORISED", DeclineCategory.SOFT),
        ("Refused by bank", DeclineCategory.SOFT),
    ],
)
async def test_what_the_network_said_only_hardens(raw: str, category: DeclineCategory) -> None:
    body = payment("Refused", refusalReasonCode="2", additionalData={"refusalReasonRaw": raw})
    answer, _ = await ask(authorize(), Say(body=body))
    assert answer.decline is not None
    assert answer.decline.category is category


def test_the_customer_is_not_told_of_a_suspicion() -> None:
    plain = DECLINES.decline("2").message
    assert {DECLINES.decline(code).message for code in ("5", "14", "20", "22", "31")} == {plain}


FAILURES: list[tuple[Say, Outcome, bool, bool]] = [
    # what Adyen says, outcome, may be repeated at once, reachable
    (error(400, "702"), Outcome.DECLINED, False, True),
    (error(401, "000", "security"), Outcome.TEMPORARY_FAILURE, False, False),
    (Say(401, ""), Outcome.TEMPORARY_FAILURE, False, False),
    (error(403, "901", "security"), Outcome.TEMPORARY_FAILURE, False, False),
    (error(422, "803"), Outcome.DECLINED, False, True),
    (error(422, "14_030"), Outcome.DECLINED, False, True),
    (error(422, "704"), Outcome.UNKNOWN, False, True),
    (error(422, "704", **{"transient-error": "true"}), Outcome.UNKNOWN, True, True),
    (error(409, "704", **{"transient-error": "true"}), Outcome.UNKNOWN, True, True),
    (error(409, "704"), Outcome.UNKNOWN, False, True),
    (Say(422, "<html>"), Outcome.UNKNOWN, False, True),
    (Say(404, ""), Outcome.UNKNOWN, False, True),
    (Say(408, ""), Outcome.UNKNOWN, True, True),
    (Say(429, ""), Outcome.TEMPORARY_FAILURE, True, True),
    (error(429, "905", "security"), Outcome.TEMPORARY_FAILURE, True, True),
    (error(500, "903", "internal"), Outcome.UNKNOWN, False, False),
    (error(500, "903", "internal", **{"Transient-Error": "true"}), Outcome.UNKNOWN, True, False),
    (error(500, "905", "configuration"), Outcome.DECLINED, False, True),
    (Say(500, "oops"), Outcome.UNKNOWN, False, False),
    (Say(502, "<html>bad gateway"), Outcome.UNKNOWN, True, False),
    (Say(503, ""), Outcome.UNKNOWN, True, False),
    (Say(504, ""), Outcome.UNKNOWN, True, False),
    (Say(301, ""), Outcome.UNKNOWN, False, True),
]


@pytest.mark.parametrize(("says", "outcome", "repeat", "reachable"), FAILURES)
@pytest.mark.parametrize("request_", [authorize(), requests.capture(PSP)])
async def test_every_error_is_one_outcome(
    request_: ProviderRequest, says: Say, outcome: Outcome, repeat: bool, reachable: bool
) -> None:
    answer, script = await ask(request_, says)
    assert (answer.outcome, answer.repeat, answer.reachable) == (outcome, repeat, reachable)
    assert (answer.decline is not None) == (outcome is Outcome.DECLINED)
    assert len(script.seen) == 1


@pytest.mark.parametrize(
    ("code", "canonical"),
    [("137", "invalid_amount"), ("803", "invalid_method"), ("129", "invalid_expiry"), ("999", "invalid_request")],
)
async def test_a_refused_request_keeps_its_code(code: str, canonical: str) -> None:
    answer, _ = await ask(authorize(), error(422, code))
    assert answer.decline is not None
    assert (answer.decline.code, answer.decline.raw_code) == (canonical, f"error_{code}")
    assert answer.detail is not None
    assert "So it is." in answer.detail


async def test_a_rate_limit_says_how_long() -> None:
    answer, _ = await ask(authorize(), Say(429, "", {"Retry-After": "3"}))
    assert answer.retry_after == 3.0


@pytest.mark.parametrize("trouble", list(Trouble))
async def test_after_sending_nobody_knows(trouble: Trouble) -> None:
    answer, script = await ask(authorize(), trouble)
    assert (answer.outcome, answer.reachable, answer.repeat) == (Outcome.UNKNOWN, False, False)
    assert len(script.seen) == 1


async def test_a_refused_connection_is_certainly_not_done() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, not listening: nobody else gets the port meanwhile
        async with provider_at(f"http://127.0.0.1:{held.getsockname()[1]}") as provider:
            answer = await provider.call(authorize())
    assert (answer.outcome, answer.repeat, answer.reachable) == (Outcome.TEMPORARY_FAILURE, True, False)


async def test_an_unknown_host_is_certainly_not_done() -> None:
    async with provider_at("http://adyen.invalid") as provider:
        answer = await provider.call(authorize())
    assert (answer.outcome, answer.reachable) == (Outcome.TEMPORARY_FAILURE, False)


async def test_a_connection_that_never_opens_is_certainly_not_done() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        address = deaf.getsockname()
        filled = [socket.socket() for _ in range(4)]
        for client in filled:
            client.setblocking(False)
            client.connect_ex(address)
        async with provider_at(f"http://127.0.0.1:{address[1]}") as provider:
            answer = await provider.call(authorize())
        for client in filled:
            client.close()
    assert (answer.outcome, answer.reachable) == (Outcome.TEMPORARY_FAILURE, False)


async def test_a_server_that_speaks_no_tls_is_certainly_not_done() -> None:
    async with (
        scripted(Say(body=payment("Authorised"))) as script,
        provider_at(script.url.replace("http:", "https:")) as provider,
    ):
        answer = await provider.call(authorize())
    assert answer.outcome is Outcome.TEMPORARY_FAILURE
    assert script.seen == []


# Captures, cancels and refunds


@pytest.mark.parametrize(
    ("request_", "path", "letter", "amount"),
    [
        (requests.capture(PSP, 400), "captures", "c", {"value": 400, "currency": "EUR"}),
        (requests.void(PSP), "cancels", "v", None),
        (requests.refund(PSP, 5, "ISK"), "refunds", "r", {"value": 500, "currency": "ISK"}),
    ],
)
async def test_a_modification_is_only_taken(request_: ProviderRequest, path: str, letter: str, amount: Any) -> None:
    answer, script = await ask(request_, Say(201, taken()))
    assert (answer.outcome, answer.provider_reference) == (Outcome.PENDING, PSP)
    assert answer.operation_reference == "993617894906488A"
    (seen,) = script.seen
    assert (seen.path, seen.key) == (f"/v72/payments/{PSP}/{path}", request_.subject_id)
    assert seen.json.get("amount") == amount
    assert seen.json["reference"] == f"{request_.payment_id}_{letter}_{request_.subject_id}"
    assert seen.json["merchantAccount"] == "TestMerchant"


@pytest.mark.parametrize("body", [taken(status="a status of tomorrow"), {"status": "received"}, "<html>", ""])
async def test_a_modification_that_is_not_taken_in_so_many_words_is_unknown(body: Any) -> None:
    answer, _ = await ask(requests.capture(PSP), Say(201, body))
    assert answer.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(("reason", "said"), [("duplicate", "DUPLICATE"), ("because", None), (None, None)])
async def test_a_refund_gives_a_reason_that_adyen_knows(reason: str | None, said: str | None) -> None:
    _, script = await ask(requests.refund(PSP, reason=reason), Say(201, taken()))
    assert script.seen[0].json.get("merchantRefundReason") == said


# Never twice


@pytest.mark.parametrize(
    "request_",
    [
        authorize(issued_at=clock.now() - 3 * DAY - 1),
        requests.capture(PSP, issued_at=clock.now() - 4 * DAY),
        requests.void(PSP, issued_at=clock.now() - 30 * DAY),
        requests.refund(PSP, issued_at=clock.now() - 30 * DAY),
    ],
)
async def test_an_old_request_is_never_sent(request_: ProviderRequest) -> None:
    answer, script = await ask(request_, Say(body=payment("Authorised")))
    assert (answer.outcome, answer.repeat) == (Outcome.UNKNOWN, False)
    assert script.seen == []


@pytest.mark.parametrize("operation", list(Operation))
async def test_a_look_up_asks_for_the_request_again_while_its_key_lives(operation: Operation) -> None:
    made = {
        Operation.AUTHORIZE: authorize(),
        Operation.CAPTURE: requests.capture(PSP),
        Operation.VOID: requests.void(PSP),
        Operation.REFUND: requests.refund(PSP),
    }[operation]
    answer, script = await ask(requests.lookup(made), Say(500))
    assert (answer.outcome, answer.looked_up) == (Outcome.NOT_FOUND, True)
    later = clock.now() + 3 * DAY + 1
    late, _ = await ask(requests.lookup(made), Say(500), now=lambda: later)
    assert (late.outcome, late.looked_up) == (Outcome.UNKNOWN, True)
    assert script.seen == []


# Amounts


@pytest.mark.parametrize(
    ("amount", "currency", "adyen"),
    [
        (1_050, "EUR", 1_050),
        (500, "JPY", 500),
        (12_345, "KWD", 12_345),
        (5, "ISK", 500),
        (5, "CLP", 500),
        (500, "CVE", 5),
        (500, "IDR", 5),
        (500, "HUF", 500),
    ],
)
async def test_amounts_are_counted_as_adyen_counts(amount: int, currency: str, adyen: int) -> None:
    body = payment("Authorised", amount={"value": adyen, "currency": currency})
    answer, script = await ask(authorize(amount, currency), Say(body=body))
    assert script.seen[0].json["amount"] == {"value": adyen, "currency": currency}
    assert (answer.amount, answer.currency) == (amount, currency)


@pytest.mark.parametrize(("amount", "currency"), [(550, "CVE"), (1, "IDR")])
async def test_an_amount_that_adyen_cannot_charge_is_refused_not_rounded(amount: int, currency: str) -> None:
    answer, script = await ask(authorize(amount, currency), Say(500))
    assert answer.outcome is Outcome.DECLINED
    assert script.seen == []


def test_it_is_a_provider() -> None:
    provider: type[Provider] = AdyenProvider
    assert provider.name == "adyen"
