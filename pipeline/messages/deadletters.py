"""Where bad input goes: nothing is ever dropped in silence."""

from __future__ import annotations

from typing import Annotated

import msgspec

from pipeline.messages.base import Millis, Record


class DeadLetter(Record, frozen=True, kw_only=True):
    """A record that a stage could not use, whole, with the reason and where it stood."""

    stage: str
    reason: Annotated[str, msgspec.Meta(description="stable code, e.g. undecodable, invalid_amount")]
    detail: str
    topic: str
    partition: int
    offset: int
    failed_at: Millis
    key: bytes | None = None
    value: bytes | None = None
