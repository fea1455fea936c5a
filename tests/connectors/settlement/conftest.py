"""A database and topics as for the sink's tests."""

from __future__ import annotations

from tests.connectors.postgres.conftest import books, topics_there

__all__ = ["books", "topics_there"]
