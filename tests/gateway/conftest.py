"""The gateway as it runs, on the real stack, with a database of the test run's own."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from confluent_kafka.admin import AdminClient
from psycopg import sql
from pydantic import SecretStr
from starlette.applications import Starlette

from connectors.postgres import migrate
from gateway.app import create_app
from gateway.keys import Mode, Scope, create_key
from gateway.limits import Limits
from gateway.server import Server, config_of
from pipeline import admin, topics
from pipeline.sealing import new_key
from pipeline.settings import Settings
from tests.fixtures.stack import Stack
from tests.gateway.chain import Chain

WEBHOOK_SECRET = "whsec_of_the_gateway_tests"
OLD_WEBHOOK_SECRET = "whsec_that_is_rotated_out"
_URLS = tuple(f"postgres_{role}_url" for role in ("owner", "sink", "gateway", "reader", "webhooks"))


@dataclass
class Running:
    """A gateway in a thread."""

    app: Starlette
    settings: Settings
    limits: Limits

    def __post_init__(self) -> None:
        self.server = Server(config_of(self.app, self.settings, self.limits), self.app)
        self._thread = threading.Thread(target=self._serve, name="gateway", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 30
        while not self.server.started and self._thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert self.server.started, "the gateway did not start"

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=self.server.config.get_loop_factory()) as runner:
            runner.run(self.server.serve())

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server.servers[0].sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """Where it is asked."""
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """As SIGTERM does."""
        self.server.should_exit = True
        self._thread.join(40)
        assert not self._thread.is_alive(), "the gateway did not end"


@pytest.fixture(scope="session")
def gateway_settings(stack: Stack) -> Iterator[Settings]:
    """Settings whose database is new, migrated, and dropped afterwards."""
    name = f"gateway_test_{uuid4().hex[:12]}"
    owner = psycopg.conninfo.conninfo_to_dict(stack.settings.reveal("postgres_owner_url"))["user"]
    with psycopg.connect(stack.env["PAYMENTS_POSTGRES_ADMIN_URL"], autocommit=True) as connection:
        create = sql.SQL("CREATE DATABASE {} OWNER {}")
        connection.execute(create.format(sql.Identifier(name), sql.Identifier(str(owner))))
    changes: dict[str, Any] = {
        url: SecretStr(re.sub(r"/[^/]*$", f"/{name}", stack.settings.reveal(url))) for url in _URLS
    }
    secrets = SecretStr(f"{WEBHOOK_SECRET}, {OLD_WEBHOOK_SECRET}")
    changes |= {"stripe_webhook_secrets": secrets, "gateway_port": 0, "partitions": _partitions(stack.settings)}
    changes |= {"webhook_secret_keys": SecretStr(new_key())}
    settings = stack.settings.model_copy(update=changes)
    try:
        migrate.upgrade(settings)
        admin.register_schemas(settings)
        admin.apply_topics(settings)
        yield settings
    finally:
        with psycopg.connect(stack.env["PAYMENTS_POSTGRES_ADMIN_URL"], autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _partitions(settings: Settings) -> int:
    """What the topics have, if the stack has been used before: counts are frozen at creation."""
    client = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
    found = client.list_topics(timeout=10).topics.get(topics.INTAKE)
    return len(found.partitions) if found else settings.partitions


@pytest.fixture(scope="session")
def limits() -> Limits:
    """Out of the way, except for deadlines that tests wait for."""
    return Limits(
        key_rate=1e6, key_burst=1e6, address_rate=1e6, address_burst=1e6, refused_rate=1e6, refused_burst=1e6,
        header_seconds=1, body_seconds=1,
    )  # fmt: skip


@pytest.fixture(scope="session")
def running(gateway_settings: Settings, limits: Limits) -> Iterator[Running]:
    """The gateway that most tests ask."""
    gateway = Running(create_app(gateway_settings, limits), gateway_settings, limits)
    yield gateway
    gateway.stop()


@pytest.fixture(scope="session")
def prefix() -> str:
    """What the merchants of this run begin with."""
    return f"t{uuid4().hex[:10]}"


@pytest.fixture(scope="session")
def chain(gateway_settings: Settings, prefix: str) -> Iterator[Chain]:
    """What stands behind the gateway."""
    with Chain(gateway_settings, prefix) as made:
        yield made


@dataclass
class Client:
    """A merchant's client."""

    http: httpx.Client
    merchant: str
    key: str

    def post(self, path: str, body: Any = None, *, key: str | None = None, **headers: str) -> httpx.Response:
        """POST with an Idempotency-Key, a new one unless given."""
        return self.send("POST", path, body, key=key, **headers)

    def send(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, **headers: str
    ) -> httpx.Response:
        """Any method, with an Idempotency-Key."""
        sent = {"Idempotency-Key": key or str(uuid4()), **{n.replace("_", "-"): v for n, v in headers.items()}}
        return self.http.request(method, path, json=body, headers=sent)

    def create(self, token: str | None = None, *, key: str | None = None, **changes: Any) -> dict[str, Any]:
        """An accepted intent."""
        answer = self.post("/api/v1/intents", intent(token, **changes), key=key)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def get(self, path: str, **parameters: str) -> httpx.Response:
        """GET."""
        return self.http.get(path, params=parameters)


def intent(token: str | None = None, **changes: Any) -> dict[str, Any]:
    """A body that makes an intent."""
    body: dict[str, Any] = {"amount": "10.50", "currency": "USD", "provider": "stripe"}
    if token:
        body["payment_method"] = {"token": token}
    return body | changes


MakeClient = Callable[..., Client]


@pytest.fixture
def make_client(running: Running, gateway_settings: Settings, prefix: str) -> Iterator[MakeClient]:
    """Makes clients of new merchants."""
    made: list[httpx.Client] = []

    def make(
        merchant: str | None = None,
        scopes: tuple[Scope, ...] = tuple(Scope),
        mode: Mode = Mode.TEST,
        gateway: Running | None = None,
    ) -> Client:
        merchant = merchant or f"{prefix}-{uuid4().hex[:8]}"
        key = create_key(gateway_settings.reveal("postgres_gateway_url"), merchant, mode, scopes)
        http = httpx.Client(base_url=(gateway or running).url, headers={"Authorization": f"Bearer {key}"}, timeout=40)
        made.append(http)
        return Client(http, merchant, key)

    yield make
    for http in made:
        http.close()


@pytest.fixture
def client(make_client: MakeClient) -> Client:
    """A merchant's client."""
    return make_client()
