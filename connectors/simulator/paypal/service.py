"""PayPal's part of the simulator, put together."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from connectors.simulator.book import By, Movement, Query, nothing
from connectors.simulator.parts import Parts
from connectors.simulator.paypal.account import PROVIDER, Call
from connectors.simulator.paypal.api import PayPalApi
from connectors.simulator.paypal.business import business
from connectors.simulator.paypal.control import PayPalControl
from connectors.simulator.paypal.events import Event
from connectors.simulator.paypal.payer import Payer
from connectors.simulator.paypal.records import Order
from connectors.simulator.service import Resend
from connectors.simulator.settings import SimulatorSettings


class PayPalService:
    """One PayPal business account with its API, and the payer's page under /checkoutnow."""

    name = PROVIDER

    def __init__(self, settings: SimulatorSettings, parts: Parts) -> None:
        self._parts = parts
        self._business = business(settings, parts)
        self.account, self.keys, self.outbox = self._business.account, self._business.keys, self._business.outbox
        self._api = PayPalApi(settings, parts, self._business)

    def routes(self) -> list[BaseRoute]:
        """What it serves. Its parts of /v1 are named one by one: the rest is Stripe's."""
        payer, control = Payer(self._business, self.call), PayPalControl(self._business, self.call)
        return [
            Mount("/v2/checkout", app=self._api),
            Mount("/v2/payments", app=self._api),
            Mount("/v1/oauth2", app=self._api),
            Mount("/v1/customer", app=self._api),
            Mount("/v1/reporting", app=self._api),
            Route("/v1/notifications/certs/{id}", self.certificate, methods=["GET"]),
            Mount("/v1/notifications", app=self._api),
            Route("/checkoutnow", payer.page, methods=["GET", "POST"]),
            *control.routes(),
        ]

    async def certificate(self, request: Request) -> Response:
        """The certificate that signs webhooks, with its chain."""
        certificates = self.outbox.certificates
        if request.path_params["id"] != certificates.id:
            return Response(b"", 404)
        return Response(certificates.chain_pem, media_type="application/x-pem-file")

    def reset(self) -> None:
        """An account without a history. Tokens and certificates stay: clients keep them."""
        self.account.reset()
        self.keys.reset()
        self.outbox.reset()

    def call(self, base_url: str) -> Call:
        """What happens without an API request."""
        return Call(self._parts.clock.now(), base_url=base_url)

    def pages(self, query: Query) -> list[dict[str, Any]]:
        """The book, a page for each order; refunds that failed were never in it."""
        sums = self._parts.book.sums(msgspec.structs.replace(query, provider=self.name), By.REFERENCE)
        pages = []
        for order in self.account.orders.values():
            if query.payment_id not in (None, order.ours) or query.reference not in (None, order.id):
                continue
            pages.append(_page(order, sums.get(order.id) or nothing(self.name, order.currency)))
        return pages

    def resend(self, asked: Resend) -> int:
        """Send events again that are kept: those of that id, type, order, payment of ours; how many."""

        def chosen(event: Event) -> bool:
            return (
                asked.event in (None, event.id)
                and asked.type in (None, event.type)
                and asked.reference in (None, event.order)
                and asked.payment_id in (None, event.ours)
            )

        return self.outbox.resend(chosen)

    def forget_keys(self, older_than_seconds: int) -> int:
        """What PayPal does after 6 hours or 45 days."""
        return self.keys.prune(self._parts.clock.now(), older_than_seconds)

    def counts(self) -> dict[str, Any]:
        """How much it keeps."""
        account = self.account
        return {
            "orders": len(account.orders),
            "authorizations": len(account.authorizations),
            "captures": len(account.captures),
            "refunds": len(account.refunds),
            "disputes": len(account.disputes),
            "events": len(self.outbox.events),
        }


def _page(order: Order, total: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in total.items() if name != "references"}
    return {
        **kept,
        "order_id": order.id,
        "authorization_ids": [each.id for each in order.authorizations],
        "capture_ids": [each.id for each in order.captures],
        "refund_ids": [each.id for each in order.refunds],
        "payment_id": order.ours,
        "attempt_id": order.attempt,
        "status": order.status.value,
        "currency": order.currency,
        "captured": total[Movement.CAPTURED],
        "refunded": total[Movement.REFUNDED],
    }
