"""Access tokens. Source: developer.paypal.com/api/rest/authentication (OAuth 2.0, client credentials)."""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Any, Final
from urllib.parse import parse_qsl

from connectors.simulator.paypal.errors import OAuthError, PayPalError
from connectors.simulator.paypal.records import References

_SCOPE: Final = (
    "https://uri.paypal.com/services/payments/payment/authcapture https://uri.paypal.com/services/payments/refund"
)
_APP: Final = "APP-80W284485P519543T"


class Tokens:
    """The tokens that were given out. Without a client id, every client is ours, as in a sandbox nobody shares."""

    def __init__(self, client_id: str, client_secret: str, life_seconds: int, references: References) -> None:
        self._client = (client_id, client_secret)
        self._life = life_seconds
        self._references = references
        self._ends: dict[str, int] = {}

    def give(self, authorization: str | None, body: bytes, now: int) -> dict[str, Any]:
        """`POST /v1/oauth2/token`. Raises OAuthError."""
        self._authenticate(authorization)
        asked = dict(parse_qsl(body.decode("latin-1")))
        if asked.get("grant_type") != "client_credentials":
            raise OAuthError(400, "unsupported_grant_type", "Grant Type is NULL or not supported")
        token = f"A21AA{self._references.new()}"
        self._ends[token] = now + self._life
        return {
            "scope": _SCOPE,
            "access_token": token,
            "token_type": "Bearer",
            "app_id": _APP,
            "expires_in": self._life,
            "nonce": f"{now}{self._references.new()}",
        }

    def check(self, authorization: str | None, now: int) -> None:
        """Whether the call may be made. Raises OAuthError, PayPalError."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise PayPalError(401)
        ends = self._ends.get(token.strip())
        if ends is None:
            raise OAuthError(401, "invalid_token", "The token passed in was not found in the system")
        if now >= ends:
            raise OAuthError(401, "invalid_token", "Access Token has expired")

    def expire(self) -> int:
        """All tokens end now; how many."""
        expired = len(self._ends)
        self._ends = dict.fromkeys(self._ends, 0)
        return expired

    def _authenticate(self, authorization: str | None) -> None:
        client_id, client_secret = _basic(authorization)
        known = hmac.compare_digest(f"{client_id}:{client_secret}".encode(), ":".join(self._client).encode())
        if not client_id or (self._client[0] and not known):
            raise OAuthError(401, "invalid_client", "Client Authentication failed")


def _basic(authorization: str | None) -> tuple[str, str]:
    scheme, _, credentials = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        name, _, secret = base64.b64decode(credentials, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return name, secret
