"""The outermost layer: what holds for every request, whatever its route.

Request id, limits, card data in path and query, security headers, errors as problem details, one log line, metrics.
The line names the route, never the path or query that was sent.
"""

from __future__ import annotations

import re
import time
from collections.abc import MutableMapping
from secrets import token_hex
from typing import Any, Final
from urllib.parse import unquote_plus

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import metrics, problems
from gateway.batching import QueueFullError
from gateway.body import refuse_card_text
from gateway.limits import Buckets, Limits, address_group
from gateway.problems import Problem

log = structlog.get_logger()

ROUTE: Final = "gateway.route"
REQUEST_ID: Final = "gateway.request_id"
UNROUTED: Final = "unrouted"
MAX_TARGET: Final = 4_096
"""Bytes of path and query."""

_SECURITY_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Strict-Transport-Security": "max-age=63072000; includeSubDomains",
    "Cache-Control": "no-store",
}
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_UNLIMITED: Final = frozenset({"/health", "/ready", "/metrics"})
_QUIET: Final = frozenset({"/health", "/ready", "/metrics"})


class Edge:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits
        self._addresses = Buckets(limits.address_rate, limits.address_burst)
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        self._in_flight += 1
        metrics.IN_FLIGHT.set(self._in_flight)
        try:
            await self._serve(exchange)
        finally:
            self._in_flight -= 1
            metrics.IN_FLIGHT.set(self._in_flight)
            exchange.record()

    async def _serve(self, exchange: _Exchange) -> None:
        try:
            self._admit(exchange.scope)
            await self._app(exchange.scope, exchange.receive, exchange.send)
        except Problem as problem:
            await exchange.answer(problem)
        except QueueFullError:
            await exchange.answer(Problem(problems.OVERLOADED, headers={"Retry-After": "1"}))
        except Exception:
            log.exception("the request failed")
            await exchange.answer(Problem(problems.INTERNAL))

    def _admit(self, scope: Scope) -> None:
        if scope["path"] not in _UNLIMITED:
            if self._in_flight > self._limits.in_flight:
                raise Problem(problems.OVERLOADED, headers={"Retry-After": "1"})
            self._addresses.take(client_of(scope))
        _check_target(scope)


def client_of(scope: MutableMapping[str, Any]) -> str:
    """The name under which the client's address is limited."""
    client = scope.get("client")
    return address_group(client[0]) if client else "local"


def _check_target(scope: Scope) -> None:
    path, query = scope["path"], scope["query_string"]
    if len(path) + len(query) > MAX_TARGET:
        raise Problem(problems.INVALID_QUERY, f"path and query are longer than {MAX_TARGET} bytes")
    refuse_card_text(_UUID.sub("id", path))
    if query:
        refuse_card_text(unquote_plus(query.decode("latin-1")))


class _Exchange:
    """One request and its answer, observed."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        self._begun = time.perf_counter()
        self._status = 0
        self._body_read = not _has_body(scope)
        self.request_id = scope[REQUEST_ID] = token_hex(16)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=self.request_id)

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body"):
            self._body_read = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._complete(MutableHeaders(scope=message))
        await self._send(message)

    async def answer(self, problem: Problem) -> None:
        """Answer with a problem, if nothing was answered yet."""
        if self._status:
            return
        self.scope["gateway.problem"] = problem.kind.code
        await problem.response()(self.scope, self.receive, self.send)

    def _complete(self, headers: MutableHeaders) -> None:
        for name, value in _SECURITY_HEADERS.items():
            headers.setdefault(name, value)
        headers["Request-Id"] = self.request_id
        if not self._body_read:  # the rest of the body must not be read as the next request
            headers["Connection"] = "close"

    def record(self) -> None:
        """Count the answer and log it."""
        seconds = time.perf_counter() - self._begun
        route, method = self.scope.get(ROUTE, UNROUTED), _method(self.scope)
        metrics.REQUESTS.labels(route, method, self._status).inc()
        metrics.SECONDS.labels(route).observe(seconds)
        problem = self.scope.get("gateway.problem")
        if problem is not None:
            metrics.REFUSED.labels(problem).inc()
        if route in _QUIET and self._status < 400:
            return
        log.info(
            "request",
            method=method,
            route=route,
            status=self._status,
            problem=problem,
            ms=round(seconds * 1000, 2),
        )


def _method(scope: Scope) -> str:
    """The method, if it is one: it is a label, and must not be the client's to invent."""
    known = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
    return scope["method"] if scope["method"] in known else "other"


def _has_body(scope: Scope) -> bool:
    """Whether the headers announce a body (RFC 9112, section 6.3)."""
    for name, value in scope["headers"]:
        if name == b"transfer-encoding" or (name == b"content-length" and value.strip() != b"0"):
            return True
    return False
