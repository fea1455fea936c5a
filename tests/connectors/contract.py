"""What every provider's edge must do: one table of cases, each canonical operation by each outcome.

A provider joins by implementing `Edge` over its simulator. `Edge.later` names the operations that the provider only
accepts at once (PENDING) and decides by webhook.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from connectors.provider import Answer, Provider
from pipeline.messages.requests import ProviderRequest
from pipeline.messages.values import DeclineCategory, Operation, Outcome
from tests.connectors import requests

AMOUNT = 1_050
PART = 400


class Method(StrEnum):
    """A payment method, by what it leads to."""

    GOOD = "good"
    NO_FUNDS = "no_funds"
    STOLEN = "stolen"
    EXPIRED = "expired"
    ISSUER_ERROR = "issuer_error"
    DO_NOT_RETRY = "do_not_retry"
    CHALLENGED = "challenged"
    UNKNOWN = "unknown"
    REFUND_PENDING = "refund_pending"
    REFUND_FAILS = "refund_fails"


class Trouble(StrEnum):
    """What goes wrong with the call."""

    NONE = "none"
    DOWN = "down"
    RATE_LIMIT = "rate_limit"
    SERVER_ERROR = "server_error"
    SERVER_ERROR_AFTER = "server_error_after"
    UNAVAILABLE = "unavailable"
    TIMEOUT_BEFORE = "timeout_before"
    TIMEOUT_AFTER = "timeout_after"
    RESET_BEFORE = "reset_before"
    RESET_AFTER = "reset_after"


@dataclass(frozen=True, slots=True)
class Books:
    """What the provider really did for a payment, in minor units."""

    authorized: int = 0
    captured: int = 0
    refunded: int = 0


class Edge(Protocol):
    """One provider under test."""

    later: frozenset[Operation]

    @property
    def provider(self) -> Provider:
        """The provider, pointed at the simulator."""

    def token(self, method: Method) -> str:
        """The provider's test token that leads there."""

    def trouble(self, trouble: Trouble, operation: Operation) -> None:
        """Let the next call of the operation go wrong."""

    def books(self, payment_id: str) -> Books:
        """What was really done, over all attempts."""


@dataclass(frozen=True, slots=True)
class Case:
    """One operation and what must come of it. `after` is what a look-up finds then, `moved` whether money moved."""

    operation: Operation
    outcome: Outcome
    after: Outcome
    method: Method = Method.GOOD
    trouble: Trouble = Trouble.NONE
    category: DeclineCategory | None = None
    manual: bool = True
    moved: bool = True

    @property
    def name(self) -> str:
        """For the test report."""
        words = [self.operation, self.method, self.trouble, "manual" if self.manual else "automatic"]
        return "-".join(words)


A, C, V, R = Operation.AUTHORIZE, Operation.CAPTURE, Operation.VOID, Operation.REFUND
OK, NO, MAYBE = Outcome.APPROVED, Outcome.DECLINED, Outcome.UNKNOWN
NOT_DONE, NEVER = Outcome.TEMPORARY_FAILURE, Outcome.NOT_FOUND
_SENT = {
    Trouble.TIMEOUT_BEFORE: (MAYBE, NEVER, False),
    Trouble.TIMEOUT_AFTER: (MAYBE, OK, True),
    Trouble.RESET_BEFORE: (MAYBE, NEVER, False),
    Trouble.RESET_AFTER: (MAYBE, OK, True),
    Trouble.SERVER_ERROR: (MAYBE, NEVER, False),
    Trouble.SERVER_ERROR_AFTER: (MAYBE, OK, True),
    Trouble.UNAVAILABLE: (MAYBE, NEVER, False),
    Trouble.RATE_LIMIT: (NOT_DONE, NEVER, False),
    Trouble.DOWN: (NOT_DONE, NEVER, False),
}

