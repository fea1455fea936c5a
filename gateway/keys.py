"""API keys: `sk_<mode>_<key id>_<secret>`. The secret has 256 bits, is shown once, and only its SHA-256 is kept."""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Final

import psycopg


class Scope(StrEnum):
    """What a key may do."""

    PAYMENTS_READ = "payments:read"
    PAYMENTS_WRITE = "payments:write"
    PAYMENTS_REFUND = "payments:refund"
    WEBHOOKS_MANAGE = "webhooks:manage"
    OPS_REPLAY = "ops:replay"


class Mode(StrEnum):
    """Whether a key moves real money."""

    TEST = "test"
    LIVE = "live"


CACHE_SECONDS: Final = 4.0
"""How long a key's row is believed: a revocation holds within five seconds, its own way to here included."""
CACHE_SIZE: Final = 10_000
_KEY: Final = re.compile(r"sk_(test|live)_([0-9a-z]{16})_([A-Za-z0-9_\-]{43})", re.ASCII)
_MERCHANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
_ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is stored. Times in seconds since 1970; None is never."""

    key_id: str
    merchant_id: str
    mode: Mode
    scopes: frozenset[Scope]
    secret_sha256: bytes
    expires_at: float | None = None
    revoked_at: float | None = None

    def opens_with(self, mode: str, secret: str, now: float) -> bool:
        """Whether the key is active and this is its secret. The comparison takes the same time whatever the secret."""
        same = hmac.compare_digest(self.secret_sha256, digest(secret))
        active = self.revoked_at is None and (self.expires_at is None or now < self.expires_at)
        return same and active and mode == self.mode


def digest(secret: str) -> bytes:
    """What is stored of a secret. It has 256 bits of its own, so that neither salt nor stretching adds anything."""
    return sha256(secret.encode()).digest()


def create_key(
    dsn: str,
    merchant: str,
    mode: Mode | str = Mode.TEST,
    scopes: Iterable[Scope | str] = tuple(Scope),
    expires_at: datetime | None = None,
    *,
    operator: str | None = None,
) -> str:
    """Make a key and return it; it cannot be shown again. `operator`: who does it, for the log. Raises ValueError for
    an unknown mode or scope, or a merchant whose commands would be refused.
    """
    if not _MERCHANT.fullmatch(merchant):
        raise ValueError(
            "a merchant has 1 to 64 letters, digits, '_', '.' and '-', and begins with one of the former two"
        )
    mode, granted = Mode(mode), sorted({Scope(scope).value for scope in scopes})
    key_id = "".join(secrets.choice(_ALPHABET) for _ in range(16))
    secret = secrets.token_urlsafe(32)
    with psycopg.connect(dsn) as connection:
        _name(connection, operator)
        connection.execute(
            "INSERT INTO gateway.api_keys (key_id, merchant_id, mode, scopes, secret_sha256, created_at, expires_at)"
            " VALUES (%s, %s, %s, %s, %s, now(), %s)",
            (key_id, merchant, mode.value, granted, digest(secret), expires_at),
        )
    return f"sk_{mode.value}_{key_id}_{secret}"


def revoke_key(dsn: str, key_id: str, operator: str | None = None) -> bool:
    """Revoke a key; holds everywhere within five seconds. False if there is no such active key."""
    with psycopg.connect(dsn) as connection:
        _name(connection, operator)
        done = connection.execute(
            "UPDATE gateway.api_keys SET revoked_at = now() WHERE key_id = %s AND revoked_at IS NULL", (key_id,)
        )
        return done.rowcount == 1


def _name(connection: psycopg.Connection, operator: str | None) -> None:
    """Say who makes the change that follows in this transaction: the database's own trigger notes it."""
    connection.execute("SELECT set_config('payments.operator', %s, true)", (operator or "",))


@dataclass(frozen=True, slots=True)
class KeyChange:
    """What was done to a key. `operator` is who said so, `role` the database role that it was done by; both None for
    what was done before the log was kept.
    """

    at: datetime
    key_id: str
    merchant_id: str
    change: str
    operator: str | None
    role: str | None
    mode: str
    scopes: list[str]
    expires_at: datetime | None


def key_log(dsn: str, merchant: str | None = None) -> list[KeyChange]:
    """Every change of every key, or of a merchant's, oldest first. Nothing of a secret."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT at, key_id, merchant_id, change, operator, role, mode, scopes, expires_at FROM gateway.key_changes"
            " WHERE %(merchant)s::text IS NULL OR merchant_id = %(merchant)s ORDER BY change_id",
            {"merchant": merchant},
        )
        return [KeyChange(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key as an operator sees it."""

    key_id: str
    merchant_id: str
    mode: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    @property
    def state(self) -> str:
        """active, expired or revoked."""
        if self.revoked_at is not None:
            return "revoked"
        expired = self.expires_at is not None and self.expires_at <= datetime.now(UTC)
        return "expired" if expired else "active"


def list_keys(dsn: str, merchant: str | None = None) -> list[KeyRow]:
    """All keys, or a merchant's, newest first. Nothing of a secret."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT key_id, merchant_id, mode, scopes, created_at, expires_at, revoked_at FROM gateway.api_keys"
            " WHERE %(merchant)s::text IS NULL OR merchant_id = %(merchant)s ORDER BY created_at DESC",
            {"merchant": merchant},
        )
        return [KeyRow(*row) for row in rows]


Fetch = Callable[[str], Awaitable[ApiKey | None]]


class KeyRing:
    """Authenticates bearer tokens. Rows are cached for `CACHE_SECONDS`, absent ones too."""

    def __init__(self, fetch: Fetch, clock: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._clock = clock
        self._cache: OrderedDict[str, tuple[float, ApiKey | None]] = OrderedDict()

    async def authenticate(self, token: str) -> ApiKey | None:
        """The key that `token` is, or None: malformed, unknown, wrong secret, expired or revoked all look the same."""
        match = _KEY.fullmatch(token)
        if match is None:
            return None
        mode, key_id, secret = match.groups()
        key = await self._find(key_id)
        if key is None:
            hmac.compare_digest(digest(secret), _NOBODY)
            return None
        return key if key.opens_with(mode, secret, time.time()) else None

    async def _find(self, key_id: str) -> ApiKey | None:
        now = self._clock()
        cached = self._cache.get(key_id)
        if cached is not None and now - cached[0] < CACHE_SECONDS:
            return cached[1]
        key = await self._fetch(key_id)
        self._cache[key_id] = (now, key)
        self._cache.move_to_end(key_id)
        while len(self._cache) > CACHE_SIZE:
            self._cache.popitem(last=False)
        return key


_NOBODY: Final = bytes(32)
