"""Outgoing webhooks: which endpoint gets an event, and what follows from an attempt to deliver it.

The schedule, what counts as delivered and what 410 means are those of Standard Webhooks 1.0.0 ("Deliverability and
reliability", "Delivery success and failure"). Times are seconds.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Final

from pipeline import ids
from pipeline.messages.clearing import AlertState, LedgerAlert
from pipeline.messages.public import PaymentEvent
from pipeline.topics import PublicTopic

EVERY_EVENT: Final = "*"
PING: Final = "webhooks.ping"
"""The event of `POST …/test`. It goes to the one endpoint that asked, whatever types that has chosen."""
EVENT_TYPES: Final = tuple(topic.value for topic in PublicTopic)
OPERATOR: Final = "operator"
"""The merchant whose endpoints are the operator's own: they get what concerns no merchant."""
ALERT_TYPES: Final = tuple(f"ledger.alert.{state}" for state in AlertState)
"""Of `ledger.alerts`, for the operator's endpoints that name them: `*` is payments only."""

_MINUTE: Final = 60.0
_HOUR: Final = 3_600.0
_DAY: Final = 86_400.0
PAUSES: Final = (
    5.0, 5 * _MINUTE, 30 * _MINUTE, 2 * _HOUR, 5 * _HOUR, 10 * _HOUR, 14 * _HOUR, 20 * _HOUR, 24 * _HOUR,
)  # fmt: skip
"""Before the second attempt, the third, ...; after the last one there is none."""
JITTER: Final = 0.1
"""A pause is longer or shorter by at most this part of it, so that what failed together does not come back together."""
LONGEST_PAUSE: Final = _DAY
"""What a receiver's `Retry-After` can ask for."""
FAILING_LIMIT: Final = 5 * _DAY
"""An endpoint that has taken nothing for so long is disabled."""


CLOCK_SKEW: Final = 60_000
"""Milliseconds by which an event may seem older than an endpoint that was there before it."""


class DeliveryStatus(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class AttemptError(StrEnum):
    """Why an attempt has no HTTP status."""

    TIMEOUT = "timeout"
    URL_REFUSED = "url_refused"
    """The URL is none that may be called, by the settings as they are now."""
    ADDRESS_REFUSED = "address_refused"
    """The name leads to an address that is not the public internet's."""
    NAME_NOT_RESOLVED = "name_not_resolved"
    CONNECTION_FAILED = "connection_failed"
    TLS_FAILED = "tls_failed"
    INVALID_RESPONSE = "invalid_response"
    INTERNAL = "internal"
    """Our own fault; it is logged."""


class DisabledReason(StrEnum):
    """Why an endpoint gets nothing."""

    MERCHANT = "merchant"
    """Its merchant disabled it."""
    GONE = "gone"
    """It answered 410."""
    FAILING = "failing"
    """It took nothing for FAILING_LIMIT."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one attempt: an HTTP status, or an error. `retry_after` is what the receiver asked for."""

    status: int | None = None
    error: AttemptError | None = None
    retry_after: float | None = None

    @property
    def delivered(self) -> bool:
        """Any 2xx; nothing else is."""
        return self.status is not None and 200 <= self.status <= 299


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from an attempt. `pause` until the next one while the delivery is pending; `disable`: the endpoint's
    end, and why.
    """

    status: DeliveryStatus
    pause: float | None = None
    disable: DisabledReason | None = None


def judge(delivery_id: str, tries: int, failing_for: float | None, outcome: Outcome, scale: float = 1.0) -> Verdict:
    """What follows from the `tries`-th attempt (from 1) of a delivery's schedule. `failing_for`: how long its endpoint
    has taken nothing, None if its last attempt succeeded. `scale` multiplies the pauses.
    """
    if outcome.delivered:
        return Verdict(DeliveryStatus.DELIVERED)
    if outcome.status == 410:
        return Verdict(DeliveryStatus.FAILED, disable=DisabledReason.GONE)
    tired = failing_for is not None and failing_for >= FAILING_LIMIT
    disable = DisabledReason.FAILING if tired else None
    if tries > len(PAUSES):
        return Verdict(DeliveryStatus.FAILED, disable=disable)
    planned = pause_after(delivery_id, tries) * scale
    asked = min(outcome.retry_after or 0.0, LONGEST_PAUSE)
    return Verdict(DeliveryStatus.PENDING, max(planned, asked), disable)


def pause_after(delivery_id: str, tries: int) -> float:
    """Seconds between the `tries`-th attempt and the next one. The jitter is the delivery's, the same at each call."""
    draw = int.from_bytes(sha256(f"{delivery_id}/{tries}".encode()).digest()[:8], "big") / 2**64
    return PAUSES[tries - 1] * (1 + JITTER * (2 * draw - 1))


@dataclass(frozen=True, slots=True)
class Subscription:
    """An enabled endpoint and what it chose. `created_at` in milliseconds since 1970."""

    endpoint_id: str
    merchant_id: str
    event_types: Collection[str]
    created_at: int


@dataclass(frozen=True, slots=True)
class Announced:
    """What an endpoint may want to hear of. `occurred_at` in milliseconds since 1970."""

    event_id: str
    type: str
    merchant_id: str
    occurred_at: int
    payment_id: str | None = None
    alert: LedgerAlert | None = None


def announced(record: PaymentEvent | LedgerAlert) -> Announced:
    """A public event, or an alert of the clearing monitor, which is the operator's."""
    if isinstance(record, PaymentEvent):
        merchant = record.payment.merchant_id
        return Announced(record.event_id, record.type, merchant, record.occurred_at, record.payment_id)
    event_id = ids.derive(record.alert_id, record.state, record.at)
    return Announced(event_id, f"ledger.alert.{record.state}", OPERATOR, record.at, alert=record)


def subscribed(subscription: Subscription, event: Announced) -> bool:
    """Whether an endpoint gets an event: its merchant's, of a type it chose, and not from before it was there, which a
    replay of the topic would bring.
    """
    return (
        subscription.merchant_id == event.merchant_id
        and wants(subscription.event_types, event.type)
        and event.occurred_at >= subscription.created_at - CLOCK_SKEW
    )


def wants(event_types: Collection[str], event_type: str) -> bool:
    """Whether an endpoint that chose `event_types` gets an event of this type."""
    return event_type in event_types or (EVERY_EVENT in event_types and event_type in EVENT_TYPES)
