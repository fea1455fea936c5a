"""What the capture stage knows of a payment: where its hold stands, and every move's own linear states."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import msgspec

from pipeline.domain.decision import Decision, Schedule
from pipeline.domain.disputes import Disputes
from pipeline.messages import Input
from pipeline.messages.facts import Fact
from pipeline.messages.inputs import ProviderReport
from pipeline.messages.values import Operation


class Phase(StrEnum):
    """Where the hold stands."""

    NO_HOLD = "no_hold"
    HELD = "held"
    CAPTURING = "capturing"
    VOIDING = "voiding"
    CAPTURED = "captured"
    """The hold is closed and at least part of it was captured."""
    VOIDED = "voided"
    EXPIRED = "expired"


class MoveStatus(StrEnum):
    """The linear states of a capture, void or refund."""

    OPEN = "open"
    DONE = "done"
    FAILED = "failed"
    REVIEW = "review"


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """A capture, void or refund. `generation` counts its recovery timers. `orphan`: the attempt whose hold or money it
    gives back, which is none of the payment's own; then `provider` and `provider_reference` are the orphan's.
    """

    subject_id: str
    operation_id: str
    operation: Operation
    amount: int
    started_at: int
    final: bool = True
    status: MoveStatus = MoveStatus.OPEN
    generation: int = 1
    unresolved: bool = False
    taken_back: bool = False
    """Failed after the provider had said that it was done: that word, come late, counts no more."""
    external: bool = False
    reason: str | None = None
    operation_reference: str | None = None
    orphan: str | None = None
    provider: str | None = None
    provider_reference: str | None = None


class CaptureState(msgspec.Struct, frozen=True, kw_only=True):
    """All that this stage knows of a payment. `held` is what is left of the hold."""

    phase: Phase = Phase.NO_HOLD
    sequence: int = 0
    merchant_id: str = ""
    provider: str = ""
    currency: str = ""
    merchant_reference: str | None = None
    attempt_id: str = ""
    operation_id: str = ""
    provider_reference: str = ""
    hold_expires_at: int = 0
    held: int = 0
    warned: bool = False
    """Whether the hold's last timer is set: its merchant was warned, or was capturing or voiding at the time."""
    lapsed: bool = False
    """Whether the hold ran out while a capture or void is under review: what a person decides goes first."""
    moves: tuple[Move, ...] = ()
    disputes: Disputes = ()
    reversals: dict[str, str] = {}
    seen: tuple[str, ...] = ()

    def total(self, operation: Operation, *statuses: MoveStatus) -> int:
        """The sum of the payment's own moves of a kind that stand in one of `statuses`."""
        own = (m for m in self.moves if m.orphan is None)
        return sum(m.amount for m in own if m.operation is operation and m.status in statuses)

    @property
    def captured(self) -> int:
        """What was captured."""
        return self.total(Operation.CAPTURE, MoveStatus.DONE)

    @property
    def refundable(self) -> int:
        """What was captured and neither went back nor is on its way back."""
        back = self.total(Operation.REFUND, MoveStatus.DONE, MoveStatus.OPEN, MoveStatus.REVIEW)
        return self.captured - back

    def move(self, report: ProviderReport) -> Move | None:
        """The move a report speaks of: by its id, else by the provider's reference, else the one that is under way."""
        same = [m for m in self.moves if m.operation is report.operation]
        for m in same:
            if m.subject_id == report.subject_id:
                return m
        if report.subject_id is not None:
            return None
        if orphans := self.orphans(report.provider_reference):
            return next((m for m in orphans if m.operation is report.operation), None)
        same = [m for m in same if m.orphan is None]
        for m in same:
            if report.operation_reference and m.operation_reference == report.operation_reference:
                return m
        if report.after_success:
            done = [m for m in same if m.status is MoveStatus.DONE]
            return done[0] if len(done) == 1 else None
        # Only a capture or void is alone under way; of several refunds a nameless report could be any.
        alone = [m for m in same if m.status is MoveStatus.OPEN and m.operation is not Operation.REFUND]
        return alone[0] if alone else None

    def orphans(self, provider_reference: str | None) -> list[Move]:
        """The moves that give back an orphan, known by its reference at the provider."""
        if provider_reference is None:
            return []
        return [m for m in self.moves if m.orphan and m.provider_reference == provider_reference]


Result = Decision[CaptureState]
Item = Fact | Input


# The rules. Each takes the state before and the input; what does not apply to a rule never reaches it.

Rule = Callable[[CaptureState, Item, Schedule], Result]


def move_of(state: CaptureState, subject_id: str) -> Move | None:
    """The move with that id."""
    return next((m for m in state.moves if m.subject_id == subject_id), None)


def with_move(state: CaptureState, move: Move) -> tuple[Move, ...]:
    """The moves with `move` in the place of its former self, or at the end."""
    if move_of(state, move.subject_id) is None:
        return (*state.moves, move)
    return tuple(move if m.subject_id == move.subject_id else m for m in state.moves)
