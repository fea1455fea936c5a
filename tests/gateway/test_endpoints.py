"""Webhook endpoints over HTTP: made, read, changed, deleted, each by its own merchant alone; secrets shown once."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from jsonschema import Draft202012Validator
from pydantic import SecretStr

from gateway.app import create_app
from gateway.endpoint_store import MAX_ENDPOINTS, MAX_SECRETS
from gateway.endpoints import ENDPOINTS
from gateway.keys import Scope
from gateway.limits import Limits
from gateway.routes import ROUTES
from pipeline import ids
from pipeline.domain.deliveries import EVENT_TYPES
from pipeline.sealing import Sealed, Sealer
from pipeline.settings import Settings
from tests.gateway.conftest import Client, MakeClient, Running
from tests.gateway.test_refusals import is_problem

pytestmark = pytest.mark.stack

URL = "https://shop.example/payments"


def made(client: Client, **changes: Any) -> dict[str, Any]:
    answer = client.post(ENDPOINTS, {"url": URL} | changes)
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


def where(endpoint: dict[str, Any]) -> str:
    return f"{ENDPOINTS}/{endpoint['endpoint_id']}"


@pytest.fixture
def database(gateway_settings: Settings) -> Iterator[psycopg.Connection]:
    """As the owner, to see and to arrange what is stored."""
    with psycopg.connect(gateway_settings.reveal("postgres_owner_url"), autocommit=True) as connection:
        yield connection


def test_an_endpoint_is_made_with_a_secret_that_is_never_shown_again(
    client: Client, running: Running, database: psycopg.Connection, gateway_settings: Settings
) -> None:
    answer = client.post(ENDPOINTS, {"url": URL, "event_types": ["payments.captured", "payments.captured"]})
    assert answer.status_code == 201
    endpoint = answer.json()
    assert answer.headers["Location"] == where(endpoint)
    assert (endpoint["url"], endpoint["event_types"]) == (URL, ["payments.captured"])
    assert (endpoint["enabled"], endpoint["disabled_reason"], endpoint["failing_since"]) == (True, None, None)
    secret = endpoint.pop("secret")
    raw = b64decode(secret.removeprefix("whsec_"), validate=True)
    assert len(raw) == 32
    assert client.get(where(endpoint)).json() == endpoint
    assert client.get(ENDPOINTS).json() == {"data": [endpoint]}
    stored = "SELECT key_id, sealed FROM webhooks.signing_secrets WHERE endpoint_id = %s"
    [(key_id, sealed)] = database.execute(stored, [endpoint["endpoint_id"]])
    assert raw not in sealed
    sealer = Sealer(gateway_settings.reveal("webhook_secret_keys"))
    assert sealer.open(Sealed(key_id, sealed), endpoint["endpoint_id"]) == raw


def test_alerts_of_the_books_are_no_merchants(client: Client) -> None:
    """Neither at first nor later."""
    refused = is_problem(client.post(ENDPOINTS, {"url": URL, "event_types": ["ledger.alert.raised"]}))
    assert (refused["status"], refused["errors"][0]["field"]) == (422, "event_types")
    endpoint = client.post(ENDPOINTS, {"url": URL}).json()
    changed = client.http.patch(where(endpoint), json={"event_types": ["*", "ledger.alert.ended"]})
    assert is_problem(changed)["status"] == 422
    assert client.get(where(endpoint)).json()["event_types"] == ["*"]


def test_a_repeat_under_the_same_key_is_the_same_endpoint_and_no_secret_is_kept_open(
    client: Client, database: psycopg.Connection
) -> None:
    first, again = (client.post(ENDPOINTS, {"url": URL}, key="one") for _ in range(2))
    assert again.json() == first.json()
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    assert is_problem(client.post(ENDPOINTS, {"url": URL + "/b"}, key="one"))["type"].endswith("key_reused")
    assert len(client.get(ENDPOINTS).json()["data"]) == 1
    assert is_problem(client.http.post(ENDPOINTS, json={"url": URL}))["type"].endswith("idempotency_key_missing")
    rows = database.execute("SELECT requests::text FROM gateway.requests AS requests").fetchall()
    secret = first.json()["secret"].removeprefix("whsec_")
    assert rows
    for spelling in (secret, b64decode(secret).hex()):
        assert not [row for row in rows if spelling in row[0]]
    client.http.delete(where(first.json()))
    assert client.post(ENDPOINTS, {"url": URL}, key="one").json()["secret"] is None


def test_a_gateway_that_died_before_its_answer_leaves_one_endpoint(
    client: Client, database: psycopg.Connection
) -> None:
    """The row of the first request is there, unanswered, its lease over: the repeat finishes what it began."""
    first = client.post(ENDPOINTS, {"url": URL}, key="died").json()
    database.execute(
        "UPDATE gateway.requests SET response_status = NULL, response_body = NULL, response_headers = NULL,"
        " locked_until = now() - interval '1 second' WHERE merchant_id = %s",
        [client.merchant],
    )
    assert client.post(ENDPOINTS, {"url": URL}, key="died").json() == first
    assert len(client.get(ENDPOINTS).json()["data"]) == 1


def test_a_forgotten_key_of_a_deleted_endpoint_is_not_taken_for_a_new_one(
    client: Client, database: psycopg.Connection
) -> None:
    client.http.delete(where(client.post(ENDPOINTS, {"url": URL}, key="gone").json()))
    database.execute("DELETE FROM gateway.requests WHERE merchant_id = %s", [client.merchant])
    assert is_problem(client.post(ENDPOINTS, {"url": URL}, key="gone"))["type"].endswith("key_reused")


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({}, "required", "url"),
        ({"url": ""}, "required", "url"),
        ({"url": 1}, "wrong_type", "url"),
        ({"url": "http://shop.example/"}, "endpoint_url", "url"),
        ({"url": "https://127.0.0.1/"}, "endpoint_url", "url"),
        ({"url": "https://169.254.169.254/latest/meta-data"}, "endpoint_url", "url"),
        ({"url": "https://[::1]/"}, "endpoint_url", "url"),
        ({"url": "https://2130706433/"}, "endpoint_url", "url"),
        ({"url": "https://user:pass@shop.example/"}, "endpoint_url", "url"),
        ({"url": "https://shop.example/" + "x" * 2_048}, "too_long", "url"),
        ({"url": URL, "event_types": []}, "invalid_value", "event_types"),
        ({"url": URL, "event_types": ["payments.stolen"]}, "invalid_value", "event_types.0"),
        ({"url": URL, "event_types": ["webhooks.ping"]}, "invalid_value", "event_types.0"),
        ({"url": URL, "event_types": "*"}, "wrong_type", "event_types"),
        ({"url": URL, "secret": "whsec_mine"}, "unknown_field", "secret"),
        ({"url": URL, "merchant_id": "other"}, "unknown_field", "merchant_id"),
        ({"url": URL, "enabled": "yes"}, "unknown_field", "enabled"),
    ],
)
def test_what_is_not_taken(client: Client, body: dict[str, Any], code: str, field: str) -> None:
    problem = is_problem(client.post(ENDPOINTS, body))
    assert (problem["status"], problem["errors"][0]["field"]) == (422, field)
    assert problem["errors"][0]["code"] == code
    if code == "endpoint_url":
        changed = client.http.patch(where(made(client)), json=body)
        assert is_problem(changed)["type"] == "/problems/endpoint_url"


@pytest.mark.parametrize("card", ["4242424242424242", "3782-8224-6310-005", "6011 1111 1111 1117"])
def test_card_numbers_are_refused_here_too_and_kept_nowhere(
    client: Client, database: psycopg.Connection, card: str
) -> None:
    endpoint = made(client)
    answers = [
        client.post(ENDPOINTS, {"url": f"https://shop.example/{card}"}),
        client.post(ENDPOINTS, {"url": URL, "event_types": [card]}),
        client.post(ENDPOINTS, {"url": URL}, key=card),
        client.http.patch(where(endpoint), json={"url": f"https://shop.example/?card={card}"}),
        client.post(f"{where(endpoint)}/test", {"note": card}),
        client.post(f"{where(endpoint)}/replay?since={card}"),
        client.get(f"{where(endpoint)}/deliveries", event_type=card),
        client.get(f"{ENDPOINTS}/{card}"),
    ]
    assert [is_problem(answer)["type"] for answer in answers] == ["/problems/card_data"] * len(answers)
    for table in ("webhooks.endpoints", "webhooks.events", "gateway.requests"):
        rows = database.execute(f"SELECT stored::text FROM {table} AS stored".encode()).fetchall()
        assert not [row for row in rows if card in row[0]]


def test_an_endpoint_is_changed_in_part_disabled_and_enabled(client: Client, database: psycopg.Connection) -> None:
    endpoint = made(client)
    path = where(endpoint)
    changed = client.http.patch(path, json={"event_types": ["payments.failed"]}).json()
    assert (changed["url"], changed["event_types"], changed["enabled"]) == (URL, ["payments.failed"], True)
    assert client.http.patch(path, json={"url": URL + "/new", "event_types": None}).json()["url"] == URL + "/new"
    off = client.http.patch(path, json={"enabled": False}).json()
    assert (off["enabled"], off["disabled_reason"]) == (False, "merchant")
    assert client.http.patch(path, json={"enabled": False}).json()["disabled_at"] == off["disabled_at"]
    database.execute(
        "UPDATE webhooks.endpoints SET failing_since = now() - interval '6 days', disabled_reason = 'failing'"
        " WHERE endpoint_id = %s",
        [endpoint["endpoint_id"]],
    )
    failing = client.get(path).json()
    assert (failing["enabled"], failing["disabled_reason"]) == (False, "failing")
    assert failing["failing_since"]
    on = client.http.patch(path, json={"enabled": True}).json()
    assert (on["enabled"], on["disabled_reason"], on["disabled_at"], on["failing_since"]) == (True, None, None, None)
    assert "secret" not in on


def test_a_deleted_endpoint_is_not_there(client: Client) -> None:
    endpoint = made(client)
    answer = client.http.delete(where(endpoint))
    assert (answer.status_code, answer.content) == (204, b"")
    assert client.get(ENDPOINTS).json() == {"data": []}
    for method, path, body in calls(endpoint["endpoint_id"]):
        assert client.send(method, path, body).status_code == 404, (method, path)


def calls(endpoint_id: str) -> list[tuple[str, str, Any]]:
    """Every request that names an endpoint."""
    path = f"{ENDPOINTS}/{endpoint_id}"
    return [
        ("GET", path, None),
        ("PATCH", path, {"url": URL + "/stolen"}),
        ("POST", f"{path}/rotate-secret", None),
        ("POST", f"{path}/test", None),
        ("POST", f"{path}/replay?since=2026-01-01T00:00:00Z", None),
        ("GET", f"{path}/deliveries", None),
        ("GET", f"{path}/deliveries/{uuid4()}", None),
        ("POST", f"{path}/deliveries/{uuid4()}/replay", None),
        ("DELETE", path, None),
    ]


def test_every_route_that_names_an_endpoint_is_in_that_list() -> None:
    listed = {(method, path.split("?")[0].replace("{", "").count("/")) for method, path, _ in calls("x")}
    routes = {(r.method, r.path.count("/")) for r in ROUTES if "{endpoint_id}" in r.path}
    assert listed == routes
    assert len(calls("x")) == len([r for r in ROUTES if "{endpoint_id}" in r.path])


def test_another_merchants_endpoint_does_not_exist(
    client: Client, make_client: MakeClient, database: psycopg.Connection
) -> None:
    endpoint = made(client)
    delivery = client.post(f"{where(endpoint)}/test").json()
    other = make_client()
    for method, path, body in calls(endpoint["endpoint_id"]):
        answer = other.send(method, path, body)
        assert is_problem(answer)["type"] == "/problems/not_found", (method, path)
    own = made(other)
    for path in (f"{where(endpoint)}/deliveries/", f"{where(own)}/deliveries/"):
        assert other.get(path + delivery["delivery_id"]).status_code == 404
        assert other.post(f"{path}{delivery['delivery_id']}/replay").status_code == 404
    assert other.get(ENDPOINTS).json()["data"] == [{n: v for n, v in own.items() if n != "secret"}]
    assert client.get(where(endpoint)).json()["url"] == URL
    secrets = "SELECT count(*) FROM webhooks.signing_secrets WHERE endpoint_id = %s"
    assert database.execute(secrets, [endpoint["endpoint_id"]]).fetchone() == (1,)
    attempts = "SELECT tries, attempts FROM webhooks.deliveries WHERE delivery_id = %s"
    assert database.execute(attempts, [delivery["delivery_id"]]).fetchone() == (0, 0)


@pytest.mark.parametrize("scope", list(Scope))
def test_one_scope_opens_these_routes_and_no_other_does(client: Client, make_client: MakeClient, scope: Scope) -> None:
    endpoint = made(client)
    holder = make_client(merchant=client.merchant, scopes=(scope,))
    allowed = scope is Scope.WEBHOOKS_MANAGE
    for method, path, body in [("POST", ENDPOINTS, {"url": URL}), ("GET", ENDPOINTS, None),
                               *calls(endpoint["endpoint_id"])]:  # fmt: skip
        answer = holder.send(method, path, body)
        if allowed:
            assert answer.status_code in (200, 201, 202, 204) or "/deliveries/" in path, (method, path, answer.text)
        else:
            problem = is_problem(answer)
            assert problem["type"] == "/problems/forbidden", (method, path)
            assert "webhooks:manage" in problem["detail"]


def test_without_a_key_there_is_nothing(running: Running) -> None:
    for method, path, body in [("POST", ENDPOINTS, {"url": URL}), *calls(str(uuid4()))]:
        assert httpx.request(method, running.url + path, json=body).status_code == 401


def test_rotation_shows_the_new_secret_once_and_the_old_one_lives_for_a_day(
    client: Client, database: psycopg.Connection
) -> None:
    endpoint = made(client)
    first, again = (client.post(f"{where(endpoint)}/rotate-secret", key="r") for _ in range(2))
    assert first.status_code == 200
    assert again.json() == first.json()
    assert first.json()["secret"] not in (endpoint["secret"], None)
    assert "secret" not in client.get(where(endpoint)).json()
    assert active(database, endpoint) == 2
    expiry = "SELECT expires_at - now() FROM webhooks.active_secrets WHERE endpoint_id = %s AND expires_at IS NOT NULL"
    [(left,)] = database.execute(expiry, [endpoint["endpoint_id"]])
    assert 86_300 < left.total_seconds() <= 86_400
    assert client.get(where(endpoint)).json()["old_secret_expires_at"]
    database.execute(
        "UPDATE webhooks.signing_secrets SET created_at = created_at - interval '25 hours' WHERE endpoint_id = %s",
        [endpoint["endpoint_id"]],
    )
    assert active(database, endpoint) == 1
    assert client.get(where(endpoint)).json()["old_secret_expires_at"] is None


def active(database: psycopg.Connection, endpoint: dict[str, Any]) -> int:
    row = database.execute(
        "SELECT count(*) FROM webhooks.active_secrets WHERE endpoint_id = %s", [endpoint["endpoint_id"]]
    ).fetchone()
    assert row
    return int(row[0])


def test_secrets_and_endpoints_are_bounded(client: Client, database: psycopg.Connection) -> None:
    endpoint = made(client)
    for _ in range(MAX_SECRETS - 1):
        assert client.post(f"{where(endpoint)}/rotate-secret").status_code == 200
    assert is_problem(client.post(f"{where(endpoint)}/rotate-secret"))["type"] == "/problems/too_many_secrets"
    assert active(database, endpoint) == MAX_SECRETS
    for _ in range(MAX_ENDPOINTS - 1):
        made(client)
    assert is_problem(client.post(ENDPOINTS, {"url": URL}))["type"] == "/problems/too_many_endpoints"
    client.http.delete(where(endpoint))
    made(client)


def test_without_a_key_to_keep_secrets_under_no_endpoint_is_made(
    gateway_settings: Settings, limits: Limits, client: Client, make_client: MakeClient
) -> None:
    settings = gateway_settings.model_copy(update={"webhook_secret_keys": SecretStr("")})
    gateway = Running(create_app(settings, limits), settings, limits)
    try:
        keyless = make_client(merchant=client.merchant, gateway=gateway)
        assert is_problem(keyless.post(ENDPOINTS, {"url": URL}, key="k"))["type"] == "/problems/unavailable"
    finally:
        gateway.stop()
    assert client.post(ENDPOINTS, {"url": URL}, key="k").status_code == 201


def test_a_ping_is_queued_once_for_its_key(client: Client, running: Running) -> None:
    endpoint = made(client, event_types=["payments.failed"])
    first, again = (client.post(f"{where(endpoint)}/test", key="p") for _ in range(2))
    assert first.status_code == 202
    assert again.json() == first.json()
    delivery = first.json()
    assert first.headers["Location"] == f"{where(endpoint)}/deliveries/{delivery['delivery_id']}"
    assert delivery["delivery_id"] == ids.delivery_id(endpoint["endpoint_id"], delivery["event_id"])
    assert (delivery["event_type"], delivery["status"], delivery["attempts"]) == ("webhooks.ping", "pending", [])
    assert client.get(first.headers["Location"]).json() == delivery
    assert client.get(f"{where(endpoint)}/deliveries").json()["data"] == [delivery]


def test_nothing_can_be_sent_to_a_disabled_endpoint(client: Client) -> None:
    endpoint = made(client)
    delivery = client.post(f"{where(endpoint)}/test").json()["delivery_id"]
    client.http.patch(where(endpoint), json={"enabled": False})
    for path in ("test", "replay?since=2026-01-01T00:00:00Z", f"deliveries/{delivery}/replay"):
        assert is_problem(client.post(f"{where(endpoint)}/{path}"))["type"] == "/problems/endpoint_disabled"
    held = client.get(f"{where(endpoint)}/deliveries/{delivery}").json()
    assert (held["status"], held["next_attempt_at"]) == ("pending", None)


EVENT = "INSERT INTO webhooks.events (event_id, merchant_id, type, occurred_at, body) VALUES (%s, %s, %s, %s, '')"


def happened(database: psycopg.Connection, merchant: str, kinds: list[str]) -> list[str]:
    """An event a minute from noon on; returns their ids."""
    events = [str(uuid4()) for _ in kinds]
    for minute, (event, kind) in enumerate(zip(events, kinds, strict=True)):
        database.execute(EVENT, (event, merchant, kind, f"2026-01-01T12:{minute:02}:00Z"))
    return events


def test_replay_since_sends_what_was_delivered_and_what_never_was(
    client: Client, database: psycopg.Connection, make_client: MakeClient
) -> None:
    endpoint = made(client, event_types=["payments.captured", "payments.failed"])
    kinds = ["payments.captured", "payments.captured", "payments.created", "payments.failed", "payments.captured"]
    events = happened(database, client.merchant, kinds)
    happened(database, make_client().merchant, ["payments.captured"])
    delivered = ids.delivery_id(endpoint["endpoint_id"], events[1])
    database.execute(
        "INSERT INTO webhooks.deliveries (delivery_id, endpoint_id, event_id, status, attempts, tries, next_attempt_at)"
        " VALUES (%s, %s, %s, 'delivered', 3, 3, NULL)",
        (delivered, endpoint["endpoint_id"], events[1]),
    )
    path = f"{where(endpoint)}/replay"
    answer = client.post(f"{path}?since=2026-01-01T12:01:00Z", key="k")
    assert (answer.status_code, answer.json()) == (202, {"deliveries": 3, "continue_since": None})
    listed = client.get(f"{where(endpoint)}/deliveries").json()["data"]
    assert {d["event_id"] for d in listed} == {events[1], events[3], events[4]}
    assert {(d["event_id"], d["attempt_count"], d["status"]) for d in listed} >= {(events[1], 3, "pending")}
    assert client.post(f"{path}?since=2026-01-01T12:01:00Z").json()["deliveries"] == 0, "they are pending already"
    assert is_problem(client.post(f"{path}?since=2026-01-01T12:02:00Z", key="k"))["type"].endswith("key_reused")
    for wrong in ("", "?since=yesterday", "?since=2026-01-01T12:00:00Z&x=1"):
        assert is_problem(client.post(path + wrong))["type"] == "/problems/invalid_query"


def test_a_long_replay_says_where_to_go_on(
    client: Client, database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.endpoint_store.REPLAY_PART", 2)
    endpoint = made(client)
    happened(database, client.merchant, ["payments.captured"] * 5)
    since, counts = "2026-01-01T00:00:00Z", []
    while since:
        part = client.post(f"{where(endpoint)}/replay?since={since}").json()
        counts.append(part["deliveries"])
        since = part["continue_since"]
    assert counts == [2, 2, 1]
    assert len(client.get(f"{where(endpoint)}/deliveries").json()["data"]) == 5


def test_deliveries_are_listed_in_pages_and_by_filter(client: Client, database: psycopg.Connection) -> None:
    endpoint = made(client)
    pings = [client.post(f"{where(endpoint)}/test").json()["delivery_id"] for _ in range(5)]
    path, found, cursor = f"{where(endpoint)}/deliveries", [], ""
    while cursor is not None:
        page = client.get(path, limit="2", **({"cursor": cursor} if cursor else {})).json()
        found += [delivery["delivery_id"] for delivery in page["data"]]
        cursor = page["next_cursor"]
    assert found == pings[::-1]
    database.execute(
        "UPDATE webhooks.deliveries SET status = 'failed', next_attempt_at = NULL WHERE delivery_id = %s", [pings[0]]
    )
    assert [d["delivery_id"] for d in client.get(path, status="failed").json()["data"]] == pings[:1]
    assert client.get(path, event_type="payments.captured").json()["data"] == []
    assert len(client.get(path, event_type="webhooks.ping").json()["data"]) == 5
    for wrong in ({"status": "lost"}, {"event_type": "x"}, {"limit": "0"}, {"cursor": "x"}, {"color": "red"}):
        assert is_problem(client.get(path, **wrong))["type"] == "/problems/invalid_query"


def test_attempts_are_told_as_they_are_known(client: Client, database: psycopg.Connection) -> None:
    endpoint = made(client)
    delivery = client.post(f"{where(endpoint)}/test").json()["delivery_id"]
    database.execute("UPDATE webhooks.deliveries SET attempts = 4 WHERE delivery_id = %s", [delivery])
    database.cursor().executemany(
        "INSERT INTO webhooks.attempts VALUES (%s, %s, now(), %s, %s, %s)",
        [
            (delivery, 1, "2026-01-01T00:00:00Z", 500, None),
            (delivery, 2, "2026-01-01T00:00:00Z", None, "timeout"),
            (delivery, 3, None, None, None),
            (delivery, 4, None, None, None),
        ],
    )
    path = f"{where(endpoint)}/deliveries/{delivery}"
    shown = client.get(path).json()
    states = [(a["number"], a["state"], a["http_status"], a["error"]) for a in shown["attempts"]]
    assert states == [
        (1, "failed", 500, None), (2, "failed", None, "timeout"), (3, "interrupted", None, None),
        (4, "under_way", None, None),
    ]  # fmt: skip
    again = client.post(f"{path}/replay")
    assert (again.status_code, again.headers["Location"]) == (202, path)


def test_answers_are_as_described(client: Client, running: Running) -> None:
    api = httpx.get(f"{running.url}/openapi.json").json()

    def conforms(name: str, value: Any) -> None:
        schema = {"$ref": f"#/components/schemas/{name}", "components": api["components"]}
        Draft202012Validator(schema).validate(value)

    endpoint = made(client, event_types=["*", *EVENT_TYPES])
    conforms("EndpointWithSecretOut", endpoint)
    conforms("EndpointWithSecretOut", client.post(f"{where(endpoint)}/rotate-secret").json())
    conforms("EndpointListOut", client.get(ENDPOINTS).json())
    conforms("DeliveryOut", client.post(f"{where(endpoint)}/test").json())
    conforms("DeliveryListOut", client.get(f"{where(endpoint)}/deliveries").json())
    conforms("ReplayOut", client.post(f"{where(endpoint)}/replay?since=2026-01-01T00:00:00Z").json())
    conforms("CreateEndpointIn", {"url": URL, "event_types": ["*"]})
    operations = {route.path: api["paths"][route.path] for route in ROUTES if route.path.startswith(ENDPOINTS)}
    assert "content" not in operations[f"{ENDPOINTS}/{{endpoint_id}}"]["delete"]["responses"]["204"]
    assert all(o["x-scope"] == "webhooks:manage" for methods in operations.values() for o in methods.values())
