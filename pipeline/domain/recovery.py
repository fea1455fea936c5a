"""How far each operation of a payment has come: started → validated → authorized → ledger_written → completed.

After a crash an operation goes on from the last point that it has reached; what is behind it is never done again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from pipeline.domain.postings import entry_of
from pipeline.domain.projection import OperationState, operation_update
from pipeline.messages.facts import (
    CommandRejected,
    Fact,
    PaymentAuthorized,
    PaymentCaptured,
    PaymentRefunded,
    PaymentVoided,
)


class RecoveryPoint(StrEnum):
    """A point of no return of one operation."""

    STARTED = "started"
    """The command is in payments.intake; `at` is its own time."""
    VALIDATED = "validated"
    """It fits the payment's state, and its request to the provider is written; `at` is the decision's time."""
    AUTHORIZED = "authorized"
    """The provider has done it; `at` is the provider's word's time."""
    LEDGER_WRITTEN = "ledger_written"
    """Its journal entry is committed in Postgres; `at` is when."""
    COMPLETED = "completed"
    """All that it implies is committed, its public event with it; `at` is when."""


ORDER: Final = tuple(RecoveryPoint)
_DONE_BY_PROVIDER: Final = (PaymentAuthorized, PaymentCaptured, PaymentVoided, PaymentRefunded)


@dataclass(frozen=True, slots=True)
class Written:
    """A fact, and when it was committed in Postgres with its journal entry and public event; None if it is not."""

    fact: Fact
    at: int | None


@dataclass(slots=True)
class Progress:
    """One operation: its points with the time each was reached, in milliseconds."""

    operation_id: str
    kind: str = ""
    state: OperationState = OperationState.STARTED
    points: dict[RecoveryPoint, int] = field(default_factory=dict)

    @property
    def point(self) -> RecoveryPoint:
        """The furthest point reached."""
        return max(self.points, key=ORDER.index, default=RecoveryPoint.STARTED)

    def reach(self, point: RecoveryPoint, at: int) -> None:
        """Note a point; the first time counts."""
        self.points.setdefault(point, at)


def progress(written: Iterable[Written]) -> dict[str, Progress]:
    """Every operation that the payment's facts belong to, given in their order."""
    found: dict[str, Progress] = {}
    for item in written:
        fact = item.fact
        update = operation_update(fact)
        if update is None and fact.operation_id not in found:
            continue
        operation = found.setdefault(fact.operation_id, Progress(fact.operation_id))
        _advance(operation, item)
        if update is not None:
            operation.kind = operation.kind if operation.kind not in {"", "SetMethod"} else update.kind
            operation.state = update.state
    return found


def _advance(operation: Progress, item: Written) -> None:
    fact = item.fact
    operation.reach(RecoveryPoint.STARTED, fact.occurred_at)
    if not isinstance(fact, CommandRejected):
        operation.reach(RecoveryPoint.VALIDATED, fact.occurred_at)
    if isinstance(fact, _DONE_BY_PROVIDER):
        operation.reach(RecoveryPoint.AUTHORIZED, fact.occurred_at)
        if item.at is not None and entry_of(fact) is not None:
            operation.reach(RecoveryPoint.LEDGER_WRITTEN, item.at)
    update = operation_update(fact)
    if item.at is not None and update is not None and update.state is OperationState.COMPLETED:
        operation.reach(RecoveryPoint.COMPLETED, item.at)
