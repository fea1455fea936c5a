"""PayPal's part of the simulator, over HTTP as PayPal's OpenAPI has it."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.verification import PolicyBuilder, Store

from connectors.paypal import reports, settlement
from connectors.settlement.fetching import FetchError
from connectors.settlement.report import Origin
from connectors.simulator.paypal.certificates import HOST, Certificates
from connectors.simulator.paypal.errors import ISSUES
from connectors.simulator.paypal.methods import RESPONSES, Method, Outcome, Stage, method_of
from connectors.simulator.paypal.outbox import MOST_ATTEMPTS, PayPalEndpoint
from connectors.simulator.paypal.records import References
from connectors.simulator.settings import DeliverySettings
from connectors.simulator.webhooks import Deliverer, Delivery
from pipeline.domain.settlement import figures
from pipeline.messages.reports import ReadOutcome, ReportRequest
from pipeline.messages.settlement import LineKind, SettlementLine
from tests.connectors.simulators import PAYPAL, Simulator, simulator

CLIENT = (PAYPAL["PAYMENTS_PAYPAL_CLIENT_ID"], PAYPAL["PAYMENTS_PAYPAL_CLIENT_SECRET"])
PAYMENT = "8e42fd4c-e8b2-547c-b2f7-6256b5676e50"
ATTEMPT = "5f9c3f0e-7d27-5d0c-9a55-0e9b3d4a1c11"
OURS = f"{PAYMENT}_a_{ATTEMPT}"
FULL = {"Prefer": "return=representation"}


@dataclass(frozen=True, slots=True)
class Received:
    """One delivery."""

    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads(self.body)
        return found


@dataclass(slots=True)
class Receiver:
    """A webhook endpoint that remembers. `statuses` are answered first; then 200."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    def types(self) -> list[str]:
        return [each.event["event_type"] for each in self.received]

    def one(self, kind: str) -> dict[str, Any]:
        (found,) = [each.event for each in self.received if each.event["event_type"] == kind]
        resource: dict[str, Any] = found["resource"]
        return resource


@contextmanager
def receiver() -> Iterator[Receiver]:
    """A webhook endpoint that ends with the block."""
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.received.append(Received({k.upper(): v for k, v in self.headers.items()}, body))
            self.send_response(found.statuses.pop(0) if found.statuses else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found.url = f"http://127.0.0.1:{server.server_port}/webhooks/paypal"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()


@dataclass(frozen=True, slots=True)
class PayPal:
    """A client of the simulator with a token, as any client of PayPal's."""

    sim: Simulator
    inbox: Receiver
    http: httpx.Client

    def post(self, path: str, body: Any = None, key: str | None = "", **headers: str) -> httpx.Response:
        """`key` None sends no PayPal-Request-Id, an empty one a new one."""
        request_id = {} if key is None else {"PayPal-Request-Id": key or str(uuid4())}
        return self.http.post(path, json={} if body is None else body, headers={**FULL, **request_id, **headers})

    def get(self, path: str) -> httpx.Response:
        return self.http.get(path)

    def order(self, method: str = "paypal_ok", **fields: Any) -> dict[str, Any]:
        answer = self.post("/v2/checkout/orders", order(method, **fields))
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def authorized(self, method: str = "paypal_ok", **fields: Any) -> str:
        """The id of an authorization."""
        name: str = self.order(method, **fields)["purchase_units"][0]["payments"]["authorizations"][0]["id"]
        return name

    def captured(self, method: str = "paypal_ok", **fields: Any) -> str:
        """The id of a capture that was made at once."""
        made = self.order(method, intent="CAPTURE", **fields)["purchase_units"][0]["payments"]["captures"][0]
        name: str = made["id"]
        return name

    def capture(self, held: str, value: str | None = None, **fields: Any) -> httpx.Response:
        """Without a value, what is left."""
        return self.post(f"/v2/payments/authorizations/{held}/capture", {**amount(value), **fields})

    def refund(self, made: str, value: str | None = None, **fields: Any) -> httpx.Response:
        return self.post(f"/v2/payments/captures/{made}/refund", {**amount(value), **fields})

    def control(self, path: str, **params: str) -> Any:
        answer = self.http.post(f"/_sim/paypal/{path}", params=params)
        answer.raise_for_status()
        return answer.json()

    def page(self, name: str | None = None) -> dict[str, Any]:
        """The only page of the book, or that of an order."""
        (found,) = [p for p in self.sim.whole_book() if name in (None, p["order_id"])]
        return found

    def drain(self) -> None:
        assert self.http.post("/_sim/webhooks/drain", json={"seconds": 10}).json()["drained"]

    def wait_for(self, kind: str) -> dict[str, Any]:
        """The resource of an event that something later causes."""
        deadline = time.monotonic() + 10
        while kind not in self.inbox.types():
            assert time.monotonic() < deadline, self.inbox.types()
            time.sleep(0.02)
        return self.inbox.one(kind)


def amount(value: str | None, currency: str = "EUR") -> dict[str, Any]:
    return {} if value is None else {"amount": {"currency_code": currency, "value": value}}


def order(method: str | None = "paypal_ok", value: str = "10.00", currency: str = "EUR", **fields: Any) -> Any:
    unit = {"custom_id": OURS, "description": "Shoes", **amount(value, currency), **fields.pop("unit", {})}
    source = {} if method is None else {"payment_source": {"card": {"vault_id": method}}}
    return {"intent": "AUTHORIZE", "purchase_units": [unit], **source, **fields}


def issue(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["details"][0]["issue"]


def token(sim: Simulator, client: tuple[str, str] = CLIENT) -> httpx.Response:
    return httpx.post(f"{sim.url}/v1/oauth2/token", data={"grant_type": "client_credentials"}, auth=client)


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Simulator, Receiver]]:
    with receiver() as inbox:
        flags = ["--paypal-webhook-url", inbox.url, "--paypal-pending-seconds", "0.05", "--webhook-first-retry", "0.05"]
        with simulator(flags=flags) as sim:
            yield sim, inbox