CASES = (
    Case(A, OK, OK),
    Case(A, OK, OK, manual=False),
    Case(A, NO, NO, Method.NO_FUNDS, category=DeclineCategory.SOFT, moved=False),
    Case(A, NO, NO, Method.STOLEN, category=DeclineCategory.FRAUD, moved=False),
    Case(A, NO, NO, Method.EXPIRED, category=DeclineCategory.NEEDS_CUSTOMER, moved=False),
    Case(A, NO, NO, Method.ISSUER_ERROR, category=DeclineCategory.TEMPORARY, moved=False),
    Case(A, NO, NEVER, Method.UNKNOWN, category=DeclineCategory.HARD, moved=False),
    Case(A, Outcome.REQUIRES_ACTION, Outcome.REQUIRES_ACTION, Method.CHALLENGED, moved=False),
    Case(C, OK, OK),
    Case(V, OK, OK),
    Case(R, OK, OK),
    Case(R, Outcome.PENDING, Outcome.PENDING, Method.REFUND_PENDING),
    *(
        Case(operation, outcome, after, trouble=trouble, moved=moved)
        for operation in Operation
        for trouble, (outcome, after, moved) in _SENT.items()
    ),
)


@dataclass(frozen=True, slots=True)
class Run:
    """A case that was run."""

    request: ProviderRequest
    answer: Answer
    looked_up: Answer
    books: Books


async def run(edge: Edge, case: Case) -> Run:
    """Bring a payment to where the operation applies, do it, and look it up."""
    request = await _prepared(edge, case)
    if case.trouble is not Trouble.NONE:
        edge.trouble(case.trouble, case.operation)
    answer = await edge.provider.call(request)
    edge.trouble(Trouble.NONE, case.operation)
    # A saved 500 or an unknown method leave traces that the operation itself did not.
    question = requests.lookup(request, reference=_reference(request, answer))
    looked_up = await edge.provider.call(question)
    return Run(request, answer, looked_up, edge.books(request.payment_id))


def check(edge: Edge, case: Case, result: Run) -> None:
    """Assert that the case came out as it must."""
    expected, after = case.outcome, case.after
    if case.operation in edge.later:
        expected = Outcome.PENDING if expected is OK else expected
    assert result.answer.outcome is expected, result.answer
    assert result.looked_up.outcome is after, result.looked_up
    assert result.looked_up.looked_up
    assert (result.answer.decline is not None) == (expected is NO)
    if case.category:
        assert result.answer.decline is not None
        assert result.answer.decline.category is case.category
        assert result.answer.decline.raw_code
        assert result.answer.decline.message
    if expected is Outcome.REQUIRES_ACTION:
        assert result.answer.next_action is not None
    assert result.books == expected_books(case)


def expected_books(case: Case) -> Books:
    """What the provider's book must say after the case."""
    moved = AMOUNT if case.moved else 0
    match case.operation:
        case Operation.AUTHORIZE:
            return Books(authorized=moved, captured=0 if case.manual else moved)
        case Operation.CAPTURE:
            return Books(authorized=AMOUNT, captured=moved)
        case Operation.VOID:
            return Books(authorized=AMOUNT)
    return Books(authorized=AMOUNT, captured=AMOUNT, refunded=PART if case.moved else 0)


async def _prepared(edge: Edge, case: Case) -> ProviderRequest:
    """The request of the case, after the operations it needs to stand on."""
    manual = case.manual and case.operation is not Operation.REFUND
    name = edge.provider.name
    first = requests.authorize(edge.token(case.method), AMOUNT, manual=manual, provider=name)
    if case.operation is Operation.AUTHORIZE:
        return first
    authorized = await edge.provider.call(first)
    assert authorized.outcome is Outcome.APPROVED, authorized
    assert authorized.provider_reference is not None
    reference, payment = authorized.provider_reference, first.payment_id
    match case.operation:
        case Operation.CAPTURE:
            return requests.capture(reference, AMOUNT, provider=name, payment_id=payment)
        case Operation.VOID:
            return requests.void(reference, provider=name, payment_id=payment)
    return requests.refund(reference, PART, provider=name, payment_id=payment)


def _reference(request: ProviderRequest, answer: Answer) -> str | None:
    known: str | None = getattr(request, "provider_reference", None)
    return known or answer.provider_reference
