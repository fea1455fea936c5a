"""`payments ledger …`."""

from __future__ import annotations

from typing import Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape

from connectors.postgres import corrections
from pipeline.settings import settings

app: Final = typer.Typer(help="The books: corrections and exports.", no_args_is_help=True)
_console: Final = Console(soft_wrap=True, highlight=False)


@app.callback()
def group() -> None:
    """Keeps a command of this group a command of its own while it is the only one."""


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
