"""One POST to a merchant's URL: guarded, timed, and forgotten.

The guard stands in three places: the URL, every address that its name resolves to, and the socket, which is made for
an address that passed and for no other. TLS and the Host header keep the URL's own name. Redirects are not followed,
no proxy or cookie of the environment is used, and of the answer only its status and `Retry-After` are looked at.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from connectors.webhooks.addresses import Guard
from pipeline.domain.deliveries import AttemptError, Outcome

MAX_ANSWER: Final = 64 * 1024
"""Bytes of an answer that are read at most; with more to come, the connection is closed."""
KEEP_ALIVE_SECONDS: Final = 1.5
"""Shorter than receivers keep a connection open: one that they close under us would look like a failure."""
_SECONDS: Final = re.compile(r"[0-9]{1,9}", re.ASCII)

AddressInfo = tuple[Any, ...]
"""As `socket.getaddrinfo` returns it: family, kind, protocol, canonical name, socket address."""
Lookup = Callable[[str, int], list[AddressInfo]]
Found = asyncio.Future[list[AddressInfo]]


class AddressRefusedError(Exception):
    """A name leads where webhooks must not go."""


def look_up(host: str, port: int) -> list[AddressInfo]:
    """The host's addresses, by the system's resolver. Blocks. Raises OSError."""
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG))


class GuardedResolver(AbstractResolver):
    """Resolves names, each once at a time in a thread of its own, so that one whose servers do not answer holds up no
    other, nor the end of the process. A name with any address that may not be called is refused as a whole.
    """

    def __init__(self, guard: Guard, lookup: Lookup = look_up) -> None:
        self._guard = guard
        self._lookup = lookup
        self._running: dict[tuple[str, int], Found] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Addresses that may be connected to. Raises OSError, AddressRefusedError."""
        found = await asyncio.shield(self._look_up(host, port))
        if not all(admitted(self._guard, address[4]) for address in found):
            raise AddressRefusedError
        return [
            ResolveResult(
                hostname=host,
                host=address[4][0],
                port=port,
                family=address[0],
                proto=address[2],
                flags=socket.AI_NUMERICHOST,
            )
            for address in found
        ]

    async def close(self) -> None:
        """Wait for nobody."""

    def _look_up(self, host: str, port: int) -> Found:
        asked = (host, port)
        running = self._running.get(asked)
        if running is None:
            running = self._running[asked] = asyncio.get_running_loop().create_future()
            running.add_done_callback(lambda done: self._forget(asked, done))
            threading.Thread(target=self._work, args=(running, host, port), name="lookup", daemon=True).start()
        return running

    def _forget(self, asked: tuple[str, int], done: Found) -> None:
        del self._running[asked]
        done.exception()  # whoever waited may have given up

    def _work(self, running: Found, host: str, port: int) -> None:
        tell: Callable[[], None]
        try:
            found = self._lookup(host, port)
            tell = partial(running.set_result, found)
        except (OSError, UnicodeError) as error:  # the latter for labels that are too long
            tell = partial(running.set_exception, socket.gaierror(str(error)))
        with suppress(RuntimeError):  # the loop may have ended
            running.get_loop().call_soon_threadsafe(tell)


def admitted(guard: Guard, sockaddr: tuple[Any, ...]) -> bool:
    """Whether a socket address may be connected to."""
    return guard.admits(ipaddress.ip_address(sockaddr[0]))


class Sender:
    """Sends webhooks. Create it on the loop that it runs on. `tls` None is the system's trust store."""

    def __init__(
        self, guard: Guard, timeout: float, lookup: Lookup = look_up, tls: ssl.SSLContext | None = None
    ) -> None:
        self._guard = guard
        self._timeout = timeout
        connector = aiohttp.TCPConnector(
            resolver=GuardedResolver(guard, lookup),
            use_dns_cache=False,
            limit=0,
            ssl=tls or True,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            socket_factory=self._socket,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None),
            trust_env=False,
            headers={"User-Agent": "payments-webhooks/1", "Accept": "*/*", "Accept-Encoding": "identity"},
        )

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        """What came of one attempt. Raises nothing that has to do with the receiver."""
        if self._guard.objection(url) is not None:
            return Outcome(error=AttemptError.URL_REFUSED)
        outcome: Outcome | None = None
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._session.post(URL(url, encoded=True), data=body, headers=headers, allow_redirects=False) as answer,
            ):
                outcome = Outcome(answer.status, retry_after=_seconds(answer.headers.get("Retry-After")))
                await _drain(answer)
        except (TimeoutError, aiohttp.ClientError, AddressRefusedError, OSError, ValueError) as error:
            return outcome or Outcome(error=_error(error))
        return outcome

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    def _socket(self, address: AddressInfo) -> socket.socket:
        if not admitted(self._guard, address[4]):
            raise AddressRefusedError
        return socket.socket(family=address[0], type=address[1], proto=address[2])


async def _drain(answer: aiohttp.ClientResponse) -> None:
    """Read what there is, so that the connection can be used again; too much of it is cut off."""
    size = 0
    async for chunk in answer.content.iter_any():
        size += len(chunk)
        if size > MAX_ANSWER:
            answer.close()
            return


def _seconds(retry_after: str | None) -> float | None:
    """`Retry-After` in its usual form; a date is not read."""
    return float(retry_after) if retry_after and _SECONDS.fullmatch(retry_after) else None


def _error(error: Exception) -> AttemptError:
    """Why there is no status."""
    match error:
        case TimeoutError():
            return AttemptError.TIMEOUT
        case AddressRefusedError():
            return AttemptError.ADDRESS_REFUSED
        case aiohttp.ClientConnectorDNSError() | socket.gaierror():
            return AttemptError.NAME_NOT_RESOLVED
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return AttemptError.TLS_FAILED
        case aiohttp.InvalidURL():
            return AttemptError.URL_REFUSED
        case aiohttp.ClientConnectionError() | OSError():
            return AttemptError.CONNECTION_FAILED
    return AttemptError.INVALID_RESPONSE
