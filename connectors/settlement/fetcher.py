"""settlement.requests → [fetcher] → settlement.lines, settlement.reports

The one process that fetches reports. A request's offset is committed after its lines and its outcome are acknowledged,
so that a process that dies in between does it again: the lines have the provider's own ids, and the second time they
change nothing.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

import psycopg
import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer
from prometheus_client import Counter

from connectors import accounts
from connectors.paypal.reports import days_over
from connectors.paypal.settlement import NAME as PAYPAL
from connectors.settlement.fetching import FetchError, Source, open_source
from connectors.settlement.matching import Matcher
from connectors.settlement.report import EmptyReportError, ReportError
from connectors.settlement.sending import check, lines_of, send
from pipeline import admin, clock, metrics, topics
from pipeline.codec import Codec, CodecError, Registry
from pipeline.dead_letters import Origin, Unusable, bury, dead_letter
from pipeline.domain.fees import parse
from pipeline.domain.reports import key_of
from pipeline.headers import Headers, headers_of, trace_of
from pipeline.kafka import consumer_config, producer_config
from pipeline.messages.deadletters import DeadLetter
from pipeline.messages.reports import ReadOutcome, ReportAnnounced, ReportRead, ReportRequest
from pipeline.messages.settlement import SettlementLine
from pipeline.settings import Settings

STAGE: Final = "fetcher"
IDLE_POLL: Final = 0.5
LONGEST_FETCH: Final = 30 * 60
"""Seconds after which the broker takes the fetcher for dead: a report of a million lines fits well."""

log = structlog.get_logger()
FETCHED: Final = Counter(
    "settlement_reports_total", "Settlement reports asked for, by outcome", ["provider", "outcome"]
)

_CREDENTIALS: Final = {"stripe": "stripe_api_key", "adyen": "adyen_api_key", "paypal": "paypal_client_id"}
Sources = dict[tuple[str, str | None], Source]
"""By provider and account; None is the settings' own account."""


