"""`payments verify`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Final

import psycopg
import typer
from confluent_kafka import KafkaException
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from connectors.postgres.verify.at import books_at, places, trial_balance
from connectors.postgres.verify.log import Log, LogError
from connectors.postgres.verify.rows import Balances, snapshot
from connectors.postgres.verify.run import Report, Verification, uncollected
from connectors.postgres.verify.seals import chain_of_rows, line_chain_of_rows
from connectors.postgres.verify.words import Difference, amount_of
from pipeline import money
from pipeline.codec import Codec, Registry
from pipeline.domain.hash_chain import Link, all_chains
from pipeline.settings import settings

app: Final = typer.Typer()
_console: Final = Console(soft_wrap=True)


@app.command()
def verify(
    at: Annotated[
        str | None,
        typer.Option(help="show the books as they stood: a time (2026-01-31T12:00:00Z) or 'partition:offset ...'"),
    ] = None,
    rows: Annotated[bool, typer.Option("--rows", help="check the hash chain from Postgres' rows alone")] = False,
    wait: Annotated[float, typer.Option(min=0, help="seconds to wait for what is on its way to the books")] = 15.0,
    jobs: Annotated[int, typer.Option(min=0, help="processes that check partitions side by side; 0: one a core")] = 0,
) -> None:
    """Compute the books anew from the log and compare them with Postgres; exits 1 at the first difference."""
    log = Log(settings())
    try:
        if at is not None:
            _show(_books_at(log, at))
        elif rows:
            _print_heads(*_chains(log))
        else:
            _print_report(_verified(log, wait, jobs))
    except Difference as found:
        _fail(str(found))
    except ValueError as error:
        _fail(str(error), 2)
    except (LogError, KafkaException, psycopg.OperationalError) as error:
        _fail(f"could not be verified: {error}", 2)


def _verified(log: Log, wait: float, jobs: int) -> Report:
    with _progress() as progress:
        task = progress.add_task("facts", total=None)
        return Verification(
            log,
            partial(_codec, log),
            wait,
            jobs or os.cpu_count() or 1,
            advance=lambda records: progress.advance(task, records),
            begun=lambda records: progress.update(task, total=records),
        ).run()


def _books_at(log: Log, at: str) -> Balances:
    ends = places(log, at)
    with _progress() as progress, uncollected():
        task = progress.add_task("facts", total=sum(ends.values()))
        return books_at(log, _codec(log), ends, lambda records: progress.advance(task, records))


def _chains(log: Log) -> tuple[dict[int, Link], dict[int, Link]]:
    """The heads of the facts' chains and of the settlement lines'."""
    partitions = list(log.ends(log.journal))
    with snapshot(log.settings.reveal("postgres_reader_url")) as books:
        facts = {partition: chain_of_rows(books, partition) for partition in partitions}
        return facts, {partition: line_chain_of_rows(books, partition) for partition in partitions}


def _codec(log: Log) -> Codec:
    return Codec(Registry(log.settings.registry_url))


@contextmanager
def _progress() -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.completed:,.0f}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield progress


def _print_report(report: Report) -> None:
    counts = report.counts
    rate = counts.facts / report.seconds if report.seconds else 0.0
    _console.print("[green]Postgres has what the log says.[/]")
    table = Table(show_header=False, box=None)
    table.add_row("facts", f"{counts.facts:,} in {report.seconds:.1f} s: {rate:,.0f} a second")
    table.add_row("payments", f"{counts.payments:,}")
    table.add_row("entries", f"{counts.entries:,} with {counts.postings:,} postings")
    table.add_row("balances", f"{len(report.balances):,}")
    if report.repeated or report.unusable:
        table.add_row("passed over", f"{report.repeated:,} repeats, {report.unusable:,} that are no journal records")
    _console.print(table)
    _print_heads(report.heads, report.line_heads)


def _print_heads(facts: dict[int, Link], lines: dict[int, Link]) -> None:
    _print_chains("facts", facts)
    if any(link.position for link in lines.values()):
        _print_chains("lines", lines)
    _console.print(f"all chains: {all_chains(facts, lines)}", highlight=False)


def _print_chains(what: str, heads: dict[int, Link]) -> None:
    table = Table("partition", what, "head of the hash chain", box=None)
    for partition, link in sorted(heads.items()):
        table.add_row(str(partition), f"{link.position:,}", link.hash.hex())
    _console.print(table)


def _show(balances: Balances) -> None:
    table = Table("currency", "accounts", "debit", "credit", "balance", box=None)
    for line in trial_balance(balances):
        amounts = [_decimal(amount, line.currency) for amount in (line.debit, line.credit, line.balance)]
        table.add_row(line.currency, line.accounts, *amounts, style="bold" if line.accounts == "total" else "")
    for column in table.columns[2:]:
        column.justify = "right"
    _console.print(table)


def _decimal(amount: int, currency: str) -> str:
    try:
        return money.decimal(amount, currency)
    except money.MoneyError:
        return amount_of(amount, currency)


def _fail(words: str, code: int = 1) -> None:
    _console.print(f"[red]{escape(words)}[/]", highlight=False)
    raise typer.Exit(code)
