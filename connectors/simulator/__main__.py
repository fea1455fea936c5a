"""`python -m connectors.simulator`: prints `listening on <base URL>` first, then serves until it is stopped.

API keys and webhook secrets come from the variables that our own processes read, PAYMENTS_STRIPE_API_KEY and
PAYMENTS_STRIPE_WEBHOOK_SECRETS, unless flags say otherwise: a flag can be read by every user of the machine. Adyen's
come from PAYMENTS_ADYEN_* only, PayPal's from PAYMENTS_PAYPAL_*.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

from connectors.simulator.app import serve
from connectors.simulator.settings import (
    ALL_EVENTS,
    API_VERSION,
    DeliverySettings,
    SimulatorSettings,
    StripeSettings,
    adyen_of,
    paypal_of,
    secrets_of,
)
from pipeline import clock
from pipeline.settings import Settings, listed


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the simulator."""
    asked = _parser().parse_args(arguments)
    clock.follow(Settings(_env_file=None).clock_file)
    serve(_settings(asked), asked.host, asked.port, lambda url: print(url, flush=True))


def _settings(asked: argparse.Namespace) -> SimulatorSettings:
    keys, secrets = secrets_of()
    defaults = StripeSettings()
    return SimulatorSettings(
        latency_ms=asked.latency_ms,
        seed=asked.seed,
        stripe=StripeSettings(
            api_keys=listed(asked.api_key) or keys,
            webhook_url=asked.webhook_url,
            webhook_secrets=listed(asked.webhook_secret) or secrets or defaults.webhook_secrets,
            enabled_events=frozenset(listed(asked.enabled_events)),
            api_version=asked.api_version,
            refund_seconds=asked.refund_seconds,
            dispute_seconds=asked.dispute_seconds,
            search_lag_seconds=asked.search_lag_seconds,
            refuse_removed=asked.refuse_removed,
        ),
        adyen=replace(
            adyen_of(),
            webhook_url=asked.adyen_webhook_url,
            modification_seconds=asked.adyen_modification_seconds,
            multiple_captures=asked.adyen_multiple_captures,
        ),
        paypal=replace(
            paypal_of(),
            webhook_url=asked.paypal_webhook_url,
            root_certificate=asked.paypal_root_certificate,
            pending_seconds=asked.paypal_pending_seconds,
            search_lag_seconds=asked.paypal_search_lag_seconds,
        ),
        delivery=DeliverySettings(
            concurrency=asked.webhook_concurrency,
            timeout_seconds=asked.webhook_timeout,
            first_retry_seconds=asked.webhook_first_retry,
        ),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="connectors.simulator", description="Simulated payment providers.")
    add = parser.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=0, help="0 (the default) takes any free port")
    add("--webhook-url", help="where Stripe's webhooks go; none are sent without it")
    add("--webhook-secret", default="", help="comma-separated; every one signs")
    add("--api-key", default="", help="comma-separated; without any, every sk_test_ and rk_test_ key is known")
    add(
        "--enabled-events",
        "--events",
        default=ALL_EVENTS,
        help="comma-separated event types that are sent, or * for all",
    )
    add("--api-version", default=API_VERSION, help="of the account and its webhook endpoint")
    add("--latency-ms", type=float, default=0.0, help="added to every call")
    add("--refund-seconds", type=float, default=1.0, help="until an asynchronous refund ends")
    add("--dispute-seconds", type=float, default=0.5, help="until a charge of a disputing card is disputed")
    add("--search-lag-seconds", type=float, default=0.0, help="until search finds a new object")
    add("--webhook-concurrency", type=int, default=64, help="deliveries in flight")
    add("--webhook-timeout", type=float, default=10.0, help="seconds for one delivery")
    add("--webhook-first-retry", type=float, default=0.5, help="seconds until the first retry; then growing")
    add("--refuse-removed", action="store_true", help="refuse parameters that the API version no longer has")
    add("--adyen-webhook-url", help="where Adyen's webhooks go; none are sent without it")
    add("--adyen-modification-seconds", type=float, default=0.2, help="until a capture, cancel or refund is decided")
    add("--adyen-multiple-captures", action="store_true", help="a capture leaves the rest of the hold")
    add("--paypal-webhook-url", help="where PayPal's webhooks go; none are sent without it")
    add("--paypal-root-certificate", help="file of the root that webhooks' certificates end in; made if it is missing")
    add("--paypal-pending-seconds", type=float, default=0.2, help="until what is pending, and ends by itself, ends")
    add("--paypal-search-lag-seconds", type=int, default=0, help="until transaction search finds what was made")
    add("--seed", type=int, help="makes ids and disorder repeatable")
    return parser


if __name__ == "__main__":
    main()
