"""The topic catalogue: every topic of the system, in one place. Nothing else creates a topic, and none is created
automatically.

Partition counts and names are frozen at creation: state follows them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

DAY: Final = 24 * 60 * 60
FOREVER: Final = -1

COMMANDS: Final = "payments.commands"
INTAKE: Final = "payments.intake"
AUTHORIZATIONS: Final = "payments.authorizations"
EVENTS: Final = "payments.events"
JOURNAL: Final = "ledger.journal"
UNROUTED: Final = "providers.unrouted"
UNMATCHED: Final = "providers.unmatched"
SETTLEMENT_LINES: Final = "settlement.lines"
REPORTS: Final = "settlement.reports"
REPORT_REQUESTS: Final = "settlement.requests"
ALERTS: Final = "ledger.alerts"
BALANCES: Final = "ledger.balances"
HEARTBEAT: Final = "__debezium-heartbeat.payments"

PROVIDERS: Final = ("stripe", "adyen", "paypal")
TIERS: Final = {"1s": 1, "5s": 5, "30s": 30, "2m": 120, "10m": 600, "1h": 3600, "6h": 6 * 3600, "1d": DAY}
"""Delay tiers: name to seconds."""


class PublicTopic(StrEnum):
    """What consumer teams subscribe to; Debezium writes them from the outbox."""

    CREATED = "payments.created"
    AUTHORIZED = "payments.authorized"
    CAPTURED = "payments.captured"
    VOIDED = "payments.voided"
    REFUNDED = "payments.refunded"
    FAILED = "payments.failed"
    DISPUTED = "payments.disputed"
    EXPIRING = "payments.expiring"


def requests(provider: str) -> str:
    """Where the requests to a provider go."""
    return f"providers.requests.{provider}"


def tier(name: str) -> str:
    """The topic of a delay tier."""
    return f"timers.{name}"


def dlq(topic: str) -> str:
    """Where records of `topic` go that a stage could not use."""
    return f"{topic}.dlq"


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic as it must be. `retention` in seconds, FOREVER for good; `partitions` None is the configured
    default.
    """

    name: str
    retention: int
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    partitions: int | None = None
    compacted: bool = False

    @property
    def config(self) -> dict[str, str]:
        """The topic's configuration at the broker. LogAppendTime: retention must not follow a producer's clock."""
        policy = {"cleanup.policy": "compact"} if self.compacted else {"cleanup.policy": "delete"}
        keep = str(self.retention * 1000 if self.retention != FOREVER else -1)
        return {**policy, "retention.ms": keep, "message.timestamp.type": "LogAppendTime"}


_INTAKE_WRITERS: Final = ("gateway", "intake", "worker", "relay", "retry", "routing", "operators")


def _flow() -> list[Topic]:
    return [
        Topic(COMMANDS, 30 * DAY, ("producers",), ("intake",)),
        Topic(INTAKE, FOREVER, _INTAKE_WRITERS, ("authorization",)),
        Topic(AUTHORIZATIONS, 7 * DAY, ("authorization",), ("capture",)),
        Topic(EVENTS, FOREVER, ("capture",), ("retry", "ledger", "routing")),
        Topic(JOURNAL, FOREVER, ("ledger", "settlement"), ("sink", "clearing")),
        Topic(UNROUTED, FOREVER, ("gateway", "routing", "relay", "operators"), ("routing", "operators")),
        Topic(UNMATCHED, 90 * DAY, ("routing", "operators"), ("operators",), partitions=1),
    ]


def _settlement() -> list[Topic]:
    return [
        Topic(SETTLEMENT_LINES, FOREVER, ("reconcile", "fetcher"), ("settlement",)),
        Topic(REPORTS, FOREVER, ("gateway", "fetcher", "relay", "operators"), ("reports",), partitions=1),
        Topic(REPORT_REQUESTS, 30 * DAY, ("reports",), ("fetcher",), partitions=1),
        Topic(BALANCES, FOREVER, ("clearing",), ("consumers",), partitions=1, compacted=True),
        Topic(ALERTS, 30 * DAY, ("clearing",), ("consumers", "webhooks"), partitions=1),
    ]


def _requests() -> list[Topic]:
    return [
        Topic(requests(provider), 30 * DAY, ("authorization", "capture"), (f"worker-{provider}",))
        for provider in PROVIDERS
    ]


def _timers() -> list[Topic]:
    writers = ("authorization", "capture", "routing", "reports", "relay")
    return [Topic(tier(name), seconds + 30 * DAY, writers, ("relay",)) for name, seconds in TIERS.items()]


def _public() -> list[Topic]:
    return [Topic(topic.value, 90 * DAY, ("debezium",), ("consumers", "webhooks")) for topic in PublicTopic]


def _dead_letters() -> list[Topic]:
    read = [COMMANDS, INTAKE, AUTHORIZATIONS, EVENTS, JOURNAL, UNROUTED, *map(requests, PROVIDERS), *map(tier, TIERS)]
    read += [SETTLEMENT_LINES, REPORTS, REPORT_REQUESTS, ALERTS]
    read += PublicTopic
    return [Topic(dlq(topic), 90 * DAY, ("stages",), ("operators",), partitions=1) for topic in read]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Every topic by name, with the partition count of those that have none of their own."""

    partitions: int
    topics: dict[str, Topic] = field(
        default_factory=lambda: {
            topic.name: topic
            for topic in (
                *_flow(),
                *_settlement(),
                *_requests(),
                *_timers(),
                *_public(),
                *_dead_letters(),
                Topic(HEARTBEAT, DAY, ("debezium",), (), partitions=1),
            )
        }
    )

    def partitions_of(self, name: str) -> int:
        """How many partitions a topic has. Raises KeyError for a topic that is not in the catalogue."""
        return self.topics[name].partitions or self.partitions
