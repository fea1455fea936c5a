"""Corrections as the capture stage decides on them, and what they post."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from pipeline import ids
from pipeline.domain.capture import decide
from pipeline.domain.chain import PaymentChain
from pipeline.domain.decision import Schedule
from pipeline.domain.postings import entry_of
from pipeline.domain.projection import OperationState, operation_update, public_event
from pipeline.domain.reversals import problems
from pipeline.messages.commands import Capture
from pipeline.messages.facts import CommandRejected, EntryReversed, Fact
from pipeline.messages.inputs import ReverseEntry
from pipeline.messages.values import Operation, Outcome, RejectionReason
from tests.domain.samples import NOW, PAYMENT, report
from tests.domain.test_postings import authorized, balances, command


def captured() -> PaymentChain:
    chain = authorized()
    (request,) = chain.feed(Capture(**command("capture"))).requests
    chain.feed(report(Operation.CAPTURE, Outcome.APPROVED, request.subject_id))
    return chain


def reversal(fact: Fact, **changes: Any) -> ReverseEntry:
    """An operator's command to reverse the entry of a fact."""
    entry = entry_of(fact)
    assert entry is not None
    made = ReverseEntry(
        payment_id=PAYMENT,
        occurred_at=NOW + 5,
        command_id=ids.reversal_id(entry.entry_id, "ann", "posted by mistake"),
        entry_id=entry.entry_id,
        entry_fact_id=fact.fact_id,
        entry_sequence=fact.sequence,
        postings=entry.postings,
        reason="posted by mistake",
        operator="ann",
    )
    return replace(made, **changes)


def test_a_reversal_negates_every_leg() -> None:
    chain = captured()
    before, view = balances(chain.facts[:-1]), chain.view
    (fact,) = chain.feed(reversal(chain.facts[-1])).facts
    assert isinstance(fact, EntryReversed)
    assert view is not None
    assert chain.view is not None
    assert (fact.sequence, fact.merchant_id, fact.reason, fact.operator) == (6, "acme", "posted by mistake", "ann")
    assert balances(chain.facts) == before
    assert chain.view == replace(view, sequence=6, updated_at=NOW + 5), "the payment stands as before"
    update = operation_update(fact)
    assert update is not None
    assert update.state is OperationState.COMPLETED
    assert public_event(chain.view, fact) is None


def test_the_same_reversal_again_changes_nothing() -> None:
    chain = captured()
    asked = reversal(chain.facts[-1])
    chain.feed(asked)
    state = chain.capture
    assert chain.feed(replace(asked, occurred_at=NOW + 99)).facts == ()
    assert chain.capture == state


def refused(chain: PaymentChain, asked: ReverseEntry) -> str:
    """The words of the refusal, which concerns no merchant."""
    posted, view = balances(chain.facts), chain.view
    (fact,) = chain.feed(asked).facts
    assert isinstance(fact, CommandRejected)
    assert (fact.reason, fact.merchant_id) == (RejectionReason.NOT_REVERSIBLE, "")
    assert view is not None
    assert chain.view == replace(view, sequence=fact.sequence), "nothing that the payment's reader sees"
    assert balances(chain.facts) == posted
    assert chain.feed(asked).facts == (), "refused once"
    return fact.detail


def test_an_entry_is_reversed_once() -> None:
    chain = captured()
    (first,) = chain.feed(reversal(chain.facts[-1])).facts
    by = entry_of(first)
    assert by is not None
    assert refused(chain, reversal(chain.facts[4], command_id="another")) == (
        f"the entry is reversed already, by {by.entry_id}"
    )


def test_a_reversal_is_not_reversed() -> None:
    chain = captured()
    (first,) = chain.feed(reversal(chain.facts[-1])).facts
    assert "itself a reversal" in refused(chain, reversal(first, command_id="another"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"entry_id": "11111111-1111-5111-9111-111111111111"}, "no such entry"),
        ({"entry_sequence": 6}, "no such entry"),
        ({"entry_sequence": 0}, "no such entry"),
        ({"postings": []}, "not balanced"),
        ({"reason": ""}, "the reason has 1 to 500"),
        ({"reason": "x" * 501}, "the reason has 1 to 500"),
        ({"reason": "card 4242 4242 4242 4242"}, "looks like card data"),
        ({"operator": "a\nb"}, "the operator has 1 to 255"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(changes: dict[str, Any], words: str) -> None:
    chain = captured()
    assert words in refused(chain, reversal(chain.facts[-1], **changes))


def test_unbalanced_legs_are_refused_and_stop_nothing() -> None:
    chain = captured()
    right = reversal(chain.facts[-1])
    legs = right.postings
    assert "not balanced" in refused(chain, replace(right, postings=legs[:-1]))
    backwards = [replace(leg, amount=-leg.amount) for leg in legs]
    assert "not balanced" in refused(chain, replace(right, postings=backwards, command_id="b"))
    (fact,) = chain.feed(replace(right, command_id="c")).facts
    assert isinstance(fact, EntryReversed)


def test_a_reversal_of_no_payment_is_nothing() -> None:
    """No payment, no entry: the authorization stage has nothing to pass on, and the capture stage refuses it."""
    asked = reversal(captured().facts[-1])
    assert PaymentChain(Schedule()).feed(asked).facts == ()
    (fact,) = decide(None, asked, Schedule()).facts
    assert isinstance(fact, CommandRejected)


def test_a_good_reason_has_no_problems() -> None:
    assert problems(reversal(captured().facts[-1])) == []
