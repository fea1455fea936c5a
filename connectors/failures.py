"""What a provider's failure is reported as: the parts that every provider's answers share."""

from __future__ import annotations

from typing import Final

from connectors.provider import Answer
from connectors.transport import Reply
from pipeline.logging import redact
from pipeline.messages.values import Decline, Outcome

_DETAIL_LIMIT: Final = 500


def detail_of(*parts: str | None) -> str | None:
    """The provider's words for operators: without card data, cut at 500 characters, None for none."""
    return redact(" ".join(filter(None, parts)))[:_DETAIL_LIMIT] or None


def unanswered(reply: Reply) -> Answer:
    """A request that got no answer: done perhaps, or certainly not if it never left."""
    outcome = Outcome.UNKNOWN if reply.sent else Outcome.TEMPORARY_FAILURE
    return Answer(outcome=outcome, detail=reply.detail, repeat=not reply.sent, reachable=False)


def failed(
    reply: Reply,
    outcome: Outcome,
    *said: str | None,
    decline: Decline | None = None,
    repeat: bool = False,
    reachable: bool = True,
) -> Answer:
    """An answer that says the request was not done as asked; `said` is what its body says."""
    return Answer(
        outcome=outcome,
        decline=decline,
        detail=detail_of(f"http {reply.status}", *said),
        repeat=repeat,
        retry_after=reply.retry_after,
        reachable=reachable,
    )
