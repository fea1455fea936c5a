"""A merchant's receiver of webhooks, with nothing but Python's own library.

    WEBHOOK_SECRET=whsec_... python receive_webhooks.py 8099

The `standardwebhooks` library does what `verify` does, and exists for other languages too.
"""

from __future__ import annotations

import hmac
import json
import os
import sys
import time
from base64 import b64decode, b64encode
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOLERANCE_SECONDS = 300
SEEN: set[str] = set()
"""Ids that were handled. A real receiver keeps them in its database, in the transaction of what it does."""


def verify(secret: str, headers: Mapping[str, str], body: bytes, now: float) -> None:
    """Raise ValueError unless `body`, the bytes as they came, was signed with `secret` a moment ago."""
    message_id, timestamp = headers["webhook-id"], headers["webhook-timestamp"]
    if abs(now - int(timestamp)) > TOLERANCE_SECONDS:
        raise ValueError("too old, or from the future")
    content = f"{message_id}.{timestamp}.".encode() + body
    expected = b64encode(hmac.digest(b64decode(secret.removeprefix("whsec_")), content, "sha256")).decode()
    signatures = [
        part.removeprefix("v1,") for part in headers["webhook-signature"].split(" ") if part.startswith("v1,")
    ]
    if not any(hmac.compare_digest(expected, signature) for signature in signatures):
        raise ValueError("no signature fits")


class Receiver(BaseHTTPRequestHandler):
    """Verifies, answers at once, and does nothing twice."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            verify(os.environ["WEBHOOK_SECRET"], self.headers, body, time.time())
        except (KeyError, ValueError) as error:
            print(f"refused: {error}")
            self.answer(400)
            return
        message_id = self.headers["webhook-id"]
        if message_id not in SEEN:
            handle(json.loads(body))
            SEEN.add(message_id)
        self.answer(204)

    def answer(self, status: int) -> None:
        """Within 5 seconds: long work belongs elsewhere."""
        self.send_response(status)
        self.end_headers()


def handle(event: dict[str, Any]) -> None:
    """What the merchant does. Events may come in any order: `sequence` says which state of a payment is newer."""
    data = event["data"]
    print(event["type"], data.get("payment_id", ""), data.get("status", ""), data.get("sequence", ""))


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
