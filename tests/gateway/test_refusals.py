"""What is refused at the door: each with a problem of its own, and nothing of it produced or kept."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from gateway.app import create_app
from gateway.keys import Mode
from gateway.limits import Limits
from gateway.problems import KINDS
from pipeline.settings import Settings
from tests.gateway.chain import Chain
from tests.gateway.conftest import Client, MakeClient, Running, intent
from tests.gateway.test_intents import eventually

pytestmark = pytest.mark.stack

INTENTS = "/api/v1/intents"


def is_problem(answer: httpx.Response) -> dict[str, Any]:
    """The problem document of an answer that must be one."""
    assert answer.headers["Content-Type"] == "application/problem+json", answer.text
    problem: dict[str, Any] = answer.json()
    kind = KINDS[problem["type"].removeprefix("/problems/")]
    assert (problem["status"], problem["title"], answer.status_code) == (kind.status, kind.title, kind.status)
    return problem


def nothing_was_taken(client: Client, chain: Chain, settings_: Settings) -> None:
    """The merchant's next command is the first that was ever produced or kept."""
    made = client.create()["payment_id"]
    eventually(lambda: chain.of(made))
    of_merchant = [item for item in chain.inputs if getattr(item, "merchant_id", None) == client.merchant]
    assert [item.payment_id for item in of_merchant] == [made]
    with psycopg.connect(settings_.reveal("postgres_gateway_url")) as connection:
        rows = connection.execute("SELECT payment_id FROM gateway.requests WHERE merchant_id = %s", (client.merchant,))
        assert [str(row[0]) for row in rows] == [made]


REFUSED = [
    (intent(amount="10.505"), "too_many_decimals", "amount"),
    (intent(amount="10.5", currency="JPY"), "too_many_decimals", "amount"),
    (intent(amount="10.5055", currency="KWD"), "too_many_decimals", "amount"),
    (intent(amount="0"), "amount_zero", "amount"),
    (intent(amount="0.00"), "amount_zero", "amount"),
    (intent(amount="-1"), "amount_negative", "amount"),
    (intent(amount="-10.50"), "amount_negative", "amount"),
    (intent(amount="1000000000.00"), "amount_too_large", "amount"),
    (intent(amount="9" * 18), "amount_too_large", "amount"),
    (intent(amount="1e3"), "invalid_amount", "amount"),
    (intent(amount="+1"), "invalid_amount", "amount"),
    (intent(amount="1,50"), "invalid_amount", "amount"),
    (intent(amount=" 1"), "invalid_amount", "amount"),
    (intent(amount="01"), "invalid_amount", "amount"),
    (intent(amount="1."), "invalid_amount", "amount"),
    (intent(amount=""), "invalid_amount", "amount"),
    (intent(amount="\u0661"), "invalid_amount", "amount"),
    (intent(amount="NaN"), "invalid_amount", "amount"),
    (intent(amount="1" * 33), "too_long", "amount"),
    (intent(amount=10.5), "wrong_type", "amount"),
    (intent(amount=10), "wrong_type", "amount"),
    (intent(amount=None), "wrong_type", "amount"),
    (intent(currency="XXX"), "unknown_currency", "currency"),
    (intent(currency="usd"), "unknown_currency", "currency"),
    (intent(currency="US"), "unknown_currency", "currency"),
    (intent(currency="XAU"), "unknown_currency", "currency"),
    (intent(currency=["USD"]), "wrong_type", "currency"),
    (intent(provider="bank"), "unknown_provider", "provider"),
    (intent(capture_method="later"), "invalid_value", "capture_method"),
    (intent(unknown="x"), "unknown_field", "unknown"),
    (intent(merchant_id="other"), "unknown_field", "merchant_id"),
    (intent(payment_id="00000000-0000-0000-0000-000000000000"), "unknown_field", "payment_id"),
    (intent(payment_method={"token": "x", "number": "1"}), "unknown_field", "payment_method.number"),
    (intent(payment_method={"token": "a b"}), "invalid_value", "payment_method.token"),
    (intent(payment_method={}), "required", "payment_method.token"),
    (intent(payment_method="pm_x"), "wrong_type", "payment_method"),
    (intent(customer_id=""), "required", "customer_id"),
    (intent(customer_id="x" * 256), "too_long", "customer_id"),
    (intent(metadata={"a": 1}), "wrong_type", "metadata.a"),
    (intent(metadata={"a": "x" * 501}), "too_long", "metadata.a"),
    (intent(metadata={"a" * 41: "x"}), "too_long", "metadata." + "a" * 41),
    (intent(metadata={str(n): "x" for n in range(51)}), "too_many", "metadata"),
    (intent(metadata={"a": {"b": "c"}}), "wrong_type", "metadata.a"),
    ({"amount": "1", "currency": "USD"}, "required", "provider"),
]


