"""A world that goes wrong for one payment: its provider, its customer, its operator, the retry policy, and a clock that
jumps. What is under way waits in queues and may come late, twice, in another order, or never.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from pipeline import ids
from pipeline.domain import authorization, capture, retry
from pipeline.domain.accounts import kind_of
from pipeline.domain.authorization import AttemptStatus, Status
from pipeline.domain.capture import MoveStatus
from pipeline.domain.chain import PaymentChain
from pipeline.domain.decision import Schedule
from pipeline.domain.networks import Limit
from pipeline.domain.postings import entry_of
from pipeline.domain.projection import MoveState, PaymentStatus
from pipeline.messages import Input
from pipeline.messages.commands import CompleteAction, CreateIntent
from pipeline.messages.facts import PaymentAuthorized
from pipeline.messages.inputs import ProviderReport, RetryAbandoned, RetryPlanned, ReviewDecision, TimerFired
from pipeline.messages.journal import JournalEntry, Side
from pipeline.messages.requests import (
    AuthorizeRequest,
    CaptureRequest,
    LookupRequest,
    ProviderRequest,
    RefundRequest,
    VoidRequest,
)
from pipeline.messages.timers import Timer
from pipeline.messages.values import (
    CaptureMethod,
    Decline,
    DeclineCategory,
    Operation,
    Outcome,
    ReportSource,
)
from pipeline.policies import FOLDER, NETWORKS
from tests.domain.samples import NOW, PAYMENT

OPERATIONS = {
    AuthorizeRequest: Operation.AUTHORIZE,
    CaptureRequest: Operation.CAPTURE,
    VoidRequest: Operation.VOID,
    RefundRequest: Operation.REFUND,
}
SETTLED = {Outcome.APPROVED, Outcome.DECLINED}

POLICIES = {
    "shipped": retry.parse((FOLDER / "retry.toml").read_text()),
    "reckless": retry.parse("[[rules]]\nname = 'reckless'\ndelays = [" + '"1s", ' * 63 + "]\n"),
}


def _decline(category: DeclineCategory, code: str, **more: str) -> Decline:
    return Decline(category=category, code=code, raw_code=code, **more)


DECLINES = (
    *[_decline(DeclineCategory.SOFT, "insufficient_funds")] * 3,
    *[_decline(DeclineCategory.TEMPORARY, "issuer_unavailable")] * 3,
    _decline(DeclineCategory.SOFT, "do_not_honor", network_code="05"),
    _decline(DeclineCategory.SOFT, "insufficient_funds", network_advice_code="24"),
    _decline(DeclineCategory.SOFT, "insufficient_funds", network_advice_code="30"),
    _decline(DeclineCategory.SOFT, "generic_decline", network_advice_code="03"),
    _decline(DeclineCategory.SOFT, "generic_decline", network_code="57"),
    _decline(DeclineCategory.NEEDS_CUSTOMER, "authentication_required"),
    _decline(DeclineCategory.HARD, "card_not_supported"),
    _decline(DeclineCategory.FRAUD, "stolen_card"),
)


@dataclass
class Account:
    """What the provider holds and took, per payment of its own."""

    held: int
    captured: int = 0
    refunded: int = 0

    @property
    def empty(self) -> bool:
        """Whether nothing of the customer's is here."""
        return self.held == 0 and self.captured == self.refunded


