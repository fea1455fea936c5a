"""`payments db migrate`."""

from __future__ import annotations

import typer

from connectors.postgres import migrate as migrations
from pipeline.settings import settings

app = typer.Typer(help="The database: its tables, guards and grants.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Keeps `migrate` a command of its own while it is the only one."""


@app.command()
def migrate(revision: str = typer.Option("head", help="the revision to bring the database to")) -> None:
    """Bring the database to a revision, as its owner."""
    migrations.upgrade(settings(), revision)
    typer.echo(f"at {revision}")
