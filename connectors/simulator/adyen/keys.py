"""Idempotency keys as Adyen keeps them. Source: docs.adyen.com/development-resources/api-idempotency.

The first answer is kept, errors included, and given again; a key whose first request has no answer yet is in progress.
Transient errors are not kept: the next request counts as the first. What else a repeat says is not compared.
"""

from __future__ import annotations

import msgspec

from connectors.simulator.adyen.errors import in_progress, invalid

LONGEST_KEY = 64


class Answer(msgspec.Struct, frozen=True, gc=False):
    """One answer."""

    status: int
    body: bytes
    transient: bool = False
    retry_after: int | None = None


class _Kept:
    __slots__ = ("answer", "created")

    def __init__(self, created: int) -> None:
        self.created = created
        self.answer: Answer | None = None


class Keys:
    """The keys of a company account."""

    def __init__(self, life_seconds: int) -> None:
        self._life = life_seconds
        self._kept: dict[str, _Kept] = {}

    def begin(self, key: str, now: int) -> Answer | None:
        """The saved answer, or None: the key is this request's now, until `end`. Raises AdyenError."""
        if len(key) > LONGEST_KEY:
            raise invalid("702", f"Idempotency key exceeds {LONGEST_KEY} characters")
        kept = self._kept.get(key)
        if kept is None or (kept.answer is not None and now - kept.created >= self._life):
            self._kept[key] = _Kept(now)
            return None
        if kept.answer is None:
            raise in_progress()
        return kept.answer

    def end(self, key: str, answer: Answer | None) -> None:
        """The request is done; its answer is kept, or the key is free again."""
        if answer is None:
            self._kept.pop(key, None)
        elif key in self._kept:
            self._kept[key].answer = answer

    def prune(self, now: int, older_than_seconds: int) -> int:
        """Forget the keys that are as old as that or older; how many."""
        old = [k for k, kept in self._kept.items() if kept.answer and now - kept.created >= older_than_seconds]
        for key in old:
            del self._kept[key]
        return len(old)

    def reset(self) -> None:
        """Forget all."""
        self._kept.clear()
