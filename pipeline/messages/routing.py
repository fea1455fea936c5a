"""Providers' events that name no payment of ours, and what is learned to find it."""

from __future__ import annotations

from typing import Annotated

import msgspec

from pipeline.messages.base import Millis, Record


class RoutingRecord(Record, frozen=True, kw_only=True):
    """About one of a provider's references; `reference` is the record's key."""

    reference: Annotated[
        str,
        msgspec.Meta(description="provider and its id of a payment or operation, e.g. stripe:pi_...; the record's key"),
    ]


class ReferenceLearned(RoutingRecord, frozen=True, kw_only=True):
    """A provider's reference belongs to this payment."""

    payment_id: str
    fact_id: Annotated[str, msgspec.Meta(description="the fact that says so")]
    learned_at: Millis


class UnroutedEvent(RoutingRecord, frozen=True, kw_only=True):
    """A genuine event as it came, without the payment that it is about."""

    provider: str
    event_id: Annotated[str, msgspec.Meta(description="the provider's id of the event")]
    event_type: Annotated[str, msgspec.Meta(description="the provider's name for what happened")]
    reason: Annotated[str, msgspec.Meta(description="unknown_payment or unknown_type")]
    received_at: Millis
    body: Annotated[bytes, msgspec.Meta(description="the event, unchanged but for redacted card numbers")]


class UnmatchedEvent(RoutingRecord, frozen=True, kw_only=True):
    """An event that has waited for its payment in vain: a person has to look. It still waits."""

    provider: str
    event_id: str
    event_type: str
    received_at: Millis
    listed_at: Millis


class UnmatchedResolved(RoutingRecord, frozen=True, kw_only=True):
    """A person looked into an event that found no payment: it needs nobody any more."""

    provider: str
    event_id: str
    resolved_at: Millis
    operator: Annotated[str, msgspec.Meta(description="who looked")]
    reason: Annotated[str, msgspec.Meta(description="what they found")]


ROUTING: tuple[type[RoutingRecord], ...] = (ReferenceLearned, UnroutedEvent, UnmatchedEvent, UnmatchedResolved)
