"""What became of an operation does not depend on how many of its facts are taken at once."""

from __future__ import annotations

from msgspec.structs import replace

from pipeline.domain.projection import OperationState, OperationUpdate, OperationView, operation_after
from pipeline.messages.facts import Fact
from tests.domain.test_postings import authorized

FIRST, SECOND, THIRD = authorized().facts[:3]


def update(kind: str, state: OperationState, reason: str | None = None) -> OperationUpdate:
    return OperationUpdate(operation_id="o", kind=kind, state=state, reason=reason)


def after(*steps: tuple[Fact, OperationUpdate]) -> OperationView:
    """One by one."""
    view = None
    for fact, step in steps:
        view = operation_after(view, fact, step)
    assert view is not None
    return view


def test_the_first_fact_says_what_was_asked_for_and_the_last_what_became_of_it() -> None:
    """A review, or a void, on the way of an authorization does not make it another operation."""
    view = after(
        (FIRST, update("Authorize", OperationState.STARTED)),
        (SECOND, update("Review", OperationState.FAILED, "needs_review")),
    )
    assert (view.kind, view.state, view.reason) == ("Authorize", OperationState.FAILED, "needs_review")
    assert (view.sequence, view.updated_at) == (SECOND.sequence, SECOND.occurred_at)


def test_a_method_that_was_set_on_the_way_gives_way() -> None:
    view = after(
        (FIRST, update("SetMethod", OperationState.COMPLETED)),
        (SECOND, update("Authorize", OperationState.STARTED)),
        (THIRD, update("Void", OperationState.COMPLETED)),
    )
    assert (view.kind, view.state) == ("Authorize", OperationState.COMPLETED)


def test_an_operation_stays_its_merchants() -> None:
    stranger = replace(SECOND, merchant_id="other")
    view = after(
        (FIRST, update("Capture", OperationState.STARTED)), (stranger, update("Capture", OperationState.REJECTED))
    )
    assert view.merchant_id == FIRST.merchant_id
