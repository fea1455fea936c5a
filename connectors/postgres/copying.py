"""How rows get into Postgres."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg


def copy_rows(cursor: psycopg.Cursor[Any], statement: str, rows: Iterable[Sequence[Any]]) -> None:
    """Write rows with a COPY statement."""
    with cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


def time_of(millis: int) -> datetime:
    """Milliseconds since 1970 as Postgres takes them."""
    return datetime.fromtimestamp(millis / 1000, UTC)
