"""ledger.journal → [clearing] → ledger.balances, ledger.alerts

One instance reads all partitions, since an account's entries are in all of them. What is open is in a SQLite file with
the offsets it stands at, changed in one transaction; without the file it is made anew from the log. A second instance
fences the first (one transactional id). What is told is kept first and sent after: a crash between the two sends it
again, under the same id.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from prometheus_client import Counter, Gauge

from pipeline import admin, clock, metrics, topics
from pipeline.codec import Codec, CodecError, Registry
from pipeline.domain import clearing
from pipeline.domain.clearing import Limits, Standing
from pipeline.headers import headers_of, key_of
from pipeline.kafka import consumer_config, producer_config
from pipeline.messages import Record
from pipeline.messages.clearing import AlertState, LedgerAlert, LedgerBalance
from pipeline.messages.journal import JournalRecord
from pipeline.messages.settlement import SettlementJournalRecord
from pipeline.settings import Settings
from topologies.open_items import OpenItems

STAGE: Final = "clearing"
BATCH: Final = 2_000
CHECK_EVERY: Final = 1.0
ENTRIES: Final = 100
_TIMEOUT: Final = 30.0

BALANCE: Final = Gauge("ledger_clearing_balance", "Debit minus credit, in minor units", ["account"])
OPEN_ITEMS: Final = Gauge("ledger_clearing_open_items", "Items that have not come to zero", ["account"])
OLDEST: Final = Gauge("ledger_clearing_oldest_seconds", "Age of the oldest open item", ["account"])
OVERDUE: Final = Gauge("ledger_clearing_overdue", "Open beyond the account's age, in minor units", ["account"])
ALERTS: Final = Gauge("ledger_clearing_alerts", "Alerts that stand", ["account"])
UNUSABLE: Final = Counter("ledger_clearing_unusable_records", "Records of the journal that are none")
_log: Final = logging.getLogger("payments")


class Monitor:
    """The loop around the open items."""

    def __init__(
        self, settings: Settings, codec: Codec, limits: Limits, items: OpenItems, now: Callable[[], int] = clock.now
    ) -> None:
        self._codec = codec
        self._limits = limits
        self._items = items
        self._now = now
        self._stopping = False
        self._behind: set[int] = set()
        self._checked = 0.0
        self._consumer = Consumer(
            {**consumer_config(settings, admin.group(STAGE), STAGE), "enable.partition.eof": True}
        )
        self._producer = Producer(producer_config(settings, STAGE, transactional_id=STAGE))

    def run(self) -> None:
        """Watch until `stop`. Any Kafka error ends the loop: the restarted process goes on where the file stands."""
        self._producer.init_transactions(_TIMEOUT)
        self._assign()
        try:
            while not self._stopping:
                self._take(self._messages())
                if not self._behind and monotonic() >= self._checked + CHECK_EVERY:
                    self._checked = monotonic()
                    self.tell()
        finally:
            self._consumer.close()
            self._items.close()

    def stop(self, *_: Any) -> None:
        """Let the loop end after its turn."""
        self._stopping = True

    def tell(self) -> None:
        """Balances that changed, alerts that began, changed or ended; and the metrics."""
        now = self._now()
        for account in self._items.accounts():
            standing = self._standing(account, now)
            if standing is not None:
                self._measure(standing, now)
                self._decide(standing, now)
        self._send()

    def _decide(self, standing: Standing, now: int) -> None:
        limit = self._limits.of(standing.account)
        if limit is None:
            return
        alert = clearing.assess(limit, standing, self._items.alert(standing.account), now)
        if alert is None:
            return
        if alert.state is AlertState.RAISED:
            oldest = self._items.oldest(standing.account, now - limit.age, ENTRIES)
            alert = clearing.with_entries(alert, oldest)
        say = _log.error if alert.state is AlertState.RAISED else _log.info
        say("clearing account %s: %s, %s overdue", alert.account, alert.state.value, alert.overdue)
        self._items.keep_alert(alert)

    def _send(self) -> None:
        """In one transaction what is kept and not sent yet. Raises KafkaException when fenced."""
        now = self._now()
        changed = self._items.changed()
        balances = [clearing.balance_of(found, now) for one in changed if (found := self._standing(one, now))]
        alerts = self._items.unsent()
        if not balances and not alerts:
            return
        self._producer.begin_transaction()
        for balance in balances:
            self._produce(topics.BALANCES, balance)
        for alert in alerts:
            self._produce(topics.ALERTS, alert)
        self._producer.commit_transaction(_TIMEOUT)
        self._items.sent(changed, alerts)

    def _produce(self, topic: str, record: Record) -> None:
        metrics.RECORDS_OUT.labels(STAGE, topic).inc()
        self._producer.produce(topic, self._codec.encode(record), key_of(record), headers=headers_of(record, STAGE))

    def _standing(self, account: str, now: int) -> Standing | None:
        limit = self._limits.of(account)
        return None if limit is None else self._items.standing(account, now - limit.age)

    def _measure(self, standing: Standing, now: int) -> None:
        account = standing.account
        BALANCE.labels(account).set(standing.balance)
        OPEN_ITEMS.labels(account).set(standing.open_items)
        OLDEST.labels(account).set(0 if standing.oldest_at is None else max(0, now - standing.oldest_at) / 1000)
        OVERDUE.labels(account).set(standing.overdue)
        ALERTS.labels(account).set(self._items.alert(account) is not None)

    def _assign(self) -> None:
        """All partitions, from where the file stands. A lost beginning of the log is loud."""
        partitions = self._consumer.list_topics(topics.JOURNAL, _TIMEOUT).topics[topics.JOURNAL].partitions
        stands = self._items.offsets()
        self._behind = set(partitions)
        self._consumer.assign([TopicPartition(topics.JOURNAL, one, stands.get(one, 0)) for one in partitions])

    def _messages(self) -> list[Message]:
        first = self._consumer.poll(CHECK_EVERY)
        return [] if first is None else [first, *self._consumer.consume(BATCH - 1, timeout=0)]

    def _take(self, messages: list[Message]) -> None:
        """One transaction of the file: what the records do, and the offsets behind them."""
        records, offsets = [], {}
        for message in messages:
            error = message.error()
            if error is None:
                offsets[message.partition()] = message.offset() + 1
                records.append(self._decoded(message))
            elif error.code() == KafkaError._PARTITION_EOF:
                self._behind.discard(message.partition())
            else:
                raise KafkaException(error)
        moved = [move for record in records if record for move in clearing.movements(record, self._limits)]
        if offsets:
            metrics.RECORDS_IN.labels(STAGE).inc(len(records))
            self._items.apply(moved, offsets, self._now())

    def _decoded(self, message: Message) -> JournalRecord | SettlementJournalRecord | None:
        """None for what the sink dead-letters: it is not in the books either."""
        try:
            record = self._codec.decode(message.value())
        except CodecError:
            record = None
        if isinstance(record, JournalRecord | SettlementJournalRecord):
            return record
        UNUSABLE.inc()
        return None


def run(settings: Settings) -> None:
    """Run the monitor until it is told to stop. Raises LimitsError when the limits cannot be followed."""
    limits = clearing.parse(settings.clearing_limits.read_text()).scaled(settings.recovery_scale)
    admin.require_topics(settings, [topics.JOURNAL, topics.BALANCES, topics.ALERTS])
    codec = Codec(Registry(settings.registry_url)).require(LedgerBalance, LedgerAlert)
    metrics.serve(settings)
    items = OpenItems(settings.state_dir / STAGE / settings.slot / "open_items.sqlite")
    monitor = Monitor(settings, codec, limits, items)
    signal.signal(signal.SIGTERM, monitor.stop)
    signal.signal(signal.SIGINT, monitor.stop)
    monitor.run()