@pytest.fixture
def paypal(running: tuple[Simulator, Receiver]) -> Iterator[PayPal]:
    sim, inbox = running
    httpx.post(f"{sim.url}/_sim/reset").raise_for_status()
    inbox.received.clear()
    inbox.statuses.clear()
    bearer = {"Authorization": f"Bearer {token(sim).json()['access_token']}"}
    with httpx.Client(base_url=sim.url, headers=bearer, timeout=20) as http:
        yield PayPal(sim, inbox, http)


# Tokens


def test_a_token(paypal: PayPal) -> None:
    answer = token(paypal.sim)
    assert answer.status_code == 200
    assert (answer.json()["token_type"], answer.json()["expires_in"]) == ("Bearer", 32_400)


def test_strangers(paypal: PayPal) -> None:
    refused = token(paypal.sim, ("paypal_client", "wrong"))
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")
    grant = httpx.post(f"{paypal.sim.url}/v1/oauth2/token", data={"grant_type": "password"}, auth=CLIENT)
    assert (grant.status_code, grant.json()["error"]) == (400, "unsupported_grant_type")
    without = httpx.post(f"{paypal.sim.url}/v2/checkout/orders", json=order())
    assert (without.status_code, without.json()["name"]) == (401, "AUTHENTICATION_FAILURE")
    with_another = {"Authorization": "Bearer A21AAnobody"}
    unknown = httpx.post(f"{paypal.sim.url}/v2/checkout/orders", json=order(), headers=with_another)
    assert (unknown.status_code, unknown.json()["error"]) == (401, "invalid_token")
    assert paypal.sim.whole_book() == []


def test_tokens_expire(paypal: PayPal) -> None:
    assert paypal.control("tokens/expire")["expired"] >= 1
    assert paypal.post("/v2/checkout/orders", order()).json()["error"] == "invalid_token"


# Orders


def test_authorize_capture_refund(paypal: PayPal) -> None:
    made = paypal.order()
    (unit,) = made["purchase_units"]
    (held,) = unit["payments"]["authorizations"]
    assert (made["status"], held["status"], unit["custom_id"]) == ("COMPLETED", "CREATED", OURS)
    assert held["processor_response"]["response_code"] == "0000"
    capture = paypal.capture(held["id"], "6.00", invoice_id="mine", final_capture=True)
    assert (capture.status_code, capture.json()["status"]) == (201, "COMPLETED")
    related = capture.json()["supplementary_data"]["related_ids"]
    assert related == {"order_id": made["id"], "authorization_id": held["id"]}
    assert (capture.json()["custom_id"], capture.json()["invoice_id"]) == (OURS, "mine")
    refund = paypal.refund(capture.json()["id"], "2.00")
    assert (refund.status_code, refund.json()["status"]) == (201, "COMPLETED")
    found = paypal.page(made["id"])
    assert (found["authorized"], found["captured"], found["voided"], found["refunded"]) == (1_000, 600, 400, 200)
    assert (found["payment_id"], found["attempt_id"]) == (PAYMENT, ATTEMPT)
    assert paypal.get(f"/v2/payments/authorizations/{held['id']}").json()["status"] == "CAPTURED"
    assert paypal.get(f"/v2/payments/captures/{capture.json()['id']}").json()["status"] == "PARTIALLY_REFUNDED"
    assert paypal.get(f"/v2/payments/refunds/{refund.json()['id']}").json()["amount"]["value"] == "2.00"


def test_captured_at_once(paypal: PayPal) -> None:
    made = paypal.captured(value="1500", currency="JPY")
    found = paypal.get(f"/v2/payments/captures/{made}").json()
    assert (found["status"], found["amount"]) == ("COMPLETED", {"currency_code": "JPY", "value": "1500"})
    assert "authorization_id" not in found["supplementary_data"]["related_ids"]
    assert (paypal.page()["authorized"], paypal.page()["captured"]) == (1_500, 1_500)


@pytest.mark.parametrize(("intent", "action"), [("AUTHORIZE", "authorize"), ("CAPTURE", "capture")])
@pytest.mark.parametrize("method", ["paypal_payer_action", None])
def test_a_payer_who_must_approve(paypal: PayPal, intent: str, action: str, method: str | None) -> None:
    body = order(method, intent=intent)
    if method:
        context = {"return_url": "https://shop.example/back?order=17", "cancel_url": "https://shop.example/no"}
        body["payment_source"] = {"paypal": {"vault_id": method, "experience_context": context}}
    made = paypal.post("/v2/checkout/orders", body).json()
    links = {link["rel"]: link["href"] for link in made["links"]}
    where = links["payer-action" if method else "approve"]
    assert made["status"] == ("PAYER_ACTION_REQUIRED" if method else "CREATED")
    assert issue(paypal.post(f"/v2/checkout/orders/{made['id']}/{action}")) == (422, "ORDER_NOT_APPROVED")
    assert "Approve" in httpx.get(where).text
    sent_back = httpx.post(where, data={"outcome": "success"})
    if method:
        back = httpx.URL(sent_back.headers["location"])
        assert (back.params["order"], back.params["token"]) == ("17", made["id"])
    paypal.drain()
    assert paypal.inbox.one("CHECKOUT.ORDER.APPROVED")["id"] == made["id"]
    assert paypal.get(f"/v2/checkout/orders/{made['id']}").json()["status"] == "APPROVED"
    assert paypal.page()["authorized"] == 0, "only approved"
    done = paypal.post(f"/v2/checkout/orders/{made['id']}/{action}")
    assert (done.status_code, done.json()["status"]) == (201, "COMPLETED")
    assert paypal.page()["authorized"] == 1_000
    again = {"authorize": "ORDER_ALREADY_AUTHORIZED", "capture": "ORDER_ALREADY_CAPTURED"}[action]
    assert issue(paypal.post(f"/v2/checkout/orders/{made['id']}/{action}")) == (422, again)


