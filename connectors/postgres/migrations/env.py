"""Alembic's entry: one connection, one transaction, an advisory lock against a second migration at the same time."""

from alembic import context
from sqlalchemy import create_engine, text

engine = create_engine(context.config.get_main_option("sqlalchemy.url") or "")
with engine.begin() as connection:
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('payments migrations'))"))
    context.configure(connection=connection)
    context.run_migrations()
engine.dispose()
