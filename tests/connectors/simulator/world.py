"""A simulator in a process of its own, and a webhook endpoint that remembers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import stripe

KEY = "sk_test_simulator_tests"
SECRET = "whsec_simulator_tests"


@dataclass(frozen=True, slots=True)
class Received:
    """One delivery."""

    body: bytes
    signature: str
    at: float

    def event(self, secret: str = SECRET) -> dict[str, Any]:
        """The event, if Stripe's own library takes the signature."""
        event: dict[str, Any] = stripe.Webhook.construct_event(self.body, self.signature, secret).to_dict()
        return event


@dataclass(slots=True)
class Receiver:
    """A webhook endpoint. `statuses` are answered first, one a delivery; then 200."""

    url: str
    received: list[Received] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    def events(self) -> list[dict[str, Any]]:
        """What came, in the order in which it came; every signature is checked."""
        return [received.event() for received in list(self.received)]

    def types(self) -> list[str]:
        """The types of what came."""
        return [event["type"] for event in self.events()]

    def one(self, kind: str) -> dict[str, Any]:
        """The only event of a type."""
        (found,) = [event for event in self.events() if event["type"] == kind]
        return found

    def clear(self) -> None:
        """Forget."""
        self.received.clear()
        self.statuses.clear()


@contextmanager
def receiver() -> Iterator[Receiver]:
    """A webhook endpoint that ends with the block."""
    found = Receiver("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.received.append(Received(body, self.headers["Stripe-Signature"], time.monotonic()))
            self.send_response(found.statuses.pop(0) if found.statuses else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found.url = f"http://127.0.0.1:{server.server_port}/webhooks/stripe"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()


@dataclass(frozen=True, slots=True)
class World:
    """A simulator and what it is asked."""

    url: str
    receiver: Receiver
    control: httpx.Client

    def sdk(self, key: str = KEY, **options: Any) -> stripe.StripeClient:
        """The official client, told where to go and nothing else."""
        return stripe.StripeClient(key, base_addresses={"api": self.url}, max_network_retries=0, **options)

    def post(self, path: str, body: Any = None, **params: str) -> Any:
        """Ask the control API."""
        answer = self.control.post(f"/_sim/{path}", json=body, params=params)
        answer.raise_for_status()
        return answer.json()

    def get(self, path: str, **params: str) -> Any:
        """Ask the control API."""
        answer = self.control.get(f"/_sim/{path}", params=params)
        answer.raise_for_status()
        return answer.json()

    def fault(self, kind: str, **rule: Any) -> None:
        """Something will go wrong."""
        self.post("faults", {"kind": kind, **rule})

    def drain(self) -> None:
        """Wait until every webhook has arrived."""
        assert self.post("webhooks/drain", {"seconds": 10.0})["drained"]

    def sums(self, payment_id: str) -> dict[str, Any]:
        """What was really done about a payment."""
        sums: dict[str, Any] = self.get("book/sums", by="payment_id", payment_id=payment_id)[payment_id]
        return sums


@contextmanager
def world(*flags: str, environment: dict[str, str] | None = None) -> Iterator[World]:
    """A simulator that ends with the block."""
    with receiver() as endpoint:
        command = [sys.executable, "-m", "connectors.simulator", "--webhook-url", endpoint.url, *flags]
        env = {**os.environ, "PAYMENTS_STRIPE_API_KEY": KEY, "PAYMENTS_STRIPE_WEBHOOK_SECRETS": SECRET}
        process = subprocess.Popen(command, env=env | (environment or {}), stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1]
            with httpx.Client(base_url=url, timeout=20, transport=httpx.HTTPTransport(retries=20)) as control:
                assert control.get("/_sim/health").json() == {"status": "ok"}
                yield World(url, endpoint, control)
        finally:
            process.terminate()
            process.wait(10)