def test_a_payer_who_approves_and_is_declined(paypal: PayPal) -> None:
    made = paypal.order("paypal_payer_action_5120")
    (where,) = [link["href"] for link in made["links"] if link["rel"] == "payer-action"]
    assert httpx.post(where, data={"outcome": "success", "finish": "true"}).json()["status"] == "APPROVED"
    done = paypal.post(f"/v2/checkout/orders/{made['id']}/authorize").json()
    (held,) = done["purchase_units"][0]["payments"]["authorizations"]
    assert (held["status"], held["processor_response"]["response_code"]) == ("DENIED", "5120")


def test_a_payer_who_cancels(paypal: PayPal) -> None:
    made = paypal.order("paypal_payer_action")
    (where,) = [link["href"] for link in made["links"] if link["rel"] == "payer-action"]
    assert httpx.get(where, params={"token": made["id"], "outcome": "fail"}).json()["status"] == "PAYER_ACTION_REQUIRED"
    paypal.drain()
    assert paypal.inbox.types() == []
    paypal.control(f"orders/{made['id']}/void")
    assert issue(paypal.post(f"/v2/checkout/orders/{made['id']}/authorize")) == (422, "ORDER_EXPIRED")


def test_the_other_action(paypal: PayPal) -> None:
    made = paypal.order("paypal_payer_action")
    assert issue(paypal.post(f"/v2/checkout/orders/{made['id']}/capture")) == (422, "ACTION_DOES_NOT_MATCH_INTENT")


def test_a_method_may_come_with_the_authorization(paypal: PayPal) -> None:
    made = paypal.post("/v2/checkout/orders", order(None)).json()
    source = {"payment_source": {"token": {"id": "paypal_ok", "type": "BILLING_AGREEMENT"}}}
    done = paypal.post(f"/v2/checkout/orders/{made['id']}/authorize", source).json()
    assert done["purchase_units"][0]["payments"]["authorizations"][0]["status"] == "CREATED"


# Declines


@pytest.mark.parametrize("code", [code for code in RESPONSES if code != "0000"])
def test_every_response_code_can_be_had(paypal: PayPal, code: str) -> None:
    (held,) = paypal.order(f"paypal_declined_{code}")["purchase_units"][0]["payments"]["authorizations"]
    assert (held["status"], held["processor_response"]["response_code"]) == ("DENIED", code)


@pytest.mark.parametrize("name", list(ISSUES["422"]))
def test_every_issue_can_be_had(paypal: PayPal, name: str) -> None:
    answer = paypal.post("/v2/checkout/orders", order(f"paypal_issue_{name.lower()}"))
    assert issue(answer) == (422, name)
    assert (answer.json()["name"], bool(answer.json()["debug_id"])) == ("UNPROCESSABLE_ENTITY", True)
    assert paypal.sim.whole_book() == []


def test_a_declined_capture_at_once(paypal: PayPal) -> None:
    made = paypal.order("paypal_declined_5120_advice02", intent="CAPTURE")
    (capture,) = made["purchase_units"][0]["payments"]["captures"]
    assert (made["status"], capture["status"]) == ("COMPLETED", "DECLINED")
    assert capture["processor_response"]["payment_advice_code"] == "02"
    assert (paypal.page()["declined"], paypal.page()["captured"]) == (1_000, 0)
    paypal.drain()
    assert paypal.inbox.types() == ["PAYMENT.CAPTURE.DECLINED"]
    assert issue(paypal.refund(capture["id"])) == (422, "REFUND_NOT_ALLOWED")


def test_a_decline_that_a_retry_rescues(paypal: PayPal) -> None:
    statuses = [
        paypal.order("paypal_declined_5120_times1")["purchase_units"][0]["payments"]["authorizations"][0]["status"]
        for _ in range(2)
    ]
    assert statuses == ["DENIED", "CREATED"]
    refused = paypal.post("/v2/checkout/orders", order("paypal_issue_instrument_declined_times1"))
    assert issue(refused) == (422, "INSTRUMENT_DECLINED")
    assert paypal.order("paypal_issue_instrument_declined_times1")["status"] == "COMPLETED"


def test_a_capture_that_is_declined_leaves_the_hold(paypal: PayPal) -> None:
    held = paypal.authorized("paypal_capture_declined_5120")
    assert paypal.capture(held, "4.00").json()["status"] == "DECLINED"
    assert paypal.get(f"/v2/payments/authorizations/{held}").json()["status"] == "CREATED"
    assert issue(paypal.capture(paypal.authorized("paypal_capture_issue_payer_cannot_pay"))) == (
        422,
        "PAYER_CANNOT_PAY",
    )


# Authorizations, captures, refunds


def test_several_captures(paypal: PayPal) -> None:
    held = paypal.authorized()
    for value in ("3.00", "4.00"):
        assert paypal.capture(held, value).json()["status"] == "COMPLETED"
    assert paypal.get(f"/v2/payments/authorizations/{held}").json()["status"] == "PARTIALLY_CAPTURED"
    assert issue(paypal.capture(held, "4.51")) == (422, "MAX_CAPTURE_AMOUNT_EXCEEDED")
    assert paypal.capture(held, "4.50").json()["status"] == "COMPLETED", "up to 115 % of the authorization"
    assert issue(paypal.capture(held, "0.01")) == (422, "AUTHORIZATION_ALREADY_CAPTURED")
    assert (paypal.page()["captured"], paypal.page()["voided"]) == (1_150, 0)


def test_a_capture_without_an_amount_takes_what_is_left(paypal: PayPal) -> None:
    held = paypal.authorized()
    paypal.capture(held, "3.00")
    assert paypal.capture(held).json()["amount"]["value"] == "7.00"


def test_ten_captures_at_most(paypal: PayPal) -> None:
    held = paypal.authorized()
    for _ in range(10):
        paypal.capture(held, "0.10")
    assert issue(paypal.capture(held, "0.10")) == (422, "MAX_CAPTURE_COUNT_EXCEEDED")


