"""The gateway's connections to Postgres: few, shared by all requests through batched statements."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import orjson
import psycopg
import structlog
from psycopg import AsyncConnection, sql
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from gateway.problems import unavailable

log = structlog.get_logger()

POOL_SIZE: Final = 4
ACQUIRE_SECONDS: Final = 5.0
_OPTIONS: Final = "-c statement_timeout=5000 -c idle_in_transaction_session_timeout=10000"

Row = tuple[Any, ...]


class Database:
    """A pool of autocommit connections. Every failure to reach Postgres is the Problem `unavailable`."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._pool: AsyncConnectionPool[AsyncConnection[Row]] = AsyncConnectionPool(
            dsn,
            min_size=1,
            max_size=POOL_SIZE,
            timeout=ACQUIRE_SECONDS,
            open=False,
            configure=_configure,
            kwargs={"autocommit": True, "application_name": "gateway", "options": _OPTIONS, "connect_timeout": 5},
            reconnect_timeout=30,
        )

    async def open(self) -> None:
        """Start connecting. Does not wait: the gateway answers 503 until Postgres is there."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close(timeout=5)

    async def fetch(self, statement: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[Row]:
        """Run one statement in a transaction of its own and return its rows. After a restart of Postgres every pooled
        connection is dead: then the next one is tried. All statements may be repeated.
        """
        for _ in range(POOL_SIZE + 1):
            try:
                return await self._fetch(statement, parameters)
            except _ConnectionLostError:
                continue
        raise unavailable("postgres")

    async def _fetch(self, statement: str, parameters: Sequence[Any] | dict[str, Any]) -> list[Row]:
        connection: AsyncConnection[Row] | None = None
        try:
            async with self._pool.connection() as connection:
                cursor = await connection.execute(statement.encode(), parameters, prepare=True)
                return await cursor.fetchall() if cursor.description else []
        except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout) as error:
            log.warning("postgres does not answer", error=type(error).__name__)
            if connection is not None and connection.closed:
                raise _ConnectionLostError from error
            raise unavailable("postgres") from error

    @asynccontextmanager
    async def listening(self, channel: str) -> AsyncIterator[AsyncConnection[Row]]:
        """A connection of its own that listens on `channel`. Raises psycopg.Error."""
        connection = await AsyncConnection.connect(
            self._dsn, autocommit=True, application_name="gateway-listen", connect_timeout=5
        )
        try:
            await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
            yield connection
        finally:
            await connection.close()


class _ConnectionLostError(Exception):
    """The connection was dead, or died."""


async def _configure(connection: AsyncConnection[Row]) -> None:
    set_json_loads(orjson.loads, connection)
