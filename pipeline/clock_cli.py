"""`payments clock`: what time it is in a local system, and let days of it pass."""

from __future__ import annotations

from typing import Annotated, Final

import typer
from rich.console import Console

from pipeline import clock
from pipeline.domain.networks import milliseconds
from pipeline.domain.timeline import utc

app: Final = typer.Typer(help="A local system's clock, that can be put forward.", invoke_without_command=True)
console: Final = Console()


@app.callback()
def show(context: typer.Context) -> None:
    """Show what time it is in the system."""
    if context.invoked_subcommand is None:
        _show()


@app.command()
def forward(by: Annotated[str, typer.Argument(help="such as 90s, 5m, 1h or 3d")]) -> None:
    """Put the clock of every process forward; it never goes back. What fell due meanwhile follows at once."""
    try:
        clock.put_forward(milliseconds(by))
    except ValueError as error:
        console.print(f"[red]{error}[/]", highlight=False)
        raise typer.Exit(2) from None
    _show()


def _show() -> None:
    ahead = clock.ahead() // 1000
    days, rest = divmod(ahead, 86_400)
    said = f"[bold red]put forward by {days} d {rest // 3600} h {rest % 3600 // 60} min {rest % 60} s[/]"
    console.print(f"{utc(clock.now())}  {said if ahead else 'as on this machine'}", highlight=False)
