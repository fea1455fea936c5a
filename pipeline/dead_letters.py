"""What a process cannot use goes to `<topic>.dlq`, whole, with the reason and where it stood."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Producer

from pipeline import ids
from pipeline.codec import Codec
from pipeline.domain.card_data import bytes_may_contain_card_data
from pipeline.headers import TRACEPARENT, Headers, traceparent
from pipeline.messages.deadletters import DeadLetter

MAX_VALUE: Final = 64 * 1024
"""Bytes of a key or value that a dead letter carries. No record of ours is larger; what is stays at its offset."""

_BROKER_SECONDS: Final = 30.0


class Unusable(Exception):  # noqa: N818 - a finding about a record, not a fault of the program
    """This record cannot be used, now or ever. `reason` is a stable code; `detail` never quotes the record; `secret`:
    the record itself must not be kept.
    """

    def __init__(self, reason: str, detail: str, *, secret: bool = False) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.secret = secret


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
    why_key, why_value = _withheld(key, secret=False), _withheld(value, secret=error.secret)
    reasons = [f"{name} withheld: {why}" for name, why in (("key", why_key), ("value", why_value)) if why]
    return DeadLetter(
        stage=origin.stage,
        reason=error.reason,
        detail="; ".join([error.detail, *reasons]),
        topic=origin.topic,
        partition=origin.partition,
        offset=origin.offset,
        failed_at=origin.timestamp,
        key=None if why_key else key,
        value=None if why_value else value,
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


def bury(producer: Producer, codec: Codec, topic: str, letter: DeadLetter, trace: str | None) -> None:
    """Deliver a dead letter, for who must not go on before it is there. Raises KafkaException."""
    failed: list[KafkaError] = []
    producer.produce(
        topic,
        key=letter.key,
        value=codec.encode(letter),
        headers=dead_letter_headers(letter, trace),
        on_delivery=lambda error, _: failed.append(error) if error else None,
    )
    producer.flush(_BROKER_SECONDS)
    if failed or len(producer):
        raise KafkaException(failed[0] if failed else KafkaError(KafkaError._TIMED_OUT))


def _withheld(data: bytes | None, *, secret: bool) -> str | None:
    """Why a key or value must not be kept."""
    if data is None:
        return None
    if len(data) > MAX_VALUE:
        return f"{len(data)} bytes are too many"
    return "looks like card data" if secret or bytes_may_contain_card_data(data) else None
