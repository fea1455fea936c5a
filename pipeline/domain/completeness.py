"""What a payment's inputs should have brought about, against what is there: the reconciler's decision, pure.

`payments.intake` is kept for good and both deciding stages are pure functions, so everything they ever wrote can be
computed again, with the same ids. What is missing is written again; every consumer deduplicates by those ids, so
that writing too much is harmless and only writing too little would not be.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import TypeVar

from pipeline.domain.authorization import AttemptStatus, Status
from pipeline.domain.capture import MoveStatus
from pipeline.domain.chain import PaymentChain, Step
from pipeline.domain.decision import Schedule
from pipeline.messages import Input
from pipeline.messages.facts import AttemptDeclined, Fact
from pipeline.messages.requests import ProviderRequest
from pipeline.messages.timers import Timer


@dataclass(frozen=True, slots=True)
class Repairs:
    """What to write again, in order: to payments.authorizations, payments.events, the providers, the timers."""

    authorizations: tuple[Fact | Input, ...] = ()
    facts: tuple[Fact, ...] = ()
    requests: tuple[ProviderRequest, ...] = ()
    timers: tuple[Timer, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.authorizations or self.facts or self.requests or self.timers)


def repairs(inputs: Iterable[Input], known: Set[str], schedule: Schedule) -> Repairs:
    """What is missing of a payment, given its inputs in the order of `payments.intake` and the ids of its known facts.

    Of requests and timers, the newest of each operation that is still under way, and the newest retry timer. A decline
    that the retry policy has not answered is said again: the plan may be lost, and the policy's word is derived.
    """
    chain = PaymentChain(schedule)
    steps = [chain.feed(item) for item in inputs]
    # A lost record may have kept the stages after it from all that followed, so all that followed is written again.
    first = next((number for number, step in enumerate(steps) if not _is_known(step, known)), len(steps))
    live, unanswered = _under_way(chain), _unanswered(chain)
    return Repairs(
        authorizations=tuple(part for step in steps[first:] for part in step.authorizations),
        facts=tuple(fact for fact in chain.facts if fact.fact_id not in known or fact is unanswered),
        requests=_newest(request for step in steps for request in step.requests if request.subject_id in live),
        timers=_newest(timer for step in steps for timer in step.timers if timer.subject_id in live),
    )


def _is_known(step: Step, known: Set[str]) -> bool:
    return all(fact.fact_id in known for fact in step.facts)


def _unanswered(chain: PaymentChain) -> Fact | None:
    """The decline that the payment waits with for the retry policy's word."""
    if chain.authorization is None or chain.authorization.status is not Status.DECLINED:
        return None
    return next((fact for fact in reversed(chain.facts) if isinstance(fact, AttemptDeclined)), None)


def _under_way(chain: PaymentChain) -> set[str]:
    """The attempts, captures, voids and refunds without an outcome, the attempt to be retried, and the live hold's."""
    live = set[str]()
    if state := chain.authorization:
        watched = {AttemptStatus.OPEN, AttemptStatus.GIVEN_UP}
        live |= {attempt.attempt_id for attempt in state.attempts if attempt.status in watched}
        if state.status is Status.RETRY_SCHEDULED and state.current:
            live.add(state.current.attempt_id)
    if hold := chain.capture:
        live |= {move.subject_id for move in hold.moves if move.status is MoveStatus.OPEN}
        if hold.held and not hold.lapsed:
            live.add(hold.attempt_id)
    return live


Subject = TypeVar("Subject", ProviderRequest, Timer)


def _newest(items: Iterable[Subject]) -> tuple[Subject, ...]:
    """The last of each subject."""
    return tuple({item.subject_id: item for item in items}.values())
