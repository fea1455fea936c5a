"""The process that fetches reports, on the real Kafka and Postgres; the provider is a source of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from pydantic import SecretStr

from connectors.adyen.reports import AdyenReports
from connectors.settlement.fetcher import Fetcher, open_sources
from connectors.settlement.fetching import FetchError
from connectors.settlement.matching import Matcher
from connectors.stripe.reports import StripeReports
from connectors.stripe.settlement import read
from pipeline import topics
from pipeline.codec import Codec, Registry
from pipeline.domain.fees import parse
from pipeline.domain.reports import key_of
from pipeline.kafka import consumer_config, producer_config
from pipeline.messages import Record
from pipeline.messages.deadletters import DeadLetter
from pipeline.messages.reports import ReadOutcome, ReportAnnounced, ReportRead, ReportRequest
from pipeline.messages.settlement import SettlementLine
from pipeline.settings import Settings

HEADER = (
    "balance_transaction_id,created_utc,currency,gross,fee,net,reporting_category,source_id,customer_facing_amount,"
    "customer_facing_currency\n"
)


@dataclass
class Given:
    """A source that gives this text, or fails."""

    text: str = ""
    failure: FetchError | None = None
    asked: list[ReportRequest] = field(default_factory=list)
    read = staticmethod(read)

    def fetch(self, request: ReportRequest, into: IO[bytes]) -> None:
        self.asked.append(request)
        if self.failure:
            raise self.failure
        into.write(self.text.encode())

    def close(self) -> None:
        """Nothing to close."""


@dataclass
class Bench:
    """A fetcher, and what it writes."""

    fetcher: Fetcher
    source: Given
    reader: Consumer
    ends: list[TopicPartition]

    def request(self, reference: str = "po_1") -> ReportRequest:
        return ReportRequest(
            report=key_of("stripe", None, reference), request_id=str(uuid4()), provider="stripe",
            reference=reference, number=1, issued_at=0,
        )  # fmt: skip

    def written(self, count: int) -> list[tuple[str, Record]]:
        """The next so many records, by topic."""
        found: list[tuple[str, Record]] = []
        while len(found) < count:
            message = self.reader.poll(20)
            assert message is not None, f"{count} records were to come, these came: {found}"
            assert message.error() is None
            found.append((message.topic(), self.fetcher.codec.decode(message.value())))
        return found


@dataclass
class Asked:
    """A record of settlement.requests as the consumer hands it out."""

    raw: bytes | None

    def value(self) -> bytes | None:
        return self.raw

    def key(self) -> bytes:
        return b"stripe:po_1"

    def headers(self) -> None:
        return None

    def topic(self) -> str:
        return topics.REPORT_REQUESTS

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 7

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_790_000_000_000


@pytest.fixture
def bench(topics_there: Settings) -> Iterator[Bench]:
    settings, source = topics_there, Given()
    reader = Consumer(consumer_config(settings, f"test-{uuid4()}", "test"))
    names = (topics.SETTLEMENT_LINES, topics.REPORTS, topics.dlq(topics.REPORT_REQUESTS))
    places = [TopicPartition(n, p) for n in names for p in reader.list_topics(n, 30).topics[n].partitions]
    for place in places:
        place.offset = reader.get_watermark_offsets(place, 30)[1]
    reader.assign(places)
    with psycopg.connect(settings.reveal("postgres_reader_url"), autocommit=True) as books:
        fetcher = Fetcher(
            settings,
            Codec(Registry(settings.registry_url)),
            Consumer(consumer_config(settings, f"test-{uuid4()}", "test")),
            Producer(producer_config(settings, "test")),
            Matcher(books, parse(settings.fee_schedule.read_text())),
            {("stripe", None): source},
        )
        yield Bench(fetcher, source, reader, places)
        fetcher.consumer.close()
    reader.close()


def take(bench: Bench, request: ReportRequest) -> None:
    message: Any = Asked(bench.fetcher.codec.encode(request))
    bench.fetcher.take(message)


@pytest.mark.stack
def test_a_report_is_sent_line_by_line_and_told_of(bench: Bench) -> None:
    own = f"txn_{uuid4().hex}"
    bench.source.text = f"{HEADER}{own},2026-11-22 10:00:00,usd,60.00,2.04,57.96,charge,ch_1,60.00,usd\n"
    request = bench.request()
    take(bench, request)
    (lines, line), (told, said) = sorted(bench.written(2), key=lambda item: item[0])
    assert (lines, told) == (topics.SETTLEMENT_LINES, topics.REPORTS)
    assert isinstance(line, SettlementLine)
    assert isinstance(said, ReportRead)
    assert (line.provider_line, line.net) == (own, 5_796)
    assert (said.request_id, said.outcome, said.lines) == (request.request_id, ReadOutcome.POSTED, 1)


@pytest.mark.stack
def test_a_report_without_lines_is_no_failure(bench: Bench) -> None:
    bench.source.text = HEADER
    take(bench, bench.request())
    ((_, said),) = bench.written(1)
    assert isinstance(said, ReportRead)
    assert (said.outcome, said.lines, said.detail) == (ReadOutcome.POSTED, 0, "no lines")


@pytest.mark.stack
def test_of_a_report_that_cannot_be_read_nothing_is_posted(bench: Bench) -> None:
    """The first line is right, the second is not: the request is a dead letter with the line's number."""
    good = "txn_1,2026-11-22 10:00:00,usd,60.00,2.04,57.96,charge,ch_1,60.00,usd\n"
    bench.source.text = f"{HEADER}{good}{good.replace('57.96', '57.97')}"
    take(bench, bench.request())
    (first, letter), (second, said) = sorted(bench.written(2), key=lambda item: item[0], reverse=True)
    assert (first, second) == (topics.dlq(topics.REPORT_REQUESTS), topics.REPORTS)
    assert isinstance(letter, DeadLetter)
    assert isinstance(said, ReportRead)
    assert (letter.reason, letter.offset, said.outcome) == ("report_unreadable", 7, ReadOutcome.UNREADABLE)
    assert said.detail is not None
    assert said.detail.startswith("line 3:")
    assert said.detail in letter.detail


