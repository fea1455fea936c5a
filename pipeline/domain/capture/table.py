"""The capture stage's state machine: a row a phase of the hold, a column a kind of input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from pipeline.domain import disputes, reversals
from pipeline.domain.capture.answers import (
    capture_done,
    capture_failed,
    refund_done,
    refund_failed,
    void_done,
    void_failed,
)
from pipeline.domain.capture.commands import capture, refund, refuse_with, void
from pipeline.domain.capture.hold import authorized, await_expiry, expire, recheck_hold, warn_of_expiry
from pipeline.domain.capture.kinds import Kind, kind_of, report_kind
from pipeline.domain.capture.moves import draft_for
from pipeline.domain.capture.orphans import orphan_return_failed, orphan_returned, orphaned
from pipeline.domain.capture.silence import not_found, recovery_due, unresolved
from pipeline.domain.capture.state import CaptureState, Item, Phase, Result, Rule
from pipeline.domain.decision import Decision, Output, Schedule, decided_report, remember, resolve
from pipeline.messages.commands import Command
from pipeline.messages.facts import Fact, IntentCreated
from pipeline.messages.inputs import DisputeReport, ReverseEntry, ReviewDecision
from pipeline.messages.values import RejectionReason


def decide(state: CaptureState | None, item: Item, schedule: Schedule) -> Result:
    """What `item` brings about. Total: whatever the state and input, it returns a decision and never raises."""
    state = state or CaptureState()
    if isinstance(item, Fact):
        return _numbered(_pass_on(state, item, schedule), state)
    if isinstance(item, ReverseEntry):
        return _numbered(_reverse(state, item), state)
    if isinstance(item, Command) and item.command_id in state.seen:
        return Decision(state)
    decision = TABLE[state.phase].cell(kind_of(state, item))(state, item, schedule)
    if isinstance(item, Command) and decision.state is not None:
        seen = remember(decision.state.seen, item.command_id)
        decision = Decision(replace(decision.state, seen=seen), decision.outputs)
    return _numbered(decision, state)


def _numbered(decision: Result, before: CaptureState) -> Result:
    """The facts of the decision with the payment's next sequence numbers."""
    assert decision.state is not None
    sequence, outputs = before.sequence, list[Output]()
    for output in decision.outputs:
        if isinstance(output, Fact):
            sequence += 1
            outputs.append(replace(output, sequence=sequence))
        else:
            outputs.append(output)
    return Decision(replace(decision.state, sequence=sequence), tuple(outputs))


def _pass_on(state: CaptureState, fact: Fact, schedule: Schedule) -> Result:
    """A fact of the authorization stage goes into the system of record, once, whatever brought it here again."""
    if fact.fact_id in state.seen:
        return Decision(state)
    decision = TABLE[state.phase].cell(kind_of(state, fact))(state, fact, schedule)
    assert decision.state is not None
    seen = remember(decision.state.seen, fact.fact_id)
    return Decision(replace(decision.state, seen=seen), (fact, *decision.outputs))


def _reverse(state: CaptureState, item: ReverseEntry) -> Result:
    """A correction of the books, whatever the hold's phase."""
    if item.command_id in state.seen:
        return Decision(state)
    draft = draft_for(state, item)
    found = reversals.decide(state.reversals, state.sequence, item, draft)
    return draft.done(replace(state, reversals=found, seen=remember(state.seen, item.command_id)))


