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

HMAC_KEY: Final = "00" * 32
"""What Adyen's webhooks are signed with where nothing else is said."""

PAYPAL_WEBHOOK_ID: Final = "1SIMULATEDWEBHOOK"
"""Which of its webhooks PayPal signs for where nothing else is said."""


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
class AdyenSettings:
    """Adyen's part. No `api_keys`: any key is ours; no `merchant_account`: any is. The first of `hmac_keys` signs."""

    api_keys: tuple[str, ...] = ()
    merchant_account: str = ""
    webhook_url: str | None = None
    hmac_keys: tuple[str, ...] = (HMAC_KEY,)
    webhook_username: str = ""
    webhook_password: str = ""
    live: bool = False
    modification_seconds: float = 0.2
    """Until a capture, cancel or refund that was accepted is decided."""
    manual_capture: bool = False
    """What the account does with a payment that says nothing about its capture."""
    multiple_captures: bool = False
    """Without it a capture gives back what it leaves of the hold."""
    key_life_seconds: int = 7 * 24 * 3600
    """Idempotency keys that are older are forgotten, as Adyen may do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PayPalSettings:
    """PayPal's part. No `client_id`: any client is ours."""

    client_id: str = ""
    client_secret: str = ""
    webhook_url: str | None = None
    webhook_id: str = PAYPAL_WEBHOOK_ID
    root_certificate: str | None = None
    """The file of the root that webhooks' certificates end in: read, or written if it is not there."""
    pending_seconds: float = 0.2
    """Until what is pending, and ends by itself, ends."""
    search_lag_seconds: int = 0
    """Until transaction search finds what was made: at PayPal, up to three hours."""
    token_seconds: int = 9 * 3600
    hold_seconds: int = 29 * 24 * 3600
    order_key_seconds: int = 6 * 3600
    payment_key_seconds: int = 45 * 24 * 3600
    """PayPal-Request-Ids that are older are forgotten."""


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
    adyen: AdyenSettings = field(default_factory=AdyenSettings)
    paypal: PayPalSettings = field(default_factory=PayPalSettings)
    delivery: DeliverySettings = field(default_factory=DeliverySettings)


def secrets_of(environment: Mapping[str, str] = os.environ) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The API keys and webhook secrets that our own processes use, so that both sides agree without flags."""
    keys = listed(environment.get("PAYMENTS_STRIPE_API_KEY", ""))
    secrets = listed(environment.get("PAYMENTS_STRIPE_WEBHOOK_SECRETS", ""))
    return keys, secrets


def adyen_of(environment: Mapping[str, str] = os.environ) -> AdyenSettings:
    """The same for Adyen: API key, merchant account, and how its webhooks are signed and authenticated."""
    return AdyenSettings(
        api_keys=listed(environment.get("PAYMENTS_ADYEN_API_KEY", "")),
        merchant_account=environment.get("PAYMENTS_ADYEN_MERCHANT_ACCOUNT", ""),
        hmac_keys=listed(environment.get("PAYMENTS_ADYEN_WEBHOOK_HMAC_KEYS", "")) or (HMAC_KEY,),
        webhook_username=environment.get("PAYMENTS_ADYEN_WEBHOOK_USERNAME", ""),
        webhook_password=environment.get("PAYMENTS_ADYEN_WEBHOOK_PASSWORD", ""),
    )


def paypal_of(environment: Mapping[str, str] = os.environ) -> PayPalSettings:
    """The same for PayPal: the client's id and secret, and the webhook that is signed for."""
    return PayPalSettings(
        client_id=environment.get("PAYMENTS_PAYPAL_CLIENT_ID", ""),
        client_secret=environment.get("PAYMENTS_PAYPAL_CLIENT_SECRET", ""),
        webhook_id=next(iter(listed(environment.get("PAYMENTS_PAYPAL_WEBHOOK_IDS", ""))), PAYPAL_WEBHOOK_ID),
    )
