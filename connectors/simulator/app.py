"""The simulator's process: Starlette on uvicorn (uvloop, httptools)."""

from __future__ import annotations

import gc
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette

from connectors.simulator.adyen.service import AdyenService
from connectors.simulator.book import Book
from connectors.simulator.clock import Clock
from connectors.simulator.control import Control
from connectors.simulator.exchange import OpenProtocol
from connectors.simulator.faults import Faults
from connectors.simulator.ids import Ids
from connectors.simulator.parts import Parts
from connectors.simulator.paypal.service import PayPalService
from connectors.simulator.service import Service
from connectors.simulator.settings import SimulatorSettings
from connectors.simulator.stats import Stats
from connectors.simulator.stripe.service import StripeService
from connectors.simulator.webhooks import Deliverer

_BACKLOG = 1024
_SHUTDOWN_SECONDS = 1


def create_app(settings: SimulatorSettings) -> Starlette:
    """The application. Serve it with `serve`: only its protocol lets connections be reset."""
    deliverer = Deliverer(settings.delivery, settings.seed)
    parts = Parts(Book(), Faults(), Stats(), Clock(), Ids(settings.seed), deliverer)
    # PayPal's paths under /v1 come before Stripe, which answers whatever else is there
    services: list[Service] = [
        PayPalService(settings, parts),
        StripeService(settings, parts),
        AdyenService(settings, parts),
    ]

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        gc.freeze()
        yield
        await deliverer.close()

    own = [route for service in services for route in service.routes()]
    return Starlette(routes=[*own, *Control(parts, services).routes()], lifespan=lifespan)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 is any free one (`getsockname()` says which)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    sock.listen(_BACKLOG)
    return sock


def serve(
    settings: SimulatorSettings, host: str = "127.0.0.1", port: int = 0, announce: Callable[[str], None] = print
) -> None:
    """Serve until SIGTERM or SIGINT. `announce` is told `listening on <base URL>`."""
    sock = bind(host, port)
    config = uvicorn.Config(
        create_app(settings),
        http=OpenProtocol,
        loop="uvloop",
        access_log=False,
        log_level="warning",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        server_header=False,
        date_header=True,
    )
    shown = f"[{host}]" if ":" in host else host
    announce(f"listening on http://{shown}:{sock.getsockname()[1]}")
    uvicorn.Server(config).run(sockets=[sock])