def _ignore(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    return Decision(state)


def _fact(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    if not isinstance(item, IntentCreated):
        return Decision(state)
    return Decision(
        replace(
            state,
            merchant_id=item.merchant_id,
            provider=item.provider,
            currency=item.currency,
            merchant_reference=item.merchant_reference,
        )
    )


def _dispute(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    """Whatever the phase: a dispute may come of a payment that our books have at another point."""
    assert isinstance(item, DisputeReport)
    draft = draft_for(state, item)
    found = disputes.decide(state.disputes, item, draft)
    return draft.done(replace(state, disputes=found))


def _review_decided(state: CaptureState, item: Item, schedule: Schedule) -> Result:
    """The operator's word counts as the provider's."""
    assert isinstance(item, ReviewDecision)
    report = decided_report(item, state.provider)
    draft = draft_for(state, item)
    resolve(draft, item)
    follows = TABLE[state.phase].cell(report_kind(state, report))(state, report, schedule)
    return Decision(follows.state, (*draft.outputs, *follows.outputs))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One phase: what it makes of each kind of input. No cell has a default, so none can be forgotten."""

    authorized: Rule
    fact: Rule
    capture: Rule
    void: Rule
    refund: Rule
    capture_done: Rule
    capture_failed: Rule
    void_done: Rule
    void_failed: Rule
    refund_done: Rule
    refund_failed: Rule
    orphaned: Rule
    orphan_returned: Rule
    orphan_return_failed: Rule
    unresolved: Rule
    not_found: Rule
    dispute: Rule
    hold_expiring: Rule
    hold_due: Rule
    recovery_due: Rule
    review_decided: Rule
    stale: Rule

    def cell(self, kind: Kind) -> Rule:
        """The rule for a kind of input."""
        rule: Rule = getattr(self, kind.value)
        return rule


_no_hold = refuse_with(RejectionReason.NOT_AUTHORIZED, "the payment is not authorized")
_capturing = refuse_with(RejectionReason.CAPTURE_IN_PROGRESS, "a capture is in progress")
_voiding = refuse_with(RejectionReason.VOID_IN_PROGRESS, "a void is in progress")
_captured = refuse_with(RejectionReason.ALREADY_CAPTURED, "nothing is left of the hold")
_voided = refuse_with(RejectionReason.ALREADY_VOIDED, "the hold was given back")
_expired = refuse_with(RejectionReason.HOLD_EXPIRED, "the hold expired")

_ALWAYS: Final[dict[str, Rule]] = {
    "orphaned": orphaned,
    "orphan_returned": orphan_returned,
    "orphan_return_failed": orphan_return_failed,
    "dispute": _dispute,
    "review_decided": _review_decided,
}
"""What concerns an orphan, a dispute, or a move under review, wherever the hold stands."""

TABLE: Final[dict[Phase, Row]] = {
    Phase.NO_HOLD: Row(
        authorized=authorized, fact=_fact, capture=_no_hold, void=_no_hold, refund=_no_hold,
        capture_done=_ignore, capture_failed=_ignore, void_done=_ignore, void_failed=_ignore,
        refund_done=_ignore, refund_failed=_ignore, unresolved=unresolved, not_found=not_found, hold_expiring=_ignore,
        hold_due=_ignore, recovery_due=recovery_due, stale=_ignore, **_ALWAYS,
    ),
    Phase.HELD: Row(
        authorized=_ignore, fact=_fact, capture=capture, void=void, refund=refund,
        capture_done=capture_done, capture_failed=capture_failed, void_done=void_done,
        void_failed=void_failed, refund_done=refund_done, refund_failed=refund_failed,
        unresolved=unresolved, not_found=not_found, hold_expiring=warn_of_expiry, hold_due=expire,
        recovery_due=recovery_due, stale=_ignore, **_ALWAYS,
    ),
    Phase.CAPTURING: Row(
        authorized=_ignore, fact=_fact, capture=_capturing, void=_capturing, refund=refund,
        capture_done=capture_done, capture_failed=capture_failed, void_done=void_done,
        void_failed=void_failed, refund_done=refund_done, refund_failed=refund_failed,
        unresolved=unresolved, not_found=not_found, hold_expiring=await_expiry, hold_due=recheck_hold,
        recovery_due=recovery_due, stale=_ignore, **_ALWAYS,
    ),
    Phase.VOIDING: Row(
        authorized=_ignore, fact=_fact, capture=_voiding, void=_voiding, refund=refund,
        capture_done=capture_done, capture_failed=capture_failed, void_done=void_done,
        void_failed=void_failed, refund_done=refund_done, refund_failed=refund_failed,
        unresolved=unresolved, not_found=not_found, hold_expiring=await_expiry, hold_due=recheck_hold,
        recovery_due=recovery_due, stale=_ignore, **_ALWAYS,
    ),
    Phase.CAPTURED: Row(
        authorized=_ignore, fact=_fact, capture=_captured, void=_captured, refund=refund,
        capture_done=capture_done, capture_failed=capture_failed, void_done=_ignore,
        void_failed=void_failed, refund_done=refund_done, refund_failed=refund_failed,
        unresolved=unresolved, not_found=not_found, hold_expiring=_ignore, hold_due=_ignore,
        recovery_due=recovery_due, stale=_ignore, **_ALWAYS,
    ),
    Phase.VOIDED: Row(
        authorized=_ignore, fact=_fact, capture=_voided, void=_voided, refund=refund,
        capture_done=capture_done, capture_failed=capture_failed, void_done=_ignore,
        void_failed=void_failed, refund_done=refund_done, refund_failed=refund_failed,
        unresolved=unresolved, not_found=not_found, hold_expiring=_ignore, hold_due=_ignore,
        recovery_due=recovery_due, stale=_ignore, **_ALWAYS,
    ),
    Phase.EXPIRED: Row(
        authorized=_ignore, fact=_fact, capture=_expired, void=_expired, refund=refund,
        capture_done=capture_done, capture_failed=capture_failed, void_done=_ignore,
        void_failed=void_failed, refund_done=refund_done, refund_failed=refund_failed,
        unresolved=unresolved, not_found=not_found, hold_expiring=_ignore, hold_due=_ignore,
        recovery_due=recovery_due, stale=_ignore, **_ALWAYS,
    ),
}  # fmt: skip
