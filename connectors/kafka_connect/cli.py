"""`payments connect apply|status`."""

from __future__ import annotations

import typer
from rich.console import Console
from rich.table import Table

from connectors.kafka_connect import connector
from pipeline.settings import settings

app = typer.Typer(help="The outbox relay: Debezium on Kafka Connect.", no_args_is_help=True)
console = Console()


@app.command()
def apply() -> None:
    """Create or update the connector, and wait until it runs."""
    connector.apply(settings())
    console.print(f"{connector.NAME} runs")


@app.command()
def status() -> None:
    """Show the connector and its task. Exits 1 unless both run."""
    found = connector.status(settings())
    table = Table("part", "state")
    table.add_row("connector", found["connector"]["state"])
    for task in found["tasks"]:
        table.add_row(f"task {task['id']}", task["state"])
    console.print(table)
    states = [found["connector"]["state"], *(task["state"] for task in found["tasks"])]
    if states != ["RUNNING", "RUNNING"]:
        raise typer.Exit(1)
