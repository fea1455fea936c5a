"""Whether the process runs, whether its parts answer, and its metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import httpx
import orjson
import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from gateway import metrics
from gateway.services import Services, services_of
from pipeline import topics

log = structlog.get_logger()

CHECK_SECONDS: Final = 2.0
CACHE_SECONDS: Final = 1.0
"""A look at the parts is shared by all who ask within it, so that asking cannot become a load."""


async def health(_request: Request) -> Response:
    """GET /health: the process runs. Looks at nothing else: a restart mends no other part."""
    return _json(200, {"status": "ok"})


async def ready(request: Request) -> Response:
    """GET /ready: each part looked at, and which one fails."""
    services = services_of(request)
    parts = await request.app.state.readiness.parts()
    fine = not services.draining and all(part["ok"] for part in parts.values())
    return _json(200 if fine else 503, {"ready": fine, "draining": services.draining, "parts": parts})


async def prometheus(request: Request) -> Response:
    """GET /metrics"""
    metrics.WAITING.set(len(services_of(request).waits))
    return Response(generate_latest(metrics.REGISTRY), media_type=CONTENT_TYPE_LATEST)


Parts = dict[str, dict[str, Any]]


class Readiness:
    """The newest look at the parts."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lock = asyncio.Lock()
        self._at = float("-inf")
        self._parts: Parts = {}

    async def parts(self) -> Parts:
        """Each part, not older than `CACHE_SECONDS`."""
        async with self._lock:
            if time.monotonic() - self._at > CACHE_SECONDS:
                self._parts = await _look(self._services)
                self._at = time.monotonic()
        return self._parts


async def _look(services: Services) -> Parts:
    checks: dict[str, Callable[[Services], Awaitable[None]]] = {
        "kafka": _kafka,
        "registry": _registry,
        "postgres": _postgres,
    }
    found = await asyncio.gather(*(_check(name, check(services)) for name, check in checks.items()))
    return dict(zip(checks, found, strict=True))


async def _check(name: str, check: Awaitable[None]) -> dict[str, Any]:
    try:
        await asyncio.wait_for(check, CHECK_SECONDS)
    except Exception as error:  # whatever it is, the part does not answer
        detail = str(error) if isinstance(error, NotReadyError) else type(error).__name__
        log.warning("a part does not answer", part=name, error=detail)
        return {"ok": False, "detail": detail}
    return {"ok": True, "detail": None}


class NotReadyError(RuntimeError):
    """A part answers, but not as it should. The words are shown to whoever asks."""


async def _kafka(services: Services) -> None:
    for topic in (topics.INTAKE, topics.UNROUTED):
        if not await asyncio.to_thread(services.producer.partitions_of, topic, CHECK_SECONDS):
            raise NotReadyError(f"topic {topic} is missing: run `payments topics apply`")


async def _registry(services: Services) -> None:
    async with httpx.AsyncClient(timeout=CHECK_SECONDS) as client:
        answer = await client.get(services.settings.registry_url.rstrip("/") + "/subjects")
        answer.raise_for_status()


async def _postgres(services: Services) -> None:
    await services.database.fetch(
        "SELECT (SELECT 1 FROM gateway.requests LIMIT 1), (SELECT 1 FROM payments.operations LIMIT 1)"
    )


def _json(status: int, value: Any) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")
