"""What a stage cannot use goes to `<topic>.dlq`, whole, with the reason and where it stood."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from pipeline import ids
from pipeline.domain.card_data import contains_card_data
from pipeline.headers import TRACEPARENT, Headers, traceparent
from pipeline.messages.deadletters import DeadLetter

MAX_VALUE: Final = 900_000
"""Bytes of a value that a dead letter carries; above it the letter itself could be too large for its topic."""


class Unusable(Exception):  # noqa: N818 - a finding about a record, not a fault of the program
    """This record cannot be used, now or ever. `reason` is a stable code; `detail` never quotes the record."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Origin:
    """Which stage met the record where; `timestamp` is the broker's append time, in milliseconds."""

    stage: str
    topic: str
    partition: int
    offset: int
    timestamp: int


def dead_letter(origin: Origin, error: Unusable, key: bytes | None, value: bytes | None) -> DeadLetter:
    """The dead letter of a record. Card data never reaches it: such a key or value is withheld, as `detail` says."""
    withheld = [
        f"{name} withheld: {why}"
        for name, data in (("key", key), ("value", value))
        if data is not None and (why := _withhold(data))
    ]
    return DeadLetter(
        stage=origin.stage,
        reason=error.reason,
        detail="; ".join([error.detail, *withheld]),
        topic=origin.topic,
        partition=origin.partition,
        offset=origin.offset,
        failed_at=origin.timestamp,
        key=None if key is None or _withhold(key) else key,
        value=None if value is None or _withhold(value) else value,
    )


def dead_letter_headers(letter: DeadLetter, trace: str | None) -> Headers:
    """CloudEvents and trace headers of a dead letter; its id derives from where the record stood."""
    place = f"{letter.topic}/{letter.partition}/{letter.offset}"
    letter_id = ids.derive("dead", letter.stage, letter.topic, letter.partition, letter.offset)
    at = datetime.fromtimestamp(max(letter.failed_at, 0) / 1000, UTC).isoformat(timespec="milliseconds")
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", letter_id.encode()),
        ("ce_type", b"payments.v1.DeadLetter"),
        ("ce_source", f"/payments/{letter.stage}".encode()),
        ("ce_subject", place.encode()),
        ("ce_time", at.encode()),
        (TRACEPARENT, (trace or traceparent(place, letter_id)).encode()),
    ]


def _withhold(data: bytes) -> str | None:
    if len(data) > MAX_VALUE:
        return f"{len(data)} bytes are too many"
    return "looks like card data" if contains_card_data(data.decode(errors="replace")) else None
