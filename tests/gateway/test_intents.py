"""The life of a payment over HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from gateway.keys import Scope
from pipeline.messages.commands import Authorize, Capture, CompleteAction, CreateIntent, Refund, SetMethod, Void
from pipeline.messages.values import CaptureMethod, PaymentMethod
from tests.gateway.chain import ACTION, APPROVED, DECLINED, SILENT, SOFT, Chain
from tests.gateway.conftest import Client, MakeClient, intent

pytestmark = pytest.mark.stack

WAIT = {"Prefer": "wait=10"}


def eventually(what: Callable[[], Any], seconds: float = 10) -> Any:
    """The first true value of `what`."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not become so"
        time.sleep(0.02)
    return found


def settle(client: Client, chain: Chain) -> None:
    """Wait until what was produced until now has been read."""
    last = client.create()["payment_id"]
    eventually(lambda: chain.of(last))
    time.sleep(0.1)  # other partitions


def path(made: dict[str, Any], action: str = "") -> str:
    return f"/api/v1/intents/{made['payment_id']}" + (f"/{action}" if action else "")


def test_a_created_intent_can_be_read_at_once(client: Client, chain: Chain) -> None:
    chain.held.set()
    try:
        answer = client.post("/api/v1/intents", intent(APPROVED, customer_id="c1", metadata={"a": "ü"}))
        assert answer.status_code == 201
        made = answer.json()
        assert answer.headers["Location"] == path(made)
        assert made["status"] == "requires_authorization"
        assert (made["amount"], made["currency"], made["sequence"]) == ("10.50", "USD", 0)
        assert client.get(path(made)).json() == made
    finally:
        chain.held.clear()
    processed = eventually(lambda: (found := client.get(path(made)).json())["sequence"] and found)
    assert processed == made | {"sequence": 1}


def test_auto_is_resolved_by_the_rules(client: Client) -> None:
    body = intent(APPROVED, provider="AUTO", country="DE")
    made = client.post("/api/v1/intents", body)
    assert (made.status_code, made.json()["provider"]) == (201, "stripe")
    body["payment_method"]["tokens"] = {"elsewhere": "tok_1"}
    refused = client.post("/api/v1/intents", body)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "provider")


def test_a_create_command_is_what_the_body_says(client: Client, chain: Chain) -> None:
    made = client.create(
        APPROVED,
        amount="12.345",
        currency="KWD",
        capture_method="automatic",
        customer_id="c1",
        merchant_reference="r1",
        order_id="o1",
        metadata={"a": "b"},
    )
    [command] = eventually(lambda: chain.of(made["payment_id"]))
    assert isinstance(command, CreateIntent)
    assert command.merchant_id == client.merchant
    assert (command.amount, command.currency, command.provider) == (12_345, "KWD", "stripe")
    assert command.capture_method is CaptureMethod.AUTOMATIC
    assert (command.customer_id, command.merchant_reference, command.order_id) == ("c1", "r1", "o1")
    assert command.payment_method == PaymentMethod(kind="card", token=APPROVED)
    assert command.metadata == {"a": "b"}
    assert abs(command.occurred_at - time.time() * 1000) < 10_000


