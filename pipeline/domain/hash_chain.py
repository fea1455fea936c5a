"""The chain over the journal: each fact that is written, with its entry, is sealed by a hash that covers all before it.

One chain a partition of `ledger.journal`. Link n is SHA-256(link n-1 || content of record n); link 0 is the hash of the
partition's name. The content is compact JSON (arrays, no spaces, UTF-8) of what the books hold of the record, so
that anybody can make it again: from the log, or from the rows alone. The order is that of the offsets; a fact that
waited for one before it comes where the missing one let it in, so that the order depends on the log alone, never on
how its reader happened to batch it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import msgspec

from pipeline.messages.facts import EntryReversed, Fact
from pipeline.messages.journal import JournalEntry
from pipeline.messages.settlement import SettlementEntry, SettlementLine

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


def line_origin(partition: int) -> Link:
    """What the first settlement line of a partition is chained to. Lines have chains of their own."""
    return Link(0, sha256(f"ledger.journal/{partition}/lines".encode()).digest())


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


def line_content_of(partition: int, offset: int, line: SettlementLine, entry: SettlementEntry | None) -> bytes:
    """What is hashed of a line's first record.

    [partition, offset, "line", line, provider, account, report, number in the report, occurred at, kind, the
    provider's kind, the provider's line, payout, payment, payment reference, operation reference, gross, fee, net,
    currency, amount and currency of the payment, expected fee, entry or null]; an entry is [id, payment, occurred
    at, description, number of legs, [[account, side, amount, currency], ...]].
    """
    return _encode(
        (
            partition,
            offset,
            "line",
            line.line_id,
            line.provider,
            line.account,
            line.report_id,
            line.line_number,
            line.occurred_at * 1000,
            line.kind,
            line.provider_kind,
            line.provider_line,
            line.payout_id,
            line.payment_id,
            line.payment_reference,
            line.operation_reference,
            line.gross,
            line.fee,
            line.net,
            line.currency,
            line.payment_amount,
            line.payment_currency,
            line.expected_fee,
            _line_entry(entry),
        )
    )


def explanation_content_of(
    partition: int, offset: int, explanation_id: str, line: SettlementLine, entry: SettlementEntry | None
) -> bytes:
    """What is hashed of what was learned of a line: [partition, offset, "explanation", id, line, payment, payout,
    entry or null].
    """
    learned = (explanation_id, line.line_id, line.payment_id, line.payout_id)
    return _encode((partition, offset, "explanation", *learned, _line_entry(entry)))


def _line_entry(entry: SettlementEntry | None) -> tuple[Any, ...] | None:
    if entry is None:
        return None
    return (
        entry.entry_id,
        entry.payment_id,
        entry.occurred_at * 1000,
        entry.description,
        len(entry.postings),
        [(leg.account, leg.side, leg.amount, leg.currency) for leg in entry.postings],
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


def all_chains(facts: Mapping[int, Link], lines: Mapping[int, Link]) -> str:
    """The summary of every chain: the facts', then those of the settlement lines that have a link. By partition."""
    started = (lines[partition] for partition in sorted(lines) if lines[partition].position)
    return summary([*(facts[partition] for partition in sorted(facts)), *started])
