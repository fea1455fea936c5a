"""One HTTP exchange, down to its connection: a body read, an answer sent, a connection held or reset.

Starlette's request and response classes are passed by on the providers' paths: at hundreds of calls a second they cost
more than the simulation.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Iterable
from typing import Any, Final

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

BODY_LIMIT: Final = 1024 * 1024
_TRANSPORT: Final = "simulator.transport"
_LINGER: Final = struct.pack("ii", 1, 0)

Header = tuple[bytes, bytes]


class BodyTooLargeError(ValueError):
    """More than BODY_LIMIT."""


class OpenProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with the connection shown to the application: only so can it be reset without an answer."""

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.scope["extensions"] = {_TRANSPORT: self.transport}  # type: ignore[dict-item]


class Exchange:
    """A request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self._receive = receive
        self._send = send

    def header(self, name: bytes) -> str | None:
        """A header by its lower-case name."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    @property
    def base_url(self) -> str:
        """How the caller reached us."""
        return f"{self.scope['scheme']}://{self.header(b'host') or 'localhost'}"

    async def body(self) -> bytes:
        """The whole body. Raises BodyTooLargeError."""
        message = await self._receive()
        body: bytes = message.get("body", b"")
        while message.get("more_body"):
            message = await self._receive()
            body += message.get("body", b"")
            if len(body) > BODY_LIMIT:
                raise BodyTooLargeError
        return body

    async def answer(self, status: int, headers: Iterable[Header], body: bytes) -> None:
        """Send the answer."""
        sent = [*headers, (b"content-length", b"%d" % len(body))]
        await self._send({"type": "http.response.start", "status": status, "headers": sent})
        await self._send({"type": "http.response.body", "body": body})

    async def hang(self, seconds: float) -> None:
        """Say nothing until the caller gives up, or the time is over; then reset."""
        try:
            await asyncio.wait_for(self._gone(), seconds)
        except TimeoutError:
            await self.reset()

    async def reset(self) -> None:
        """Cut the connection with a TCP reset."""
        transport: Any = (self.scope.get("extensions") or {}).get(_TRANSPORT)
        if transport is None:
            raise ConnectionResetError("this server does not show its connections")
        _linger(transport.get_extra_info("socket"))
        transport.abort()
        await self._gone()

    async def _gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


def _linger(connection: Any) -> None:
    """Make closing a reset. uvloop's sockets take no options, a duplicate of the descriptor does."""
    duplicate = socket.socket(fileno=os.dup(connection.fileno()))
    try:
        duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
    finally:
        duplicate.close()
