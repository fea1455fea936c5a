"""`payments unmatched`: providers' genuine events that no payment was found for, or whose type no version knew.

`list` shows what has waited in vain (`providers.unmatched`); the event itself waits on, and finds its payment as soon
as that is known. `types` and `replay` are for what is kept in `providers.unrouted`: a version that knows more reads it
again. `resolve` records that somebody looked.
"""

from __future__ import annotations

import getpass
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Final

import psycopg
import typer
from rich.console import Console
from rich.table import Table

from pipeline import clock, topics
from pipeline.codec import Codec, CodecError, Registry
from pipeline.domain.card_data import contains_card_data
from pipeline.domain.timeline import utc
from pipeline.kafka import read_topic
from pipeline.messages.routing import RoutingRecord, UnmatchedEvent, UnmatchedResolved, UnroutedEvent
from pipeline.operators import MAX_REASON, refuse, send
from pipeline.settings import Settings, settings

app: Final = typer.Typer(help="Providers' events that found no payment, or that nobody knows.", no_args_is_help=True)
console: Final = Console()

_REFERENCES: Final = """
SELECT provider || ':' || reference, payment_id::text FROM payments.provider_references
 WHERE provider || ':' || reference = ANY (%s)
"""


@dataclass(frozen=True, slots=True)
class Stray:
    """An event that was listed. `payment_id`: whose it turned out to be; `resolved`: who looked into it."""

    event: UnmatchedEvent
    payment_id: str | None = None
    resolved: UnmatchedResolved | None = None

    @property
    def is_open(self) -> bool:
        """Whether somebody should look."""
        return self.payment_id is None and self.resolved is None


@app.command("list")
def list_(
    everything: Annotated[
        bool, typer.Option("--all", help="also those that found their payment or were resolved")
    ] = False,
) -> None:
    """List what waits for its payment in vain, oldest first. Exits 1 when there is some."""
    found = [stray for stray in _strays(settings()) if everything or stray.is_open]
    table = Table("received", "provider", "event", "type", "names", "what became of it")
    for stray in found:
        event = stray.event
        named = event.reference.removeprefix(f"{event.provider}:")
        table.add_row(utc(event.received_at), event.provider, event.event_id, event.event_type, named, _fate(stray))
    console.print(table if found else "nothing waits for its payment in vain")
    if any(stray.is_open for stray in found):
        raise typer.Exit(1)


@app.command()
def types() -> None:
    """Count the kept events that name no payment, by provider, type and why. Reads all of providers.unrouted."""
    kept = Counter((event.provider, event.event_type, event.reason) for event in _kept(settings()))
    table = Table("provider", "type", "kept because", "events")
    for (provider, event_type, reason), count in sorted(kept.items()):
        table.add_row(provider, event_type, reason, str(count))
    console.print(table if kept else "nothing is kept")


@app.command()
def replay(
    event_id: Annotated[str | None, typer.Argument(help="one event, as `payments unmatched list` shows it")] = None,
    event_type: Annotated[str | None, typer.Option("--type", help="every kept event of this type")] = None,
    provider: Annotated[str | None, typer.Option(help="of this provider only")] = None,
) -> None:
    """Send kept events through routing again, as after an upgrade that knows their type. What an event said before it
    says again under the same id, which changes nothing.
    """
    if (event_id is None) == (event_type is None):
        refuse("name one event, or a --type")
    current = settings()
    wanted = {
        event.event_id: event
        for event in _kept(current)
        if event_id in {None, event.event_id} and event_type in {None, event.event_type}
        and provider in {None, event.provider}
    }  # fmt: skip
    if not wanted:
        refuse("no such event is kept")
    send(current, topics.UNROUTED, wanted.values())
    console.print(f"{len(wanted)} sent through routing again", highlight=False)


@app.command()
def resolve(
    event_id: Annotated[str, typer.Argument(help="as `payments unmatched list` shows it")],
    reason: Annotated[str, typer.Option(help="what you found; kept with the event")],
    operator: Annotated[str | None, typer.Option(help="who looked; default: you")] = None,
) -> None:
    """Say that an event needs nobody any more. It still finds its payment, should that ever be known."""
    current, who = settings(), operator or getpass.getuser()
    if any(map(contains_card_data, (reason, who))) or not 0 < len(reason) <= MAX_REASON:
        refuse(f"a reason has at most {MAX_REASON} characters and no card data")
    stray = next((found for found in _strays(current) if found.event.event_id == event_id), None)
    if stray is None:
        refuse(f"no event {event_id} is listed")
    if not stray.is_open:
        refuse(f"it needs nobody: {_fate(stray)}")
    event = stray.event
    record = UnmatchedResolved(
        reference=event.reference,
        provider=event.provider,
        event_id=event.event_id,
        resolved_at=clock.now(),
        operator=who,
        reason=reason,
    )
    send(current, topics.UNMATCHED, [record])
    console.print("resolved", highlight=False)


def _strays(current: Settings) -> list[Stray]:
    """What was listed, each event once."""
    records = list(_records(current, topics.UNMATCHED))
    events = {record.event_id: record for record in records if isinstance(record, UnmatchedEvent)}
    resolved = {record.event_id: record for record in records if isinstance(record, UnmatchedResolved)}
    owners = _owners(current, {event.reference for event in events.values()})
    return [Stray(event, owners.get(event.reference), resolved.get(name)) for name, event in events.items()]


def _owners(current: Settings, references: Iterable[str]) -> dict[str, str]:
    with psycopg.connect(current.reveal("postgres_reader_url")) as connection:
        return dict(connection.execute(_REFERENCES, [sorted(references)]).fetchall())


def _kept(current: Settings) -> Iterator[UnroutedEvent]:
    yield from (record for record in _records(current, topics.UNROUTED) if isinstance(record, UnroutedEvent))


def _records(current: Settings, topic: str) -> Iterator[RoutingRecord]:
    codec = Codec(Registry(current.registry_url))
    for message in read_topic(current, topic, None):
        try:
            record = codec.decode(message.value())
        except CodecError:
            continue  # routing dead-letters it
        if isinstance(record, RoutingRecord):
            yield record


def _fate(stray: Stray) -> str:
    if stray.payment_id is not None:
        return f"of payment {stray.payment_id}"
    if stray.resolved is not None:
        return f"resolved by {stray.resolved.operator}: {stray.resolved.reason}"
    return "waits"
