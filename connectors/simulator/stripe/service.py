"""Stripe's part of the simulator, put together."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.routing import BaseRoute, Mount, Route

from connectors.simulator.book import By, Movement, Query, nothing
from connectors.simulator.parts import Parts
from connectors.simulator.service import Resend
from connectors.simulator.settings import SimulatorSettings
from connectors.simulator.stripe.account import Account
from connectors.simulator.stripe.api import StripeApi
from connectors.simulator.stripe.control import StripeControl
from connectors.simulator.stripe.idempotency import Keys
from connectors.simulator.stripe.objects import Event, Intent
from connectors.simulator.stripe.outbox import Outbox
from connectors.simulator.stripe.records import PAYMENT, Call
from connectors.simulator.stripe.schedule import Schedule
from connectors.simulator.stripe.store import Store
from connectors.simulator.stripe.three_ds import ThreeDSecure


class StripeService:
    """One Stripe account with its API under /v1 and its bank's page under /_3ds/stripe."""

    name = "stripe"

    def __init__(self, settings: SimulatorSettings, parts: Parts) -> None:
        self._parts = parts
        self.keys = Keys(settings.stripe.key_life_seconds)
        self.store = Store(settings.events_kept)
        self.outbox = Outbox(settings.stripe, self.store, parts.deliverer)
        self.account = Account(settings.stripe, self.store, parts, Schedule(self.outbox.publish))
        self._api = StripeApi(settings, parts, self.account, self.keys, self.outbox)
        self._three_ds = ThreeDSecure(self.account, self.outbox, self.call)

    def routes(self) -> list[BaseRoute]:
        """What it serves."""
        return [
            Mount("/v1", app=self._api),
            Route("/_3ds/stripe/{intent}", self._three_ds.page, methods=["GET", "POST"]),
            *StripeControl(self.account, self.outbox, self.call).routes(),
        ]

    def reset(self) -> None:
        """An account without a history."""
        self.account.reset()
        self.keys.reset()

    def call(self) -> Call:
        """What happens without an API request."""
        return Call(self._parts.clock.now())

    def pages(self, query: Query) -> list[dict[str, Any]]:
        """The book, a page for each payment intent that there is; refunds that came back are taken off."""
        sums = self._parts.book.sums(msgspec.structs.replace(query, provider=self.name), By.REFERENCE)
        pages = []
        for intent in self.store.intents.values():
            payment = intent.metadata.get(PAYMENT)
            if query.payment_id not in (None, payment) or query.reference not in (None, intent.id):
                continue
            total = sums.get(intent.id) or nothing(self.name, intent.currency)
            pages.append(_page(intent, payment, total))
        return pages

    def resend(self, asked: Resend) -> int:
        """Send events again that are kept: those of that id, type, payment intent, payment of ours; how many."""

        def chosen(kept: Event) -> bool:
            about = _intent_of(kept)
            ours = self.store.intents.get(about or "")
            return (
                asked.event in (None, kept.id)
                and asked.type in (None, kept.type)
                and asked.reference in (None, about)
                and (asked.payment_id is None or (ours is not None and ours.metadata.get(PAYMENT) == asked.payment_id))
            )

        return self.outbox.resend(chosen)

    def forget_keys(self, older_than_seconds: int) -> int:
        """What Stripe may do after 24 hours."""
        return self.keys.prune(self._parts.clock.now(), older_than_seconds)

    def counts(self) -> dict[str, Any]:
        """How much it keeps."""
        return {
            "payment_intents": len(self.store.intents),
            "charges": len(self.store.charges),
            "refunds": len(self.store.refunds),
            "events": len(self.store.events),
        }


def _intent_of(event: Event) -> str | None:
    thing = event.object
    return thing.id if isinstance(thing, Intent) else getattr(thing, "payment_intent", None)


def _page(intent: Intent, payment: str | None, total: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in total.items() if name != "references"}
    return {
        **kept,
        "payment_intent": intent.id,
        "payment_id": payment,
        "attempt_id": intent.metadata.get("attempt_id"),
        "status": intent.status,
        "currency": intent.currency.upper(),
        "refunded": total[Movement.REFUNDED] - total[Movement.REFUND_FAILED],
    }
