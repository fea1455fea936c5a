"""A merchant's webhooks, end to end: made over the API, paid for through the provider, verified by the standard's own
library.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import pytest
from standardwebhooks.webhooks import Webhook

from gateway.keys import create_key
from tests.system.conftest import System, until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

ENDPOINTS = "/webhook-endpoints"
Got = list[tuple[dict[str, str], bytes]]


@contextmanager
def receiver() -> Iterator[tuple[str, Got]]:
    """A merchant's server: its URL, and what came."""
    got: Got = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            got.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", got
    finally:
        server.shutdown()
        server.server_close()


def test_a_payment_is_told_to_its_merchant(system: System) -> None:
    merchant = f"hooked-{uuid4().hex[:8]}"
    key = create_key(system.settings.reveal("postgres_gateway_url"), merchant)
    with receiver() as (url, got), System(system.home, system.settings, key).client() as client:

        def post(path: str, body: Any = None, **headers: str) -> Any:
            sent = {"Idempotency-Key": str(uuid4()), **headers}
            answer = client.post(path, json=body, headers=sent)
            assert answer.is_success, answer.text
            return answer.json()

        endpoint = post(ENDPOINTS, {"url": url})
        ping = post(f"{ENDPOINTS}/{endpoint['endpoint_id']}/test")
        until(lambda: len(got) == 1, "the ping has come")
        body = {"amount": "12.00", "currency": "USD", "provider": "stripe", "payment_method": {"token": "pm_card_visa"}}
        payment = post("/intents", body)["payment_id"]
        post(f"/intents/{payment}/authorize", Prefer="wait=10")
        intent = post(f"/intents/{payment}/capture", Prefer="wait=10")
        until(lambda: len(got) == 4, "three events have come")
        told = {}
        for headers, raw in got:
            event = Webhook(endpoint["secret"]).verify(raw, headers)
            told[event["type"]] = (headers["webhook-id"], event)
        assert told.keys() == {"webhooks.ping", "payments.created", "payments.authorized", "payments.captured"}
        assert told["webhooks.ping"][0] == ping["event_id"]
        _, captured = told["payments.captured"]
        assert captured["data"] == client.get(f"/intents/{payment}").json() == intent
        path = f"{ENDPOINTS}/{endpoint['endpoint_id']}/deliveries"
        until(lambda: _statuses(client.get(path).json()) == ["delivered"] * 4, "every delivery is noted")
        post(f"{ENDPOINTS}/{endpoint['endpoint_id']}/replay?since=2020-01-01T00:00:00Z")
        until(lambda: len(got) == 7, "the three events have come again")
        assert {headers["webhook-id"] for headers, _ in got[4:]} == {
            told[name][0] for name in told if name != "webhooks.ping"
        }
    logs = "".join(path.read_text() for path in (system.home / "logs").glob("*.log"))
    assert endpoint["endpoint_id"] in logs
    assert endpoint["secret"].removeprefix("whsec_") not in logs


def _statuses(page: dict[str, Any]) -> list[str]:
    return [delivery["status"] for delivery in page["data"]]
