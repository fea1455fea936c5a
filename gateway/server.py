"""uvicorn, with deadlines against slow clients and a graceful end."""

from __future__ import annotations

import asyncio
import resource
import signal
import socket
import threading
from http import HTTPStatus
from typing import Any, Final

import structlog
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway import metrics, problems
from gateway.limits import Limits
from gateway.problems import Kind, Problem
from pipeline import logging
from pipeline.settings import Settings

log = structlog.get_logger()

MAX_HEADER_BYTES: Final = 32 * 1024
KEEP_ALIVE_SECONDS: Final = 15
DRAIN_SECONDS: Final = 20
BACKLOG: Final = 2_048
SPARE_FILES: Final = 200


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol holds a trickled header for ever, of any size. Here the headers of a request have an
    absolute deadline, counted from the connection's start or from the first byte after the answer before, and a limit.
    """

    header_seconds: float = 10.0
    most_connections: int = 10_000

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.access_log = False  # uvicorn's own lines hold paths and queries as they were sent
        self._deadline: asyncio.TimerHandle | None = None
        self._header_bytes = 0
        self._in_headers = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arm()
        if len(self.connections) > self.most_connections:
            self._refuse(problems.OVERLOADED)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_headers:
            self._header_bytes += len(data)
            if self._deadline is None:
                self._arm()
        super().data_received(data)
        if self._in_headers and self._header_bytes > MAX_HEADER_BYTES:
            self._refuse(problems.HEADERS_TOO_LARGE)

    def on_message_begin(self) -> None:
        self._in_headers = True
        if self._deadline is None:
            self._arm()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._disarm()
        self._in_headers = False
        self._header_bytes = 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_headers = True
        super().on_message_complete()

    def _arm(self) -> None:
        self._deadline = self.loop.call_later(self.header_seconds, self._expire)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        if self._is_answering():  # a request before this one, pipelined, is still at work: its answer comes first
            self._arm()
            return
        self._deadline = None
        self._refuse(problems.HEADERS_TOO_SLOW)

    def send_400_response(self, msg: str) -> None:
        self._refuse(problems.MALFORMED_HTTP)

    def _refuse(self, kind: Kind) -> None:
        """Answer what never became a request, and close."""
        if self.transport.is_closing():
            return
        metrics.REFUSED.labels(kind.code).inc()
        if not self._is_answering():
            self.transport.write(_answer(kind))
        self.transport.close()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete


def _answer(kind: Kind) -> bytes:
    body = Problem(kind).body()
    head = (
        f"HTTP/1.1 {kind.status} {HTTPStatus(kind.status).phrase}\r\ncontent-type: {problems.MEDIA_TYPE}\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body


class Server(uvicorn.Server):
    """Lets waiting requests go before it waits for them."""

    def __init__(self, config: uvicorn.Config, app: Starlette) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.gateway.drain()
        await super().shutdown(sockets)


def config_of(app: Starlette, settings: Settings, limits: Limits) -> uvicorn.Config:
    """uvicorn's configuration."""

    class Protocol(GuardedProtocol):
        header_seconds = limits.header_seconds
        most_connections = limits.connections

    return uvicorn.Config(
        app,
        host=settings.gateway_host,
        port=settings.gateway_port,
        http=Protocol,
        ws="none",
        loop="uvloop",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(limits.trusted_proxies),
        forwarded_allow_ips=limits.trusted_proxies or None,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        backlog=BACKLOG,
    )


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; then let requests in flight end, deliver what is enqueued, and return."""
    from gateway.app import create_app  # noqa: PLC0415 - the application knows the server's limits

    logging.configure("gateway")
    limits = Limits()
    _allow_files(limits.connections + SPARE_FILES)
    app = create_app(settings, limits)
    if threading.current_thread() is threading.main_thread():
        # uvicorn raises the signal again at its end, for whoever handled it before: nobody, so that the exit is clean.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _ignore)
    Server(config_of(app, settings, limits), app).run()


def _allow_files(count: int) -> None:
    """A connection is a file: allow as many as there may be, if the system does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _ignore(_number: int, _frame: Any) -> None:
    return None
