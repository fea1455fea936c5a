"""Events on their way out, each signed by itself.

Source: docs.adyen.com/development-resources/webhooks: `live` and `success` are texts, items stand in a list, the
signature is in `additionalData.hmacSignature`, and the answer must say `[accepted]`.
"""

from __future__ import annotations

import base64
import hmac
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import orjson

from connectors.simulator import outbox
from connectors.simulator.adyen.items import Event
from connectors.simulator.settings import AdyenSettings
from connectors.simulator.webhooks import Deliverer, Delivery

ACCEPTED: Final = b"[accepted]"
_SIGNED: Final = ("pspReference", "originalReference", "merchantAccountCode", "merchantReference")


class AdyenEndpoint:
    """The standard webhook of the account, with basic authentication if it is set up."""

    def __init__(self, url: str, username: str, password: str) -> None:
        self.url = url
        self._headers = {"Content-Type": "application/json; charset=utf-8", "User-Agent": "Adyen HttpClient 1.0"}
        if username:
            credentials = base64.b64encode(f"{username}:{password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {credentials}"

    def headers(self, body: bytes) -> Mapping[str, str]:
        """Always the same: the items are signed, not the delivery."""
        return self._headers

    def accepts(self, status: int, body: bytes) -> bool:
        """A 2xx is not enough."""
        return 200 <= status < 300 and body.strip() == ACCEPTED


class Outbox(outbox.Outbox[Event]):
    """Publishes the account's events, each by itself."""

    def __init__(self, settings: AdyenSettings, kept: int, deliverer: Deliverer) -> None:
        super().__init__(deque(maxlen=kept), deliverer)
        self._settings = settings
        url = settings.webhook_url
        self._endpoint = AdyenEndpoint(url, settings.webhook_username, settings.webhook_password) if url else None

    def batch(self, events: Sequence[Event]) -> None:
        """Send events in one delivery, as Adyen may."""
        if self._endpoint is not None and events:
            body = partial(self._body, tuple(events))
            self._deliverer.send([Delivery(self._endpoint, events[0].id, "batch", body)])

    def _deliveries(self, events: Sequence[Event]) -> list[Delivery]:
        endpoint = self._endpoint
        if endpoint is None:
            return []
        return [Delivery(endpoint, e.id, e.code, partial(self._body, (e,))) for e in events]

    def _body(self, events: Sequence[Event]) -> bytes:
        key = bytes.fromhex(self._settings.hmac_keys[0])
        wrapped = [{"NotificationRequestItem": signed(event.item, key)} for event in events]
        live = "true" if self._settings.live else "false"
        return orjson.dumps({"live": live, "notificationItems": wrapped})


def signed(item: Mapping[str, Any], key: bytes) -> dict[str, Any]:
    """The item with its signature."""
    amount = item["amount"]
    fields = [item.get(name, "") for name in _SIGNED]
    fields += [amount["value"], amount["currency"], item["eventCode"], item["success"]]
    digest = hmac.digest(key, ":".join(map(str, fields)).encode(), "sha256")
    data = {**item.get("additionalData", {}), "hmacSignature": base64.b64encode(digest).decode()}
    return {**item, "additionalData": data}
