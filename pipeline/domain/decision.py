"""What a decision is: the next state and what goes out, in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from pipeline import ids
from pipeline.domain.networks import Networks
from pipeline.messages import Input
from pipeline.messages.commands import Command
from pipeline.messages.facts import CommandRejected, Fact, ReviewResolved
from pipeline.messages.inputs import ProviderReport, ReviewDecision
from pipeline.messages.requests import LookupRequest, ProviderRequest
from pipeline.messages.timers import Timer
from pipeline.messages.values import Decline, Operation, Outcome, RejectionReason, ReportSource, TimerKind
from pipeline.policies import NETWORKS

State = TypeVar("State")
AnyFact = TypeVar("AnyFact", bound=Fact)

MINUTE: Final = 60_000
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
SEEN_LIMIT: Final = 256
"""How many input ids a payment's state remembers. A payment sees a few dozen inputs in its life."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Delays in milliseconds. `recovery[n]`: how long after the n-th silence the provider is asked what became of
    it.
    """

    recovery: tuple[int, ...] = (MINUTE, 10 * MINUTE, HOUR, 6 * HOUR, DAY)
    after_unknown: int = 5_000
    action_expiry: int = HOUR
    hold: int = 7 * DAY
    """How long a hold lasts whose provider neither says so nor is in `networks.holds`."""
    hold_warning: int = DAY
    """How long before its hold lapses a payment is warned of."""
    hold_recheck: int = HOUR
    networks: Networks = NETWORKS
    """What the card networks allow; the limits are never scaled."""

    def hold_of(self, provider: str) -> int:
        """How long a provider's holds last."""
        return self.networks.holds.get(provider, self.hold)

    def scaled(self, factor: float) -> Schedule:
        """The same schedule, `factor` times as long: days in seconds for demos and tests."""

        def scale(delay: int) -> int:
            return max(1_000, round(delay * factor))

        return Schedule(
            tuple(map(scale, self.recovery)),
            scale(self.after_unknown),
            scale(self.action_expiry),
            scale(self.hold),
            scale(self.hold_warning),
            scale(self.hold_recheck),
            self.networks.scaled(factor, 1_000),
        )


Output = Fact | ProviderRequest | Timer


@dataclass(frozen=True, slots=True)
class Decision(Generic[State]):
    """The state after the input, and what the input brought about. `forward`: the input is another stage's, pass it
    on.
    """

    state: State | None
    outputs: tuple[Output, ...] = ()
    forward: bool = False

    @property
    def facts(self) -> tuple[Fact, ...]:
        """The facts among the outputs."""
        return tuple(output for output in self.outputs if isinstance(output, Fact))


@dataclass(slots=True)
class Draft:
    """Collects the outputs of one decision and derives their ids from the input, so that a replay makes the same
    ones.
    """

    payment_id: str
    merchant_id: str
    provider: str
    cause_id: str
    at: int
    """The decision's time: the input's."""
    outputs: list[Output] = field(default_factory=list)

    @staticmethod
    def of(item: Input, merchant_id: str, provider: str) -> Draft:
        """A draft that `item` causes."""
        return Draft(item.payment_id, merchant_id, provider, item.input_id, item.occurred_at)

    def fact(self, kind: Callable[..., AnyFact], operation_id: str, **fields: Any) -> AnyFact:
        """Add a fact of that kind."""
        name = kind.__name__
        ordinal = sum(isinstance(output, Fact) for output in self.outputs)
        made = kind(
            fact_id=ids.fact_id(self.payment_id, self.cause_id, name, ordinal),
            payment_id=self.payment_id,
            merchant_id=self.merchant_id,
            occurred_at=self.at,
            cause_id=self.cause_id,
            operation_id=operation_id,
            **fields,
        )
        self.outputs.append(made)
        return made

    def request(self, kind: Callable[..., ProviderRequest], subject: str, number: int = 0, **fields: Any) -> None:
        """Add a request to the payment's provider; `subject` is its idempotency key there."""
        name = kind.__name__
        self.outputs.append(
            kind(
                request_id=ids.request_id(subject, name, number),
                payment_id=self.payment_id,
                merchant_id=self.merchant_id,
                provider=self.provider,
                subject_id=subject,
                issued_at=self.at,
                **fields,
            )
        )

    def lookup(self, subject: str, number: int, **fields: Any) -> None:
        """Add the `number`-th question what became of an operation."""
        self.request(LookupRequest, subject, number, **fields)

    def timer(self, kind: TimerKind, subject: str, operation: Operation, generation: int, due_at: int) -> None:
        """Add a timer. Only the newest generation of a subject's timers applies when it fires."""
        self.outputs.append(
            Timer(
                timer_id=ids.timer_id(self.payment_id, kind, subject, generation),
                payment_id=self.payment_id,
                kind=kind,
                subject_id=subject,
                operation=operation,
                generation=generation,
                set_at=self.at,
                due_at=due_at,
            )
        )

    def reject(self, command: Command, reason: RejectionReason, detail: str) -> None:
        """Record that the command does not fit."""
        self.fact(
            CommandRejected,
            command.command_id,
            command_id=command.command_id,
            command=type(command).__name__,
            reason=reason,
            detail=detail,
        )

    def done(self, state: State | None) -> Decision[State]:
        """The decision."""
        return Decision(state, tuple(self.outputs))


DECISIONS: Final = {Outcome.APPROVED, Outcome.DECLINED}
"""What an operator may say of an operation under review: it was done, or it was not."""


def decided_report(decision: ReviewDecision, provider: str, not_done: Decline | None = None) -> ProviderReport:
    """An operator's decision as the provider's word; `not_done` is the decline to report when it was not done."""
    return ProviderReport(
        payment_id=decision.payment_id,
        occurred_at=decision.occurred_at,
        report_id=decision.decision_id,
        provider=provider,
        source=ReportSource.OPERATOR,
        operation=decision.operation,
        outcome=decision.outcome,
        subject_id=decision.subject_id,
        provider_reference=decision.provider_reference,
        amount=decision.amount,
        decline=None if decision.outcome is Outcome.APPROVED else not_done,
        detail=f"decided by {decision.operator}: {decision.reason}",
    )


def resolve(draft: Draft, decision: ReviewDecision) -> None:
    """Record who decided what, and why."""
    draft.fact(
        ReviewResolved,
        decision.decision_id,
        operation=decision.operation,
        subject_id=decision.subject_id,
        outcome=decision.outcome,
        operator=decision.operator,
        reason=decision.reason,
    )


def remember(seen: tuple[str, ...], input_id: str) -> tuple[str, ...]:
    """`seen` with one more id, oldest forgotten first; as it was if it has the id already."""
    return seen if input_id in seen else (*seen[-(SEEN_LIMIT - 1) :], input_id)
