"""What stands behind the gateway, in one thread: the real decisions, the real retry policy and the sink's real
statements, fed from `payments.intake` on the real broker. Only the provider's answers are made up here, by token.

The stages themselves have their own tests; here they would only be in the way of what the gateway does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from time import sleep
from typing import Final

import psycopg
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from connectors.postgres.rows import Arrival, Books
from connectors.provider import Answer, report_of
from pipeline import clock, topics
from pipeline.codec import Codec, CodecError, Registry
from pipeline.domain import retry
from pipeline.domain.chain import PaymentChain
from pipeline.domain.decision import Schedule
from pipeline.domain.postings import journal_record
from pipeline.kafka import consumer_config
from pipeline.messages import Input
from pipeline.messages.commands import Command
from pipeline.messages.facts import Fact
from pipeline.messages.requests import AuthorizeRequest, CaptureRequest, ProviderRequest, RefundRequest
from pipeline.messages.values import Decline, DeclineCategory, NextAction, Outcome
from pipeline.settings import Settings

APPROVED: Final = "pm_approved"
DECLINED: Final = "pm_declined"
SOFT: Final = "pm_declined_softly"
ACTION: Final = "pm_wants_action"
SILENT: Final = "pm_silent"
"""Never answered."""

_DAY: Final = 86_400_000


@dataclass(slots=True)
class Payment:
    """One payment's way."""

    chain: PaymentChain
    retries: retry.RetryState | None = None


@dataclass
class Chain:
    """Reads `payments.intake` from now on, for the merchants of one test run."""

    settings: Settings
    prefix: str
    inputs: list[Input] = field(default_factory=list)
    headers: dict[str, dict[str, bytes]] = field(default_factory=dict)
    held: threading.Event = field(default_factory=threading.Event)
    """While set, records are read and not processed."""
    refuses_money: bool = False
    """The provider refuses captures and refunds."""

    def __post_init__(self) -> None:
        self._codec = Codec(Registry(self.settings.registry_url))
        self._policy = retry.parse(self.settings.retry_policy.read_text())
        self._payments: dict[str, Payment] = {}
        self._waiting: list[Input] = []
        self._stop = threading.Event()
        self._consumer = self._at_the_end()
        self._thread = threading.Thread(target=self._run, name="chain", daemon=True)
        self._offset = 0

    def __enter__(self) -> Chain:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def of(self, payment_id: str) -> list[Input]:
        """What came for a payment so far."""
        return [item for item in self.inputs if item.payment_id == payment_id]

    def _at_the_end(self) -> Consumer:
        consumer = Consumer(consumer_config(self.settings, f"test-{self.prefix}", "test"))
        found = consumer.list_topics(topics.INTAKE, timeout=10).topics[topics.INTAKE].partitions
        ends = []
        for partition in found:
            place = TopicPartition(topics.INTAKE, partition)
            place.offset = _end_of(consumer, place)
            ends.append(place)
        consumer.assign(ends)
        return consumer

    def _run(self) -> None:
        url = self.settings.reveal("postgres_sink_url")
        with psycopg.connect(url, autocommit=True) as connection:
            while not self._stop.is_set():
                self._take()
                while self._waiting and not self.held.is_set():
                    self._process(self._waiting.pop(0), connection)
        self._consumer.close()

    def _take(self) -> None:
        message = self._consumer.poll(0.02)
        if message is None or message.error():
            return
        try:
            record = self._codec.decode(message.value())
        except CodecError:
            return  # other tests write what no one can read
        assert isinstance(record, Input)
        if isinstance(record, Command) and not record.merchant_id.startswith(self.prefix):
            return
        if not isinstance(record, Command) and record.payment_id not in self._payments:
            return
        self._payments.setdefault(record.payment_id, Payment(PaymentChain(Schedule())))
        self.inputs.append(record)
        self.headers[record.input_id] = dict(message.headers() or [])
        self._waiting.append(record)

    def _process(self, item: Input, connection: psycopg.Connection) -> None:
        payment = self._payments[item.payment_id]
        step = payment.chain.feed(item)
        self._write(payment, step.facts, connection)
        for following in [*self._answers(step.requests), *self._plans(payment, step.facts)]:
            self._process(following, connection)

    def _answers(self, requests: Iterable[ProviderRequest]) -> list[Input]:
        answers = [(request, self._answer(request)) for request in requests]
        return [report_of(request, answer, clock.now()) for request, answer in answers if answer]

    def _answer(self, request: ProviderRequest) -> Answer | None:
        match request:
            case AuthorizeRequest():
                return _AUTHORIZATIONS[request.payment_method.token](request)
            case CaptureRequest() | RefundRequest():
                outcome = Outcome.DECLINED if self.refuses_money else Outcome.APPROVED
                return Answer(outcome=outcome, amount=request.amount, currency=request.currency, detail="it said so")
        return Answer(outcome=Outcome.APPROVED)

    def _plans(self, payment: Payment, facts: Iterable[Fact]) -> list[Input]:
        words: list[Input] = []
        for fact in facts:
            planned = retry.decide(payment.retries, fact, self._policy)
            payment.retries = planned.state
            words += planned.outputs
        return words

    def _write(self, payment: Payment, facts: tuple[Fact, ...], connection: psycopg.Connection) -> None:
        books = Books()
        for fact in facts:
            assert payment.chain.view is not None
            self._offset += 1
            encoded = self._codec.encode(fact)
            books.add(Arrival(journal_record(fact, encoded), fact, encoded, 0, self._offset), payment.chain.view)
        with connection.transaction():
            books.write(connection, self._codec)


def _approve(request: AuthorizeRequest) -> Answer:
    return Answer(
        outcome=Outcome.APPROVED,
        provider_reference=f"pi_{request.payment_id[:8]}",
        amount=request.amount,
        currency=request.currency,
        hold_expires_at=clock.now() + 7 * _DAY,
    )


def _decline(category: DeclineCategory, code: str) -> Answer:
    decline = Decline(category=category, code=code, raw_code=code, message="Your card was declined.")
    return Answer(outcome=Outcome.DECLINED, decline=decline)


def _end_of(consumer: Consumer, place: TopicPartition) -> int:
    """The end of a partition; one that was made a moment ago may have no leader yet."""
    for _ in range(100):
        try:
            return int(consumer.get_watermark_offsets(place, timeout=10)[1])
        except KafkaException as error:
            if error.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION:
                raise
            sleep(0.1)
    raise TimeoutError(f"{place.topic} has no leader")


_AUTHORIZATIONS: Final[dict[str, Callable[[AuthorizeRequest], Answer | None]]] = {
    APPROVED: _approve,
    DECLINED: lambda _: _decline(DeclineCategory.HARD, "lost_card"),
    SOFT: lambda _: _decline(DeclineCategory.SOFT, "insufficient_funds"),
    ACTION: lambda _: Answer(outcome=Outcome.REQUIRES_ACTION, next_action=NextAction(url="https://bank.example/3ds")),
    SILENT: lambda _: None,
}