def test_voids(paypal: PayPal) -> None:
    held = paypal.authorized()
    minimal = {"Prefer": "return=minimal"}
    answer = paypal.post(f"/v2/payments/authorizations/{held}/void", key=None, **minimal)
    assert (answer.status_code, answer.content) == (204, b"")
    assert issue(paypal.post(f"/v2/payments/authorizations/{held}/void")) == (422, "PREVIOUSLY_VOIDED")
    assert issue(paypal.capture(held)) == (422, "AUTHORIZATION_VOIDED")
    assert paypal.page()["voided"] == 1_000
    other = paypal.authorized()
    answer = paypal.post(f"/v2/payments/authorizations/{other}/void")
    assert (answer.status_code, answer.json()["status"]) == (200, "VOIDED")
    third = paypal.authorized()
    paypal.capture(third)
    assert issue(paypal.post(f"/v2/payments/authorizations/{third}/void")) == (422, "PREVIOUSLY_CAPTURED")
    refused = paypal.authorized("paypal_void_issue_cannot_be_voided")
    assert issue(paypal.post(f"/v2/payments/authorizations/{refused}/void")) == (422, "CANNOT_BE_VOIDED")


def test_authorizations_expire(paypal: PayPal) -> None:
    held = paypal.authorized()
    httpx.post(f"{paypal.sim.url}/_sim/clock", json={"advance_seconds": 29 * 24 * 3600}).raise_for_status()
    fresh = {"Authorization": f"Bearer {token(paypal.sim).json()['access_token']}"}
    shown = paypal.http.get(f"/v2/checkout/orders/{paypal.page()['order_id']}", headers=fresh).json()
    assert shown["purchase_units"][0]["payments"]["authorizations"][0]["status"] == "VOIDED"
    answer = paypal.post(f"/v2/payments/authorizations/{held}/capture", {}, **fresh)
    assert issue(answer) == (422, "AUTHORIZATION_EXPIRED")
    assert paypal.page()["voided"] == 1_000
    paypal.drain()
    assert paypal.inbox.one("PAYMENT.AUTHORIZATION.VOIDED")["status"] == "VOIDED"


def test_nothing_is_refunded_beyond_what_was_captured(paypal: PayPal) -> None:
    made = paypal.captured()
    assert issue(paypal.refund(made, "10.01")) == (422, "REFUND_AMOUNT_EXCEEDED")
    paypal.refund(made, "4.00")
    assert issue(paypal.refund(made, "6.01")) == (422, "REFUND_AMOUNT_EXCEEDED")
    assert paypal.refund(made).json()["amount"]["value"] == "6.00"
    assert issue(paypal.refund(made)) == (422, "CAPTURE_FULLY_REFUNDED")
    assert paypal.page()["refunded"] == 1_000


def test_an_invoice_is_paid_once(paypal: PayPal) -> None:
    held, other = paypal.authorized(), paypal.authorized()
    assert paypal.capture(held, "1.00", invoice_id="inv").status_code == 201
    assert issue(paypal.capture(other, "1.00", invoice_id="inv")) == (422, "DUPLICATE_INVOICE_ID")


@pytest.mark.parametrize("currency", ["HUF", "JPY", "TWD"])
def test_currencies_without_decimals(paypal: PayPal, currency: str) -> None:
    assert issue(paypal.post("/v2/checkout/orders", order(value="10.50", currency=currency))) == (
        422,
        "DECIMALS_NOT_SUPPORTED",
    )
    made = paypal.order(value="1050", currency=currency)
    assert made["purchase_units"][0]["amount"]["value"] == "1050"
    assert paypal.page()["authorized"] == 1_050


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"intent": None}, (400, "MISSING_REQUIRED_PARAMETER")),
        ({"intent": "SALE"}, (400, "INVALID_PARAMETER_VALUE")),
        ({"purchase_units": None}, (400, "MISSING_REQUIRED_PARAMETER")),
        ({"purchase_units": []}, (400, "INVALID_ARRAY_MIN_ITEMS")),
        ({"unit": {"amount": None}}, (400, "MISSING_REQUIRED_PARAMETER")),
        ({"unit": {"custom_id": "x" * 128}}, (400, "INVALID_STRING_LENGTH")),
        ({"value": "ten"}, (400, "INVALID_PARAMETER_SYNTAX")),
        ({"value": "0.00"}, (422, "CANNOT_BE_ZERO_OR_NEGATIVE")),
        ({"value": "-1.00"}, (422, "CANNOT_BE_ZERO_OR_NEGATIVE")),
        ({"value": "1.001"}, (422, "DECIMAL_PRECISION")),
        ({"currency": "KWD"}, (422, "INVALID_CURRENCY_CODE")),
        ({"payment_source": {"card": {"vault_id": "nobody"}}}, (422, "TOKEN_ID_NOT_FOUND")),
        ({"payment_source": {"card": {}}}, (400, "MISSING_REQUIRED_PARAMETER")),
        ({"payment_source": {"ideal": {"name": "x"}}}, (400, "INVALID_PARAMETER_VALUE")),
    ],
)
def test_requests_that_make_no_sense(paypal: PayPal, change: dict[str, Any], expected: tuple[int, str]) -> None:
    assert issue(paypal.post("/v2/checkout/orders", order(**change))) == expected
    assert paypal.sim.whole_book() == []


def test_what_does_not_exist(paypal: PayPal) -> None:
    assert issue(paypal.get("/v2/checkout/orders/5O190127TN364715T")) == (404, "INVALID_RESOURCE_ID")
    assert issue(paypal.capture("5O190127TN364715T")) == (404, "INVALID_RESOURCE_ID")
    assert paypal.get("/v2/payments/unicorns").json()["name"] == "RESOURCE_NOT_FOUND"
    broken = paypal.http.post("/v2/checkout/orders", content="{", headers={"Content-Type": "application/json"})
    assert issue(broken) == (400, "MALFORMED_REQUEST_JSON")
    assert paypal.http.post("/v2/checkout/orders", content="a=b").status_code == 415


# PayPal-Request-Id


def test_without_an_id_nothing_is_paid(paypal: PayPal) -> None:
    assert issue(paypal.post("/v2/checkout/orders", order(), key=None)) == (400, "PAYPAL_REQUEST_ID_REQUIRED")
    assert paypal.post("/v2/checkout/orders", order(None), key=None).status_code == 201


