"""`payments ledger …`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape

from connectors.postgres import corrections
from connectors.postgres.export import Format, exported
from pipeline.settings import settings

app: Final = typer.Typer(help="The books: corrections and exports.", no_args_is_help=True)
_console: Final = Console(soft_wrap=True, highlight=False)


@app.command()
def reverse(
    entry: Annotated[str, typer.Argument(help="the entry's id")],
    reason: Annotated[str, typer.Option(help="why; kept for good")],
    operator: Annotated[str, typer.Option(help="who asks for it; kept for good")],
    wait: Annotated[float, typer.Option(min=0, help="seconds to wait for it to be in the books")] = 30.0,
) -> None:
    """Post the opposite of a journal entry. The entry itself is never changed. The same again changes nothing."""
    try:
        done = corrections.reverse(settings(), entry, reason, operator, wait)
    except corrections.NotReversedError as error:
        _console.print(f"[red]{escape(str(error))}[/]")
        raise typer.Exit(1) from None
    before = ", as it was before" if done.before else ""
    _console.print(f"{done.entry_id} is reversed by {done.by}{before}")


@app.command()
def export(
    format_: Annotated[Format, typer.Option("--format", help="what to write")] = Format.BEANCOUNT,
    output: Annotated[Path | None, typer.Option(help="the file to write; default: standard output")] = None,
) -> None:
    """Write the books out for another program to check: `bean-check` says whether accounts and balances are right."""
    lines = (f"{line}\n" for line in exported(settings().reveal("postgres_reader_url")))
    if output is None:
        sys.stdout.writelines(lines)
        return
    with output.open("w", encoding="utf-8") as file:
        file.writelines(lines)
    _console.print(f"wrote {output} ({format_.value})")
