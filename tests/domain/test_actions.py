"""The customer acts: their return, or the provider's word of it, makes one look-up, and the look-up decides."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.domain.authorization import AttemptStatus, Status
from pipeline.domain.chain import PaymentChain
from pipeline.domain.decision import Schedule
from pipeline.messages.commands import Authorize, Command, CompleteAction, CreateIntent
from pipeline.messages.facts import ActionRequired, CommandRejected, Fact, PaymentAuthorized
from pipeline.messages.inputs import ProviderReport, TimerFired
from pipeline.messages.requests import LookupRequest, ProviderRequest
from pipeline.messages.timers import Timer
from pipeline.messages.values import (
    CaptureMethod,
    NextAction,
    Operation,
    Outcome,
    RejectionReason,
    ReportSource,
    TimerKind,
)
from tests.domain.samples import NOW, PAYMENT, VISA
from tests.domain.world import fired

SCHEDULE = Schedule()
URL = "https://provider.example/challenge"


class Payment:
    """One payment whose customer was asked to act, and what went out for it."""

    def __init__(self, *, asked: bool = True) -> None:
        self.chain = PaymentChain(SCHEDULE)
        self.now = NOW
        self.requests: list[ProviderRequest] = []
        self.timers: list[Timer] = []
        self.command(CreateIntent, "create", amount=10_000, currency="USD", provider="adyen",
                     capture_method=CaptureMethod.MANUAL, payment_method=VISA)  # fmt: skip
        self.command(Authorize, "authorize")
        if asked:
            self.hear(Outcome.REQUIRES_ACTION, next_action=NextAction(url=URL))

    def command(self, kind: type[Command], command_id: str, **fields: Any) -> tuple[Fact, ...]:
        return self.feed(
            kind(command_id=command_id, merchant_id="acme", payment_id=PAYMENT, occurred_at=self.now, **fields)
        )

    def complete(self, command_id: str = "complete", result: str | None = "result-1") -> tuple[Fact, ...]:
        return self.command(CompleteAction, command_id, result=result)

    def hear(
        self, outcome: Outcome, source: ReportSource = ReportSource.ANSWER, report_id: str | None = None, **fields: Any
    ) -> tuple[Fact, ...]:
        """The provider's word on the attempt; an answer is on the newest request."""
        report = ProviderReport(
            payment_id=PAYMENT,
            occurred_at=self.now,
            report_id=report_id or f"{self.requests[-1].request_id}-{outcome}",
            provider="adyen",
            source=source,
            operation=Operation.AUTHORIZE,
            outcome=outcome,
            subject_id=self.requests[0].subject_id,
            provider_reference="psp-1",
            **fields,
        )
        return self.feed(report)

    def feed(self, item: Command | ProviderReport | TimerFired) -> tuple[Fact, ...]:
        step = self.chain.feed(item)
        self.requests.extend(step.requests)
        self.timers.extend(step.timers)
        return tuple(step.facts)

    def fire(self) -> tuple[Fact, ...]:
        """The timer that was set last falls due."""
        timer = self.timers[-1]
        self.now = max(self.now, timer.due_at)
        return self.feed(fired(timer, self.now))

    @property
    def status(self) -> Status:
        assert self.chain.authorization is not None
        return self.chain.authorization.status

    @property
    def lookups(self) -> list[LookupRequest]:
        return [request for request in self.requests if isinstance(request, LookupRequest)]


def names(facts: tuple[Fact, ...]) -> list[str]:
    return [type(fact).__name__ for fact in facts]


def test_the_customers_return_is_looked_up_at_once_with_its_result() -> None:
    payment = Payment()
    assert names(payment.complete()) == ["ActionCompleted"]
    [lookup] = payment.lookups
    assert (lookup.operation, lookup.action_result, lookup.issued_at) == (Operation.AUTHORIZE, "result-1", NOW)
    assert lookup.provider_reference == "psp-1"
    assert payment.status is Status.AUTHORIZING
    assert payment.timers[-1].kind is TimerKind.RECOVERY


@pytest.mark.parametrize(
    ("outcome", "facts"),
    [
        (Outcome.APPROVED, ["PaymentAuthorized"]),
        (Outcome.DECLINED, ["AttemptDeclined"]),
        (Outcome.REQUIRES_ACTION, ["ActionRequired"]),
        (Outcome.PENDING, ["OutcomeUnresolved"]),
        (Outcome.UNKNOWN, ["OutcomeUnresolved"]),
        (Outcome.NOT_FOUND, []),
    ],
)
def test_the_look_up_decides(outcome: Outcome, facts: list[str]) -> None:
    payment = Payment()
    payment.complete()
    assert names(payment.hear(outcome, ReportSource.LOOKUP)) == facts


def test_the_outcome_belongs_to_the_command_that_completed_the_action() -> None:
    payment = Payment()
    payment.complete("return-1")
    [approved] = payment.hear(Outcome.APPROVED, ReportSource.LOOKUP)
    assert isinstance(approved, PaymentAuthorized)
    assert approved.operation_id == "return-1"


def test_the_providers_word_alone_is_looked_up_too() -> None:
    payment = Payment()
    facts = payment.hear(Outcome.PENDING, ReportSource.WEBHOOK, "evt-approved")
    assert names(facts) == ["ActionCompleted"]
    assert [lookup.action_result for lookup in payment.lookups] == [None]
    assert facts[0].operation_id == "authorize"


