"""One partition's facts: the journal's records, each held against `payments.events` and the entry its fact implies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from confluent_kafka import Message

from connectors.postgres.folding import read
from connectors.postgres.settled import Settled
from connectors.postgres.verify.fold import Posted
from connectors.postgres.verify.log import Log
from connectors.postgres.verify.wire import PREFIX_BYTES, journal_body
from pipeline.codec import Codec, CodecError
from pipeline.domain.postings import entry_of
from pipeline.messages.facts import Fact

WINDOW: Final = 20_000
"""Events that are searched for the fact of a journal record that is not in its place."""


class Event(NamedTuple):
    """A record of payments.events."""

    offset: int
    body: bytes


@dataclass(slots=True)
class Source:
    """Reads both topics side by side. Both have the same facts in the same order, save for what was lost, repeated or
    put right: a record in its place is compared byte by byte, any other one is decoded.

    `settled` is given the settlement lines, which have no place among the facts. `unusable` counts the records that are
    none; `strays` are facts that payments.events does not have; `crooked` are the offsets of records whose entry is
    not the one that their fact implies.
    """

    log: Log
    codec: Codec
    partition: int
    journal_end: int
    events_end: int
    is_taken: Callable[[Fact], bool]
    settled: Callable[[Settled], object]
    unusable: int = 0
    strays: list[Posted] = field(default_factory=list)
    crooked: set[int] = field(default_factory=set)
    _events: Iterator[Event] = field(init=False)
    _next: Event | None = None
    _passed: dict[bytes, int] = field(default_factory=dict)
    _prefix: bytes = b""

    def __post_init__(self) -> None:
        self._events = self._read_events()
        self._next = next(self._events, None)

    def facts(self) -> Iterator[Posted | None]:
        """What each record of the journal says happened; None for one that is no fact's."""
        for message in self.log.read(self.log.journal, self.partition, self.journal_end):
            yield self._in_place(message) or self._out_of_place(message)

    def unposted(self) -> Iterator[Event]:
        """The events that no record of the journal has taken up, once all were read."""
        yield from (Event(offset, body) for body, offset in self._passed.items())
        while self._next is not None:
            yield self._next
            self._next = next(self._events, None)

    def _read_events(self) -> Iterator[Event]:
        for message in self.log.read(self.log.events, self.partition, self.events_end):
            value = message.value()
            if value is not None:
                yield Event(message.offset(), value)

    def _in_place(self, message: Message) -> Posted | None:
        """The fact, if the record is what the next event must have become."""
        event, value = self._next, message.value()
        if event is None or value is None or value[:PREFIX_BYTES] != self._prefix or event.body not in value:
            return None
        fact = self.codec.decode(event.body)
        if not isinstance(fact, Fact):
            return None
        entry = entry_of(fact)
        if value[PREFIX_BYTES:] != journal_body(fact, event.body, entry):
            return None
        self._next = next(self._events, None)
        return Posted(self.partition, message.offset(), fact, event.body, entry)

    def _out_of_place(self, message: Message) -> Posted | None:
        try:
            arrival = read(self.codec, message.value(), self.partition, message.offset())
        except CodecError:
            self.unusable += 1
            return None
        if isinstance(arrival, Settled):
            self.settled(arrival)
            return None
        self._prefix = arrival.raw[:PREFIX_BYTES]
        fact, body, entry = arrival.fact, arrival.record.fact, entry_of(arrival.fact)
        posted = Posted(self.partition, message.offset(), fact, body, entry)
        if arrival.record.entry != entry:
            self.crooked.add(message.offset())  # a right one may yet come: the event waits for it
        elif not self._find(body) and not self.is_taken(fact):
            self.strays.append(posted)
        return posted

    def _find(self, body: bytes) -> bool:
        """Take up the event with these bytes, near the one that is next."""
        if self._passed.pop(body, None) is not None:
            return True
        for _ in range(WINDOW):
            event = self._next
            if event is None:
                return False
            self._next = next(self._events, None)
            if event.body == body:
                return True
            self._passed[event.body] = event.offset
        return False
