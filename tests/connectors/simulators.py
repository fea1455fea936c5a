"""The provider simulator as a process of its own, on a free port."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

KEY = "sk_test_simulated"
SECRET = "whsec_simulated"
ADYEN = {
    "PAYMENTS_ADYEN_API_KEY": "adyen_simulated",
    "PAYMENTS_ADYEN_MERCHANT_ACCOUNT": "TestMerchant",
    "PAYMENTS_ADYEN_WEBHOOK_HMAC_KEYS": "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056",
    "PAYMENTS_ADYEN_WEBHOOK_USERNAME": "adyen",
    "PAYMENTS_ADYEN_WEBHOOK_PASSWORD": "simulated",
}
"""What Adyen's part and its receiver agree on."""
PAYPAL = {
    "PAYMENTS_PAYPAL_CLIENT_ID": "paypal_client",
    "PAYMENTS_PAYPAL_CLIENT_SECRET": "paypal_simulated",
    "PAYMENTS_PAYPAL_WEBHOOK_IDS": "8PT597110X687430L",
}
"""What PayPal's part and its client and receiver agree on."""


@dataclass(frozen=True, slots=True)
class Simulator:
    """A running simulator."""

    url: str
    process: subprocess.Popen[str]

    def wait(self, seconds: float = 20.0) -> None:
        """Until it answers: its address is known before it listens."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.calls()
            except httpx.TransportError:
                assert time.monotonic() < deadline, "the simulator does not answer"
                time.sleep(0.05)
            else:
                return

    def fault(self, kind: str, operation: str | None = None, **fields: Any) -> None:
        """Let calls go wrong; once, unless `count` says otherwise."""
        httpx.post(f"{self.url}/_sim/faults", json={"kind": kind, "operation": operation, **fields}).raise_for_status()

    def heal(self) -> None:
        """End all faults."""
        httpx.delete(f"{self.url}/_sim/faults").raise_for_status()

    def forget_keys(self) -> None:
        """What Stripe may do after 24 hours."""
        httpx.delete(f"{self.url}/_sim/keys").raise_for_status()

    def settle_refund(self, reference: str, outcome: str) -> None:
        """Let a pending refund end."""
        httpx.post(f"{self.url}/_sim/refunds/{reference}", params={"outcome": outcome}).raise_for_status()

    def authenticate(self, url: str, outcome: str) -> None:
        """Come back from the redirect."""
        httpx.get(url, params={"outcome": outcome}).raise_for_status()

    def approve(self, url: str) -> None:
        """Approve an order on PayPal's page, as its payer."""
        httpx.post(url, data={"outcome": "success", "finish": "true"}).raise_for_status()

    def expire_tokens(self) -> None:
        """End every access token of PayPal's."""
        httpx.post(f"{self.url}/_sim/paypal/tokens/expire").raise_for_status()

    def calls(self) -> int:
        """How many API calls it has had."""
        return int(httpx.get(f"{self.url}/_sim/stats").json()["calls"])

    def whole_book(self) -> list[dict[str, Any]]:
        """What was really authorized, captured and refunded: one page an intent."""
        pages: list[dict[str, Any]] = httpx.get(f"{self.url}/_sim/book").json()
        return pages

    def book(self, payment_id: str) -> list[dict[str, Any]]:
        """The pages of one payment of ours."""
        return [page for page in self.whole_book() if page["payment_id"] == payment_id]


@contextmanager
def simulator(webhook_url: str | None = None, port: int = 0, flags: Sequence[str] = ()) -> Iterator[Simulator]:
    """A simulator that ends with the block."""
    command = [sys.executable, "-m", "connectors.simulator", "--refuse-removed", "--port", str(port), *flags]
    env = {**os.environ, "PAYMENTS_STRIPE_API_KEY": KEY, "PAYMENTS_STRIPE_WEBHOOK_SECRETS": SECRET, **ADYEN, **PAYPAL}
    if webhook_url:
        command += ["--webhook-url", webhook_url]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        running = Simulator(process.stdout.readline().split()[-1], process)
        running.wait()
        yield running
    finally:
        process.kill()
        process.wait()