@pytest.mark.parametrize(("body", "code", "field"), REFUSED)
def test_each_invalid_body_has_its_own_problem(client: Client, body: Any, code: str, field: str) -> None:
    problem = is_problem(client.post(INTENTS, body))
    assert problem["type"] == f"/problems/{code}"
    assert problem["status"] == 422
    assert [(error["field"], error["code"]) for error in problem["errors"]] == [(field, code)]


def test_all_of_them_took_nothing(client: Client, chain: Chain, gateway_settings: Settings) -> None:
    for body, _, _ in REFUSED:
        assert client.post(INTENTS, body).status_code == 422
    nothing_was_taken(client, chain, gateway_settings)


def test_every_error_is_told_at_once(client: Client) -> None:
    problem = is_problem(client.post(INTENTS, {"amount": 1, "currency": "USD", "more": 1}))
    assert problem["type"] == "/problems/invalid_request"
    found = {(error["field"], error["code"]) for error in problem["errors"]}
    assert found == {("amount", "wrong_type"), ("provider", "required"), ("more", "unknown_field")}


def test_an_error_quotes_nothing_of_the_body(client: Client) -> None:
    secret = "pssst-" + uuid4().hex
    for body in (intent(amount=secret), intent(currency=secret[:8]), intent(capture_method=secret),
                 intent() | {f"{secret}?": 1}, intent(provider=secret[:30]), intent(metadata={secret: 1})):  # fmt: skip
        answer = client.post(INTENTS, body)
        assert answer.status_code == 422
        if "metadata" not in body:
            assert "pssst" not in answer.text


@pytest.mark.parametrize("action", ["capture", "refund"])
@pytest.mark.parametrize(
    ("amount", "code"),
    [("0", "amount_zero"), ("-1", "amount_negative"), ("1.5", "too_many_decimals"), ("9" * 14, "amount_too_large")],
)
def test_amounts_of_parts_follow_the_payments_currency(client: Client, action: str, amount: str, code: str) -> None:
    made = client.create(currency="JPY", amount="1000")
    problem = is_problem(client.post(f"{INTENTS}/{made['payment_id']}/{action}", {"amount": amount}))
    assert problem["type"] == f"/problems/{code}"


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b"{", {}, 400, "malformed_json"),
        (b'{"amount": "1", "amount": "2"}', {}, 400, "duplicate_key"),
        (b'{"amount": 9007199254740993}', {}, 400, "number_out_of_range"),
        (b"[]", {}, 400, "not_an_object"),
        (b"x" * 65_537, {}, 413, "body_too_large"),
        (b"x" * 3_000_000, {}, 413, "body_too_large"),
        (b"{}", {"Content-Encoding": "gzip"}, 415, "unsupported_content_encoding"),
        (b"{}", {"Content-Encoding": "br"}, 415, "unsupported_content_encoding"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
        (b"{}", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "unsupported_media_type"),
    ],
)
def test_bodies_that_are_not_taken(
    client: Client, content: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    sent = {"Content-Type": "application/json", "Idempotency-Key": "k"} | headers
    problem = is_problem(client.http.post(INTENTS, content=content, headers=sent))
    assert (problem["status"], problem["type"]) == (status, f"/problems/{code}")


def test_a_body_is_counted_while_it_arrives(client: Client) -> None:
    def endless() -> Any:
        for _ in range(200):
            yield b" " * 1_000

    headers = {"Content-Type": "application/json", "Idempotency-Key": "k"}
    assert is_problem(client.http.post(INTENTS, content=endless(), headers=headers))["status"] == 413


def test_a_body_of_just_the_limit_is_read(client: Client) -> None:
    body = json.dumps(intent()).encode()
    body += b" " * (64 * 1024 - len(body))
    headers = {"Content-Type": "application/json", "Idempotency-Key": "k"}
    assert client.http.post(INTENTS, content=body, headers=headers).status_code == 201


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer x",
        "Basic {key}",
        "{key}",
        "Bearer {key}x",
        "Bearer sk_test_0000000000000000_" + "A" * 43,
    ],
)
def test_without_a_valid_key_there_is_nothing(running: Running, client: Client, authorization: str | None) -> None:
    headers = {"Idempotency-Key": "k"}
    if authorization is not None:
        headers["Authorization"] = authorization.format(key=client.key)
    for method, path in (("GET", INTENTS), ("POST", INTENTS), ("GET", f"{INTENTS}/{uuid4()}")):
        answer = httpx.request(method, running.url + path, headers=headers)
        assert is_problem(answer)["type"] == "/problems/unauthenticated"
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("account", "taken"),
    [("", Mode.TEST), ("sk_test_x", Mode.TEST), ("sk_live_x", Mode.LIVE), ("rk_live_x", Mode.LIVE)],
)
def test_a_test_key_moves_no_real_money(
    gateway_settings: Settings, limits: Limits, make_client: MakeClient, account: str, taken: Mode
) -> None:
    settings_ = gateway_settings.model_copy(update={"stripe_api_key": SecretStr(account)})
    gateway = Running(create_app(settings_, limits), settings_, limits)
    try:
        for mode in Mode:
            answer = make_client(mode=mode, gateway=gateway).post(INTENTS, intent())
            if mode is taken:
                assert answer.status_code == 201
            else:
                assert is_problem(answer)["type"] == "/problems/wrong_mode"
    finally:
        gateway.stop()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/api/v1", 404),
        ("GET", "/api/v1/intents/", 404),
        ("GET", "/api/v1/intents/x/y/z/w", 404),
        ("DELETE", INTENTS, 405),
        ("PATCH", f"{INTENTS}/x", 405),
        ("GET", "/webhooks/stripe", 405),
        ("POST", "/health", 405),
        ("TRACE", INTENTS, 405),
        ("OPTIONS", INTENTS, 405),
    ],
)
def test_what_is_not_there(client: Client, method: str, path: str, status: int) -> None:
    answer = client.http.request(method, path)
    assert is_problem(answer)["status"] == status
    assert (status == 405) == ("Allow" in answer.headers)


