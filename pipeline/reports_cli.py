"""`payments reports`: providers' settlement reports that fetch themselves, and how each stands.

`list` reads `settlement.reports` and folds it as the stage does. `fetch` announces a report as its provider would: for
one that failed, one from before this system, or a day that is not over.
"""

from __future__ import annotations

from typing import Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline import clock, topics
from pipeline.codec import Codec, CodecError, Registry
from pipeline.domain.reports import ReportState, Status, decide, key_of
from pipeline.domain.timeline import utc
from pipeline.kafka import read_topic
from pipeline.messages.inputs import TimerFired
from pipeline.messages.reports import ReportAnnounced, ReportRecord
from pipeline.operators import refuse, send
from pipeline.settings import Settings, settings

app: Final = typer.Typer(help="Providers' settlement reports that fetch themselves.", no_args_is_help=True)
console: Final = Console()
_WORDS: Final = {
    Status.AWAITED: "[yellow]awaited[/]",
    Status.POSTED: "[green]posted[/]",
    Status.FAILED: "[red]failed[/]",
}


@app.command("list")
def list_() -> None:
    """List the reports, the last announced one last. Exits 1 when one failed."""
    found = sorted(states(settings()).values(), key=lambda state: state.announced.announced_at)
    table = Table("announced", "report", "", "requests", "lines", "what was wrong")
    table.columns[1].overflow = "fold"  # whole: `fetch` takes what stands behind the colon
    for state in found:
        row = (utc(state.announced.announced_at), state.announced.report, _WORDS[state.status], str(state.number))
        table.add_row(*row, f"{state.lines:,}", escape(state.detail or ""))
    console.print(table if found else "no report was announced")
    if any(state.status is Status.FAILED for state in found):
        raise typer.Exit(1)


@app.command()
def fetch(
    provider: Annotated[str, typer.Argument(help=f"one of {', '.join(topics.PROVIDERS)}")],
    reference: Annotated[str, typer.Argument(help="Stripe: a payout; Adyen: a file's name; PayPal: a day")],
    account: Annotated[str | None, typer.Option(help="the account, where the accounts' file names several")] = None,
) -> None:
    """Fetch a report now. What is posted already stays as it is."""
    if provider not in topics.PROVIDERS:
        refuse(f"{provider} is none of {', '.join(topics.PROVIDERS)}", 2)
    current, now = settings(), clock.now()
    record = ReportAnnounced(
        report=key_of(provider, account, reference),
        provider=provider,
        account=account,
        reference=reference,
        event_id=f"asked:{now}",
        announced_at=now,
    )
    send(current, topics.REPORTS, [record])
    console.print(f"{record.report} is asked for: payments reports list", highlight=False)


def states(current: Settings) -> dict[str, ReportState]:
    """How each report stands, by its name."""
    codec, found = Codec(Registry(current.registry_url)), dict[str, ReportState]()
    for message in read_topic(current, topics.REPORTS, None):
        try:
            record = codec.decode(message.value())
        except CodecError:
            continue  # the stage dead-letters it
        if isinstance(record, ReportRecord | TimerFired):
            name = record.report if isinstance(record, ReportRecord) else record.payment_id
            state = decide(found.get(name), record).state
            if state is not None:
                found[name] = state
    return found
