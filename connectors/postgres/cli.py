"""`payments db …`."""

from __future__ import annotations

from typing import Annotated, Final

import psycopg
import typer
from confluent_kafka import KafkaException
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from connectors.postgres import migrate as migrations
from connectors.postgres.rebuild import Rebuild, Rebuilt
from connectors.postgres.verify.log import Log, LogError
from pipeline.codec import Codec, Registry
from pipeline.settings import settings

app: Final = typer.Typer(help="The database: its tables, guards and grants.", no_args_is_help=True)
_console: Final = Console(soft_wrap=True, highlight=False)
_QUESTION: Final = "Empty the books and write them anew from the log? Readers see the old ones until it is done"


@app.command()
def migrate(revision: str = typer.Option("head", help="the revision to bring the database to")) -> None:
    """Bring the database to a revision, as its owner."""
    migrations.upgrade(settings(), revision)
    typer.echo(f"at {revision}")


@app.command()
def rebuild(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only see what the new books come to")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """Empty the books and write them anew from the log, in one transaction. Announces nothing; the sink waits.

    Exits 1 if a dry run comes to other books than there are, 2 if it could not be done: then nothing is changed.
    """
    keep = not dry_run
    if keep and not yes:
        typer.confirm(_QUESTION, abort=True)
    try:
        done = _rebuilt(keep)
    except (LogError, KafkaException, psycopg.Error) as error:
        _console.print(f"[red]nothing is changed: {escape(str(error))}[/]")
        raise typer.Exit(2) from None
    _print(done, keep)
    raise typer.Exit(0 if keep or done.is_same else 1)


def _rebuilt(keep: bool) -> Rebuilt:
    known = settings()
    columns = (TextColumn("records"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("records", total=None)
        return Rebuild(
            Log(known),
            Codec(Registry(known.registry_url)),
            advance=lambda records: progress.advance(task, records),
            begun=lambda records: progress.update(task, total=records),
        ).run(keep=keep)


def _print(done: Rebuilt, keep: bool) -> None:
    counts = done.counts
    records = counts.facts + counts.lines
    rate = records / done.seconds if done.seconds else 0.0
    _console.print(f"{counts.facts:,} facts, {counts.lines:,} report lines, {counts.entries:,} entries")
    _console.print(f"in {done.seconds:.1f} s: {rate:,.0f} a second")
    if done.passed_over:
        _console.print(f"{done.passed_over:,} records passed over: they are on ledger.journal.dlq")
    _console.print(
        "[green]sealed as the old books were[/]" if done.is_same else "[red]sealed otherwise than the old books were[/]"
    )
    _console.print("the new books stand: payments verify" if keep else "nothing is changed")