def test_a_repeat_answers_the_latest_status(paypal: PayPal) -> None:
    first = paypal.post("/v2/checkout/orders", order(), key="k")
    held = first.json()["purchase_units"][0]["payments"]["authorizations"][0]["id"]
    paypal.capture(held, "1.00")
    again = paypal.post("/v2/checkout/orders", order(), key="k")
    assert (first.status_code, again.status_code, again.json()["id"]) == (201, 200, first.json()["id"])
    found = again.json()["purchase_units"][0]["payments"]["authorizations"][0]["status"]
    assert found == "PARTIALLY_CAPTURED"
    captures = [paypal.post(f"/v2/payments/authorizations/{held}/capture", amount("2.00"), key="k") for _ in range(2)]
    assert [c.status_code for c in captures] == [201, 201]
    assert captures[0].json()["id"] == captures[1].json()["id"], "each kind of call has ids of its own"
    assert paypal.page()["captured"] == 300


def test_a_refusal_is_kept_and_a_nonsense_is_not(paypal: PayPal) -> None:
    declining = order("paypal_issue_instrument_declined_times1")
    assert [issue(paypal.post("/v2/checkout/orders", declining, key="r"))[1] for _ in range(2)] == [
        "INSTRUMENT_DECLINED"
    ] * 2
    assert issue(paypal.post("/v2/checkout/orders", order(value="ten"), key="n"))[0] == 400
    assert paypal.post("/v2/checkout/orders", order(), key="n").status_code == 201


def test_an_id_in_use_is_a_conflict(paypal: PayPal) -> None:
    paypal.sim.fault("latency", "authorize", seconds=0.5)
    slow = threading.Thread(target=paypal.post, args=("/v2/checkout/orders", order(), "k"))
    slow.start()
    while not any(f["happened"] for f in httpx.get(f"{paypal.sim.url}/_sim/faults").json()["faults"]):
        time.sleep(0.01)
    answer = paypal.post("/v2/checkout/orders", order(), key="k")
    slow.join()
    assert issue(answer) == (409, "PREVIOUS_REQUEST_IN_PROGRESS")
    assert len(paypal.sim.whole_book()) == 1


def test_ids_are_forgotten(paypal: PayPal) -> None:
    first = paypal.post("/v2/checkout/orders", order(), key="k").json()["id"]
    paypal.sim.forget_keys()
    assert paypal.post("/v2/checkout/orders", order(), key="k").json()["id"] != first


def test_minimal_answers(paypal: PayPal) -> None:
    answer = paypal.post("/v2/checkout/orders", order(), Prefer="return=minimal").json()
    assert set(answer) == {"id", "status", "links"}


# Faults


@pytest.mark.parametrize(("kind", "status"), [("rate_limit", 429), ("server_error", 500), ("unavailable", 503)])
def test_faults(paypal: PayPal, kind: str, status: int) -> None:
    paypal.sim.fault(kind, "authorize", provider="paypal")
    answer = paypal.post("/v2/checkout/orders", order(), key="k")
    assert answer.status_code == status
    assert answer.headers.get("retry-after") == ("1" if kind != "server_error" else None)
    assert paypal.sim.whole_book() == []
    assert paypal.post("/v2/checkout/orders", order(), key="k").status_code == 201


@pytest.mark.parametrize("kind", ["server_error_after", "reset_after"])
def test_what_was_done_though_it_was_not_said(paypal: PayPal, kind: str) -> None:
    paypal.sim.fault(kind, "authorize", payment_id=PAYMENT)
    try:
        assert paypal.post("/v2/checkout/orders", order(), key="k").status_code == 500
    except httpx.TransportError:
        assert kind == "reset_after"
    assert paypal.page()["authorized"] == 1_000
    assert paypal.post("/v2/checkout/orders", order(), key="k").status_code == 200
    assert paypal.page()["authorized"] == 1_000


def test_negative_testing(paypal: PayPal) -> None:
    mock = {"PayPal-Mock-Response": '{"mock_application_codes": "PAYER_ACCOUNT_RESTRICTED"}'}
    assert issue(paypal.post("/v2/checkout/orders", order(), **mock)) == (422, "PAYER_ACCOUNT_RESTRICTED")


def test_a_fault_about_a_later_call(paypal: PayPal) -> None:
    held = paypal.authorized()
    paypal.sim.fault("server_error", "capture", payment_id=PAYMENT, payment_method="paypal_ok")
    assert paypal.capture(held).status_code == 500
    assert paypal.capture(held).status_code == 201


# What is decided later


def test_a_pending_authorization(paypal: PayPal) -> None:
    held = paypal.authorized("paypal_pending")
    assert paypal.get(f"/v2/payments/authorizations/{held}").json()["status"] == "PENDING"
    assert paypal.page()["authorized"] == 0
    assert paypal.control(f"authorizations/{held}/decide", outcome="success")["status"] == "CREATED"
    assert paypal.page()["authorized"] == 1_000
    other = paypal.authorized("paypal_pending")
    assert paypal.control(f"authorizations/{other}/decide", outcome="fail")["status"] == "DENIED"


@pytest.mark.parametrize(
    ("end", "event", "status"),
    [("completed", "PAYMENT.CAPTURE.COMPLETED", "COMPLETED"), ("denied", "PAYMENT.CAPTURE.DENIED", "DECLINED")],
)
@pytest.mark.parametrize("intent", ["AUTHORIZE", "CAPTURE"])
def test_a_pending_capture_ends(paypal: PayPal, end: str, event: str, status: str, intent: str) -> None:
    method = f"paypal_capture_pending_{end}"
    made = paypal.captured(method) if intent == "CAPTURE" else paypal.capture(paypal.authorized(method)).json()["id"]
    assert paypal.wait_for(event)["id"] == made
    assert paypal.inbox.one("PAYMENT.CAPTURE.PENDING")["status_details"] == {"reason": "ECHECK"}
    assert paypal.get(f"/v2/payments/captures/{made}").json()["status"] == status
    assert paypal.page()["captured"] == (1_000 if end == "completed" else 0)