def test_no_other_origin_may_ask(client: Client) -> None:
    answer = client.http.get(INTENTS, headers={"Origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


def test_every_answer_has_the_security_headers(client: Client) -> None:
    for path in ("/health", INTENTS, "/nowhere", "/docs", "/openapi.json", "/problems/required"):
        headers = client.http.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "Strict-Transport-Security" in headers
        assert len(headers["Request-Id"]) == 32
        assert "server" not in headers
    assert client.http.get(INTENTS).headers["Cache-Control"] == "no-store"


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("amount", "currency", "provider", "capture_method", "payment_method", "metadata", "customer_id", "order_id")
bodies = st.one_of(
    st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=8), json_values).map(json.dumps).map(str.encode),
    st.builds(lambda change: json.dumps(intent() | change).encode(),
              st.dictionaries(st.sampled_from(FIELDS), json_values, min_size=1, max_size=2)),
    json_values.map(json.dumps).map(str.encode),
    st.binary(max_size=200),
)  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=bodies, method=st.sampled_from(["POST", "PUT", "GET"]), path=st.sampled_from(["", "/x", "/x/authorize"]))
def test_whatever_is_sent_is_answered_with_an_intent_or_a_problem(
    client: Client, content: bytes, method: str, path: str
) -> None:
    headers = {"Content-Type": "application/json", "Idempotency-Key": str(uuid4())}
    answer = client.http.request(method, INTENTS + path, content=content, headers=headers)
    if answer.status_code >= 400:
        assert is_problem(answer)["status"] < 500
    else:
        assert answer.status_code in (200, 201)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["status", "limit", "cursor", "created_from", "customer_id", "x"]), value=st.text(max_size=40)
)
def test_whatever_query_is_sent_is_answered(client: Client, name: str, value: str) -> None:
    answer = client.get(INTENTS, **{name: value})
    assert answer.status_code == 200 or is_problem(answer)["status"] in (400, 422)


def test_a_key_is_limited_and_told_when_to_come_back(make_client: MakeClient, gateway_settings: Settings) -> None:
    limits = Limits(key_rate=1, key_burst=5, refused_rate=1, refused_burst=3)
    gateway = Running(create_app(gateway_settings, limits), gateway_settings, limits)
    try:
        one, other = make_client(gateway=gateway), make_client(gateway=gateway)
        answers = [one.get(INTENTS) for _ in range(8)]
        assert [answer.status_code for answer in answers[:5]] == [200] * 5
        limited = [answer for answer in answers if answer.status_code == 429]
        assert limited
        assert is_problem(limited[0])["type"] == "/problems/rate_limited"
        assert int(limited[0].headers["Retry-After"]) >= 1
        assert other.get(INTENTS).status_code == 200
        refused = [httpx.get(gateway.url + INTENTS, headers={"Authorization": "Bearer x"}) for _ in range(5)]
        assert [answer.status_code for answer in refused] == [401, 401, 401, 429, 429]
        assert other.get(INTENTS).status_code == 200
    finally:
        gateway.stop()


def test_an_address_is_limited(gateway_settings: Settings) -> None:
    limits = Limits(address_rate=1, address_burst=3)
    gateway = Running(create_app(gateway_settings, limits), gateway_settings, limits)
    try:
        statuses = [httpx.get(f"{gateway.url}/docs").status_code for _ in range(6)]
        assert statuses == [200] * 3 + [429] * 3
        assert httpx.get(f"{gateway.url}/health").status_code == 200
    finally:
        gateway.stop()
