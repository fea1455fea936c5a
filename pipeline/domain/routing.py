"""Which payment a provider's event is about, when only the provider's reference says so.

References are learned from the facts. An event whose reference is not known yet waits for it: a dispute may come years
after its payment, but also before the authorization's answer. What waits too long is listed for operators, once, and
waits on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec.structs import replace

from pipeline import ids
from pipeline.messages import Input, Record
from pipeline.messages.facts import Fact, PaymentAuthorized, PaymentCaptured, PaymentRefunded
from pipeline.messages.inputs import TimerFired
from pipeline.messages.routing import ReferenceLearned, RoutingRecord, UnmatchedEvent, UnroutedEvent
from pipeline.messages.timers import Timer
from pipeline.messages.values import Operation, TimerKind

HOUR: Final = 60 * 60 * 1000
WAITING_LIMIT: Final = 100
"""Events that wait for one reference. A provider that sends more repeats itself; the topic keeps them all."""

Translate = Callable[[UnroutedEvent, str], Iterable[Input]]
"""What an event says, once its payment is known."""


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one of a provider's references."""

    payment_id: str | None = None
    waiting: tuple[UnroutedEvent, ...] = ()
    listed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """What a record brings about: the reference after it, and what is written."""

    state: Reference
    outputs: tuple[Record, ...] = ()
    forward: bool = False


def key_of(provider: str, reference: str) -> str:
    """The name of a provider's reference: what one provider calls 1, another may call 1 as well."""
    return f"{provider}:{reference}"


def references(fact: Fact) -> list[ReferenceLearned]:
    """What a fact teaches: the provider's names of the payment, and of a capture or refund that has its own."""
    named: tuple[str | None, ...]
    match fact:
        case PaymentAuthorized():
            named = (fact.provider_reference, fact.operation_reference)
        case PaymentCaptured() | PaymentRefunded():
            named = (fact.operation_reference,)
        case _:
            return []
    return [
        ReferenceLearned(
            reference=key_of(fact.provider, name),
            payment_id=fact.payment_id,
            fact_id=fact.fact_id,
            learned_at=fact.occurred_at,
        )
        for name in dict.fromkeys(named)
        if name
    ]


def decide(
    state: Reference | None, item: RoutingRecord | TimerFired, *, translate: Translate, patience: int = HOUR
) -> Result:
    """What `item` brings about: inputs of the payment once it is known, else a timer of `patience` milliseconds."""
    state = state or Reference()
    match item:
        case ReferenceLearned():
            return _learn(state, item, translate)
        case UnroutedEvent() if state.payment_id is not None:
            return Result(state, tuple(translate(item, state.payment_id)))
        case UnroutedEvent():
            return _wait(state, item, patience)
        case TimerFired():
            return _list(state, item)
    return Result(state)


def _learn(state: Reference, item: ReferenceLearned, translate: Translate) -> Result:
    """The first word stands: a reference never changes hands."""
    if state.payment_id is not None:
        return Result(state)
    inputs = [made for event in state.waiting for made in translate(event, item.payment_id)]
    return Result(Reference(payment_id=item.payment_id), tuple(inputs))


def _wait(state: Reference, event: UnroutedEvent, patience: int) -> Result:
    known = any(event.event_id == waiting.event_id for waiting in state.waiting)
    if known or len(state.waiting) >= WAITING_LIMIT:
        return Result(state)
    timer = Timer(
        timer_id=ids.timer_id(event.reference, TimerKind.UNROUTED, event.event_id, 1),
        payment_id=event.reference,
        kind=TimerKind.UNROUTED,
        subject_id=event.event_id,
        operation=Operation.AUTHORIZE,
        generation=1,
        set_at=event.received_at,
        due_at=event.received_at + patience,
    )
    return Result(replace(state, waiting=(*state.waiting, event)), (timer,))


def _list(state: Reference, timer: TimerFired) -> Result:
    found = [event for event in state.waiting if event.event_id == timer.subject_id not in state.listed]
    listed = [
        UnmatchedEvent(
            reference=event.reference,
            provider=event.provider,
            event_id=event.event_id,
            event_type=event.event_type,
            received_at=event.received_at,
            listed_at=timer.occurred_at,
        )
        for event in found
    ]
    return Result(replace(state, listed=(*state.listed, *(event.event_id for event in found))), tuple(listed))