def test_authorize_capture_refund(client: Client, chain: Chain) -> None:
    made = client.create()
    answer = client.send("PUT", path(made, "method"), {"payment_method": {"token": APPROVED}}, **WAIT)
    assert (answer.status_code, answer.json()["status"]) == (200, "requires_authorization")
    assert answer.headers["Preference-Applied"] == "wait=10"

    answer = client.post(path(made, "authorize"), **WAIT)
    assert (answer.status_code, answer.json()["status"]) == (200, "authorized")
    assert answer.json()["hold"]["amount"] == answer.json()["hold"]["remaining"] == "10.50"
    assert answer.json()["attempts"][0]["state"] == "succeeded"

    answer = client.post(path(made, "capture"), {"amount": "4.00", "final": False}, **WAIT)
    assert (answer.status_code, answer.json()["status"]) == (200, "partially_captured")
    assert answer.json()["hold"]["remaining"] == "6.50"
    answer = client.post(path(made, "capture"), **WAIT)
    assert (answer.json()["status"], answer.json()["amount_captured"]) == ("captured", "10.50")

    answer = client.post(path(made, "refund"), {"amount": "0.50", "reason": "broken"}, **WAIT)
    assert (answer.json()["status"], answer.json()["amount_refunded"]) == ("partially_refunded", "0.50")
    assert answer.json()["refunds"][0]["reason"] == "broken"
    answer = client.post(path(made, "refund"), **WAIT)
    assert answer.json()["status"] == "refunded"

    kinds = [type(item) for item in chain.of(made["payment_id"])]
    assert kinds == [CreateIntent, SetMethod, Authorize, Capture, Capture, Refund, Refund]
    assert client.get(path(made)).json() == answer.json()


def test_authorizing_with_a_method_waits_for_the_authorization(client: Client, chain: Chain) -> None:
    made = client.create()
    answer = client.post(path(made, "authorize"), {"payment_method": {"token": APPROVED}}, **WAIT)
    assert (answer.status_code, answer.json()["status"]) == (200, "authorized")


def test_void(client: Client, chain: Chain) -> None:
    made = client.create(APPROVED)
    client.post(path(made, "authorize"), **WAIT)
    answer = client.post(path(made, "void"), {"reason": "no stock"}, **WAIT)
    assert (answer.status_code, answer.json()["status"]) == (200, "voided")
    assert isinstance(chain.of(made["payment_id"])[-1], Void)


def test_without_preference_the_outcome_is_at_the_location(client: Client, chain: Chain) -> None:
    made = client.create(APPROVED)
    chain.held.set()
    try:
        answer = client.post(path(made, "authorize"))
        assert answer.status_code == 202
        where = answer.headers["Location"]
        assert answer.json()["state"] == "accepted"
        assert client.get(where).json() == answer.json()
    finally:
        chain.held.clear()
    operation = eventually(lambda: (found := client.get(where).json())["state"] == "completed" and found)
    assert operation["kind"] == "Authorize"
    assert client.get(operation["intent"]).json()["status"] == "authorized"


def test_an_outcome_that_is_not_there_in_time_is_at_the_location(client: Client, chain: Chain) -> None:
    made = client.create(SILENT)
    begun = time.monotonic()
    answer = client.post(path(made, "authorize"), Prefer="wait=1")
    assert 0.9 < time.monotonic() - begun < 3
    assert answer.status_code == 202
    assert answer.headers["Preference-Applied"] == "wait=1"
    assert answer.json()["state"] == "started"
    assert client.get(answer.headers["Location"]).json()["state"] == "started"


def test_an_outcome_is_told_as_soon_as_it_is_there(client: Client, chain: Chain) -> None:
    made = client.create(APPROVED)
    begun = time.monotonic()
    assert client.post(path(made, "authorize"), Prefer="respond-async, wait=30").status_code == 200
    assert time.monotonic() - begun < 2


def test_a_created_intent_may_be_waited_for(client: Client, chain: Chain) -> None:
    answer = client.post("/api/v1/intents", intent(APPROVED), **WAIT)
    assert (answer.status_code, answer.json()["sequence"]) == (201, 1)


def test_a_decline_is_402_with_the_reason(client: Client, chain: Chain) -> None:
    made = client.create(DECLINED)
    answer = client.post(path(made, "authorize"), **WAIT)
    assert answer.status_code == 402
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["type"] == "/problems/payment_declined"
    assert problem["decline"]["code"] == "lost_card"
    assert problem["decline"]["category"] == "hard"
    assert problem["intent"]["status"] == "failed"