@dataclass(slots=True)
class Fetcher:
    """One instance."""

    settings: Settings
    codec: Codec
    consumer: Consumer
    producer: Producer
    matcher: Matcher
    sources: Sources
    stopping: bool = False
    _days: set[str] = field(default_factory=set)
    _failed: list[KafkaError] = field(default_factory=list)

    def run(self) -> None:
        """Fetch until told to stop. Raises what Kafka and Postgres raise: the supervisor starts a new one."""
        self.consumer.subscribe([topics.REPORT_REQUESTS])
        while not self.stopping:
            self.announce_days(clock.now())
            message = self.consumer.poll(IDLE_POLL)
            if message is None:
                continue
            if error := message.error():
                raise KafkaException(error)
            self.take(message)
            self.consumer.commit(message, asynchronous=False)

    def stop(self, *_: object) -> None:
        """End after the report under way."""
        self.stopping = True

    def announce_days(self, now: int) -> None:
        """PayPal announces no report: each day that is over is announced here, once a process. The stage knows a day
        that was announced before.
        """
        for day in days_over(now, self.settings.paypal_report_days):
            if day not in self._days:
                self._days.add(day)
                for account in [account for provider, account in self.sources if provider == PAYPAL]:
                    self._announce(day, account, now)

    def _announce(self, day: str, account: str | None, now: int) -> None:
        record = ReportAnnounced(
            report=key_of(PAYPAL, account, day),
            provider=PAYPAL,
            account=account,
            reference=day,
            event_id=f"over:{day}",
            announced_at=now,
        )
        self._write(topics.REPORTS, record.report.encode(), self.codec.encode(record), headers_of(record, STAGE))

    def take(self, message: Message) -> None:
        """One request, to its end."""
        try:
            request = self._request(message)
        except Unusable as finding:
            self._bury(message, finding)
            return
        read = self.read(request)
        FETCHED.labels(request.provider, read.outcome.value).inc()
        said = log.info if read.outcome is ReadOutcome.POSTED else log.warning
        said("settlement report", report=read.report, outcome=read.outcome.value, lines=read.lines, detail=read.detail)
        if read.outcome in (ReadOutcome.REFUSED, ReadOutcome.UNREADABLE):
            self._bury(message, Unusable(f"report_{read.outcome.value}", read.detail or ""))
        headers = headers_of(read, STAGE, trace_of(message.headers()))
        self._write(topics.REPORTS, read.report.encode(), self.codec.encode(read), headers)

    def _request(self, message: Message) -> ReportRequest:
        try:
            request = self.codec.decode(message.value())
        except CodecError as error:
            raise Unusable("undecodable", str(error)) from error
        if not isinstance(request, ReportRequest):
            raise Unusable("unexpected_type", f"{type(request).__name__} does not belong here")
        return request

    def read(self, request: ReportRequest) -> ReportRead:
        """Fetch, check whole, send. Raises what Kafka and Postgres raise."""
        outcome, lines, detail = ReadOutcome.POSTED, 0, None
        try:
            lines = self._post(request)
        except FetchError as error:
            outcome, detail = error.outcome, str(error)
        except EmptyReportError:
            detail = "no lines"
        except ReportError as error:
            outcome, detail = ReadOutcome.UNREADABLE, str(error)
        return ReportRead(
            report=request.report,
            request_id=request.request_id,
            outcome=outcome,
            lines=lines,
            detail=detail,
            read_at=clock.now(),
        )

    def _post(self, request: ReportRequest) -> int:
        """How many lines were sent: all of them, or none."""
        source = self.sources.get((request.provider, request.account))
        if source is None:
            raise FetchError(ReadOutcome.REFUSED, "no such account")
        with NamedTemporaryFile() as file:
            source.fetch(request, file)
            file.flush()
            report = check(Path(file.name), source.read, request.account, _silent)
            send(self.settings, self.codec, self.matcher.matched(lines_of(report, _silent)))
        return report.lines

    def _bury(self, message: Message, finding: Unusable) -> None:
        origin = Origin(STAGE, message.topic(), message.partition(), message.offset(), message.timestamp()[1])
        letter = dead_letter(origin, finding, message.key(), message.value())
        metrics.DEAD_LETTERS.labels(STAGE, finding.reason).inc()
        bury(self.producer, self.codec, topics.dlq(topics.REPORT_REQUESTS), letter, trace_of(message.headers()))

    def _write(self, topic: str, key: bytes | None, value: bytes, headers: Headers | None) -> None:
        """Acknowledged before it returns."""
        self._failed.clear()
        self.producer.produce(topic, value, key, headers=headers, on_delivery=self._delivered)
        if self.producer.flush(30) or self._failed:
            raise KafkaException(self._failed[0] if self._failed else KafkaError(KafkaError._TIMED_OUT))

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._failed.append(error)


def _silent(_: int) -> None:
    """Nobody watches."""


def open_sources(settings: Settings) -> Sources:
    """The settings' own account at each provider that they have credentials of, or those of the accounts' file. Raises
    AccountsError.
    """
    named = accounts.load(settings)
    elsewhere = {account.provider for account in named}
    own: Sources = {
        (name, None): open_source(name, settings)
        for name, credential in _CREDENTIALS.items()
        if name not in elsewhere and getattr(settings, credential)
    }
    return own | {(one.provider, one.name): open_source(one.provider, one.settings) for one in named}


def run(settings: Settings) -> None:
    """Run the fetcher until SIGTERM or SIGINT."""
    wanted = [topics.REPORTS, topics.REPORT_REQUESTS, topics.dlq(topics.REPORT_REQUESTS), topics.SETTLEMENT_LINES]
    admin.require_topics(settings, wanted)
    metrics.serve(settings)
    client = f"{STAGE}-{settings.slot}"
    config = consumer_config(settings, admin.group(STAGE), client) | {
        "group.instance.id": client,
        "max.poll.interval.ms": LONGEST_FETCH * 1000,
    }
    sources = open_sources(settings)
    with psycopg.connect(settings.reveal("postgres_reader_url"), autocommit=True, application_name=client) as books:
        fetcher = Fetcher(
            settings,
            Codec(Registry(settings.registry_url)).require(SettlementLine, ReportAnnounced, ReportRead, DeadLetter),
            Consumer(config),
            Producer(producer_config(settings, client)),
            Matcher(books, parse(settings.fee_schedule.read_text())),
            sources,
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, fetcher.stop)
        try:
            fetcher.run()
        finally:
            fetcher.consumer.close()
            for source in sources.values():
                source.close()
