"""PayPal-Request-Id. Source: developer.paypal.com/api/rest/reference/idempotency.

A repeat answers with the latest status of what the first request made, or with the same refusal; each kind of call has
ids of its own. What failed otherwise (a 5xx, a request that makes no sense) was not done, and the repeat does it. Of
two requests at once, the second fails. What else a repeat says is not compared.
"""

from __future__ import annotations

from typing import Final

from connectors.simulator.paypal import errors
from connectors.simulator.paypal.errors import PayPalError
from connectors.simulator.paypal.records import Authorization, Capture, Order, Refund

LONGEST_KEY: Final = 108
"""Of orders: no other call says how long an id may be."""

Made = Order | Authorization | Capture | Refund


class Kept:
    """What came of a request; neither while it is worked on."""

    __slots__ = ("created", "made", "refused")

    def __init__(self, created: int) -> None:
        self.created = created
        self.made: Made | None = None
        self.refused: PayPalError | None = None

    @property
    def in_progress(self) -> bool:
        """Whether the first request has no answer yet."""
        return self.made is None and self.refused is None


class Keys:
    """The ids of an account, by kind of call."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], Kept] = {}

    def begin(self, kind: str, key: str, now: int, life: int) -> Kept | None:
        """What came of the first request, or None: this is the first, until `end`. Raises PayPalError."""
        if len(key) > LONGEST_KEY:
            raise errors.invalid("INVALID_STRING_LENGTH", "PayPal-Request-Id", key)
        kept = self._kept.get((kind, key))
        if kept is None or (not kept.in_progress and now - kept.created >= life):
            self._kept[kind, key] = Kept(now)
            return None
        if kept.in_progress:
            raise errors.issue("PREVIOUS_REQUEST_IN_PROGRESS")
        return kept

    def end(self, kind: str, key: str, made: Made | None, refused: PayPalError | None) -> None:
        """The request is done: what it made or why it was refused is kept, or the id is free again."""
        kept = self._kept.get((kind, key))
        if kept is None:
            return
        kept.made, kept.refused = made, refused
        if kept.in_progress:
            del self._kept[kind, key]

    def prune(self, now: int, older_than_seconds: int) -> int:
        """Forget the ids that are as old as that or older; how many."""
        old = [k for k, kept in self._kept.items() if not kept.in_progress and now - kept.created >= older_than_seconds]
        for key in old:
            del self._kept[key]
        return len(old)

    def reset(self) -> None:
        """Forget all."""
        self._kept.clear()
