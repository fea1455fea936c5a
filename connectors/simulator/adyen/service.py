"""Adyen's part of the simulator, put together."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.routing import BaseRoute, Mount, Route

from connectors.simulator.adyen.account import PROVIDER, Account, Call
from connectors.simulator.adyen.api import AdyenApi
from connectors.simulator.adyen.control import AdyenControl
from connectors.simulator.adyen.items import Event
from connectors.simulator.adyen.keys import Keys
from connectors.simulator.adyen.outbox import Outbox
from connectors.simulator.adyen.payments import Payment, References
from connectors.simulator.adyen.shopper import Shopper
from connectors.simulator.book import By, Movement, Query, nothing
from connectors.simulator.parts import Parts
from connectors.simulator.service import Resend
from connectors.simulator.settings import SimulatorSettings


class AdyenService:
    """One Adyen merchant account with its API under /checkout and its bank's page under /_3ds/adyen."""

    name = PROVIDER

    def __init__(self, settings: SimulatorSettings, parts: Parts) -> None:
        self._parts = parts
        references = References(settings.seed)
        self.keys = Keys(settings.adyen.key_life_seconds)
        self.account = Account(settings.adyen, parts, references)
        self.outbox = Outbox(settings.adyen, settings.events_kept, parts.deliverer)
        self._api = AdyenApi(settings, parts, self.account, self.keys, self.outbox)
        self._shopper = Shopper(self.account, self.outbox, self.call)

    def routes(self) -> list[BaseRoute]:
        """What it serves."""
        return [
            Mount("/checkout", app=self._api),
            Route("/_3ds/adyen/{payment}", self._shopper.page, methods=["GET", "POST"]),
            *AdyenControl(self.account, self.outbox, self.call).routes(),
        ]

    def reset(self) -> None:
        """An account without a history."""
        self.account.reset()
        self.keys.reset()
        self.outbox.reset()

    def call(self) -> Call:
        """What happens without an API request."""
        return Call(self._parts.clock.now())

    def pages(self, query: Query) -> list[dict[str, Any]]:
        """The book, a page for each payment; captures and refunds that came back are taken off."""
        sums = self._parts.book.sums(msgspec.structs.replace(query, provider=self.name), By.REFERENCE)
        pages = []
        for payment in self.account.payments.values():
            if query.payment_id not in (None, payment.ours) or query.reference not in (None, payment.psp):
                continue
            pages.append(_page(payment, sums.get(payment.psp) or nothing(self.name, payment.currency)))
        return pages

    def resend(self, asked: Resend) -> int:
        """Send events again that are kept: those of that id, type, payment, payment of ours; how many."""

        def chosen(event: Event) -> bool:
            return (
                asked.event in (None, event.id)
                and asked.type in (None, event.code)
                and asked.reference in (None, event.payment)
                and asked.payment_id in (None, event.ours)
            )

        return self.outbox.resend(chosen)

    def forget_keys(self, older_than_seconds: int) -> int:
        """What Adyen may do after 7 days."""
        return self.keys.prune(self._parts.clock.now(), older_than_seconds)

    def counts(self) -> dict[str, Any]:
        """How much it keeps."""
        return {
            "payments": len(self.account.payments),
            "modifications": len(self.account.modifications),
            "events": len(self.outbox.events),
        }


def _page(payment: Payment, total: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in total.items() if name != "references"}
    return {
        **kept,
        "psp_reference": payment.psp,
        "payment_id": payment.ours,
        "attempt_id": payment.metadata.get("attempt_id"),
        "status": payment.state.value,
        "currency": payment.currency,
        "captured": total[Movement.CAPTURED] - total[Movement.CAPTURE_FAILED],
        "refunded": total[Movement.REFUNDED] - total[Movement.REFUND_FAILED],
    }
