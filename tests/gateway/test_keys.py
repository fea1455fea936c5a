"""API keys, without a database."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from gateway import keys
from gateway.keys import ApiKey, KeyRing, Mode, Scope, digest

SECRET = "s" * 43
TOKEN = f"sk_test_0123456789abcdef_{SECRET}"
KEY = ApiKey("0123456789abcdef", "acme", Mode.TEST, frozenset(Scope), digest(SECRET))


class Store:
    def __init__(self, key: ApiKey | None) -> None:
        self.key = key
        self.asked = 0

    async def __call__(self, key_id: str) -> ApiKey | None:
        self.asked += 1
        return self.key if self.key and self.key.key_id == key_id else None


async def test_the_right_token_is_the_key() -> None:
    assert await KeyRing(Store(KEY)).authenticate(TOKEN) is KEY


@pytest.mark.parametrize(
    "token",
    [
        "",
        "sk_test",
        TOKEN[:-1],
        TOKEN + "x",
        TOKEN[:-1] + "t",
        TOKEN.replace("sk_test", "sk_live"),
        TOKEN.replace("0123456789abcdef", "1123456789abcdef"),
        TOKEN.upper(),
        TOKEN + "\n",
        TOKEN.replace("s" * 43, "\u017f" * 43),
    ],
)
async def test_any_other_token_is_nobody(token: str) -> None:
    assert await KeyRing(Store(KEY)).authenticate(token) is None


@pytest.mark.parametrize("change", [{"revoked_at": 1.0}, {"expires_at": 1.0}])
async def test_a_revoked_or_expired_key_is_nobody(change: dict[str, float]) -> None:
    assert await KeyRing(Store(replace(KEY, **change))).authenticate(TOKEN) is None  # type: ignore[arg-type]


async def test_a_key_that_expires_later_still_opens() -> None:
    key = replace(KEY, expires_at=time.time() + 60)
    assert await KeyRing(Store(key)).authenticate(TOKEN) is key


async def test_a_revocation_holds_within_five_seconds() -> None:
    now = [0.0]
    store = Store(KEY)
    ring = KeyRing(store, clock=lambda: now[0])
    assert await ring.authenticate(TOKEN)
    store.key = replace(KEY, revoked_at=1.0)
    assert await ring.authenticate(TOKEN)
    assert store.asked == 1
    now[0] = 4.99
    assert await ring.authenticate(TOKEN) is None


async def test_unknown_keys_are_remembered_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "CACHE_SIZE", 3)
    store = Store(None)
    ring = KeyRing(store)
    for number in range(10):
        for _ in range(2):
            assert await ring.authenticate(f"sk_test_{number:016d}_{SECRET}") is None
    assert store.asked == 10
    assert len(ring._cache) == 3
