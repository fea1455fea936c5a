"""Merchants with webhook endpoints, on books of the test's own on the real Postgres."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from msgspec.structs import replace
from pydantic import SecretStr

from gateway.database import Database
from gateway.endpoint_store import DeliveryFilter, Endpoints, Place, Secret
from pipeline import clock, ids
from pipeline.domain import signing
from pipeline.domain.deliveries import PING
from pipeline.messages.facts import Fact
from pipeline.sealing import Sealer, new_key
from pipeline.settings import Settings
from tests.connectors.journal import captured, moved
from tests.connectors.postgres.conftest import books, topics_there

__all__ = ["books", "topics_there"]


@pytest.fixture
def settings(books: Settings) -> Settings:
    """As a local system has them, with pauses of milliseconds."""
    return books.model_copy(
        update={
            "webhook_secret_keys": SecretStr(new_key()),
            "webhook_allow_http": True,
            "webhook_allowed_networks": "127.0.0.0/8",
            "webhook_timeout": 20.0,
            "webhook_retry_scale": 1e-3,
        }
    )


@dataclass
class Merchants:
    """Endpoints as the gateway makes them, and what it shows of them. `secrets` by endpoint, the newest first."""

    settings: Settings
    store: Endpoints
    owner: psycopg.Connection
    secrets: dict[str, list[str]] = field(default_factory=dict)

    async def endpoint(self, url: str, *event_types: str, merchant: str = "acme") -> Place:
        """A new endpoint."""
        place = Place(merchant, str(uuid4()))
        secret = self._secret(place)
        assert await self.store.create(place, url, event_types or ("*",), secret)
        return place

    async def rotate(self, place: Place) -> None:
        """A newer secret."""
        assert await self.store.rotate(place, self._secret(place))

    async def pings(self, place: Place, count: int) -> list[str]:
        """As many deliveries to one endpoint, due at once; their ids."""
        events = [str(uuid4()) for _ in range(count)]
        for event in events:
            assert await self.store.ping(place, event, PING, f'{{"event":"{event}"}}'.encode())
        return [ids.delivery_id(place.endpoint_id, event) for event in events]

    async def shown(self, place: Place) -> dict[str, Any]:
        """The endpoint as the API shows it."""
        found = await self.store.endpoint(place)
        assert found
        return found

    async def deliveries(self, place: Place) -> list[dict[str, Any]]:
        """All of its deliveries as the API shows them, newest first."""
        return [shown for _, shown in await self.store.deliveries(place, DeliveryFilter(10_000))]

    def _secret(self, place: Place) -> Secret:
        plain = secrets.token_bytes(signing.SECRET_BYTES)
        self.secrets.setdefault(place.endpoint_id, []).insert(0, signing.written(plain))
        sealer = Sealer(self.settings.reveal("webhook_secret_keys"))
        return Secret(str(uuid4()), sealer.seal(plain, place.endpoint_id))


@pytest.fixture
async def merchants(settings: Settings) -> AsyncIterator[Merchants]:
    """Merchants without endpoints yet."""
    database = Database(settings.reveal("postgres_gateway_url"))
    await database.open()
    with psycopg.connect(settings.reveal("postgres_owner_url"), autocommit=True) as owner:
        yield Merchants(settings, Endpoints(database), owner)
    await database.close()


@pytest.fixture
def sender_connection(settings: Settings) -> Iterator[psycopg.Connection]:
    """A connection as the sender of webhooks has it."""
    with psycopg.connect(settings.reveal("postgres_webhooks_url"), autocommit=True) as connection:
        yield connection


def captured_now(merchant: str = "acme") -> list[Fact]:
    """The five facts of a payment that was captured a moment ago."""
    facts, now = moved(captured(), str(uuid4())), clock.now()
    return [replace(fact, merchant_id=merchant, occurred_at=now) for fact in facts]
