"""Events on their way out: kept for `/v1/events`, and sent to the webhook endpoint, signed as Stripe signs.

Source: docs.stripe.com/webhooks/signature: `t=<seconds>,v1=<hex HMAC-SHA256 of "t.body">`, one v1 for each secret.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from msgspec.structs import replace

from connectors.simulator import outbox
from connectors.simulator.faults import Fault, Kind
from connectors.simulator.settings import StripeSettings
from connectors.simulator.stripe import render
from connectors.simulator.stripe.objects import Event
from connectors.simulator.stripe.store import Store
from connectors.simulator.webhooks import Deliverer, Delivery

_HEADERS: Final = {
    "Content-Type": "application/json; charset=utf-8",
    "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
    "Accept": "*/*; q=0.5, application/xml",
    "Cache-Control": "no-cache",
}


class StripeEndpoint:
    """The webhook endpoint of the account."""

    def __init__(self, url: str, secrets: Sequence[str]) -> None:
        self.url = url
        self._secrets = [secret.encode() for secret in secrets]

    def headers(self, body: bytes) -> Mapping[str, str]:
        """Signed now: every attempt has its own time."""
        return {**_HEADERS, "Stripe-Signature": signature(self._secrets, body, int(time.time()))}

    def accepts(self, status: int, body: bytes) -> bool:
        """Any 2xx."""
        return 200 <= status < 300


class Outbox(outbox.Outbox[Event]):
    """Publishes the account's events; its store keeps them."""

    def __init__(self, settings: StripeSettings, store: Store, deliverer: Deliverer) -> None:
        super().__init__(store.events, deliverer)
        self._settings = settings
        url = settings.webhook_url
        self._endpoint = StripeEndpoint(url, settings.webhook_secrets) if url else None

    def _met(self, events: Sequence[Event], faults: Sequence[Fault]) -> Sequence[Event]:
        return [_aged(event, faults) for event in events] if faults else events

    def _deliveries(self, events: Sequence[Event]) -> list[Delivery]:
        endpoint = self._endpoint
        if endpoint is None:
            return []
        sends = self._settings.sends
        return [Delivery(endpoint, e.id, e.type, partial(self._body, e)) for e in events if sends(e.type)]

    def _body(self, event: Event) -> bytes:
        return render.pretty(render.event(event, self._settings.api_version))


def signature(secrets: Sequence[bytes], body: bytes, now: int) -> str:
    """The Stripe-Signature header."""
    signed = b"%d.%b" % (now, body)
    return ",".join((f"t={now}", *(f"v1={hmac.digest(secret, signed, 'sha256').hex()}" for secret in secrets)))


def _aged(event: Event, faults: Sequence[Fault]) -> Event:
    """An event that happened long ago, if a fault asks for that."""
    ages = [f.age_seconds for f in faults if f.kind is Kind.WEBHOOK_DELAY and f.about(event.type)]
    age = max(ages, default=0)
    return replace(event, created=event.created - age) if age else event