def test_a_look_up_that_dies_is_asked_again_with_the_same_result() -> None:
    payment = Payment()
    payment.complete()
    payment.fire()
    payment.fire()
    assert [lookup.action_result for lookup in payment.lookups] == ["result-1"] * 3
    assert len({lookup.request_id for lookup in payment.lookups}) == 3
    assert payment.status is Status.AUTHORIZING


def test_it_is_asked_as_often_after_the_return_as_after_the_beginning() -> None:
    """What came before the return does not count against it."""
    payment = Payment(asked=False)
    for _ in range(3):
        payment.fire()
    payment.hear(Outcome.REQUIRES_ACTION, ReportSource.LOOKUP)
    payment.complete()
    before = len(payment.lookups)
    while payment.status is Status.AUTHORIZING:
        payment.fire()
    assert payment.status is Status.NEEDS_REVIEW
    assert len(payment.lookups) - before == len(SCHEDULE.recovery)


@pytest.mark.parametrize("source", [ReportSource.WEBHOOK, ReportSource.ANSWER])
def test_the_same_word_again_changes_nothing(source: ReportSource) -> None:
    payment = Payment()
    outcome = Outcome.PENDING if source is ReportSource.WEBHOOK else Outcome.REQUIRES_ACTION
    first = f"{payment.requests[0].request_id}-{outcome}"
    payment.hear(outcome, source, first)
    payment.complete()
    payment.hear(Outcome.REQUIRES_ACTION, ReportSource.LOOKUP)
    before = len(payment.requests)
    assert payment.hear(outcome, source, first) == ()
    assert len(payment.requests) == before
    assert payment.status is Status.REQUIRES_ACTION


def test_the_same_return_again_changes_nothing_and_another_one_is_refused() -> None:
    payment = Payment()
    payment.complete()
    assert payment.complete() == ()
    [refused] = payment.complete("another")
    assert isinstance(refused, CommandRejected)
    assert refused.reason is RejectionReason.AUTHORIZATION_IN_PROGRESS
    assert len(payment.lookups) == 1


def test_a_late_return_changes_nothing() -> None:
    payment = Payment()
    payment.complete()
    payment.hear(Outcome.APPROVED, ReportSource.LOOKUP)
    [refused] = payment.complete("late")
    assert isinstance(refused, CommandRejected)
    assert refused.reason is RejectionReason.ALREADY_AUTHORIZED
    assert payment.hear(Outcome.PENDING, ReportSource.WEBHOOK, "evt-late") == ()
    assert payment.status is Status.AUTHORIZED


def test_a_return_before_anybody_asked_is_refused() -> None:
    payment = Payment(asked=False)
    payment.hear(Outcome.DECLINED)
    [refused] = payment.complete()
    assert isinstance(refused, CommandRejected)
    assert refused.reason is RejectionReason.NO_ACTION_PENDING


def test_a_webhook_that_overtakes_the_answer_is_remembered() -> None:
    """The customer can be faster than the answer that asks them to act."""
    payment = Payment(asked=False)
    payment.hear(Outcome.PENDING, ReportSource.WEBHOOK, "evt-approved")
    assert payment.lookups == []
    assert names(payment.hear(Outcome.REQUIRES_ACTION)) == ["ActionCompleted"]
    assert len(payment.lookups) == 1
    assert payment.status is Status.AUTHORIZING


def test_a_webhook_during_a_look_up_that_was_too_early_is_remembered() -> None:
    """The merchant asked before the customer was done; the webhook came while the provider was asked."""
    payment = Payment()
    payment.complete(result=None)
    assert payment.hear(Outcome.PENDING, ReportSource.WEBHOOK, "evt-approved") == ()
    payment.hear(Outcome.REQUIRES_ACTION, ReportSource.LOOKUP)
    assert len(payment.lookups) == 2
    payment.hear(Outcome.REQUIRES_ACTION, ReportSource.LOOKUP)
    assert len(payment.lookups) == 2, "not for ever"
    assert payment.status is Status.REQUIRES_ACTION


def test_returning_again_and_again_buys_no_time() -> None:
    payment = Payment()
    due = payment.timers[-1].due_at
    for number in range(3):
        payment.now += 60_000
        payment.complete(f"return-{number}", f"nonsense-{number}")
        payment.hear(Outcome.REQUIRES_ACTION, ReportSource.LOOKUP)
    assert payment.timers[-1].due_at == due
    payment.fire()
    assert payment.status is Status.FAILED


def test_a_late_webhook_that_asks_for_the_action_does_not_undo_the_return() -> None:
    payment = Payment()
    payment.complete()
    assert payment.hear(Outcome.REQUIRES_ACTION, ReportSource.WEBHOOK, "evt-late") == ()
    assert payment.status is Status.AUTHORIZING


def test_the_reader_sees_that_the_provider_is_asked_and_keeps_the_page_to_act_on() -> None:
    payment = Payment()
    payment.complete()
    view = payment.chain.view
    assert view is not None
    assert (view.status, view.attempts[0].state) == ("authorizing", "pending")
    facts = payment.hear(Outcome.REQUIRES_ACTION, ReportSource.LOOKUP)
    assert isinstance(facts[0], ActionRequired)
    view = payment.chain.view
    assert view is not None
    assert (view.status, view.attempts[0].state) == ("requires_action", "requires_action")
    assert view.attempts[0].next_action == NextAction(url=URL)


def test_a_given_up_attempt_is_not_set_going_again() -> None:
    payment = Payment()
    payment.fire()
    assert payment.hear(Outcome.PENDING, ReportSource.WEBHOOK, "evt-late") == ()
    state = payment.chain.authorization
    assert state is not None
    assert state.attempts[0].status is AttemptStatus.GIVEN_UP
    assert payment.lookups == []