def test_a_soft_decline_says_that_a_retry_is_scheduled(client: Client, chain: Chain) -> None:
    made = client.create(SOFT)
    answer = client.post(path(made, "authorize"), **WAIT)
    assert answer.status_code == 402
    assert answer.json()["intent"]["status"] == "retry_scheduled"
    retry = answer.json()["intent"]["retry"]
    assert retry["due_at"] > retry["scheduled_at"]
    assert retry["due_at"].endswith("Z")
    assert (retry["rule"], retry["attempt_number"]) == ("insufficient_funds", 2)
    assert retry["decline"]["category"] == "soft"
    again = client.post(path(made, "retry-now"), **WAIT)
    assert again.status_code == 402
    assert len(again.json()["intent"]["attempts"]) == 2


def test_cancel_calls_a_scheduled_retry_off(client: Client, chain: Chain) -> None:
    made = client.create(SOFT)
    client.post(path(made, "authorize"), **WAIT)
    answer = client.post(path(made, "cancel"), {"reason": "the order was withdrawn"}, **WAIT)
    assert (answer.status_code, answer.json()["status"], answer.json()["retry"]) == (200, "canceled", None)
    assert client.post(path(made, "retry-now"), **WAIT).json()["type"] == "/problems/payment_canceled"


def test_a_customer_action_is_told_at_once(client: Client, chain: Chain) -> None:
    made = client.create(ACTION)
    answer = client.post(path(made, "authorize"), **WAIT)
    assert (answer.status_code, answer.json()["status"]) == (200, "requires_action")
    assert answer.json()["attempts"][0]["next_action"]["url"] == "https://bank.example/3ds"


def test_what_the_customers_browser_brought_decides(client: Client, chain: Chain) -> None:
    made = client.create(ACTION)
    client.post(path(made, "authorize"), **WAIT)
    answer = client.post(path(made, "complete-action"), {"result": "opaque"}, **WAIT)
    assert (answer.status_code, answer.json()["status"]) == (200, "authorized")
    [command] = [item for item in chain.of(made["payment_id"]) if isinstance(item, CompleteAction)]
    assert command.result == "opaque"
    late = client.post(path(made, "complete-action"), {"result": "opaque"}, **WAIT)
    assert (late.status_code, late.json()["type"]) == (409, "/problems/already_authorized")


@pytest.mark.parametrize(
    "url", ["http://shop.example/", "https://shop@evil.example/", "javascript:alert(1)", "/back", ""]
)
def test_a_return_url_is_one_that_a_customer_may_be_sent_to(client: Client, url: str) -> None:
    answer = client.post("/api/v1/intents", intent(return_url=url))
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "return_url")


@pytest.mark.parametrize(
    ("action", "body", "reason"),
    [
        ("capture", None, "not_authorized"),
        ("refund", None, "not_authorized"),
        ("retry-now", None, "no_retry_pending"),
        ("complete-action", {"result": "opaque"}, "no_action_pending"),
        ("authorize", None, "method_required"),
    ],
)
def test_a_command_that_does_not_fit_is_409_with_the_reason(
    client: Client, chain: Chain, action: str, body: Any, reason: str
) -> None:
    made = client.create()
    answer = client.post(path(made, action), body, **WAIT)
    assert answer.status_code == 409
    assert answer.json()["type"] == f"/problems/{reason}"
    assert answer.json()["intent"]["status"] == "requires_method"
    operation = client.get(path(made, f"operations/{answer.json()['operation_id']}")).json()
    assert (operation["state"], operation["reason"]) == ("rejected", reason)


def test_more_than_is_held_or_captured_is_refused(client: Client, chain: Chain) -> None:
    made = client.create(APPROVED)
    client.post(path(made, "authorize"), **WAIT)
    answer = client.post(path(made, "capture"), {"amount": "10.51"}, **WAIT)
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/amount_exceeds_hold")
    client.post(path(made, "capture"), {"amount": "10.50"}, **WAIT)
    answer = client.post(path(made, "refund"), {"amount": "10.51"}, **WAIT)
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/amount_exceeds_captured")


