"""Idempotency keys as Stripe keeps them. Source: docs.stripe.com/api/idempotent_requests.

The first answer is kept, 500s included, and given again; another endpoint or other parameters are refused; a key whose
first request is still being worked on is in use; what failed before an endpoint began is not kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import orjson

from connectors.simulator.stripe import errors, render
from connectors.simulator.stripe.errors import StripeError
from connectors.simulator.stripe.objects import StripeObject

LONGEST_KEY: Final = 255


class Answer(msgspec.Struct, frozen=True, gc=False):
    """An answer, kept as the objects it shows: they never change, so that it reads the same for ever."""

    status: int
    thing: StripeObject | None = None
    expanded: dict[str, StripeObject] = {}
    raw: bytes = b""
    retry_after: int | None = None
    should_retry: bool | None = None

    def body(self) -> bytes:
        """The answer's JSON."""
        return self.raw if self.thing is None else render.compact(self.shaped())

    def shaped(self) -> dict[str, Any]:
        """The object with what is expanded in it."""
        assert self.thing is not None
        shaped = render.shape(self.thing)
        # A parent's path is shorter than its child's: it is there before the child is put into it.
        for path, inner in sorted(self.expanded.items()):
            *parents, name = path.split(".")
            at = shaped
            for parent in parents:
                at = at[parent]
            at[name] = render.shape(inner)
        return shaped


class _Kept:
    __slots__ = ("answer", "created", "endpoint", "fingerprint", "request")

    def __init__(self, endpoint: str, fingerprint: int, request: str, created: int) -> None:
        self.endpoint = endpoint
        self.fingerprint = fingerprint
        self.request = request
        self.created = created
        self.answer: Answer | None = None


class Keys:
    """The keys of an account."""

    def __init__(self, life_seconds: int) -> None:
        self._life = life_seconds
        self._kept: dict[str, _Kept] = {}

    def begin(
        self, key: str, endpoint: str, parameters: Mapping[str, Any], request: str, now: int
    ) -> tuple[Answer, str] | None:
        """The saved answer and its first request's id, or None: the key is this request's now, until `end`.

        Raises StripeError: in use (409), other parameters or endpoint (400).
        """
        if len(key) > LONGEST_KEY:
            raise errors.invalid(f"Idempotency keys can be up to {LONGEST_KEY} characters.", "idempotency_key")
        kept = self._kept.get(key)
        fingerprint = hash(orjson.dumps(parameters, option=orjson.OPT_SORT_KEYS))
        if kept is None or (kept.answer is not None and now - kept.created >= self._life):
            self._kept[key] = _Kept(endpoint, fingerprint, request, now)
            return None
        if kept.endpoint != endpoint:
            raise errors.other_endpoint(key, endpoint, kept.endpoint)
        if kept.fingerprint != fingerprint:
            raise errors.other_parameters(key)
        if kept.answer is None:
            raise errors.key_in_use(key)
        return kept.answer, kept.request

    def end(self, key: str, answer: Answer, *, saved: bool) -> None:
        """The request is done; its answer is kept, or the key is free again."""
        if saved:
            kept = self._kept.get(key)
            if kept is not None:
                kept.answer = answer
        else:
            self._kept.pop(key, None)

    def prune(self, now: int, older_than_seconds: int) -> int:
        """Forget the keys that are as old as that or older; how many."""
        old = [k for k, kept in self._kept.items() if kept.answer and now - kept.created >= older_than_seconds]
        for key in old:
            del self._kept[key]
        return len(old)

    def reset(self) -> None:
        """Forget all."""
        self._kept.clear()


def refused(error: StripeError, request: str) -> Answer:
    """An error as an answer."""
    fields = error.fields()
    fields["request_log_url"] = f"https://dashboard.stripe.com/test/logs/{request}"
    if error.intent is not None:
        fields["payment_intent"] = render.intent(error.intent)
    if error.failure is not None and error.failure.payment_method:
        method = {"id": error.failure.payment_method, "object": "payment_method", "type": "card"}
        fields["payment_method"] = method
    raw = render.compact({"error": fields})
    return Answer(error.status, raw=raw, retry_after=error.retry_after, should_retry=error.should_retry)
