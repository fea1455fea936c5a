"""`payments keys`: make, list and revoke API keys, and read who did."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from gateway.keys import Mode, Scope, create_key, key_log, list_keys, revoke_key
from pipeline.settings import settings

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys, and read who did.")
console = Console()


def _dsn() -> str:
    return settings().reveal("postgres_gateway_url")


@app.command()
def create(
    merchant: Annotated[str, typer.Option(help="The merchant that the key speaks for.")],
    mode: Annotated[Mode, typer.Option(help="Whether it moves real money.")] = Mode.TEST,
    scope: Annotated[list[Scope] | None, typer.Option(help="May be given several times; default: payments:*.")] = None,
    days: Annotated[int | None, typer.Option(min=1, help="Expires after so many days; default: never.")] = None,
    operator: Annotated[str | None, typer.Option(help="Who does it, for the log; default: the user.")] = None,
) -> None:
    """Make a key and print it: this once."""
    granted = scope or [Scope.PAYMENTS_READ, Scope.PAYMENTS_WRITE, Scope.PAYMENTS_REFUND]
    expires = datetime.now(UTC) + timedelta(days=days) if days else None
    typer.echo(create_key(_dsn(), merchant, mode, granted, expires, operator=operator or getpass.getuser()))


@app.command("list")
def list_(merchant: Annotated[str | None, typer.Option(help="Only this merchant's.")] = None) -> None:
    """List keys. Secrets are not kept and cannot be shown."""
    table = Table("key id", "merchant", "mode", "scopes", "created", "expires", "state")
    for row in list_keys(_dsn(), merchant):
        expires = row.expires_at.isoformat(timespec="seconds") if row.expires_at else "never"
        created = row.created_at.isoformat(timespec="seconds")
        table.add_row(row.key_id, row.merchant_id, row.mode, " ".join(row.scopes), created, expires, row.state)
    console.print(table)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="As `payments keys list` shows it.")],
    operator: Annotated[str | None, typer.Option(help="Who does it, for the log; default: the user.")] = None,
) -> None:
    """Revoke a key; holds everywhere within five seconds."""
    if not revoke_key(_dsn(), key_id, operator or getpass.getuser()):
        typer.echo(f"no active key {key_id}", err=True)
        raise typer.Exit(1)
    typer.echo(f"revoked {key_id}")


@app.command()
def log(merchant: Annotated[str | None, typer.Option(help="Only this merchant's.")] = None) -> None:
    """Show who changed which key, when and how. The database notes it; no role of the system can change the log."""
    table = Table("when", "change", "key id", "merchant", "mode", "scopes", "expires", "operator", "role")
    for noted in key_log(_dsn(), merchant):
        expires = noted.expires_at.isoformat(timespec="seconds") if noted.expires_at else "never"
        who = (noted.operator or "unknown", noted.role or "unknown")
        what = (noted.change, noted.key_id, noted.merchant_id, noted.mode, " ".join(noted.scopes), expires)
        table.add_row(noted.at.isoformat(timespec="seconds"), *what, *who)
    console.print(table)
