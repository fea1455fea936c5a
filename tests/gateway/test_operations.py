"""What operators look at: readiness, metrics, the description and its page, keys on the command line."""

from __future__ import annotations

import json
import re
import time
from html.parser import HTMLParser
from typing import Any

import httpx
import psycopg
import pytest
from jsonschema import Draft202012Validator
from pydantic import SecretStr
from typer.testing import CliRunner

from gateway import cli
from gateway.app import create_app
from gateway.keys import Mode, Scope, create_key, key_log, list_keys, revoke_key
from gateway.limits import Limits
from gateway.problems import KINDS
from gateway.routes import ROUTES
from pipeline.messages.values import RejectionReason
from pipeline.settings import Settings
from tests.fixtures.stack import Stack
from tests.gateway.chain import APPROVED, DECLINED, SOFT, Chain
from tests.gateway.conftest import Client, Running, intent

pytestmark = pytest.mark.stack


def test_the_process_runs_and_is_ready(running: Running) -> None:
    assert httpx.get(f"{running.url}/health").json() == {"status": "ok"}
    answer = httpx.get(f"{running.url}/ready")
    assert answer.status_code == 200
    assert {name: part["ok"] for name, part in answer.json()["parts"].items()} == {
        "kafka": True,
        "registry": True,
        "postgres": True,
    }


@pytest.mark.parametrize(
    ("change", "failing"),
    [
        ({"kafka_bootstrap": "127.0.0.1:9"}, "kafka"),
        ({"postgres_gateway_url": SecretStr("postgresql://payments_gateway:x@127.0.0.1:9/payments")}, "postgres"),
    ],
)
def test_the_part_that_fails_is_named(
    gateway_settings: Settings, limits: Limits, change: dict[str, Any], failing: str
) -> None:
    settings = gateway_settings.model_copy(update=change)
    gateway = Running(create_app(settings, limits), settings, limits)
    try:
        answer = httpx.get(f"{gateway.url}/ready", timeout=10)
        assert answer.status_code == 503
        assert [name for name, part in answer.json()["parts"].items() if not part["ok"]] == [failing]
        assert httpx.get(f"{gateway.url}/health").status_code == 200
        if failing == "postgres":
            headers = {"Authorization": f"Bearer sk_test_{'0' * 16}_{'A' * 43}", "Idempotency-Key": "k"}
            answer = httpx.post(f"{gateway.url}/api/v1/intents", headers=headers, json=intent(), timeout=20)
            assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
    finally:
        gateway.stop()


def test_a_lost_broker_costs_a_503_and_the_key_is_not_used_up(
    gateway_settings: Settings, limits: Limits, client: Client, make_client: Any
) -> None:
    settings = gateway_settings.model_copy(update={"kafka_bootstrap": "127.0.0.1:9"})
    gateway = Running(create_app(settings, limits), settings, limits)
    try:
        lost = make_client(merchant=client.merchant, gateway=gateway)
        answer = lost.post("/api/v1/intents", intent(), key="k")
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
        assert client.post("/api/v1/intents", intent(amount="1"), key="k").status_code == 422
        assert client.post("/api/v1/intents", intent(), key="k").status_code == 201
    finally:
        gateway.stop()


def test_a_restart_of_postgres_costs_nothing(client: Client, gateway_settings: Settings, stack: Stack) -> None:
    """Every connection of the gateway dies; the next requests get new ones, and waits are told again."""
    made = client.create()["payment_id"]
    database = gateway_settings.reveal("postgres_gateway_url").rsplit("/", 1)[1]
    for _ in range(3):
        with psycopg.connect(stack.env["PAYMENTS_POSTGRES_ADMIN_URL"], autocommit=True) as connection:
            killed = connection.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE datname = %s AND application_name LIKE 'gateway%%'",
                (database,),
            ).fetchone()
        assert killed
        assert killed[0] >= 1
        for _ in range(5):
            assert client.get(f"/api/v1/intents/{made}").status_code == 200
            client.create()