def test_what_the_provider_refuses_is_402(client: Client, chain: Chain) -> None:
    made = client.create(APPROVED)
    client.post(path(made, "authorize"), **WAIT)
    chain.refuses_money = True
    try:
        answer = client.post(path(made, "capture"), **WAIT)
    finally:
        chain.refuses_money = False
    assert (answer.status_code, answer.json()["type"]) == (402, "/problems/capture_failed")
    assert answer.json()["intent"]["hold"]["remaining"] == "10.50"


@pytest.mark.parametrize(("currency", "amount"), [("JPY", "1050"), ("KWD", "1.050"), ("USD", "10.5"), ("EUR", "7")])
def test_amounts_are_shown_with_the_currencys_decimals(
    client: Client, chain: Chain, currency: str, amount: str
) -> None:
    decimals = {"JPY": 0, "KWD": 3, "USD": 2, "EUR": 2}[currency]
    made = client.create(amount=amount, currency=currency)
    assert made["amount"] == f"{float(amount):.{decimals}f}"
    zero = f"{0:.{decimals}f}"
    assert made["amount_captured"] == made["amount_refunded"] == zero


def test_records_carry_cloudevents_and_the_clients_trace(client: Client, chain: Chain) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    answer = client.post("/api/v1/intents", intent(), traceparent=f"00-{trace}-00f067aa0ba902b7-01")
    [command] = eventually(lambda: chain.of(answer.json()["payment_id"]))
    headers = chain.headers[command.input_id]
    assert headers["ce_type"] == b"payments.v1.CreateIntent"
    assert headers["ce_source"] == b"/payments/gateway"
    assert headers["ce_id"].decode() == command.input_id
    assert headers["ce_subject"].decode() == command.payment_id
    version, given, span, flags = headers["traceparent"].decode().split("-")
    assert (version, given, flags) == ("00", trace, "01")
    assert span != "00f067aa0ba902b7"


INVALID_TRACES = ["", "00-0-0-0", f"00-{'0' * 32}-00f067aa0ba902b7-01", f"ff-{'1' * 32}-{'1' * 16}-01"]


@pytest.mark.parametrize("given", INVALID_TRACES)
def test_an_invalid_trace_is_replaced(client: Client, chain: Chain, given: str) -> None:
    answer = client.post("/api/v1/intents", intent(), traceparent=given)
    [command] = eventually(lambda: chain.of(answer.json()["payment_id"]))
    trace = chain.headers[command.input_id]["traceparent"].decode().split("-")[1]
    assert len(trace) == 32
    assert trace not in given


def test_another_merchants_payment_does_not_exist(make_client: MakeClient, chain: Chain) -> None:
    mine, theirs = make_client(), make_client()
    made = mine.create(APPROVED)
    answer = mine.post(path(made, "authorize"), **WAIT)
    operation = path(made, f"operations/{chain.of(made['payment_id'])[-1].input_id}")
    assert answer.status_code == mine.get(operation).status_code == 200
    before = len(chain.of(made["payment_id"]))
    assert theirs.get(path(made)).status_code == 404
    assert theirs.get(operation).status_code == 404
    for method, action, body in [
        ("PUT", "method", {"payment_method": {"token": APPROVED}}),
        ("POST", "authorize", None),
        ("POST", "capture", None),
        ("POST", "void", None),
        ("POST", "refund", None),
        ("POST", "retry-now", None),
        ("POST", "complete-action", None),
        ("POST", "cancel", None),
    ]:
        answer = theirs.send(method, path(made, action), body)
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not_found")
    assert theirs.get("/api/v1/intents").json()["data"] == []
    settle(mine, chain)
    assert len(chain.of(made["payment_id"])) == before


@pytest.mark.parametrize("name", ["x", "00000000-0000-0000-0000-000000000000", "A" * 36, "%00", "..%2f..", "é"])
def test_what_is_no_payment_is_404(client: Client, name: str) -> None:
    assert client.get(f"/api/v1/intents/{name}").status_code == 404
    assert client.post(f"/api/v1/intents/{name}/authorize").status_code == 404