@dataclass
class Provider:
    """What really happened at the provider, by idempotency key: the first outcome is the outcome, and no more is given
    back or claimed than there is.
    """

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)
    declines: Sequence[Decline] = DECLINES
    waiting: dict[str, AuthorizeRequest] = field(default_factory=dict)
    """Attempts that wait for the customer, by their reference here."""
    taken_back: set[str] = field(default_factory=set)
    """Captures whose money did not come."""
    returned: dict[str, bool] = field(default_factory=dict)
    """Those whose customer has acted, and whether they approve: nothing is done before the next look-up asks for it."""

    def execute(self, request: ProviderRequest, wish: Outcome) -> None:
        """Do what the request asks for, as far as it is wished and possible."""
        if request.subject_id in self.outcomes or f"pi_{request.subject_id}" in self.waiting:
            return
        if wish is Outcome.REQUIRES_ACTION and isinstance(request, AuthorizeRequest):
            self.waiting[f"pi_{request.subject_id}"] = request
        if wish in SETTLED:
            possible = wish is Outcome.APPROVED and self.move(request)
            self.outcomes[request.subject_id] = Outcome.APPROVED if possible else Outcome.DECLINED

    def act(self, reference: str, approves: bool) -> None:
        """The customer does what was asked of them, or does not."""
        request = self.waiting.pop(reference)
        self.outcomes[request.subject_id] = Outcome.APPROVED if approves and self.move(request) else Outcome.DECLINED

    def move(self, request: ProviderRequest) -> bool:
        """Move the money, if it is there."""
        if isinstance(request, AuthorizeRequest):
            automatic = request.capture_method is CaptureMethod.AUTOMATIC
            self.accounts[f"pi_{request.subject_id}"] = Account(
                held=0 if automatic else request.amount, captured=request.amount if automatic else 0
            )
            return True
        reference = getattr(request, "provider_reference", "")
        if isinstance(request, VoidRequest) and reference in self.waiting:
            self.act(reference, approves=False)
            return True
        account = self.accounts.get(reference, Account(0))
        match request:
            case CaptureRequest() if request.amount <= account.held:
                account.captured += request.amount
                account.held = 0 if request.final else account.held - request.amount
                return True
            case VoidRequest() if account.held:
                account.held = 0
                return True
            case RefundRequest() if request.amount <= account.captured - account.refunded:
                account.refunded += request.amount
                return True
        return False

    def answer(self, request: ProviderRequest, wish: Outcome, at: int) -> ProviderReport:
        """What the provider says to a request or a look-up."""
        lookup = isinstance(request, LookupRequest)
        operation = request.operation if isinstance(request, LookupRequest) else OPERATIONS[type(request)]
        if not lookup:
            self.execute(request, wish)
        elif (acted := f"pi_{request.subject_id}") in self.returned and acted in self.waiting:
            self.act(acted, self.returned[acted])
        known = self.outcomes.get(request.subject_id)
        if known is None and f"pi_{request.subject_id}" in self.waiting:
            known = Outcome.REQUIRES_ACTION
        outcome = known or (Outcome.NOT_FOUND if lookup else wish)
        reference = getattr(request, "provider_reference", None)
        if operation is Operation.AUTHORIZE:
            reference = f"pi_{request.subject_id}"
        source = ReportSource.LOOKUP if lookup else ReportSource.ANSWER
        report_id = ids.report_id(request.request_id, outcome)
        return self._report(request.subject_id, operation, outcome, source, report_id, reference, at)

    def webhook(self, subject: str, at: int) -> ProviderReport:
        """What the provider tells of an attempt by itself."""
        outcome = self.outcomes[subject]
        return self._report(
            subject, Operation.AUTHORIZE, outcome, ReportSource.WEBHOOK, f"evt-{subject}", f"pi_{subject}", at
        )

    def take_back(self, capture: CaptureRequest, at: int) -> ProviderReport | None:
        """The money of a capture does not come after all; none of it may have been refunded. What it says to a repeat
        of the capture stays what it was.
        """
        account = self.accounts[capture.provider_reference]
        if account.refunded or capture.subject_id in self.taken_back:
            return None
        self.taken_back.add(capture.subject_id)
        account.captured -= capture.amount
        report = self._report(
            capture.subject_id, Operation.CAPTURE, Outcome.DECLINED, ReportSource.WEBHOOK,
            f"failed-{capture.subject_id}", capture.provider_reference, at,
        )  # fmt: skip
        return replace(report, after_success=True)

    def goes_on(self, subject: str, at: int) -> ProviderReport:
        """The webhook that says that the customer acted."""
        return self._report(
            subject, Operation.AUTHORIZE, Outcome.PENDING, ReportSource.WEBHOOK, f"acted-{subject}", f"pi_{subject}", at
        )

    def _report(  # noqa: PLR0917
        self, subject: str, operation: Operation, outcome: Outcome, source: ReportSource, report_id: str,
        reference: str | None, at: int,
    ) -> ProviderReport:  # fmt: skip
        refused = outcome is Outcome.DECLINED
        return ProviderReport(
            payment_id=PAYMENT,
            occurred_at=at,
            report_id=report_id,
            provider="stripe",
            source=source,
            operation=operation,
            outcome=outcome,
            subject_id=subject,
            provider_reference=reference,
            decline=Random(subject).choice(self.declines) if refused else None,
        )


