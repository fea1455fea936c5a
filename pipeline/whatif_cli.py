"""`payments whatif`: another retry policy, on the real log. Reads `payments.events` and touches nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Annotated, Any, Final

import typer
from confluent_kafka import OFFSET_END, Consumer, Message, TopicPartition
from rich.console import Console
from rich.table import Table

from pipeline import clock, money, topics
from pipeline.codec import Codec, Registry
from pipeline.domain.retry import Policy, PolicyError, parse
from pipeline.domain.whatif import MODEL, Line, Log, Report, compare
from pipeline.kafka import consumer_config
from pipeline.messages.facts import AttemptDeclined, AttemptStarted, Fact, PaymentAuthorized, RetryScheduled
from pipeline.settings import Settings, settings

console: Final = Console()
BATCH: Final = 5_000
LEAD: Final = 3_600_000
"""Milliseconds before the first decline from which the log is read: an attempt begins before it is declined."""
_ATTEMPTS: Final = (AttemptStarted, AttemptDeclined, RetryScheduled, PaymentAuthorized)
_WANTED: Final = {f"payments.v1.{kind.__name__}".encode() for kind in _ATTEMPTS}


def whatif(
    policy: Annotated[Path, typer.Option(help="the retry policy to try, as TOML", exists=True, dir_okay=False)],
    since: Annotated[datetime | None, typer.Option("--from", help="first declines from then on (UTC)")] = None,
    before: Annotated[datetime | None, typer.Option("--to", help="first declines before then (UTC)")] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Replay the real log under another retry policy: by decline code, the attempts it would have saved, and the
    recoveries it would have gained and lost.
    """
    try:
        other = parse(policy.read_text(encoding="utf-8"))
    except PolicyError as error:
        console.print(f"[red]{policy}: {error}[/]", highlight=False)
        raise typer.Exit(2) from None
    current = settings()
    start, end = _millis(since, 0), _millis(before, clock.now())
    began = monotonic()
    log = read_log(current, start)
    report = compare(log, _as_long_as_here(other, current), start, end)
    if as_json:
        typer.echo(json.dumps(_document(report), indent=2))
    else:
        _print(report, policy, start, end)
        console.print(f"{log.facts} facts read in {monotonic() - began:.1f} s; nothing was written", highlight=False)


def _as_long_as_here(policy: Policy, current: Settings) -> Policy:
    """On a system whose days are seconds, the policy's are too."""
    return policy.scaled(current.recovery_scale)


def _millis(at: datetime | None, otherwise: int) -> int:
    if at is None:
        return otherwise
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def read_log(current: Settings, since: int) -> Log:
    """The attempts of `payments.events` from an hour before `since` (milliseconds) up to the log's end as it is now."""
    codec, log = Codec(Registry(current.registry_url)), Log()
    consumer = Consumer({**consumer_config(current, "payments-whatif", "whatif"), "enable.partition.eof": True})
    try:
        for message in _messages(consumer, max(0, clock.machine_time(since) - LEAD)):
            record = codec.decode(message.value()) if _is_wanted(message) else None
            if isinstance(record, Fact):
                log.add(record)
    finally:
        consumer.close()
    return log


def _is_wanted(message: Message) -> bool:
    """By the header: most facts are no attempts, and need not be decoded."""
    kinds = [value for name, value in message.headers() or () if name == "ce_type"]
    return not kinds or kinds[0] in _WANTED


def _messages(consumer: Consumer, since: int) -> Any:
    found = consumer.list_topics(topics.EVENTS, 10).topics[topics.EVENTS].partitions
    starts = consumer.offsets_for_times([TopicPartition(topics.EVENTS, p, since) for p in found], 10)
    reading = [place for place in starts if place.offset not in {OFFSET_END, -1}]
    consumer.assign(reading)
    ended = 0
    while ended < len(reading):
        for message in consumer.consume(BATCH, 1.0):
            if message.error():
                ended += 1
            else:
                yield message


def _print(report: Report, policy: Path, start: int, end: int) -> None:
    first = "the beginning" if start == 0 else _date(start)
    console.print(f"[bold]{policy.name}[/] on the declines from {first} to {_date(end)}", highlight=False)
    table = Table(
        "first decline", "payments", "retries", "would be", "saved", "recovered", "would be", "gained", "lost"
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for line in sorted(report.lines.values(), key=lambda line: -line.payments):
        table.add_row(*_cells(line))
    table.add_section()
    table.add_row(*_cells(report.total), style="bold")
    console.print(table)
    console.print(f"Model: {MODEL}", highlight=False)
    odds = ", ".join(f"{code} {chance:.0%}" for code, chance in sorted(report.odds.items()))
    console.print(f"Chances of a retry in this log: {odds or 'none was made'}", highlight=False)
    if report.total.excess:
        words = f"{report.total.excess} real attempts were beyond a card network's limit"
        fees = ", ".join(_fees(report.total))
        console.print(f"[red]{words}, which charges {fees or 'nothing'} for them[/]", highlight=False)


def _fees(line: Line) -> list[str]:
    return [f"{money.decimal(minor, currency)} {currency}" for currency, minor in line.fees.items()]


def _cells(line: Line) -> tuple[str, ...]:
    return (
        line.code, str(line.payments), str(line.retries), f"{line.replayed:.1f}", f"{line.saved:+.1f}",
        str(line.recovered), f"{line.would_recover:.1f}", f"{line.gained:.1f}", f"{line.lost:.1f}",
    )  # fmt: skip


def _date(millis: int) -> str:
    return datetime.fromtimestamp(millis / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def _document(report: Report) -> dict[str, Any]:
    return {
        "model": MODEL,
        "chances": dict(report.odds),
        "codes": {code: _line(line) for code, line in sorted(report.lines.items())},
        "total": _line(report.total),
    }


def _line(line: Line) -> dict[str, Any]:
    return {
        "payments": line.payments,
        "retries": line.retries,
        "retries_replayed": round(line.replayed, 3),
        "saved": round(line.saved, 3),
        "recovered": line.recovered,
        "gained": round(line.gained, 3),
        "lost": round(line.lost, 3),
        "beyond_network_limits": line.excess,
        "network_fees": _fees(line),
    }