@pytest.mark.stack
def test_a_report_that_is_not_there_yet_is_told_of_and_no_dead_letter(bench: Bench) -> None:
    bench.source.failure = FetchError(ReadOutcome.UNAVAILABLE, "the provider answered 503")
    take(bench, bench.request())
    ((topic, said),) = bench.written(1)
    assert isinstance(said, ReportRead)
    assert (topic, said.outcome, said.detail) == (
        topics.REPORTS, ReadOutcome.UNAVAILABLE, "the provider answered 503",
    )  # fmt: skip


@pytest.mark.stack
@pytest.mark.parametrize("raw", [b"junk", b"", None])
def test_what_is_no_request_is_a_dead_letter(bench: Bench, raw: bytes | None) -> None:
    message: Any = Asked(raw)
    bench.fetcher.take(message)
    ((topic, letter),) = bench.written(1)
    assert isinstance(letter, DeadLetter)
    assert (topic, letter.reason) == (topics.dlq(topics.REPORT_REQUESTS), "undecodable")
    assert bench.source.asked == []


@pytest.mark.stack
def test_an_account_that_is_not_named_is_refused(bench: Bench) -> None:
    bench.fetcher.sources.clear()
    take(bench, bench.request())
    _, (_, said) = sorted(bench.written(2), key=lambda item: item[0], reverse=True)
    assert isinstance(said, ReportRead)
    assert (said.outcome, said.detail) == (ReadOutcome.REFUSED, "no such account")


@pytest.mark.stack
def test_paypals_days_are_announced_once_a_process(bench: Bench) -> None:
    bench.fetcher.sources[("paypal", "eu")] = bench.source
    now = 1_790_000_000_000  # 2026-09-21, 14:13 UTC
    for _ in range(2):
        bench.fetcher.announce_days(now)
    announced = [record for _, record in bench.written(bench.fetcher.settings.paypal_report_days)]
    assert [(one.report, one.account) for one in announced if isinstance(one, ReportAnnounced)] == [
        ("paypal/eu:2026-09-18", "eu"), ("paypal/eu:2026-09-19", "eu"), ("paypal/eu:2026-09-20", "eu"),
    ]  # fmt: skip
    assert bench.reader.poll(1) is None


def test_accounts_have_sources_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named accounts stand in the place of the settings' own; a provider without credentials is not asked."""
    monkeypatch.setenv("EU_KEY", "sk_eu")
    file = tmp_path / "accounts.toml"
    file.write_text('[[accounts]]\nname = "eu"\nprovider = "stripe"\nmerchants = ["acme"]\napi_key = "env:EU_KEY"\n')
    own = SecretStr("own")
    sources = open_sources(Settings(_env_file=None, provider_accounts=file, stripe_api_key=own, adyen_api_key=own))
    assert set(sources) == {("stripe", "eu"), ("adyen", None)}
    assert isinstance(sources["stripe", "eu"], StripeReports)
    assert isinstance(sources["adyen", None], AdyenReports)