def test_a_pending_capture_cannot_be_refunded(paypal: PayPal) -> None:
    made = paypal.captured("paypal_capture_pending")
    assert issue(paypal.refund(made)) == (422, "PENDING_CAPTURE")
    paypal.control(f"captures/{made}/decide", outcome="success")
    assert paypal.refund(made).status_code == 201


@pytest.mark.parametrize(
    ("method", "event", "moved"),
    [
        ("paypal_refund_pending_completed", "PAYMENT.CAPTURE.REFUNDED", 400),
        ("paypal_refund_pending_failed", "PAYMENT.REFUND.FAILED", 0),
    ],
)
def test_a_pending_refund_ends(paypal: PayPal, method: str, event: str, moved: int) -> None:
    made = paypal.captured(method)
    refund = paypal.refund(made, "4.00").json()
    assert (refund["status"], refund["status_details"]) == ("PENDING", {"reason": "ECHECK"})
    assert paypal.wait_for(event)["id"] == refund["id"]
    assert paypal.page()["refunded"] == moved
    expected = "PARTIALLY_REFUNDED" if moved else "COMPLETED"
    assert paypal.get(f"/v2/payments/captures/{made}").json()["status"] == expected


def test_a_refund_that_fails_or_is_refused(paypal: PayPal) -> None:
    made = paypal.captured("paypal_refund_failed")
    assert paypal.refund(made).json()["status"] == "FAILED"
    assert paypal.page()["refunded"] == 0
    refused = paypal.captured("paypal_refund_issue_refund_failed_insufficient_funds")
    assert issue(paypal.refund(refused)) == (422, "REFUND_FAILED_INSUFFICIENT_FUNDS")


def test_settle_decides_what_ends_by_itself(paypal: PayPal) -> None:
    made = paypal.captured("paypal_pending_completed")
    paypal.control("settle")
    assert paypal.get(f"/v2/payments/captures/{made}").json()["status"] == "COMPLETED"


# Webhooks


def test_webhooks_of_a_payment(paypal: PayPal) -> None:
    held = paypal.authorized()
    made = paypal.capture(held, invoice_id="mine").json()["id"]
    refund = paypal.refund(made, "1.00", custom_id="theirs", note_to_payer="sorry").json()["id"]
    paypal.drain()
    assert sorted(paypal.inbox.types()) == [
        "CHECKOUT.ORDER.COMPLETED",
        "PAYMENT.AUTHORIZATION.CREATED",
        "PAYMENT.CAPTURE.COMPLETED",
        "PAYMENT.CAPTURE.REFUNDED",
    ]
    (event,) = [r.event for r in paypal.inbox.received if r.event["event_type"] == "PAYMENT.CAPTURE.REFUNDED"]
    assert (event["resource_type"], event["event_version"], event["resource_version"]) == ("refund", "1.0", "2.0")
    assert (event["resource"]["id"], event["resource"]["custom_id"]) == (refund, "theirs")
    (up,) = [link["href"] for link in event["resource"]["links"] if link["rel"] == "up"]
    assert up.endswith(f"/v2/payments/captures/{made}")
    capture = paypal.inbox.one("PAYMENT.CAPTURE.COMPLETED")
    assert (capture["custom_id"], capture["invoice_id"]) == (OURS, "mine")
    assert capture["supplementary_data"]["related_ids"]["authorization_id"] == held


def test_signatures_and_their_certificate(paypal: PayPal) -> None:
    paypal.authorized()
    paypal.drain()
    received = paypal.inbox.received[0]
    headers = received.headers
    chain = x509.load_pem_x509_certificates(httpx.get(headers["PAYPAL-CERT-URL"]).content)
    root = x509.load_pem_x509_certificate(paypal.get("/_sim/paypal/root.pem").content)
    verifier = PolicyBuilder().store(Store([root])).time(datetime.now(UTC)).build_server_verifier(x509.DNSName(HOST))
    verifier.verify(chain[0], chain[1:])
    public = chain[0].public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    fields = (headers["PAYPAL-TRANSMISSION-ID"], headers["PAYPAL-TRANSMISSION-TIME"])
    message = "|".join([*fields, PAYPAL["PAYMENTS_PAYPAL_WEBHOOK_IDS"], str(zlib.crc32(received.body))])
    signature = base64.b64decode(headers["PAYPAL-TRANSMISSION-SIG"])
    public.verify(signature, message.encode(), padding.PKCS1v15(), hashes.SHA256())
    assert headers["PAYPAL-AUTH-ALGO"] == "SHA256withRSA"


@pytest.mark.parametrize(("change", "status"), [({}, "SUCCESS"), ({"webhook_id": "other"}, "FAILURE")])
def test_paypal_verifies_a_signature(paypal: PayPal, change: dict[str, str], status: str) -> None:
    assert _verification(paypal, change) == status


def test_paypal_sees_a_body_that_was_changed(paypal: PayPal) -> None:
    assert _verification(paypal, {}, b'{"id":"WH-other"}') == "FAILURE"


def _verification(paypal: PayPal, change: dict[str, str], body: bytes | None = None) -> str:
    paypal.authorized()
    paypal.drain()
    received = paypal.inbox.received[0]
    names = {"auth_algo": "AUTH-ALGO", "cert_url": "CERT-URL"}
    names |= {f"transmission_{name}": f"TRANSMISSION-{name.upper()}" for name in ("id", "sig", "time")}
    asked = {name: received.headers[f"PAYPAL-{header}"] for name, header in names.items()}
    asked |= {"webhook_id": PAYPAL["PAYMENTS_PAYPAL_WEBHOOK_IDS"], **change}
    content = orjson.dumps(asked)[:-1] + b',"webhook_event":' + (body or received.body) + b"}"
    url, json = "/v1/notifications/verify-webhook-signature", {"Content-Type": "application/json"}
    status: str = paypal.http.post(url, content=content, headers=json).json()["verification_status"]
    return status


def test_webhooks_are_repeated_and_resent(paypal: PayPal) -> None:
    paypal.inbox.statuses[:] = [500, 500]
    paypal.authorized()
    paypal.drain()
    assert len(paypal.inbox.received) == 4
    sent = httpx.post(f"{paypal.sim.url}/_sim/webhooks/resend", params={"payment_id": PAYMENT}).json()
    assert sent == {"sent": 2}


