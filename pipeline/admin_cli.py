"""`payments topics …` and `payments schemas …`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from pipeline import admin, contracts
from pipeline.settings import settings

topics_app: Final = typer.Typer(help="The topic catalogue and the broker.", no_args_is_help=True)
schemas_app: Final = typer.Typer(help="The Avro contracts and the registry.", no_args_is_help=True)
_console: Final = Console()
Answer = TypeVar("Answer")


@topics_app.command("apply")
def apply_topics() -> None:
    """Create every missing topic and correct every wrong setting."""
    done = _or_exit(lambda: admin.apply_topics(settings()))
    for line in done:
        _console.print(line)
    _console.print(f"{len(done)} changes" if done else "nothing to do")


@topics_app.command("diff")
def diff_topics() -> None:
    """Show how the broker differs from the catalogue; exit 1 when it does."""
    differences = _or_exit(lambda: admin.diff_topics(settings()))
    if not differences:
        _console.print("no difference")
        return
    table = Table("topic", "what", "must be", "is")
    for difference in differences:
        table.add_row(difference.topic, difference.setting, difference.expected, difference.actual)
    _console.print(table)
    raise typer.Exit(1)


@schemas_app.command("write")
def write_schemas() -> None:
    """Write `avro/*.avsc` from the structs."""
    for path in contracts.write_all():
        _console.print(f"wrote {path.name}")


@schemas_app.command("register")
def register_schemas() -> None:
    """Register every contract at FULL_TRANSITIVE."""
    registered = _or_exit(lambda: admin.register_schemas(settings()))
    for subject in registered:
        _console.print(f"registered {subject}")
    _console.print(f"{len(registered)} new versions" if registered else "nothing to do")


@schemas_app.command("check")
def check_schemas() -> None:
    """Show what keeps the registry from holding `avro/` as it stands; exit 1 when something does."""
    problems = _or_exit(lambda: admin.check_schemas(settings()))
    for problem in problems:
        _console.print(problem)
    if problems:
        raise typer.Exit(1)
    _console.print("the registry holds every contract")


def _or_exit(work: Callable[[], list[Answer]]) -> list[Answer]:
    """What `work` returns; an AdminError ends the command in clear words."""
    try:
        return work()
    except admin.AdminError as error:
        _console.print(f"[red]{error}[/red]")
        raise typer.Exit(1) from error
