"""`payments explain <payment id>`: everything that happened to a payment, with the rule and the place of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
import psycopg
import typer
from rich.console import Console
from rich.table import Table

from pipeline.codec import Codec, Registry
from pipeline.domain.decision import Schedule
from pipeline.domain.recovery import ORDER, Progress, progress
from pipeline.domain.timeline import Entry, timeline
from pipeline.history import FACTS_OF, Found, History, Known, known_facts
from pipeline.settings import Settings, settings

console: Final = Console()


def explain(
    payment_id: Annotated[str, typer.Argument(help="the payment's id")],
    scan: Annotated[
        bool, typer.Option(help="read its partitions from its creation on: slow, and misses nothing")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
) -> None:
    """Explain a payment: every command, attempt, decision, timer, provider exchange, posting and public event, in
    order, each with its place in the log. Exits 1 when facts of it are not in the log.
    """
    current = settings()
    codec = Codec(Registry(current.registry_url))
    known = _known(current, codec, payment_id)
    if not known:
        console.print(f"no payment {payment_id}")
        raise typer.Exit(1)
    found = _read(current, codec, payment_id, known, scan=scan)
    entries = timeline(found.records.values(), Schedule().scaled(current.recovery_scale))
    if as_json:
        for entry in entries:
            typer.echo(msgspec.json.encode(entry).decode())
    else:
        _print(payment_id, entries, progress(item.written for item in known).values(), found)
    if not found.complete:
        raise typer.Exit(1)


def _known(current: Settings, codec: Codec, payment_id: str) -> list[Known]:
    try:
        with psycopg.connect(current.reveal("postgres_reader_url")) as connection:
            return known_facts(codec, connection.execute(FACTS_OF, [payment_id]))
    except psycopg.errors.InvalidTextRepresentation:
        return []


def _read(current: Settings, codec: Codec, payment_id: str, known: Sequence[Known], *, scan: bool) -> Found:
    history = History(current, codec)
    try:
        if scan:
            return history.scan(payment_id, known, known[0].fact.occurred_at - 60_000)
        return history.read(payment_id, known)
    finally:
        history.close()


def _print(payment_id: str, entries: Sequence[Entry], operations: Iterable[Progress], found: Found) -> None:
    console.print(f"[bold]{payment_id}[/]", highlight=False)
    for entry in entries:
        _print_entry(entry)
    table = Table("operation", "kind", "state", *ORDER, box=None)
    for operation in operations:
        times = (_clock(operation.points[point]) if point in operation.points else "" for point in ORDER)
        table.add_row(operation.operation_id[:13], operation.kind, operation.state.value, *times)
    console.print(table)
    words = (
        "all facts found" if found.complete else f"[red]not found in the log: {', '.join(found.missing) or 'time'}[/]"
    )
    console.print(f"{len(entries)} records of {found.scanned} looked at; {words}", highlight=False)


def _print_entry(entry: Entry) -> None:
    place = f"{entry.topic}[{entry.partition}]@{entry.offset}"
    console.print(f"{_clock(entry.at)}  {entry.kind.value:<12} [bold]{entry.name}[/]  [dim]{place}[/]", highlight=False)
    for words in (entry.summary, entry.rule):
        if words:
            console.print(f"{'':26}{words}", highlight=False, markup=False, soft_wrap=True)


def _clock(millis: int) -> str:
    return datetime.fromtimestamp(millis / 1000, UTC).strftime("%m-%d %H:%M:%S.%f")[:-3]
