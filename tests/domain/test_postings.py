"""The worked example of docs/ledger.md, to the cent."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from pipeline.domain.chain import PaymentChain
from pipeline.domain.decision import Schedule
from pipeline.domain.postings import entry_of
from pipeline.messages.commands import Authorize, Capture, CreateIntent, Refund
from pipeline.messages.facts import CaptureFailed, Fact
from pipeline.messages.journal import Side
from pipeline.messages.values import CaptureMethod, Operation, Outcome
from tests.domain.samples import NOW, PAYMENT, VISA, report


def command(name: str) -> dict[str, Any]:
    return {"command_id": name, "merchant_id": "acme", "payment_id": PAYMENT, "occurred_at": NOW}


def balances(facts: list[Fact]) -> dict[str, int]:
    """Debit minus credit by account."""
    result: dict[str, int] = defaultdict(int)
    for fact in facts:
        entry = entry_of(fact)
        for posting in entry.postings if entry else ():
            result[posting.account] += posting.amount if posting.side is Side.DEBIT else -posting.amount
    return {account: balance for account, balance in result.items() if balance}


def authorized() -> PaymentChain:
    chain = PaymentChain(Schedule())
    chain.feed(
        CreateIntent(
            **command("create"),
            amount=10_000,
            currency="USD",
            provider="stripe",
            capture_method=CaptureMethod.MANUAL,
            payment_method=VISA,
        )
    )
    (request,) = chain.feed(Authorize(**command("authorize"))).requests
    chain.feed(report(Operation.AUTHORIZE, Outcome.APPROVED, request.subject_id))
    return chain


def test_the_worked_example() -> None:
    chain = authorized()
    assert balances(chain.facts) == {
        "holds_receivable:acme:stripe:USD": 10_000,
        "holds_commitment:acme:stripe:USD": -10_000,
    }
    (request,) = chain.feed(Capture(**command("capture"), amount=6_000)).requests
    chain.feed(report(Operation.CAPTURE, Outcome.APPROVED, request.subject_id))
    assert balances(chain.facts) == {"provider_receivable:stripe:USD": 6_000, "merchant_payable:acme:USD": -6_000}
    (request,) = chain.feed(Refund(**command("refund"), amount=1_000)).requests
    assert balances(chain.facts) == {
        "provider_receivable:stripe:USD": 6_000,
        "merchant_payable:acme:USD": -5_000,
        "refunds_pending:stripe:USD": -1_000,
    }
    chain.feed(report(Operation.REFUND, Outcome.APPROVED, request.subject_id))
    assert balances(chain.facts) == {"provider_receivable:stripe:USD": 5_000, "merchant_payable:acme:USD": -5_000}


def test_several_captures_leave_the_hold_one_by_one() -> None:
    chain = authorized()
    for number, (amount, final) in enumerate([(2_000, False), (3_000, True)]):
        (request,) = chain.feed(Capture(**command(f"capture-{number}"), amount=amount, final=final)).requests
        chain.feed(report(Operation.CAPTURE, Outcome.APPROVED, request.subject_id))
    assert balances(chain.facts) == {"provider_receivable:stripe:USD": 5_000, "merchant_payable:acme:USD": -5_000}


def test_an_answer_and_its_webhook_post_once() -> None:
    chain = authorized()
    (request,) = chain.feed(Capture(**command("capture"))).requests
    chain.feed(report(Operation.CAPTURE, Outcome.APPROVED, request.subject_id))
    chain.feed(report(Operation.CAPTURE, Outcome.APPROVED, None))
    chain.feed(report(Operation.CAPTURE, Outcome.APPROVED, request.subject_id))
    assert balances(chain.facts)["provider_receivable:stripe:USD"] == 10_000


def test_a_capture_that_is_taken_back_is_owed_to_nobody() -> None:
    """Only the money moves back: what the capture claimed of the hold is gone."""
    common: dict[str, Any] = {
        "payment_id": "p", "merchant_id": "acme", "occurred_at": 1, "cause_id": "c", "operation_id": "o",
        "capture_id": "capture-1", "amount": 4_000, "currency": "EUR",
    }  # fmt: skip
    assert entry_of(CaptureFailed(fact_id="refused", **common)) is None
    entry = entry_of(CaptureFailed(fact_id="taken-back", provider="adyen", after_success=True, **common))
    assert entry is not None
    assert [(leg.side, leg.account, leg.amount) for leg in entry.postings] == [
        (Side.DEBIT, "merchant_payable:acme:EUR", 4_000),
        (Side.CREDIT, "provider_receivable:adyen:EUR", 4_000),
    ]