def test_waits_are_told_after_the_listener_lost_its_connection(
    client: Client, chain: Chain, gateway_settings: Settings, stack: Stack
) -> None:
    made = client.create(APPROVED)["payment_id"]
    database = gateway_settings.reveal("postgres_gateway_url").rsplit("/", 1)[1]
    with psycopg.connect(stack.env["PAYMENTS_POSTGRES_ADMIN_URL"], autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = %s AND application_name = 'gateway-listen'",
            (database,),
        )
    answer = client.post(f"/api/v1/intents/{made}/authorize", Prefer="wait=10")
    assert (answer.status_code, answer.json()["status"]) == (200, "authorized")


def test_metrics_name_routes_not_paths(running: Running, client: Client) -> None:
    made = client.create()["payment_id"]
    client.get(f"/api/v1/intents/{made}")
    client.get("/nowhere/at/all")
    text = httpx.get(f"{running.url}/metrics").text
    assert 'route="/api/v1/intents/{payment_id}"' in text
    assert 'route="unrouted"' in text
    assert made not in text
    assert "nowhere" not in text
    assert "process_cpu_seconds_total" in text


def test_the_description_describes_every_route(running: Running) -> None:
    api = httpx.get(f"{running.url}/openapi.json").json()
    assert api["openapi"].startswith("3.1")
    described = {(method.upper(), path) for path, methods in api["paths"].items() for method in methods}
    assert described == {(route.method, route.path) for route in ROUTES if not route.hidden}
    text = json.dumps(api)
    for name in re.findall(r'"#/components/schemas/(\w+)"', text):
        assert name in api["components"]["schemas"]
    for schema in api["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    ids = [operation["operationId"] for methods in api["paths"].values() for operation in methods.values()]
    assert len(ids) == len(set(ids))


def test_answers_are_as_described(running: Running, client: Client, chain: Chain) -> None:
    api = httpx.get(f"{running.url}/openapi.json").json()

    def conforms(name: str, value: Any) -> None:
        schema = {"$ref": f"#/components/schemas/{name}", "components": api["components"]}
        Draft202012Validator(schema).validate(value)

    made = client.create(APPROVED, metadata={"a": "b"})
    conforms("IntentOut", made)
    where = f"/api/v1/intents/{made['payment_id']}"
    later = client.post(f"{where}/authorize")
    conforms("OperationOut", later.json())
    conforms("IntentOut", client.post(f"{where}/capture", {"amount": "1.00", "final": False}, Prefer="wait=10").json())
    conforms("IntentOut", client.post(f"{where}/refund", Prefer="wait=10").json())
    conforms("OperationOut", client.get(later.headers["Location"]).json())
    conforms("IntentListOut", client.get("/api/v1/intents").json())
    for token in (DECLINED, SOFT):
        declined = client.create(token)["payment_id"]
        conforms("ProblemOut", client.post(f"/api/v1/intents/{declined}/authorize", Prefer="wait=10").json())
    conforms("ProblemOut", client.post("/api/v1/intents", {"amount": 1}).json())
    conforms("ReadyOut", httpx.get(f"{running.url}/ready").json())


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "action")]


@pytest.mark.parametrize("path", ["/docs", "/problems/all", "/problems/required"])
def test_pages_ask_no_other_origin(running: Running, path: str) -> None:
    answer = httpx.get(running.url + path)
    assert answer.status_code == 200
    links = _Links()
    links.feed(answer.text)
    assert not [link for link in links.found if "//" in link]
    assert "unsafe" not in answer.headers["Content-Security-Policy"]


def test_every_problem_has_its_page_and_every_rejection_its_problem(running: Running) -> None:
    with httpx.Client(base_url=running.url) as http:
        for code, kind in KINDS.items():
            assert kind.advice.split("'")[0].split(">")[0][:20] in http.get(kind.type).text.replace("&#x27;", "'")
            assert 400 <= kind.status < 600
            assert code == kind.type.removeprefix("/problems/")
    assert {reason.value for reason in RejectionReason} <= KINDS.keys()
    assert httpx.get(f"{running.url}/problems/unknown").status_code == 404