class World:
    """One payment and everything that is still under way."""

    def __init__(self, capture_method: CaptureMethod, policy: str = "shipped", *, stubborn: bool = False) -> None:
        self.chain = PaymentChain(Schedule())
        self.policy = POLICIES[policy]
        self.retries: retry.RetryState | None = None
        self.provider = Provider(declines=DECLINES[:6] if stubborn else DECLINES)
        self.stubborn = stubborn
        """Whether every decline may pass later, and none does for long."""
        self.now = NOW
        self.requests: list[ProviderRequest] = []
        self.asked: dict[str, CaptureRequest] = {}
        """Every capture that was asked for, by its id."""
        self.timers: dict[str, Timer] = {}
        self.plans: list[RetryPlanned | RetryAbandoned] = []
        self.log: list[Input] = []
        self.balances: dict[tuple[str, str], int] = defaultdict(int)
        self.feed(
            CreateIntent(
                **self.command("create"),
                amount=10_000,
                currency="USD",
                provider="stripe",
                capture_method=capture_method,
            )
        )

    def command(self, command_id: str) -> dict[str, Any]:
        """What every command has."""
        return {"command_id": command_id, "merchant_id": "acme", "payment_id": PAYMENT, "occurred_at": self.now}

    def feed(self, item: Input) -> None:
        """The payment's next input."""
        self.log.append(item)
        step = self.chain.feed(item)
        self.requests.extend(step.requests)
        self.asked.update(
            {request.subject_id: request for request in step.requests if isinstance(request, CaptureRequest)}
        )
        # A timer set again is the same timer: the relay fires it, and the first one counts.
        self.timers.update({timer.timer_id: timer for timer in step.timers})
        for fact in step.facts:
            if entry := entry_of(fact):
                self._post(entry)
            planned = retry.decide(self.retries, fact, self.policy)
            self.retries = planned.state
            self.plans.extend(planned.outputs)
        self.check()

    def _post(self, entry: JournalEntry) -> None:
        """Adds it to the balances; each account that has a floor is at or above it after every single fact."""
        for posting in entry.postings:
            sign = 1 if posting.side is Side.DEBIT else -1
            self.balances[posting.account, posting.currency] += sign * posting.amount
        for posting in entry.postings:
            kind = kind_of(posting.account)
            left = self.balances[posting.account, posting.currency] * (1 if kind.normal is Side.DEBIT else -1)
            assert left >= 0 or not kind.floor, f"{posting.account} is below its floor: {left}"

    def answer(self, index: int, wish: Outcome, keep: bool) -> None:
        """The provider answers a request; `keep`: the worker died after the call and will repeat it."""
        if not self.requests:
            return
        index %= len(self.requests)
        request = self.requests[index] if keep else self.requests.pop(index)
        self.feed(self.provider.answer(request, wish, self.now))

    def crash(self, index: int) -> None:
        """The worker dies between the call and its report: done at the provider, and the request stays."""
        if self.requests:
            self.provider.execute(self.requests[index % len(self.requests)], Outcome.APPROVED)

    def customer(self, approves: bool) -> None:
        """The customer acts, and the provider says so by webhook."""
        if self.provider.waiting:
            reference = next(iter(self.provider.waiting))
            self.provider.act(reference, approves)
            self.feed(self.provider.webhook(reference.removeprefix("pi_"), self.now))

    def customer_returns(self, approves: bool, told: int) -> None:
        """The customer acts, and it is for us to go on. They come back to the merchant's page, the provider sends a
        webhook, both, or neither.
        """
        waiting = next(iter(self.provider.waiting), None)
        if waiting is not None:
            self.provider.returned.setdefault(waiting, approves)
            if told & 1:
                self.feed(self.provider.goes_on(waiting.removeprefix("pi_"), self.now))
        if told & 2:
            number = sum(isinstance(item, CompleteAction) for item in self.log)
            self.feed(CompleteAction(**self.command(f"complete-{number}"), result=f"result-{number}"))

    def take_back(self, index: int) -> None:
        """The provider takes back a capture that it made, whether we have heard of it or not."""
        done = [
            request
            for request in self.asked.values()
            if isinstance(request, CaptureRequest)
            and self.provider.outcomes.get(request.subject_id) is Outcome.APPROVED
        ]
        if done:
            report = self.provider.take_back(done[index % len(done)], self.now)
            if report is not None:
                self.feed(report)

    def planned(self) -> bool:
        """The retry stage's oldest word arrives, as late as it is."""
        if not self.plans:
            return False
        self.feed(self.plans.pop(0))
        return True

    def fire(self) -> bool:
        """The next timer falls due."""
        if not self.timers:
            return False
        timer = min(self.timers.values(), key=lambda t: (t.due_at, t.timer_id))
        del self.timers[timer.timer_id]
        self.now = max(self.now, timer.due_at)
        self.feed(fired(timer, self.now))
        return True

    def resolve(self) -> bool:
        """An operator looks a payment under review up at the provider, and says what is there."""
        view = self.chain.view
        assert view is not None
        for review in view.reviews:
            if review.resolved_at is not None:
                continue
            done = self.provider.outcomes.get(review.subject_id) is Outcome.APPROVED
            orphan = next((m for m in self._moves() if m.subject_id == review.subject_id and m.orphan), None)
            if orphan is not None and orphan.provider_reference is not None:
                account = self.provider.accounts[orphan.provider_reference]
                account.held, account.refunded, done = 0, account.captured, True
            number = sum(isinstance(item, ReviewDecision) for item in self.log)
            self.feed(
                ReviewDecision(
                    payment_id=PAYMENT,
                    occurred_at=self.now,
                    decision_id=f"decision-{number}",
                    operation=review.operation,
                    subject_id=review.subject_id,
                    outcome=Outcome.APPROVED if done else Outcome.DECLINED,
                    operator="ada",
                    reason="looked it up",
                )
            )
            return True
        return False

    def settle(self, wish: Callable[[], Outcome]) -> None:
        """Let months pass: every answer arrives, every timer fires, every review is decided."""
        for _ in range(3_000):
            if self.planned():
                continue
            if self.requests:
                self.answer(0, wish(), keep=False)
            elif not self.fire() and not self.resolve():
                return
        pytest.fail("the payment never comes to rest")

    # What must hold

    def check(self) -> None:
        """After every step."""
        self._check_books()
        self._check_one_authorization()
        self._check_limits()
        self._check_timers()

    def _check_books(self) -> None:
        assert sum(self.balances.values()) == 0
        view = self.chain.view
        assert view is not None
        assert view.amount_captured - view.amount_refunded >= 0
        orphaned = Counter[Operation]()
        for move in self._moves():
            if move.orphan and move.status is not MoveStatus.DONE:
                orphaned[move.operation] += move.amount
        held = self.balances["holds_receivable:acme:stripe:USD", "USD"]
        assert held >= 0
        assert held == (view.hold.remaining if view.hold else 0) + orphaned[Operation.VOID]
        assert held == (self.chain.capture.held if self.chain.capture else 0) + orphaned[Operation.VOID]
        owed = -self.balances["merchant_payable:acme:USD", "USD"]
        pending = sum(r.amount for r in view.refunds if r.state in {MoveState.PENDING, MoveState.NEEDS_REVIEW})
        assert owed == view.amount_captured - view.amount_refunded - pending
        assert -self.balances["refunds_pending:stripe:USD", "USD"] == pending + orphaned[Operation.REFUND]

    def _check_one_authorization(self) -> None:
        attempts = self.attempts()
        live = [a for a in attempts if a.status is AttemptStatus.APPROVED]
        assert len(live) <= 1, "two live authorizations"
        assert sum(a.status is AttemptStatus.OPEN for a in attempts) <= 1, "two attempts under way"
        assert sum(isinstance(f, PaymentAuthorized) for f in self.chain.facts) <= 1

    def _check_limits(self) -> None:
        """No period of a limit's length has more attempts with one card than the limit allows, none after a bar."""
        by_method: dict[str, list[int]] = defaultdict(list)
        barred = set[str]()
        for attempt in self.attempts():
            assert attempt.method.token not in barred, "tried again after never"
            by_method[attempt.method.token].append(attempt.started_at)
            if attempt.barred:
                barred.add(attempt.method.token)
        for times in by_method.values():
            for limit in NETWORKS.limits:
                assert within(limit, times), f"{limit.name} exceeded"

    def _check_timers(self) -> None:
        """What waits for something has exactly one live timer, and there is no live timer besides."""
        live = Counter(timer.subject_id for timer in self.timers.values() if self._is_live(timer))
        assert live == Counter(self._waits()), "a timer too many or too few"

    def _is_live(self, timer: Timer) -> bool:
        item = fired(timer, self.now)
        state, hold = self.chain.authorization, self.chain.capture or capture.CaptureState()
        assert state is not None
        kind = authorization.kind_of(state, item)
        if kind is not authorization.Kind.FOREIGN:
            return authorization.TABLE[state.status].cell(kind) is not authorization.TABLE[state.status].stale
        return capture.TABLE[hold.phase].cell(capture.kind_of(hold, item)) is not capture.TABLE[hold.phase].stale

    def _waits(self) -> Iterator[str]:
        """The attempts, holds and moves that wait for an answer or a moment. A decline waits for the retry stage."""
        state = self.chain.authorization
        assert state is not None
        for attempt in state.attempts:
            if attempt.status in {AttemptStatus.OPEN, AttemptStatus.GIVEN_UP} and not attempt.reviewed:
                yield attempt.attempt_id
        if state.status is Status.RETRY_SCHEDULED and state.current:
            yield state.current.attempt_id
        hold = self.chain.capture
        if hold is not None:
            yield from (m.subject_id for m in hold.moves if m.status is MoveStatus.OPEN)
            if hold.held and not hold.lapsed:
                yield hold.attempt_id

    def check_at_rest(self) -> None:
        """Our books and the provider's say the same, and nothing that is not the payment's is left there."""
        view = self.chain.view
        assert view is not None
        assert view.status in TERMINAL
        assert not any(self._waits())
        own = view.hold.provider_reference if view.hold else None
        for reference, account in self.provider.accounts.items():
            if reference == own:
                assert (view.amount_captured, view.amount_refunded) == (account.captured, account.refunded)
            else:
                assert account.empty, "an orphan was left at the provider"

    def attempts(self) -> tuple[authorization.Attempt, ...]:
        """Every attempt so far."""
        return self.chain.authorization.attempts if self.chain.authorization else ()

    def _moves(self) -> tuple[capture.Move, ...]:
        return self.chain.capture.moves if self.chain.capture else ()


TERMINAL = {
    PaymentStatus.REQUIRES_METHOD,
    PaymentStatus.REQUIRES_AUTHORIZATION,
    PaymentStatus.CAPTURED,
    PaymentStatus.PARTIALLY_REFUNDED,
    PaymentStatus.REFUNDED,
    PaymentStatus.VOIDED,
    PaymentStatus.EXPIRED,
    PaymentStatus.FAILED,
    PaymentStatus.CANCELED,
}
"""Where a payment may rest: the first two wait for its merchant, and for nothing of ours."""


def within(limit: Limit, times: list[int]) -> bool:
    """Whether no period of the limit's length has more attempts than it allows."""
    ordered = sorted(times)
    return all(
        later - earlier >= limit.period for earlier, later in zip(ordered, ordered[limit.attempts :], strict=False)
    )


def fired(timer: Timer, now: int) -> TimerFired:
    """What the relay makes of a timer that is due."""
    return TimerFired(
        payment_id=PAYMENT,
        occurred_at=now,
        timer_id=timer.timer_id,
        kind=timer.kind,
        subject_id=timer.subject_id,
        operation=timer.operation,
        generation=timer.generation,
        due_at=timer.due_at,
    )
