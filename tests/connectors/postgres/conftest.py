"""Books of the test's own on the real Postgres."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from connectors.postgres import migrate
from pipeline.settings import Settings
from tests.fixtures.stack import Stack

ROLES = ("owner", "sink", "gateway", "reader", "debezium")


@pytest.fixture
def books(stack: Stack) -> Iterator[Settings]:
    """Settings whose database is new, migrated, and dropped afterwards."""
    name = f"books_{uuid4().hex[:12]}"
    superuser = stack.env["PAYMENTS_POSTGRES_ADMIN_URL"]
    with psycopg.connect(superuser, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER payments_owner").format(sql.Identifier(name)))
    settings = stack.settings
    urls = {f"postgres_{role}_url": SecretStr(_in(settings.reveal(f"postgres_{role}_url"), name)) for role in ROLES}
    try:
        made = settings.model_copy(update=urls)
        migrate.upgrade(made)
        migrate.upgrade(made)
        yield made
    finally:
        with psycopg.connect(superuser, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _in(url: str, database: str) -> str:
    return f"{url.rsplit('/', 1)[0]}/{database}"


@pytest.fixture
def sink_connection(books: Settings) -> Iterator[psycopg.Connection]:
    """A connection as the sink has it."""
    with psycopg.connect(books.reveal("postgres_sink_url"), autocommit=True) as connection:
        yield connection
