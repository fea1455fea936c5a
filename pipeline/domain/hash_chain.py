"""The chain over the journal: each fact that is written, with its entry, is sealed by a hash that covers all before it.

One chain a partition of `ledger.journal`. Link n is SHA-256(link n-1 || content of record n); link 0 is the hash of the
partition's name. The content is compact JSON (arrays, no spaces, UTF-8) of what the books hold of the record, so
that anybody can make it again: from the log, or from the rows alone. The order is that of the offsets; a fact that
waited for one before it comes where the missing one let it in, so that the order depends on the log alone, never on
how its reader happened to batch it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import msgspec

from pipeline.messages.facts import EntryReversed, Fact
from pipeline.messages.journal import JournalEntry

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class Link:
    """A place in a partition's chain, and the hash of everything up to it. The first record has position 1."""

    position: int
    hash: bytes

    def next(self, content: bytes) -> Link:
        """The link of the record with that content."""
        return Link(self.position + 1, sha256(self.hash + content).digest())


def origin(partition: int) -> Link:
    """What a partition's first record is chained to."""
    return Link(0, sha256(f"ledger.journal/{partition}".encode()).digest())


def content_of(partition: int, offset: int, fact: Fact, body: bytes, entry: JournalEntry | None) -> bytes:
    """What is hashed of a record; `body` is the fact as it stands in the log. Times are microseconds since 1970.

    [partition, offset, payment, sequence, fact, type, occurred at, SHA-256 of the body in hex, entry or null]; an
    entry is [id, payment, merchant, occurred at, description, partition, offset, number of legs, [[account, side,
    amount, currency], ...], the entry it reverses, reason, operator], the last three null in all but a reversal.
    """
    return _encode(
        (
            partition,
            offset,
            fact.payment_id,
            fact.sequence,
            fact.fact_id,
            type(fact).__name__,
            fact.occurred_at * 1000,
            sha256(body).hexdigest(),
            _entry(partition, offset, fact, entry) if entry else None,
        )
    )


def _entry(partition: int, offset: int, fact: Fact, entry: JournalEntry) -> tuple[Any, ...]:
    return (
        entry.entry_id,
        entry.payment_id,
        fact.merchant_id,
        entry.occurred_at * 1000,
        entry.description,
        partition,
        offset,
        len(entry.postings),
        [(leg.account, leg.side, leg.amount, leg.currency) for leg in entry.postings],
        *reversal_of(fact),
    )


def reversal_of(fact: Fact) -> tuple[str | None, str | None, str | None]:
    """What the fact's entry reverses, why, and who asked for it."""
    return (fact.entry_id, fact.reason, fact.operator) if isinstance(fact, EntryReversed) else (None, None, None)


def parts(content: bytes) -> list[Any]:
    """The content, taken apart."""
    found: list[Any] = _decode(content)
    return found


def summary(links: Iterable[Link]) -> str:
    """One hash over the heads of all chains, in the order of their partitions: what an auditor notes down."""
    return sha256(b"".join(link.hash for link in links)).hexdigest()
