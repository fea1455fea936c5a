"""Idempotency keys as Stripe keeps them: the first answer, errors included, for the same parameters only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from connectors.simulator.stripe.errors import StripeError


@dataclass(frozen=True, slots=True)
class Saved:
    """An answer to be given again."""

    fingerprint: tuple[str, bytes]
    status: int
    body: bytes


_RUNNING: Final = Saved(("", b""), 0, b"")


@dataclass(slots=True)
class Keys:
    """Every key that was used, in memory. `prune` forgets them, as Stripe may after 24 hours."""

    _saved: dict[str, Saved] = field(default_factory=dict)

    def begin(self, key: str, fingerprint: tuple[str, bytes]) -> Saved | None:
        """The answer that was given under the key, or None: then the caller answers. Raises StripeError."""
        saved = self._saved.get(key)
        if saved is None:
            self._saved[key] = _RUNNING
            return None
        if saved is _RUNNING:
            raise StripeError(
                409,
                "idempotency_error",
                "There is currently another in-progress request using this Idempotency-Key.",
                code="idempotency_key_in_use",
            )
        if saved.fingerprint != fingerprint:
            raise StripeError(
                400,
                "idempotency_error",
                "Keys for idempotent requests can only be used with the same parameters they were first used with.",
            )
        return saved

    def finish(self, key: str, fingerprint: tuple[str, bytes], status: int, body: bytes) -> None:
        """Keep the answer."""
        self._saved[key] = Saved(fingerprint, status, body)

    def abandon(self, key: str) -> None:
        """Nothing was done under the key."""
        self._saved.pop(key, None)

    def prune(self) -> None:
        """Forget every key."""
        self._saved.clear()
