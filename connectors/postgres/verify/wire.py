"""The body of a journal record as its writer must have written it, so that a record that is right need not be decoded.

It is Avro (specification 1.12, "Binary Encoding") of avro/JournalRecord.avsc. A record that differs is decoded by the
codec and compared by its meaning; a mistake here could only cost time. A test holds it against the codec.
"""

from __future__ import annotations

from functools import lru_cache

from pipeline.messages.facts import Fact
from pipeline.messages.journal import JournalEntry

PREFIX_BYTES = 5
"""Of the Confluent wire format."""

_NO_ENTRY = b"\x00"
_ENTRY = b"\x02"
_END = b"\x00"


def journal_body(fact: Fact, body: bytes, entry: JournalEntry | None) -> bytes:
    """A journal record, without the prefix of the wire format."""
    head = (_text(fact.payment_id), _text(fact.fact_id), _long(fact.sequence), _long(fact.occurred_at))
    return b"".join((*head, _long(len(body)), body, _entry(entry) if entry else _NO_ENTRY))


def _entry(entry: JournalEntry) -> bytes:
    legs = entry.postings
    return b"".join(
        (
            _ENTRY,
            _text(entry.entry_id),
            _text(entry.fact_id),
            _text(entry.payment_id),
            _long(entry.occurred_at),
            _known(entry.description),
            _long(len(legs)),
            *(_known(leg.account) + _known(leg.side) + _long(leg.amount) + _known(leg.currency) for leg in legs),
            _END,
        )
    )


def _text(text: str) -> bytes:
    raw = text.encode()
    length = len(raw)
    return (_LENGTHS[length] if length < len(_LENGTHS) else _long(length)) + raw


_known = lru_cache(maxsize=4096)(_text)
"""For texts that come again and again."""


@lru_cache(maxsize=16_384)
def _long(number: int) -> bytes:
    """Zigzag, then seven bits a byte, least significant first."""
    rest = (number << 1) ^ (number >> 63)
    made = bytearray()
    while rest >= 0x80:
        made.append(rest & 0x7F | 0x80)
        rest >>= 7
    made.append(rest)
    return bytes(made)


_LENGTHS = [_long(length) for length in range(256)]