def test_keys_on_the_command_line(
    running: Running, gateway_settings: Settings, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "settings", lambda: gateway_settings)
    runner, merchant = CliRunner(), f"{prefix}-cli"
    made = runner.invoke(cli.app, ["create", "--merchant", merchant, "--scope", "payments:read", "--days", "1"])
    assert made.exit_code == 0, made.output
    key = made.stdout.strip()
    headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": "k"}
    assert httpx.get(f"{running.url}/api/v1/intents", headers=headers).status_code == 200
    assert httpx.post(f"{running.url}/api/v1/intents", headers=headers, json=intent()).status_code == 403
    [row] = list_keys(gateway_settings.reveal("postgres_gateway_url"), merchant)
    assert (row.scopes, row.state) == ([Scope.PAYMENTS_READ.value], "active")
    listed = runner.invoke(cli.app, ["list", "--merchant", merchant], env={"COLUMNS": "200"})
    assert row.key_id in listed.stdout
    assert key.split("_", 3)[3] not in listed.stdout
    assert runner.invoke(cli.app, ["revoke", row.key_id]).exit_code == 0
    revoked = time.monotonic()
    while httpx.get(f"{running.url}/api/v1/intents", headers=headers).status_code != 401:
        assert time.monotonic() - revoked < 5
        time.sleep(0.1)
    assert runner.invoke(cli.app, ["revoke", row.key_id]).exit_code == 1
    assert list_keys(gateway_settings.reveal("postgres_gateway_url"), merchant)[0].state == "revoked"


def test_who_changed_a_key_is_noted(gateway_settings: Settings, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the database: a change behind the command line's back is in the log as well."""
    monkeypatch.setattr(cli, "settings", lambda: gateway_settings)
    dsn, merchant = gateway_settings.reveal("postgres_gateway_url"), f"{prefix}-log"
    key_id = create_key(dsn, merchant, Mode.TEST, [Scope.PAYMENTS_READ], operator="ada").split("_")[2]
    with psycopg.connect(dsn) as connection:
        connection.execute("UPDATE gateway.api_keys SET scopes = '{payments:write}' WHERE key_id = %s", (key_id,))
    assert CliRunner().invoke(cli.app, ["revoke", key_id, "--operator", "bob"]).exit_code == 0
    assert not revoke_key(dsn, key_id, "eve")
    noted = [(row.change, row.operator, row.role, row.scopes) for row in key_log(dsn, merchant)]
    assert noted == [
        ("created", "ada", "payments_gateway", ["payments:read"]),
        ("changed", None, "payments_gateway", ["payments:write"]),
        ("revoked", "bob", "payments_gateway", ["payments:write"]),
    ]
    shown = CliRunner().invoke(cli.app, ["log", "--merchant", merchant], env={"COLUMNS": "250"})
    assert "ada" in shown.stdout
    assert "bob" in shown.stdout


@pytest.mark.parametrize("role", ["gateway", "owner"])
def test_the_log_of_keys_only_grows(gateway_settings: Settings, prefix: str, role: str) -> None:
    """Not even its owner changes it in passing: the trigger would have to be taken away first."""
    create_key(gateway_settings.reveal("postgres_gateway_url"), f"{prefix}-grows")
    with psycopg.connect(gateway_settings.reveal(f"postgres_{role}_url"), autocommit=True) as connection:
        for change in ("UPDATE gateway.key_changes SET operator = 'x'", "DELETE FROM gateway.key_changes",
                       "TRUNCATE gateway.key_changes"):  # fmt: skip
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(change.encode())


def test_an_expired_key_is_refused(client: Client, gateway_settings: Settings) -> None:
    with psycopg.connect(gateway_settings.reveal("postgres_gateway_url")) as connection:
        connection.execute(
            "UPDATE gateway.api_keys SET expires_at = now() - interval '1 second' WHERE merchant_id = %s",
            (client.merchant,),
        )
    assert client.get("/api/v1/intents").status_code == 401


def test_no_secret_is_stored(client: Client, gateway_settings: Settings) -> None:
    with psycopg.connect(gateway_settings.reveal("postgres_gateway_url")) as connection:
        rows = connection.execute("SELECT api_keys::text FROM gateway.api_keys").fetchall()
    assert rows
    assert not [row for row in rows if client.key.split("_", 3)[3] in row[0]]
    assert not revoke_key(gateway_settings.reveal("postgres_gateway_url"), "x")
