"""Events on their way out. Source: developer.paypal.com/api/rest/webhooks: each is signed when it is sent, and sent up
to 25 times in three days until a 2xx acknowledges it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Final
from uuid import uuid4

import orjson

from connectors.simulator.faults import Fault
from connectors.simulator.paypal.certificates import ALGORITHM, Certificates
from connectors.simulator.paypal.events import Event
from connectors.simulator.settings import PayPalSettings
from connectors.simulator.webhooks import Deliverer, Delivery

MOST_ATTEMPTS: Final = 25


class PayPalEndpoint:
    """The webhook of the account, for the events of one base URL: there is their certificate."""

    def __init__(self, url: str, webhook_id: str, base_url: str, certificates: Certificates) -> None:
        self.url = url
        self._webhook_id = webhook_id
        self._certificates = certificates
        self._certificate_url = f"{base_url}/v1/notifications/certs/{certificates.id}"

    def headers(self, body: bytes) -> Mapping[str, str]:
        """Signed by the real time: the receiver checks it by its own clock."""
        transmission, time = str(uuid4()), datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "Content-Type": "application/json",
            "User-Agent": "PayPal/AUHR-214.0-00000000",
            "PAYPAL-TRANSMISSION-ID": transmission,
            "PAYPAL-TRANSMISSION-TIME": time,
            "PAYPAL-TRANSMISSION-SIG": self._certificates.sign(transmission, time, self._webhook_id, body),
            "PAYPAL-CERT-URL": self._certificate_url,
            "PAYPAL-AUTH-ALGO": ALGORITHM,
        }

    def accepts(self, status: int, body: bytes) -> bool:
        """Any 2xx."""
        return 200 <= status < 300


class Outbox:
    """Publishes events."""

    def __init__(self, settings: PayPalSettings, kept: int, deliverer: Deliverer) -> None:
        self._settings = settings
        self._deliverer = deliverer
        self._limit = kept
        self.events: list[Event] = []
        if settings.root_certificate:
            _ = self.certificates  # the file is there before anybody looks for it

    @cached_property
    def certificates(self) -> Certificates:
        """The chain that signs."""
        path = self._settings.root_certificate
        return Certificates(Path(path) if path else None)

    def publish(self, events: Sequence[Event], faults: Sequence[Fault] = ()) -> None:
        """Keep the events and send them."""
        if events:
            self._deliverer.send(self._kept(events), faults)

    async def publish_before_answer(self, events: Sequence[Event], faults: Sequence[Fault]) -> None:
        """The same, and wait for those that are to come before the answer."""
        await self._deliverer.send_before_answer(self._kept(events), faults)

    def resend(self, chosen: Callable[[Event], bool]) -> int:
        """Send again what is kept and chosen, whether it was sent before or not; how many."""
        deliveries = self._deliveries([event for event in self.events if chosen(event)])
        self._deliverer.send(deliveries)
        return len(deliveries)

    def reset(self) -> None:
        """Forget all."""
        self.events.clear()

    def _kept(self, events: Sequence[Event]) -> list[Delivery]:
        self.events.extend(events)
        if len(self.events) > self._limit:
            del self.events[: -self._limit]
        return self._deliveries(events)

    def _deliveries(self, events: Sequence[Event]) -> list[Delivery]:
        url = self._settings.webhook_url
        if not url:
            return []
        return [self._delivery(url, event) for event in events]

    def _delivery(self, url: str, event: Event) -> Delivery:
        endpoint = PayPalEndpoint(url, self._settings.webhook_id, event.base_url, self.certificates)
        body = partial(orjson.dumps, event.body)
        return Delivery(endpoint, event.id, event.type.value, body, most_attempts=MOST_ATTEMPTS)
