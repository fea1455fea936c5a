"""`payments declines`: the codes that no table knows, and what a code means."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import psycopg
import typer
from rich.console import Console
from rich.table import Table

from connectors import declines
from connectors.declines import Declines
from pipeline.settings import settings

app: Final = typer.Typer(help="Decline codes: what they mean, and which nobody knows.", no_args_is_help=True)
console: Final = Console()

_SEEN: Final = """
SELECT p.provider, d ->> 'raw_code', d ->> 'network_code', d ->> 'category', d ->> 'code',
       count(*), max(p.updated_at), (array_agg(p.payment_id::text ORDER BY p.updated_at DESC))[1]
  FROM payments.payments AS p, jsonb_array_elements(p.view -> 'attempts') AS a, jsonb_extract_path(a, 'decline') AS d
 WHERE p.updated_at > now() - make_interval(days => %s) AND jsonb_typeof(d) = 'object' AND d ->> 'raw_code' <> ''
 GROUP BY 1, 2, 3, 4, 5 ORDER BY 6 DESC
"""


class Seen(NamedTuple):
    """A decline code that attempts ended with."""

    provider: str
    raw_code: str
    network_code: str | None
    category: str
    code: str
    times: int
    last: datetime
    payment_id: str


def tables() -> dict[str, Declines]:
    """Every provider's table there is."""
    paths = Path(__file__).parent.glob("*/declines.toml")
    return {path.parent.name: declines.load(path.parent.name, path) for path in sorted(paths)}


@app.command()
def unknown(days: Annotated[int, typer.Option(min=1, help="how far back to look")] = 30) -> None:
    """List decline codes of real attempts that the provider's table does not know, most frequent first. They were taken
    for what the network's code says, else for soft. Exits 1 when there are some.
    """
    table = Table("provider", "code", "network", "taken for", "times", "last", "for example")
    found = list(_unknown(days))
    for seen in found:
        table.add_row(
            seen.provider, seen.raw_code, seen.network_code or "", f"{seen.category} {seen.code}", str(seen.times),
            f"{seen.last:%Y-%m-%d %H:%M}", seen.payment_id,
        )  # fmt: skip
    console.print(table if found else f"every decline code of the last {days} days is in its provider's table")
    if found:
        console.print("Add them to connectors/<provider>/declines.toml and restart the provider's worker.")
        raise typer.Exit(1)


def _unknown(days: int) -> Iterator[Seen]:
    known = tables()
    with psycopg.connect(settings().reveal("postgres_reader_url")) as connection:
        for row in connection.execute(_SEEN, [days]):
            seen = Seen(*row)
            if seen.provider not in known or not known[seen.provider].knows(seen.raw_code):
                yield seen


@app.command()
def show(
    provider: Annotated[str, typer.Argument(help="whose code it is")],
    code: Annotated[str, typer.Argument(help="the provider's decline code")],
    network: Annotated[str | None, typer.Option(help="the network's response code beside it")] = None,
    advice: Annotated[str | None, typer.Option(help="Mastercard's merchant advice code beside it")] = None,
) -> None:
    """Show what a decline code means."""
    table = tables().get(provider)
    if table is None:
        console.print(f"[red]no provider is called {provider}[/]", highlight=False)
        raise typer.Exit(2)
    decline = table.decline(code, network_code=network, network_advice_code=advice)
    words = "" if table.knows(code) else " (the provider's table does not know the code)"
    console.print(f"{decline.category} {decline.code}{words}: {decline.message}", highlight=False)
