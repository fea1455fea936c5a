"""One provider's HTTPS connections: httpx on the aiohttp transport, and what became of a request that got no answer."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Self

import aiohttp
import httpx
import msgspec
from httpx_aiohttp import AiohttpTransport

_NOT_SENT: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)
"""Raised before a byte of the request has left: refused, no such host, no TLS, no connection in time."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `connect` includes waiting for the pool; issuers may take 20 seconds to `read`."""

    connect: float = 5.0
    read: float = 25.0
    total: float = 30.0


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What came back over HTTP. Status 0: nothing; `sent` then says whether the request may have left."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}
    """Names in lower case."""
    sent: bool = True
    detail: str = ""

    @classmethod
    def never(cls, cause: BaseException) -> Self:
        """A reply that never came. Only what happened, not what it was wrapped in, says whether the request may have
        left.
        """
        sent = not isinstance(cause, _NOT_SENT)
        return cls(status=0, sent=sent, detail=f"{type(cause).__name__} {'after' if sent else 'before'} sending")

    @property
    def ok(self) -> bool:
        """Whether the provider did, or took, what it was asked for."""
        return 200 <= self.status < 300

    @property
    def retry_after(self) -> float | None:
        """Seconds (RFC 9110, 10.2.3); a date is no use to back-off of seconds."""
        text = self.headers.get("retry-after", "")
        return float(text) if text.isascii() and text.isdigit() else None


class Connections:
    """A pool of connections to one provider. Create it on the event loop that uses it."""

    def __init__(self, connections: int, timeouts: Timeouts, headers: Mapping[str, str]) -> None:
        limits = httpx.Limits(max_connections=connections, keepalive_expiry=30)
        self._timeouts = timeouts
        self._client = httpx.AsyncClient(
            transport=AiohttpTransport(verify=_tls(), limits=limits, trust_env=False),
            timeout=httpx.Timeout(timeouts.read, connect=timeouts.connect, pool=timeouts.connect),
            headers=dict(headers),
            trust_env=False,
        )

    async def send(self, method: str, url: str, **options: Any) -> Reply:
        """The answer to one request, with httpx's options; never raises for what the network does."""
        try:
            async with asyncio.timeout(self._timeouts.total):
                reply = await self._client.request(method, url, **options)
        except (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, TimeoutError, OSError) as error:
            return Reply.never(error.__cause__ or error)  # the transport wraps what happened
        return Reply(status=reply.status_code, body=reply.content, headers=dict(reply.headers))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


@cache
def _tls() -> ssl.SSLContext:
    """Made once a process: reading the authorities takes longer than a call."""
    return httpx.create_ssl_context(trust_env=False)
