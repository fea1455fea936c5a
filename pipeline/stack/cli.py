"""`payments stack up|down|status`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from pipeline.settings import home
from pipeline.stack import jars
from pipeline.stack.errors import StackError
from pipeline.stack.local import LocalStack

app = typer.Typer(
    help="The local stack: Kafka, Connect with Debezium, schema registry, Postgres.", no_args_is_help=True
)
console = Console()


def _stack() -> LocalStack:
    return LocalStack(home(), say=lambda text: console.print(f"[dim]{text}[/]"))


@app.command()
def up() -> None:
    """Bring the stack up and leave it running. A second `up` finds the first and changes nothing."""
    started = monotonic()
    try:
        _stack().up()
    except StackError as error:
        console.print(f"[red]{error}[/]")
        raise typer.Exit(1) from None
    _show()
    console.print(f"ready in {monotonic() - started:.1f} s; settings for other programs: {home() / 'stack.env'}")


@app.command()
def down(wipe: Annotated[bool, typer.Option(help="delete all data: topics, tables, schemas")] = False) -> None:
    """Stop the stack. Its data stays, unless --wipe."""
    _stack().down(wipe=wipe)
    console.print("stopped" + (", and all data deleted" if wipe else ""))


@app.command()
def status() -> None:
    """Show each service: whether it runs, where, since when, and where its log is. Exits 1 unless all run."""
    if not _show():
        raise typer.Exit(1)


@app.command()
def plugins(target: Annotated[Path, typer.Argument(help="the folder to put the Debezium plugin in")]) -> None:
    """Copy the Debezium plugin, checked against its sums, for a Connect worker in a container."""
    console.print(f"the plugin is in {jars.lay_out_plugin(target)}")


def _show() -> bool:
    states = _stack().status()
    table = Table("service", "state", "pid", "port", "uptime", "log")
    for state in states:
        uptime = str(timedelta(seconds=int(state.uptime))) if state.uptime is not None else ""
        word = "[green]running[/]" if state.pid else "[red]stopped[/]"
        table.add_row(state.name, word, str(state.pid or ""), str(state.port), uptime, str(state.log))
    console.print(table)
    return bool(states) and all(state.pid for state in states)
