"""Every answer, error body, status and network fault is exactly one outcome; and nothing is ever done twice."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from connectors.provider import Answer, Provider
from connectors.stripe.client import HOUR, StripeProvider
from connectors.transport import Timeouts
from pipeline import clock
from pipeline.messages.requests import ProviderRequest
from pipeline.messages.values import DeclineCategory, Outcome
from tests.connectors import requests
from tests.connectors.stripe.scripted import Say, Script, Trouble, scripted

FAST = Timeouts(connect=0.5, read=0.5, total=1.0)
EARLIER = Say(500, {"error": {"type": "api_error"}}, {"Idempotent-Replayed": "true"})


def error(status: int, kind: str, **fields: Any) -> Say:
    return Say(status, {"error": {"type": kind, **fields}})


def intent(status: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": "pi_1",
        "object": "payment_intent",
        "amount": 1_050,
        "amount_capturable": 0,
        "amount_received": 0,
        "currency": "eur",
        "capture_method": "manual",
        "status": status,
        "metadata": {},
        **fields,
    }


@asynccontextmanager
async def provider_at(url: str, **options: Any) -> AsyncIterator[StripeProvider]:
    provider = StripeProvider(url, "sk_test_x", timeouts=FAST, **options)
    try:
        yield provider
    finally:
        await provider.close()


async def ask(request: ProviderRequest, *answers: Say | Trouble, **options: Any) -> tuple[Answer, Script]:
    async with scripted(*answers) as script, provider_at(script.url, **options) as provider:
        return await provider.call(request), script


async def test_an_authorization_says_who_asks_and_under_which_key() -> None:
    request = requests.authorize("pm_card_visa")
    charge = {"id": "ch_1", "payment_method_details": {"card": {"capture_before": 1_700_000_000}}}
    answer, script = await ask(request, Say(body=intent("requires_capture", latest_charge=charge)))
    assert answer.outcome is Outcome.APPROVED
    assert (answer.provider_reference, answer.operation_reference) == ("pi_1", "ch_1")
    assert (answer.amount, answer.currency, answer.hold_expires_at) == (1_050, "EUR", 1_700_000_000_000)
    (seen,) = script.seen
    assert (seen.method, seen.path, seen.key) == ("POST", "/v1/payment_intents", request.subject_id)
    assert seen.params["metadata[payment_id]"] == request.payment_id
    assert seen.params["metadata[attempt_id]"] == request.subject_id
    assert seen.params["capture_method"] == "manual"
    assert seen.params["confirm"] == "true"
    assert seen.params["payment_method_options[card][request_multicapture]"] == "if_available"


async def test_automatic_capture_authorizes_and_captures_in_one() -> None:
    body = intent("succeeded", capture_method="automatic", amount_received=1_050, latest_charge="ch_1")
    answer, script = await ask(requests.authorize("pm_card_visa", manual=False), Say(body=body))
    assert (answer.outcome, answer.amount, answer.hold_expires_at) == (Outcome.APPROVED, 1_050, None)
    assert script.seen[0].params["capture_method"] == "automatic"
    assert "payment_method_options[card][request_multicapture]" not in script.seen[0].params


@pytest.mark.parametrize(
    ("action", "url"),
    [
        ({"type": "redirect_to_url", "redirect_to_url": {"url": "https://hooks.example/3ds"}}, "https://hooks.example/3ds"),
        ({"type": "use_stripe_sdk", "use_stripe_sdk": {"stripe_js": "https://hooks.example/js"}}, "https://hooks.example/js"),
        ({"type": "something_new"}, None),
        (None, None),
    ],
)  # fmt: skip
async def test_authentication_is_handed_on(action: Any, url: str | None) -> None:
    answer, _ = await ask(requests.authorize("pm_3ds"), Say(body=intent("requires_action", next_action=action)))
    assert answer.outcome is Outcome.REQUIRES_ACTION
    assert (answer.next_action.url if answer.next_action else None) == url


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (intent("processing"), Outcome.PENDING),
        (intent("requires_confirmation"), Outcome.UNKNOWN),
        (intent("requires_payment_method"), Outcome.UNKNOWN),
        (intent("requires_payment_method", last_payment_error={"code": "card_declined"}), Outcome.DECLINED),
        (intent("canceled", cancellation_reason="abandoned"), Outcome.DECLINED),
        (intent("a_status_of_tomorrow"), Outcome.UNKNOWN),
        ({"object": "payment_intent"}, Outcome.UNKNOWN),
        ({"id": "pi_1", "amount": "many"}, Outcome.UNKNOWN),
        ("<html>", Outcome.UNKNOWN),
        ("", Outcome.UNKNOWN),
    ],
)
async def test_every_status_is_one_outcome(body: Any, outcome: Outcome) -> None:
    answer, _ = await ask(requests.authorize("pm_card_visa"), Say(body=body))
    assert answer.outcome is outcome
    assert not answer.repeat


FAILURES: list[tuple[Say, Outcome, bool, bool]] = [
    # what Stripe says, outcome, may be repeated at once, reachable
    (error(400, "invalid_request_error", message="No such payment_method"), Outcome.DECLINED, False, True),
    (error(404, "invalid_request_error", code="resource_missing"), Outcome.DECLINED, False, True),
    (error(400, "idempotency_error"), Outcome.UNKNOWN, False, True),
    (error(400, "api_error"), Outcome.UNKNOWN, False, True),
    (error(400, "invalid_request_error", code="rate_limit"), Outcome.TEMPORARY_FAILURE, True, True),
    (error(400, "invalid_request_error", code="lock_timeout"), Outcome.TEMPORARY_FAILURE, True, True),
    (error(401, "invalid_request_error"), Outcome.TEMPORARY_FAILURE, False, False),
    (error(403, "invalid_request_error"), Outcome.TEMPORARY_FAILURE, False, False),
    (error(402, "card_error", code="card_declined", decline_code="insufficient_funds"), Outcome.DECLINED, False, True),
    (error(408, "api_error"), Outcome.UNKNOWN, True, True),
    (error(409, "invalid_request_error", code="idempotency_key_in_use"), Outcome.UNKNOWN, True, True),
    (error(424, "api_error"), Outcome.UNKNOWN, False, True),
    (error(429, "invalid_request_error", code="rate_limit"), Outcome.TEMPORARY_FAILURE, True, True),
    (error(500, "api_error"), Outcome.UNKNOWN, False, False),
    (Say(500, "oops"), Outcome.UNKNOWN, False, False),
    (Say(502, "<html>bad gateway"), Outcome.UNKNOWN, True, False),
    (Say(503, ""), Outcome.UNKNOWN, True, False),
    (Say(504, ""), Outcome.UNKNOWN, True, False),
    (Say(404, "<html>"), Outcome.UNKNOWN, False, True),
    (Say(301, ""), Outcome.UNKNOWN, False, True),
]


@pytest.mark.parametrize(("says", "outcome", "repeat", "reachable"), FAILURES)
async def test_every_error_is_one_outcome(says: Say, outcome: Outcome, repeat: bool, reachable: bool) -> None:
    answer, script = await ask(requests.authorize("pm_card_visa"), says)
    assert (answer.outcome, answer.repeat, answer.reachable) == (outcome, repeat, reachable)
    assert (answer.decline is not None) == (outcome is Outcome.DECLINED)
    assert len(script.seen) == 1, "the SDK must not repeat by itself"


async def test_a_rate_limit_says_how_long() -> None:
    says = Say(429, {"error": {"type": "invalid_request_error", "code": "rate_limit"}}, {"Retry-After": "3"})
    answer, _ = await ask(requests.authorize("pm_card_visa"), says)
    assert answer.retry_after == 3.0


async def test_a_decline_keeps_what_the_network_said() -> None:
    says = error(
        402,
        "card_error",
        code="card_declined",
        decline_code="insufficient_funds",
        network_decline_code="51",
        network_advice_code="02",
        advice_code="try_again_later",
        message="Your card has insufficient funds.",
        payment_intent=intent("requires_payment_method", latest_charge="ch_9"),
    )
    answer, _ = await ask(requests.authorize("pm_card_visa_chargeDeclinedInsufficientFunds"), says)
    assert answer.decline is not None
    assert (answer.decline.category, answer.decline.raw_code) == (DeclineCategory.SOFT, "insufficient_funds")
    assert (answer.decline.network_code, answer.decline.network_advice_code) == ("51", "02")
    assert (answer.provider_reference, answer.operation_reference) == ("pi_1", "ch_9")


@pytest.mark.parametrize("trouble", list(Trouble))
async def test_after_sending_nobody_knows(trouble: Trouble) -> None:
    answer, script = await ask(requests.authorize("pm_card_visa"), trouble)
    assert answer.outcome is Outcome.UNKNOWN
    assert not answer.reachable
    assert not answer.repeat
    assert len(script.seen) == 1


async def test_a_refused_connection_is_certainly_not_done() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, not listening: nobody else gets the port meanwhile
        async with provider_at(f"http://127.0.0.1:{held.getsockname()[1]}") as provider:
            answer = await provider.call(requests.authorize("pm_card_visa"))
    assert (answer.outcome, answer.repeat, answer.reachable) == (Outcome.TEMPORARY_FAILURE, True, False)


async def test_an_unknown_host_is_certainly_not_done() -> None:
    async with provider_at("http://stripe.invalid") as provider:
        answer = await provider.call(requests.authorize("pm_card_visa"))
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
            answer = await provider.call(requests.authorize("pm_card_visa"))
        for client in filled:
            client.close()
    assert (answer.outcome, answer.reachable) == (Outcome.TEMPORARY_FAILURE, False)


async def test_a_server_that_speaks_no_tls_is_certainly_not_done() -> None:
    async with (
        scripted(Say(body=intent("requires_capture"))) as script,
        provider_at(script.url.replace("http:", "https:")) as provider,
    ):
        answer = await provider.call(requests.authorize("pm_card_visa"))
    assert answer.outcome is Outcome.TEMPORARY_FAILURE
    assert script.seen == []


# Captures, voids and refunds


async def test_a_capture_leaves_its_tag() -> None:
    request = requests.capture("pi_1", 400, final=False)
    tag = "capture_" + request.subject_id.replace("-", "")
    body = intent("requires_capture", amount_received=400, metadata={tag: "400"})
    answer, script = await ask(request, Say(body=body))
    assert (answer.outcome, answer.amount) == (Outcome.APPROVED, 400)
    (seen,) = script.seen
    assert (seen.path, seen.key) == ("/v1/payment_intents/pi_1/capture", request.subject_id)
    assert (seen.params[f"metadata[{tag}]"], seen.params["final_capture"]) == ("400", "false")
    assert len(tag) <= 40, "Stripe takes metadata names of 40 characters"


async def test_a_final_capture_does_not_ask_for_multicapture() -> None:
    _, script = await ask(requests.capture("pi_1"), Say(body=intent("succeeded", amount_received=1_050)))
    assert "final_capture" not in script.seen[0].params


OTHER = {"capture_" + "0" * 32: "9"}
UNEXPECTED = error(400, "invalid_request_error", code="payment_intent_unexpected_state")


async def test_a_refused_capture_that_was_done_before_is_approved() -> None:
    request = requests.capture("pi_1")
    tag = "capture_" + request.subject_id.replace("-", "")
    now = Say(body=intent("succeeded", amount_received=1_050, metadata={tag: "1050"}))
    answer, script = await ask(request, UNEXPECTED, now)
    assert (answer.outcome, answer.amount, answer.looked_up) == (Outcome.APPROVED, 1_050, True)
    assert [seen.method for seen in script.seen] == ["POST", "GET"]


@pytest.mark.parametrize(
    ("request_", "now", "outcome"),
    [
        (requests.capture("pi_1"), intent("requires_capture"), Outcome.DECLINED),
        (requests.capture("pi_1"), intent("canceled"), Outcome.DECLINED),
        (requests.capture("pi_1"), intent("processing"), Outcome.PENDING),
        (requests.capture("pi_1"), intent("succeeded", amount_received=1_050), Outcome.APPROVED),
        (requests.capture("pi_1"), intent("succeeded", amount_received=9, metadata=OTHER), Outcome.DECLINED),
        (requests.void("pi_1"), intent("canceled"), Outcome.APPROVED),
        (requests.void("pi_1"), intent("succeeded"), Outcome.DECLINED),
        (requests.void("pi_1"), intent("requires_capture"), Outcome.DECLINED),
    ],
)  # fmt: skip
async def test_a_refused_operation_is_what_the_object_says(
    request_: ProviderRequest, now: dict[str, Any], outcome: Outcome
) -> None:
    answer, _ = await ask(request_, UNEXPECTED, Say(body=now))
    assert answer.outcome is outcome
    assert (answer.decline is not None) == (outcome is Outcome.DECLINED)


async def test_a_refusal_that_cannot_be_looked_at_is_unknown() -> None:
    answer, _ = await ask(requests.capture("pi_1"), UNEXPECTED, Say(503))
    assert answer.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("status", "reason", "outcome"),
    [
        ("succeeded", None, Outcome.APPROVED),
        ("pending", None, Outcome.PENDING),
        ("requires_action", None, Outcome.PENDING),
        ("failed", "lost_or_stolen_card", Outcome.DECLINED),
        ("failed", "a_reason_of_tomorrow", Outcome.DECLINED),
        ("failed", None, Outcome.DECLINED),
        ("canceled", None, Outcome.DECLINED),
        (None, None, Outcome.UNKNOWN),
    ],
)
async def test_a_refund_is_what_it_says(status: str | None, reason: str | None, outcome: Outcome) -> None:
    request = requests.refund("pi_1", 500, reason="requested_by_customer")
    body = {"id": "re_1", "status": status, "amount": 500, "currency": "eur", "payment_intent": "pi_1"}
    answer, script = await ask(request, Say(body={**body, "failure_reason": reason}))
    assert (answer.outcome, answer.operation_reference, answer.amount) == (outcome, "re_1", 500)
    assert script.seen[0].params["metadata[refund_id]"] == request.subject_id
    assert script.seen[0].params["reason"] == "requested_by_customer"


async def test_a_refused_refund_that_was_done_before_is_found() -> None:
    request = requests.refund("pi_1")
    ours = {"id": "re_2", "status": "succeeded", "amount": 1_050, "currency": "eur", "payment_intent": "pi_1"}
    page = {"data": [{"id": "re_1"}, {**ours, "metadata": {"refund_id": request.subject_id}}], "has_more": False}
    refused = error(400, "invalid_request_error", code="charge_already_refunded")
    answer, _ = await ask(request, refused, Say(body=page))
    assert (answer.outcome, answer.operation_reference) == (Outcome.APPROVED, "re_2")
    answer, _ = await ask(requests.refund("pi_1"), refused, Say(body=page))
    assert answer.outcome is Outcome.DECLINED
    assert answer.decline is not None
    assert answer.decline.code == "already_refunded"


# Never twice


@pytest.mark.parametrize(
    "request_",
    [
        requests.authorize("pm_card_visa", issued_at=clock.now() - 23 * HOUR - 1),
        requests.capture("pi_1", issued_at=clock.now() - 23 * HOUR - 1),
        requests.void("pi_1", issued_at=clock.now() - 24 * HOUR),
        requests.refund("pi_1", issued_at=clock.now() - 300 * HOUR),
    ],
)
async def test_an_old_request_is_looked_up_and_never_repeated(request_: ProviderRequest) -> None:
    answer, script = await ask(request_, Say(body={**intent("requires_capture"), "data": [], "has_more": False}))
    assert {seen.method for seen in script.seen} == {"GET"}
    assert (answer.outcome, answer.looked_up) == (Outcome.NOT_FOUND, True)


async def test_a_saved_500_is_certain_once_nothing_is_found() -> None:
    """Under that key Stripe answers nothing else for a day: the way out is another key."""
    nothing = Say(body={"data": [], "has_more": False})
    answer, _ = await ask(requests.authorize("pm_card_visa"), EARLIER, nothing)
    assert (answer.outcome, answer.repeat) == (Outcome.TEMPORARY_FAILURE, False)


async def test_a_saved_500_of_a_call_that_was_done_is_what_it_came_to() -> None:
    request = requests.authorize("pm_card_visa")
    done = intent("requires_capture", metadata={"attempt_id": request.subject_id})
    answer, _ = await ask(request, EARLIER, Say(body={"data": [done], "has_more": False}))
    assert answer.outcome is Outcome.APPROVED


async def test_a_saved_500_stays_unknown_while_the_list_is_too_long() -> None:
    page = Say(body={"data": [intent("succeeded", id="pi_other")], "has_more": True})
    answer, _ = await ask(requests.authorize("pm_card_visa"), EARLIER, page)
    assert answer.outcome is Outcome.UNKNOWN


# Looking up


async def test_an_authorization_without_a_reference_is_searched_then_listed() -> None:
    request = requests.authorize("pm_card_visa")
    done = intent("requires_capture", metadata={"attempt_id": request.subject_id})
    nothing, other = {"data": [], "has_more": False}, intent("succeeded", id="pi_other")
    first, second = {"data": [other], "has_more": True}, {"data": [done], "has_more": False}
    answer, script = await ask(requests.lookup(request), Say(body=nothing), Say(body=first), Say(body=second))
    assert (answer.outcome, answer.provider_reference) == (Outcome.APPROVED, "pi_1")
    assert script.seen[0].path == "/v1/payment_intents/search"
    assert script.seen[0].params["query"] == f"metadata['attempt_id']:'{request.subject_id}'"
    assert int(script.seen[1].params["created[gte]"]) <= request.issued_at // 1000
    assert script.seen[2].params["starting_after"] == "pi_other"


async def test_a_search_result_that_is_another_attempt_is_not_taken() -> None:
    other = {"data": [intent("succeeded", metadata={"attempt_id": "x"})], "has_more": False}
    answer, _ = await ask(requests.lookup(requests.authorize("pm_card_visa")), Say(body=other))
    assert answer.outcome is Outcome.NOT_FOUND


@pytest.mark.parametrize(
    "says", [says for says, *_ in FAILURES if says.status != 404 or "error" not in says.body] + list(Trouble)
)
async def test_a_question_that_fails_says_nothing(says: Say | Trouble) -> None:
    """A look-up that reported TEMPORARY_FAILURE or DECLINED would say that nothing was done."""
    for question in (
        requests.lookup(requests.authorize("pm_card_visa")),
        requests.lookup(requests.authorize("pm_card_visa"), reference="pi_1"),
        requests.lookup(requests.refund("pi_1")),
        requests.lookup(requests.refund("pi_1"), operation_reference="re_1"),
    ):
        answer, _ = await ask(question, says)
        assert answer.outcome is Outcome.UNKNOWN


async def test_a_reference_that_stripe_does_not_know_is_not_found() -> None:
    gone = error(404, "invalid_request_error", code="resource_missing")
    answer, _ = await ask(requests.lookup(requests.capture("pi_1")), gone)
    assert answer.outcome is Outcome.NOT_FOUND


async def test_several_captures_are_told_apart() -> None:
    first, second, third = (requests.capture("pi_1", amount, final=False) for amount in (300, 200, 100))
    tags = {"capture_" + r.subject_id.replace("-", ""): str(r.amount) for r in (first, second)}
    body = Say(body=intent("requires_capture", amount_received=500, metadata=tags))
    outcomes = [(await ask(requests.lookup(r), body))[0] for r in (first, second, third)]
    assert [(a.outcome, a.amount) for a in outcomes] == [
        (Outcome.APPROVED, 300),
        (Outcome.APPROVED, 200),
        (Outcome.NOT_FOUND, None),
    ]


# Amounts


@pytest.mark.parametrize(
    ("amount", "currency", "stripe"),
    [
        (1_050, "EUR", "1050"),
        (500, "JPY", "500"),
        (5, "ISK", "500"),
        (5, "UGX", "500"),
        (12_340, "KWD", "12340"),
        (500, "MGA", "5"),
        (500, "HUF", "500"),
    ],
)
async def test_amounts_are_counted_as_stripe_counts(amount: int, currency: str, stripe: str) -> None:
    body = intent("requires_capture", amount=int(stripe), currency=currency.lower())
    answer, script = await ask(requests.authorize("pm_card_visa", amount, currency), Say(body=body))
    assert script.seen[0].params["amount"] == stripe
    assert (answer.amount, answer.currency) == (amount, currency)


@pytest.mark.parametrize(("amount", "currency"), [(12_345, "KWD"), (550, "MGA")])
async def test_an_amount_that_stripe_cannot_charge_is_refused_not_rounded(amount: int, currency: str) -> None:
    answer, script = await ask(requests.authorize("pm_card_visa", amount, currency), Say(500))
    assert answer.outcome is Outcome.DECLINED
    assert script.seen == []


def test_it_is_a_provider() -> None:
    provider: type[Provider] = StripeProvider
    assert provider.name == "stripe"
