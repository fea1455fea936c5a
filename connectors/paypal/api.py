"""PayPal's REST API: bodies in JSON, a bearer token that is fetched when it is needed (RFC 6749, 4.4)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import msgspec

from connectors.paypal.objects import Token, parse
from connectors.transport import Connections, Reply
from pipeline import clock

Fields = dict[str, Any]

_EARLY: Final = 60_000
"""Milliseconds by which a token is renewed before it expires."""
_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}


class _Request(msgspec.Struct, frozen=True):
    method: str
    path: str
    body: bytes | None = None
    headers: dict[str, str] = {}


class Api:
    """The API for one client. `credentials`: its id and secret."""

    def __init__(
        self, url: str, credentials: tuple[str, str], connections: Connections, now: Callable[[], int] = clock.now
    ) -> None:
        self._url = url.rstrip("/")
        self._credentials = credentials
        self._connections = connections
        self._now = now
        self._token, self._valid_until = "", 0
        self._renewing = asyncio.Lock()

    async def get(self, path: str) -> Reply:
        """The answer to a question."""
        return await self._send(_Request("GET", path))

    async def post(self, path: str, body: Fields, key: str) -> Reply:
        """The answer to a call under an idempotency key, with the whole object in it."""
        headers = {"PayPal-Request-Id": key, "Prefer": "return=representation"}
        return await self._send(_Request("POST", path, msgspec.json.encode(body), headers))

    async def close(self) -> None:
        """Close the connections."""
        await self._connections.close()

    async def _send(self, request: _Request) -> Reply:
        """Once more with a new token when PayPal no longer takes the one we have: a 401 did nothing."""
        token = self._token if self._now() < self._valid_until else ""
        reply = await self._with_token(token, request)
        if reply.status == 401 and token:
            return await self._with_token("", request, refused=token)
        return reply

    async def _with_token(self, token: str, request: _Request, refused: str = "") -> Reply:
        if not token:
            failure = await self._renew(refused)
            if failure is not None:
                return failure
        headers = request.headers | {"Authorization": f"Bearer {self._token}"}
        return await self._connections.send(
            request.method, self._url + request.path, content=request.body, headers=headers
        )

    async def _renew(self, refused: str) -> Reply | None:
        """A new token, fetched by one call at a time; the failure if there is none."""
        async with self._renewing:
            if self._token and self._token != refused and self._now() < self._valid_until:
                return None
            url = f"{self._url}/v1/oauth2/token"
            body = b"grant_type=client_credentials"
            reply = await self._connections.send("POST", url, content=body, auth=self._credentials, headers=_FORM)
            if reply.status in {401, 403}:
                return reply
            try:
                token = parse(reply.body, Token)
            except msgspec.MsgspecError:
                # Without a token nothing was sent, whatever became of the question for one.
                return Reply(status=0, sent=False, detail=f"no token: {reply.detail or f'http {reply.status}'}")
            self._token, self._valid_until = token.access_token, self._now() + token.expires_in * 1000 - _EARLY
            return None