SCOPES = {
    Scope.PAYMENTS_WRITE: [
        ("POST", ""), ("PUT", "/{id}/method"), ("POST", "/{id}/authorize"), ("POST", "/{id}/capture"),
        ("POST", "/{id}/void"), ("POST", "/{id}/retry-now"), ("POST", "/{id}/cancel"),
        ("POST", "/{id}/complete-action"),
    ],
    Scope.PAYMENTS_READ: [("GET", ""), ("GET", "/{id}"), ("GET", "/{id}/operations/x")],
    Scope.PAYMENTS_REFUND: [("POST", "/{id}/refund")],
}  # fmt: skip


@pytest.mark.parametrize("scope", list(Scope))
def test_each_route_wants_its_scope(make_client: MakeClient, chain: Chain, scope: Scope) -> None:
    owner = make_client()
    made = owner.create()
    asks = make_client(merchant=owner.merchant, scopes=(scope,))
    for wanted, routes in SCOPES.items():
        for method, route in routes:
            where = "/api/v1/intents" + route.format(id=made["payment_id"])
            answer = asks.http.request(method, where, headers={"Idempotency-Key": "k"})
            assert (answer.status_code == 403) == (wanted is not scope), (scope, method, route, answer.text)
            if wanted is not scope:
                assert answer.json()["type"] == "/problems/forbidden"


def test_a_list_is_filtered_and_paged(client: Client, chain: Chain) -> None:
    made = [client.create(customer_id=f"c{number % 2}", merchant_reference=f"r{number}") for number in range(7)]
    eventually(lambda: len(client.get("/api/v1/intents").json()["data"]) == 7)
    expected = [item["payment_id"] for item in sorted(made, key=lambda m: (m["created_at"], m["payment_id"]))][::-1]
    seen, cursor = [], None
    while True:
        page = client.get("/api/v1/intents", limit="3", **({"cursor": cursor} if cursor else {})).json()
        seen += [item["payment_id"] for item in page["data"]]
        if not (cursor := page["next_cursor"]):
            break
    assert seen == expected

    def found(**parameters: str) -> list[str]:
        answer = client.get("/api/v1/intents", **parameters)
        assert answer.status_code == 200, answer.text
        return [item["merchant_reference"] for item in answer.json()["data"]]

    assert sorted(found(customer_id="c1")) == ["r1", "r3", "r5"]
    assert found(merchant_reference="r4") == ["r4"]
    assert found(status="authorized") == []
    assert len(found(status="requires_method")) == 7
    assert found(created_from="2100-01-01T00:00:00Z") == []
    assert len(found(created_from=made[0]["created_at"], created_to="2100-01-01T00:00:00+01:00")) == 7


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"status": "none"}, "status"),
        ({"status": "x"}, "status"),
        ({"limit": "0"}, "limit"),
        ({"limit": "101"}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": "AAAA"}, "cursor"),
        ({"cursor": "f" * 32}, "cursor"),
        ({"created_from": "yesterday"}, "created_from"),
        ({"created_from": "2026-02-30T00:00:00Z"}, "created_from"),
        ({"created_to": "2026-01-01T00:00:00"}, "created_to"),
        ({"customer_id": ""}, "customer_id"),
        ({"customer_id": "\x00"}, "customer_id"),
        ({"unknown": "x"}, "unknown"),
        ({"; DROP": "x"}, "?"),
    ],
)
def test_an_invalid_query_is_400(client: Client, parameters: dict[str, str], field: str) -> None:
    answer = client.get("/api/v1/intents", **parameters)
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/invalid_query")
    assert answer.json()["errors"][0]["field"] == field


def test_a_parameter_given_twice_is_400(client: Client) -> None:
    assert client.http.get("/api/v1/intents?limit=1&limit=2").status_code == 400
