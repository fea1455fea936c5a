"""Timers are topics: a timer is a record that hops through fixed-delay tiers until it is due."""

from __future__ import annotations

from typing import Annotated

import msgspec

from pipeline.messages.base import Millis, Record
from pipeline.messages.values import Operation, TimerKind


class Timer(Record, frozen=True, kw_only=True):
    """Due once at `due_at`; fires as `TimerFired` into `payments.intake`, or into the topic of what is no payment."""

    timer_id: str
    payment_id: Annotated[
        str,
        msgspec.Meta(description="the record's key: a payment, a provider's reference, or a settlement report"),
    ]
    kind: TimerKind
    subject_id: Annotated[str, msgspec.Meta(description="attempt, hold, capture, void or refund it is set for")]
    operation: Operation
    generation: int
    set_at: Millis
    due_at: Millis
