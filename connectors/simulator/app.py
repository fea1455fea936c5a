"""The simulator's process: the providers' APIs, and the controls under /_sim."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec
import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connectors.simulator.faults import Fault
from connectors.simulator.stripe.api import StripeApi
from connectors.simulator.webhooks import Sender


@dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """`url` is its own address, for redirects. `events` None sends every type of event."""

    url: str
    stripe_key: str
    stripe_webhook_secret: str
    webhook_url: str | None = None
    events: frozenset[str] | None = None


class Controls:
    """What tests and the demo ask of the simulator."""

    def __init__(self, stripe: StripeApi) -> None:
        self._stripe = stripe

    async def faults(self, request: Request) -> Response:
        """POST puts a fault in force, DELETE ends all."""
        if request.method == "DELETE":
            self._stripe.faults.clear()
        else:
            self._stripe.faults.add(msgspec.json.decode(await request.body(), type=Fault))
        return _json({})

    async def book(self, request: Request) -> Response:
        """What was really charged, captured and refunded."""
        return _json(self._stripe.book())

    async def stats(self, request: Request) -> Response:
        """Counts, and the seconds spent in the simulator's own logic."""
        api, sender = self._stripe, self._stripe.sender
        return _json(
            {
                "calls": api.calls,
                "seconds": api.seconds,
                "webhooks_sent": sender.sent,
                "webhooks_failed": sender.failed,
                "webhooks_waiting": sender.backlog(),
            }
        )

    async def resend(self, request: Request) -> Response:
        """Send every event again, or those of `?payment_id=`."""
        return _json({"sent": self._stripe.resend(request.query_params.get("payment_id"))})

    async def settle_refund(self, request: Request) -> Response:
        """Let a refund end: `?outcome=success|fail`."""
        success = request.query_params.get("outcome") != "fail"
        return _json(self._stripe.settle_refund(request.path_params["refund"], success))

    async def prune_keys(self, request: Request) -> Response:
        """Forget idempotency keys, as Stripe may after 24 hours."""
        self._stripe.keys.prune()
        return _json({})


def create_app(settings: SimulatorSettings) -> Starlette:
    """The simulator as an ASGI application."""
    sender = Sender(settings.webhook_url, settings.stripe_webhook_secret)
    stripe = StripeApi(settings.stripe_key, settings.url, sender, settings.events)
    controls = Controls(stripe)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await sender.start()
        yield
        await sender.stop()

    routes = [
        Route("/v1/{path:path}", stripe.handle, methods=["GET", "POST"]),
        Route("/_sim/3ds/{intent}", stripe.three_d_secure, methods=["GET", "POST"]),
        Route("/_sim/faults", controls.faults, methods=["POST", "DELETE"]),
        Route("/_sim/book", controls.book),
        Route("/_sim/stats", controls.stats),
        Route("/_sim/webhooks/resend", controls.resend, methods=["POST"]),
        Route("/_sim/refunds/{refund}", controls.settle_refund, methods=["POST"]),
        Route("/_sim/keys", controls.prune_keys, methods=["DELETE"]),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


def _json(body: object) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")
