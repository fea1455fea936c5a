"""`payments reconcile <provider> <file>`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, Final

import psycopg
import typer
from rich import progress
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from connectors.settlement.matching import Matcher
from connectors.settlement.posting import Posted, Poster
from connectors.settlement.printing import differences_table, payouts_table, sums_table, write_json
from connectors.settlement.readers import READERS
from connectors.settlement.report import ReportError
from connectors.settlement.result import Result, Scope, compare, differences
from connectors.settlement.sending import NotPostedError, Report
from pipeline.codec import Codec, Registry, UnregisteredContractError
from pipeline.domain.fees import ScheduleError, parse
from pipeline.messages.settlement import SettlementLine
from pipeline.settings import settings

app: Final = typer.Typer()
DIFFERS: Final = 1
FAILED: Final = 2
_HOUR: Final = 60 * 60 * 1000
_REFUSALS: Final = (ReportError, ScheduleError, NotPostedError, UnregisteredContractError, OSError)

Provider = Annotated[str, typer.Argument(help=f"one of {', '.join(READERS)}")]
File = Annotated[Path, typer.Argument(help="the report as the provider publishes it (CSV)")]
Account = Annotated[str | None, typer.Option(help="the provider's account that the report is of")]
Grace = Annotated[float, typer.Option(help="hours at the report's end in which what it lacks is late, not missing")]
Since = Annotated[datetime | None, typer.Option(help="what was booked before is not looked for in the report")]
Until = Annotated[datetime | None, typer.Option(help="the end of the report's period, if that is after its last line")]
Limit = Annotated[int, typer.Option(help="how many differences the table names")]
Patience = Annotated[float, typer.Option(help="seconds that nothing may move before it gives up")]
AsJson = Annotated[bool, typer.Option("--json", help="all of it, every difference, as JSON on standard output")]


@app.command()
def reconcile(
    provider: Provider,
    file: File,
    *,
    account: Account = None,
    grace: Grace = 0,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    patience: Patience = 60,
    as_json: AsJson = False,
) -> None:
    """Post a provider's settlement report, and say where it and the books differ.

    Exits 1 when they differ, and 2 when it could not be done: then the report is refused whole, before anything is
    posted. The same report twice changes nothing.
    """
    console = Console(stderr=as_json)
    try:
        if provider not in READERS:
            raise ReportError(0, f"{provider} is none of {', '.join(READERS)}")
        with psycopg.connect(settings().reveal("postgres_reader_url"), autocommit=True) as connection:
            with Bars(console) as bars:
                posted = _poster(connection, bars, patience).post(provider, file, account)
            scope = _scope(provider, posted.report, grace, since, until)
            result = compare(connection, scope)
            agrees = result.agrees and posted.whole
            with closing(differences(connection, scope)) as named:
                if as_json:
                    write_json(sys.stdout, posted, result, named, agrees=agrees)
                else:
                    _print(console, posted, result, differences_table(islice(named, limit)), agrees=agrees)
    except _REFUSALS as error:
        console.print(f"[red]{escape(str(error))}[/]")
        raise typer.Exit(FAILED) from None
    raise typer.Exit(0 if agrees else DIFFERS)


def _poster(connection: psycopg.Connection, bars: Bars, patience: float) -> Poster:
    known = settings()
    codec = Codec(Registry(known.registry_url)).require(SettlementLine)
    matcher = Matcher(connection, parse(known.fee_schedule.read_text()))
    return Poster(known, connection, codec, matcher, bars, patience)


def _scope(provider: str, report: Report, grace: float, since: datetime | None, until: datetime | None) -> Scope:
    end = max(report.last_at, _millis(until))
    return Scope(provider, report.first_at, report.last_at, end - round(grace * _HOUR), _millis(since))


@dataclass(slots=True)
class Bars:
    """The steps as progress bars."""

    console: Console
    _progress: progress.Progress = field(init=False)
    _posting: progress.TaskID | None = None
    _most: int = 0

    def __enter__(self) -> Bars:
        columns = (
            progress.TextColumn("{task.description:>9}"),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            progress.TimeElapsedColumn(),
            progress.TextColumn("[dim]{task.fields[note]}"),
        )
        self._progress = progress.Progress(*columns, console=self.console)
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def step(self, name: str, total: int) -> Callable[[int], None]:
        """A bar of its own."""
        task = self._progress.add_task(name, total=total, note="")
        return lambda advance: self._progress.advance(task, advance)

    def waiting(self, count: int) -> None:
        """The last bar: it is full when nothing waits."""
        self._most = max(self._most, count)
        if self._posting is None:
            self._posting = self._progress.add_task("posting", total=1, note="")
        done = 1 - count / self._most if self._most else 1
        note = f"{count:,} records to go" if count else ""
        self._progress.update(self._posting, completed=done, note=note)


def _print(console: Console, posted: Posted, result: Result, differing: Table, *, agrees: bool) -> None:
    if result.sums:
        console.print(sums_table(result.sums))
    if differing.row_count:
        console.print(differing)
    if result.payouts:
        console.print(payouts_table(result.payouts))
    console.print(f"{posted.report.lines:,} lines, {posted.known:,} of them known before")
    if posted.changed:
        console.print(
            f"[red]{posted.changed:,} lines had other figures before, which stand: see settlement.lines.dlq[/]"
        )
    if posted.absent:
        console.print(f"[red]{posted.absent:,} lines are not in the books[/]")
    if not posted.whole:
        console.print("[red]what could not be posted is on settlement.lines.dlq[/]")
    console.print("[green]the books and the report agree[/]" if agrees else "[red]they differ[/]")


def _millis(at: datetime | None) -> int:
    return 0 if at is None else round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
