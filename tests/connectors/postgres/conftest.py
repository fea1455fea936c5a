"""Books of the test's own on the real Postgres."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import psycopg
import pytest
from confluent_kafka.admin import AdminClient
from psycopg import sql
from pydantic import SecretStr

from connectors.postgres import migrate
from pipeline import admin, topics
from pipeline.settings import Settings
from tests.fixtures.stack import Stack

ROLES = ("owner", "sink", "gateway", "reader", "debezium", "webhooks")


@pytest.fixture
def books(stack: Stack) -> Iterator[Settings]:
    """Settings whose database is new, migrated, and dropped afterwards."""
    with database(stack) as made:
        migrate.upgrade(made)
        migrate.upgrade(made)
        yield made


@pytest.fixture
def settings_at_first(stack: Stack) -> Iterator[Settings]:
    """The same at the first revision."""
    with database(stack) as made:
        migrate.upgrade(made, "0001")
        yield made


@contextmanager
def database(stack: Stack) -> Iterator[Settings]:
    """Settings whose database is new and empty, and dropped afterwards."""
    name = f"books_{uuid4().hex[:12]}"
    superuser = stack.env["PAYMENTS_POSTGRES_ADMIN_URL"]
    with psycopg.connect(superuser, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER payments_owner").format(sql.Identifier(name)))
    settings = stack.settings
    urls = {f"postgres_{role}_url": SecretStr(_in(settings.reveal(f"postgres_{role}_url"), name)) for role in ROLES}
    try:
        yield settings.model_copy(update=urls)
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


@pytest.fixture
def topics_there(books: Settings) -> Settings:
    """The books, with every topic and contract in place."""
    return with_topics(books)


def with_topics(books: Settings) -> Settings:
    """Every topic and contract in place; the partition counts are the stack's."""
    there = AdminClient({"bootstrap.servers": books.kafka_bootstrap}).list_topics(timeout=30).topics
    partitions = len(there[topics.INTAKE].partitions) if topics.INTAKE in there else books.partitions
    made = books.model_copy(update={"partitions": partitions})
    admin.apply_topics(made)
    admin.register_schemas(made)
    return made