def test_webhooks_before_the_answer(paypal: PayPal) -> None:
    paypal.sim.fault("webhook_first", "authorize")
    paypal.authorized()
    assert "PAYMENT.AUTHORIZATION.CREATED" in paypal.inbox.types()


def test_webhooks_are_given_up_after_25_attempts() -> None:
    async def attempts() -> int:
        deliverer = Deliverer(DeliverySettings(first_retry_seconds=0.0))
        gone = PayPalEndpoint("http://127.0.0.1:1/", "w", "http://127.0.0.1:1", Certificates())
        delivery = Delivery(gone, "WH-1", "PAYMENT.CAPTURE.COMPLETED", lambda: b"{}", MOST_ATTEMPTS)
        deliverer.send([delivery])
        assert await deliverer.drain(10)
        assert deliverer.counts()["webhooks_failed"] == 1
        await deliverer.close()
        return delivery.attempts

    assert asyncio.run(attempts()) == 25


# Disputes and reversals


@pytest.mark.parametrize(
    ("outcome", "code", "won"), [("success", "RESOLVED_SELLER_FAVOUR", 1_000), ("fail", "RESOLVED_BUYER_FAVOUR", 0)]
)
def test_a_dispute(paypal: PayPal, outcome: str, code: str, won: int) -> None:
    made = paypal.captured()
    dispute = paypal.control(f"captures/{made}/dispute")["id"]
    assert issue(paypal.refund(made, "1.00")) == (422, "TRANSACTION_DISPUTED")
    paypal.control(f"disputes/{dispute}/update")
    paypal.control(f"disputes/{dispute}/resolve", outcome=outcome)
    paypal.drain()
    created = paypal.inbox.one("CUSTOMER.DISPUTE.CREATED")
    assert [t["seller_transaction_id"] for t in created["disputed_transactions"]] == [made]
    assert PAYMENT not in orjson.dumps(created).decode(), "nothing of ours"
    assert paypal.inbox.one("CUSTOMER.DISPUTE.UPDATED")["status"] == "UNDER_REVIEW"
    assert paypal.inbox.one("CUSTOMER.DISPUTE.RESOLVED")["dispute_outcome"]["outcome_code"] == code
    assert paypal.get(f"/v1/customer/disputes/{dispute}").json()["status"] == "RESOLVED"
    assert (paypal.page()["disputed"], paypal.page()["dispute_won"]) == (1_000, won)


def test_disputed_and_reversed_captures(paypal: PayPal) -> None:
    paypal.capture(paypal.authorized("paypal_capture_disputed"))
    made = paypal.captured("paypal_capture_reversed")
    paypal.drain()
    assert paypal.inbox.one("CUSTOMER.DISPUTE.CREATED")["dispute_amount"]["value"] == "10.00"
    assert paypal.inbox.one("PAYMENT.CAPTURE.REVERSED")["amount"]["value"] == "10.00"
    assert paypal.get(f"/v2/payments/captures/{made}").json()["status"] == "REFUNDED"


# The reports


def test_the_settlement_report_can_be_reconciled(paypal: PayPal) -> None:
    held = paypal.authorized(value="1000", currency="JPY")
    made = paypal.capture(held).json()["id"]
    refund = paypal.refund(paypal.captured(), "4.00").json()["id"]
    dispute = paypal.control(f"captures/{paypal.captured()}/dispute")["id"]
    paypal.control(f"disputes/{dispute}/resolve", outcome="success")
    paypal.captured("paypal_capture_pending")
    paypal.captured("paypal_declined_5120")
    text = paypal.get("/_sim/paypal/settlement_report.csv").text
    lines = list(settlement.read(io.StringIO(text), Origin("today")))
    assert [(line.kind, line.gross, line.currency) for line in lines] == [
        (LineKind.CHARGE, 1_000, "JPY"),
        (LineKind.CHARGE, 1_000, "EUR"),
        (LineKind.CHARGE, 1_000, "EUR"),
        (LineKind.REFUND, -400, "EUR"),
        (LineKind.DISPUTE, -1_000, "EUR"),
        (LineKind.DISPUTE_REVERSED, 1_000, "EUR"),
    ]
    first, refunded = lines[0], lines[3]
    assert (first.operation_reference, first.payment_reference, first.payment_id) == (made, held, PAYMENT)
    assert (first.fee, first.net) == (75, 925)
    assert (refunded.operation_reference, refunded.payment_id) == (refund, PAYMENT)
    assert len({line.line_id for line in lines}) == len(lines)


def test_a_day_that_is_fetched_is_what_the_report_says(paypal: PayPal) -> None:
    """The same lines, ids and figures: what is posted from one is known when the other comes."""
    paypal.capture(paypal.authorized(value="1000", currency="JPY"))
    paypal.refund(paypal.captured(), "4.00")
    dispute = paypal.control(f"captures/{paypal.captured()}/dispute")["id"]
    paypal.control(f"disputes/{dispute}/resolve", outcome="success")
    paypal.captured("paypal_capture_pending")
    paypal.captured("paypal_declined_5120")
    text = paypal.get("/_sim/paypal/settlement_report.csv").text
    wanted = {line.line_id: told(line) for line in settlement.read(io.StringIO(text), Origin("today"))}
    assert len(wanted) == 6
    found = fetched(paypal, f"{datetime.now(UTC):%Y-%m-%d}")
    assert {line.line_id: told(line) for line in found} == wanted
    assert fetched(paypal, f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}") == [], "nothing was made yesterday"


def test_many_pages_of_a_day_are_read_to_the_end(paypal: PayPal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "_PAGE", 2)
    made = {paypal.captured() for _ in range(5)}
    assert {line.provider_line for line in fetched(paypal, f"{datetime.now(UTC):%Y-%m-%d}")} == made


def test_a_pending_capture_counts_on_the_day_it_completes(paypal: PayPal) -> None:
    made = paypal.captured("paypal_capture_pending")
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    assert fetched(paypal, today) == []
    paypal.control(f"captures/{made}/decide", outcome="success")
    assert [line.provider_line for line in fetched(paypal, today)] == [made]


