"""The sink's fold, one record at a time and without a database: what is written, in the order of the hash chain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline.domain.hash_chain import content_of
from pipeline.domain.projection import PaymentView, apply
from pipeline.messages.facts import Fact
from pipeline.messages.journal import JournalEntry


@dataclass(frozen=True, slots=True)
class Posted:
    """A fact of the journal with its place; `body` as it stands in the log, `entry` as the fact implies it."""

    partition: int
    offset: int
    fact: Fact
    body: bytes
    entry: JournalEntry | None

    @property
    def content(self) -> bytes:
        """What its link in the hash chain covers."""
        return content_of(self.partition, self.offset, self.fact, self.body, self.entry)


@dataclass(slots=True)
class Fold:
    """The payments of one partition. `waiting`: facts beyond a gap, by payment and sequence; `again`: facts for a
    place that is taken, by the same fact or by another.
    """

    views: dict[str, PaymentView] = field(default_factory=dict)
    waiting: dict[str, dict[int, Posted]] = field(default_factory=dict)
    again: list[Posted] = field(default_factory=list)

    def take(self, posted: Posted) -> Iterator[Posted]:
        """The next record of the log; yields what it lets into the books."""
        fact = posted.fact
        view = self.views.get(fact.payment_id)
        following = view.sequence + 1 if view else 1
        if fact.sequence != following:
            self._set_aside(posted, following)
            return
        self.views[fact.payment_id] = apply(view, fact)
        yield posted
        if self.waiting and (later := self.waiting.get(fact.payment_id)):
            yield from self._let_in(fact.payment_id, later)

    def is_taken(self, fact: Fact) -> bool:
        """Whether the fact's place is taken already."""
        view = self.views.get(fact.payment_id)
        return view is not None and fact.sequence <= view.sequence

    def _set_aside(self, posted: Posted, following: int) -> None:
        fact = posted.fact
        if fact.sequence < following:
            self.again.append(posted)
            return
        first = self.waiting.setdefault(fact.payment_id, {}).setdefault(fact.sequence, posted)
        if first is not posted:
            self.again.append(posted)

    def _let_in(self, payment: str, later: dict[int, Posted]) -> Iterator[Posted]:
        while posted := later.pop(self.views[payment].sequence + 1, None):
            self.views[payment] = apply(self.views[payment], posted.fact)
            yield posted
        if not later:
            del self.waiting[payment]
