"""What the simulator is told at its start."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pipeline.settings import listed

ALL_EVENTS: Final = "*"
API_VERSION: Final = "2026-10-28.endive"
"""Stripe's API version of the webhook endpoint: what events are shaped by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StripeSettings:
    """Stripe's part. No `api_keys`: any test key is ours, as in a sandbox nobody shares. Every secret signs, as while
    Stripe rolls one. `enabled_events` as of a webhook endpoint: exact types, or `*`.
    """

    api_keys: tuple[str, ...] = ()
    webhook_url: str | None = None
    webhook_secrets: tuple[str, ...] = ("whsec_simulator",)
    enabled_events: frozenset[str] = frozenset({ALL_EVENTS})
    api_version: str = API_VERSION
    refund_seconds: float = 1.0
    """Until an asynchronous refund ends (`pm_card_pendingRefund`, `pm_card_refundFail`)."""
    dispute_seconds: float = 0.5
    """Until a charge of `pm_card_createDispute` is disputed."""
    search_lag_seconds: float = 0.0
    """Stripe's search shows an object after up to a minute."""
    hold_seconds: int = 7 * 24 * 3600
    key_life_seconds: int = 24 * 3600
    """Idempotency keys that are older are forgotten, as Stripe may do."""
    refuse_removed: bool = False
    """Refuse parameters that the call's API version no longer has, as Stripe does. Without it they are only logged."""

    def sends(self, event_type: str) -> bool:
        """Whether the webhook endpoint has subscribed to the type."""
        return ALL_EVENTS in self.enabled_events or event_type in self.enabled_events


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverySettings:
    """How webhooks are delivered. Stripe retries for three days with growing pauses; here the pauses are short."""

    concurrency: int = 64
    timeout_seconds: float = 10.0
    first_retry_seconds: float = 0.5
    longest_retry_seconds: float = 30.0
    attempts: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorSettings:
    """All of it. `latency_ms` is added to every call of a provider's API; `seed` makes ids and disorder repeatable."""

    latency_ms: float = 0.0
    seed: int | None = None
    events_kept: int = 20_000
    stripe: StripeSettings = field(default_factory=StripeSettings)
    delivery: DeliverySettings = field(default_factory=DeliverySettings)


def secrets_of(environment: Mapping[str, str] = os.environ) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The API keys and webhook secrets that our own processes use, so that both sides agree without flags."""
    keys = listed(environment.get("PAYMENTS_STRIPE_API_KEY", ""))
    secrets = listed(environment.get("PAYMENTS_STRIPE_WEBHOOK_SECRETS", ""))
    return keys, secrets
