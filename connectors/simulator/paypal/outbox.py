"""Events on their way out. Source: developer.paypal.com/api/rest/webhooks: each is signed when it is sent, and sent up
to 25 times in three days until a 2xx acknowledges it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Final
from uuid import uuid4

import orjson

from connectors.simulator import outbox
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


class Outbox(outbox.Outbox[Event]):
    """Publishes the account's events."""

    def __init__(self, settings: PayPalSettings, kept: int, deliverer: Deliverer) -> None:
        super().__init__(deque(maxlen=kept), deliverer)
        self._settings = settings
        if settings.root_certificate:
            _ = self.certificates  # the file is there before anybody looks for it

    @cached_property
    def certificates(self) -> Certificates:
        """The chain that signs."""
        path = self._settings.root_certificate
        return Certificates(Path(path) if path else None)

    def _deliveries(self, events: Sequence[Event]) -> list[Delivery]:
        url = self._settings.webhook_url
        if not url:
            return []
        return [self._delivery(url, event) for event in events]

    def _delivery(self, url: str, event: Event) -> Delivery:
        endpoint = PayPalEndpoint(url, self._settings.webhook_id, event.base_url, self.certificates)
        body = partial(orjson.dumps, event.body)
        return Delivery(endpoint, event.id, event.type.value, body, most_attempts=MOST_ATTEMPTS)
