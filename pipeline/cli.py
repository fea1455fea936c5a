"""`payments`: the command line of the system."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from connectors.declines_cli import app as declines_app
from connectors.kafka_connect.cli import app as connect_app
from connectors.kafka_connect.connector import ConnectorError
from connectors.postgres.cli import app as database_app
from connectors.postgres.ledger_cli import app as ledger_app
from connectors.postgres.verify.cli import app as verify_app
from connectors.settlement.cli import app as settlement_app
from gateway.cli import app as keys_app
from pipeline import clock, local
from pipeline.admin import AdminError
from pipeline.admin_cli import schemas_app, topics_app
from pipeline.clock_cli import app as clock_app
from pipeline.explain_cli import explain
from pipeline.reports_cli import app as reports_app
from pipeline.review_cli import app as review_app
from pipeline.run import PROCESSES
from pipeline.settings import home
from pipeline.stack.cli import app as stack_app
from pipeline.unmatched_cli import app as unmatched_app
from pipeline.whatif_cli import whatif
from topologies.timers_cli import timers

app = typer.Typer(
    help="Payments on Kafka: from an HTTP request to balanced books, exactly once.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
app.add_typer(stack_app, name="stack")
app.add_typer(topics_app, name="topics")
app.add_typer(schemas_app, name="schemas")
app.add_typer(database_app, name="db")
app.add_typer(connect_app, name="connect")
app.add_typer(keys_app, name="keys")
app.add_typer(ledger_app, name="ledger")
app.add_typer(verify_app)
app.add_typer(review_app, name="review")
app.add_typer(unmatched_app, name="unmatched")
app.add_typer(reports_app, name="reports")
app.add_typer(declines_app, name="declines")
app.add_typer(clock_app, name="clock")
for command in (explain, whatif, timers):
    app.command()(command)
app.add_typer(settlement_app)
console = Console()

Process = Annotated[str, typer.Argument(help=f"one of {', '.join(PROCESSES)}, or all")]


@app.callback()
def main() -> None:
    """Live by the same clock as the system's processes."""
    clock.follow(local.current_settings().clock_file)


@app.command()
def up() -> None:
    """Bring the whole system up and leave it running: local stack, tables, contracts, topics, every process."""
    try:
        settings = local.up(lambda text: console.print(f"[dim]{text}[/]"))
    except (local.NotReadyError, AdminError, ConnectorError) as error:
        console.print(f"[red]{escape(str(error))}[/]")
        raise typer.Exit(1) from None
    url = f"http://{settings.gateway_host}:{settings.gateway_port}"
    table = Table(show_header=False, box=None)
    table.add_row("API", f"{url}/api/v1   read it at {url}/docs")
    table.add_row("API key", "payments keys create --merchant acme")
    table.add_row("Kafka", settings.kafka_bootstrap)
    table.add_row("registry", settings.registry_url)
    table.add_row("Stripe simulator", settings.stripe_api_url)
    table.add_row("Adyen simulator", settings.adyen_api_url)
    table.add_row("PayPal simulator", settings.paypal_api_url)
    table.add_row("logs", str(home() / "logs"))
    clock.follow(settings.clock_file)
    if clock.ahead():
        table.add_row("clock", "[bold red]put forward: see payments clock[/]")
    console.print(table)


@app.command()
def down(wipe: Annotated[bool, typer.Option(help="forget all data as well")] = False) -> None:
    """Stop every process and the local stack."""
    local.down(wipe=wipe)
    console.print("stopped")


@app.command()
def prepare() -> None:
    """Put on a stack what the processes stand on: tables, contracts, topics, outbox relay. Changes nothing twice."""
    local.prepare(local.current_settings())
    console.print("prepared")


@app.command()
def run(process: Process) -> None:
    """Run one process of the system, or all of them, supervised, until Ctrl-C."""
    if process == "all":
        local.supervise(simulator=local.is_simulated())
        return
    if process not in PROCESSES:
        console.print(f"[red]{process} is none of {', '.join(PROCESSES)}[/]")
        raise typer.Exit(2)
    # A fresh interpreter: a stage must not carry the command line's imports through its life.
    os.execve(  # noqa: S606
        sys.executable, [sys.executable, "-m", "pipeline.run", process], local.environment()
    )


@app.command(hidden=True)
def supervise() -> None:
    """What `payments up` leaves running."""
    local.supervise()


@app.command()
def demo() -> None:
    """Bring the system up, drive payments of every kind through it, and show what became of them."""
    from pipeline.demo import main  # noqa: PLC0415 - only here

    raise typer.Exit(main(console))


if __name__ == "__main__":
    app()