@pytest.mark.parametrize(("client", "day"), [(CLIENT, "yesterday"), (("paypal_client", "wrong"), "2026-01-31")])
def test_a_day_that_cannot_be_had(paypal: PayPal, client: tuple[str, str], day: str) -> None:
    with pytest.raises(FetchError) as failed:
        reports.PayPalReports(paypal.sim.url, *client).fetch(asked(day), io.BytesIO())
    assert failed.value.outcome is ReadOutcome.REFUSED


def test_days_are_over_six_hours_late() -> None:
    at = datetime(2026, 11, 23, 5, 59, 59, tzinfo=UTC)
    assert reports.days_over(int(at.timestamp() * 1000), 2) == ["2026-11-20", "2026-11-21"]
    at += timedelta(seconds=1)
    assert reports.days_over(int(at.timestamp() * 1000), 2) == ["2026-11-21", "2026-11-22"]
    assert reports.days_over(int(at.timestamp() * 1000), 0) == []


def fetched(paypal: PayPal, day: str) -> list[SettlementLine]:
    file = io.BytesIO()
    reports.PayPalReports(paypal.sim.url, *CLIENT).fetch(asked(day), file)
    return list(reports.read(io.StringIO(file.getvalue().decode()), Origin("today")))


def asked(day: str) -> ReportRequest:
    return ReportRequest(
        report=f"paypal:{day}", request_id="r", provider="paypal", reference=day, number=1, issued_at=0
    )


def told(line: SettlementLine) -> tuple[object, ...]:
    named = (line.account, line.payment_id, line.payment_reference, line.operation_reference, line.payout_id)
    return (line.provider_line, line.provider_kind, figures(line), named)


def test_an_empty_report(paypal: PayPal) -> None:
    text = paypal.get("/_sim/paypal/settlement_report.csv").text
    assert list(settlement.read(io.StringIO(text), Origin("today"))) == []


def test_transactions_are_found_by_what_is_ours(paypal: PayPal) -> None:
    held = paypal.authorized()
    made = paypal.capture(held, "6.00", invoice_id="mine").json()["id"]
    today = datetime.now(UTC)
    asked = {"start_date": (today - timedelta(days=1)).isoformat(), "end_date": (today + timedelta(days=1)).isoformat()}
    url = "/v1/reporting/transactions"
    moved = paypal.http.get(url, params=asked).json()
    (only,) = [each["transaction_info"] for each in moved["transaction_details"]]
    assert (only["transaction_id"], only["paypal_reference_id"], only["invoice_id"]) == (made, held, "mine")
    assert (only["transaction_status"], only["transaction_amount"]["value"]) == ("S", "6.00")
    every = paypal.http.get(url, params={**asked, "balance_affecting_records_only": "N"}).json()
    assert every["total_items"] == 2
    assert {each["transaction_info"]["custom_field"] for each in every["transaction_details"]} == {OURS}
    second = paypal.http.get(url, params={**asked, "balance_affecting_records_only": "N", "page_size": 1, "page": 2})
    assert [each["transaction_info"]["transaction_id"] for each in second.json()["transaction_details"]] == [made]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"start_date": None}, "MISSING_REQUIRED_PARAMETER"),
        ({"start_date": "yesterday"}, "INVALID_PARAMETER_SYNTAX"),
        ({"start_date": "2026-01-01T00:00:00"}, "INVALID_PARAMETER_SYNTAX"),
        ({"end_date": "2026-02-02T00:00:00Z"}, "INVALID_PARAMETER_VALUE"),
        ({"page_size": "501"}, "INVALID_PARAMETER_VALUE"),
        ({"page": "0"}, "INVALID_PARAMETER_VALUE"),
    ],
)
def test_searches_that_make_no_sense(paypal: PayPal, change: dict[str, str | None], expected: str) -> None:
    asked = {"start_date": "2026-01-01T00:00:00Z", "end_date": "2026-02-01T00:00:00Z", **change}
    given = {name: value for name, value in asked.items() if value is not None}
    assert issue(paypal.http.get("/v1/reporting/transactions", params=given)) == (400, expected)


# The certificates


def test_a_root_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "certificates" / "root.pem"
    first, second = Certificates(path), Certificates(path)
    assert path.read_bytes() == first.root_pem == second.root_pem
    assert path.with_name("root.pem.key").stat().st_mode & 0o077 == 0
    assert first.id != second.id
    signature = first.sign("t", "now", "w", b"body")
    assert first.verifies(signature, "t", "now", "w", b"body")
    assert not second.verifies(signature, "t", "now", "w", b"body")
    assert not first.verifies("no base64", "t", "now", "w", b"body")


# The vault


@pytest.mark.parametrize(
    "name",
    [
        "paypal",
        "paypal_",
        "paypal_unicorn",
        "paypal_declined",
        "paypal_declined_9999",
        "paypal_declined_0000",
        "paypal_declined_5120_advice99",
        "paypal_issue_unicorn",
        "paypal_ok_times1",
        "paypal_capture_declined_5120_times1",
        "paypal_refund_pending_denied",
        "paypal_void_pending",
    ],
)
def test_names_that_mean_nothing(name: str) -> None:
    assert method_of(name) is None


def test_names_that_mean_something() -> None:
    assert method_of("paypal_ok") == Method(name="paypal_ok")
    found = method_of("paypal_declined_00N7_advice21_times2")
    assert found is not None
    assert (found.outcome, found.detail, found.advice, found.times) == (Outcome.DECLINED, "00N7", "21", 2)
    refused = method_of("paypal_refund_issue_refund_not_allowed")
    assert refused is not None
    assert (refused.stage, refused.outcome, refused.detail) == (Stage.REFUND, Outcome.ISSUE, "REFUND_NOT_ALLOWED")


def test_references_are_never_alike() -> None:
    first, second = References(), References()
    made = {references.new() for references in (first, second) for _ in range(1_000)}
    assert len(made) == 2_000
    assert {len(reference) for reference in made} == {17}
