"""What each simulated provider is to the process."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
from starlette.routing import BaseRoute

from connectors.simulator.book import Query


class Resend(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which events to send again; None is any. `reference` is the provider's id of the payment."""

    provider: str | None = None
    event: str | None = None
    type: str | None = None
    reference: str | None = None
    payment_id: str | None = None


class Service(Protocol):
    """One provider with its API and its webhooks."""

    name: str

    def routes(self) -> list[BaseRoute]:
        """What it serves, controls of its own under /_sim/ included."""

    def reset(self) -> None:
        """An account without a history."""

    def pages(self, query: Query) -> list[dict[str, Any]]:
        """The book, a page for each payment at the provider.

        Each has provider, payment_id (ours), attempt_id, status, currency and the movements' totals in the provider's
        minor units (book.Movement), `refunded` net of refunds that came back.
        """

    def resend(self, asked: Resend) -> int:
        """Send events again that are kept; how many."""

    def forget_keys(self, older_than_seconds: int) -> int:
        """Forget idempotency keys of that age; how many."""

    def counts(self) -> dict[str, Any]:
        """How much it keeps."""
