"""Migrations, run by the role that owns the tables and by no other."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config

from pipeline.settings import Settings


def config(settings: Settings) -> Config:
    """Alembic's configuration, without a file."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    url = settings.reveal("postgres_owner_url").replace("postgresql://", "postgresql+psycopg://", 1)
    made.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return made


def upgrade(settings: Settings, revision: str = "head") -> None:
    """Bring the database to a revision. Does nothing when it is there."""
    command.upgrade(config(settings), revision)
