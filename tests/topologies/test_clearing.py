"""The clearing monitor as a process on the real broker: raised with its entries, kept over kill -9, ended by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient
from msgspec.structs import replace

from pipeline import admin, ids, topics
from pipeline.domain.postings import entry_of, journal_record
from pipeline.domain.settlement import decide
from pipeline.headers import key_of
from pipeline.messages import Record
from pipeline.messages.clearing import AlertState, LedgerAlert
from pipeline.messages.facts import PaymentAuthorized, PaymentCaptured
from pipeline.messages.settlement import LineKind
from pipeline.settings import Settings
from tests.connectors.journal import captured, moved
from tests.domain.test_settlement import line
from tests.fixtures.stack import Stack
from tests.topologies.processes import Processes, Writer, eyes_on

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


def until(true: Callable[[], bool], seconds: float = 60) -> bool:
    """Wait for something to be so."""
    deadline = monotonic() + seconds
    while not true() and monotonic() < deadline:
        sleep(0.1)
    return true()


@pytest.fixture
def settings(stack: Stack) -> Settings:
    there = AdminClient({"bootstrap.servers": stack.settings.kafka_bootstrap}).list_topics(timeout=30).topics
    partitions = len(there[topics.JOURNAL].partitions) if topics.JOURNAL in there else 3
    settings = stack.settings.model_copy(update={"partitions": partitions})
    admin.apply_topics(settings)
    admin.register_schemas(settings)
    return settings


@pytest.fixture
def monitor(stack: Stack, settings: Settings, tmp_path: Path) -> Iterator[Processes]:
    """Anything that is open for a millisecond is too old."""
    env = {**stack.env, "PAYMENTS_PARTITIONS": str(settings.partitions), "PAYMENTS_HOME": str(tmp_path)}
    running = Processes(settings, {**env, "PAYMENTS_RECOVERY_SCALE": "1e-12"}, tmp_path)
    yield running
    running.stop()


def test_an_alert_is_raised_with_its_entries_and_ends_itself(settings: Settings, monitor: Processes) -> None:
    provider, payment = f"p{uuid4().hex[:8]}", str(uuid4())
    account = f"provider_receivable:{provider}:USD"
    facts = [
        replace(fact, provider=provider) if isinstance(fact, PaymentAuthorized | PaymentCaptured) else fact
        for fact in moved(captured(), payment)
    ]
    claim = line(
        LineKind.CHARGE, 10_000, 320, provider=provider, payment_id=payment, line_id=ids.line_id(provider, payment)
    )
    writer = Writer(settings)

    def post(*records: Record) -> None:
        for record in records:
            writer.send_raw(topics.JOURNAL, writer.codec.encode(record), key_of(record))
        writer.flush()

    with eyes_on(settings, topics.ALERTS, topics.BALANCES) as eyes:
        monitor.start("clearing")
        post(*(journal_record(fact, writer.codec.encode(fact)) for fact in facts))
        alert = eyes.wait(topics.ALERTS, 1, {account.encode()})[0].record
        assert isinstance(alert, LedgerAlert)
        entry = entry_of(facts[-1])
        assert entry is not None
        assert (alert.state, alert.balance, alert.overdue, alert.overdue_items) == (
            AlertState.RAISED,
            10_000,
            10_000,
            1,
        )
        assert [(one.entry_id, one.item) for one in alert.entries] == [(entry.entry_id, payment)]

        monitor["clearing"].kill()
        repeated = journal_record(facts[-1], writer.codec.encode(facts[-1]))
        post(repeated, *decide(None, claim).outputs)
        monitor.start("clearing")
        assert until(lambda: eyes.of(topics.ALERTS, {account.encode()})[-1].record.state is AlertState.ENDED)
        told = [seen.record for seen in eyes.of(topics.ALERTS, {account.encode()})]
        assert {one.alert_id for one in told} == {alert.alert_id}
        assert {one.overdue for one in told[:-1]} == {10_000}, "the repeat of the entry is no second capture"
        balances = [seen.record.balance for seen in eyes.wait(topics.BALANCES, 2, {account.encode()})]
        assert (balances[0], balances[-1]) == (10_000, 0)
