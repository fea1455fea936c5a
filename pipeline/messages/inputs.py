"""What moves a payment besides commands: providers' words, due timers, retry plans."""

from __future__ import annotations

from typing import Annotated

import msgspec

from pipeline.messages.base import Input, Millis, Minor
from pipeline.messages.journal import Posting
from pipeline.messages.values import Decline, DisputeStep, NextAction, Operation, Outcome, ReportSource, TimerKind


class ProviderReport(Input, frozen=True, kw_only=True):
    """A provider's word on one operation: the answer to a request, a webhook, or a look-up."""

    report_id: Annotated[str, msgspec.Meta(description="derived from the request, or from the provider's event id")]
    provider: str
    source: ReportSource
    operation: Operation
    outcome: Outcome
    subject_id: Annotated[
        str | None,
        msgspec.Meta(description="attempt, capture, void or refund it speaks of; null when the provider does not say"),
    ] = None
    provider_reference: Annotated[
        str | None, msgspec.Meta(description="the provider's id of the payment, e.g. pi_...")
    ] = None
    operation_reference: Annotated[
        str | None, msgspec.Meta(description="the provider's id of the operation, e.g. re_...")
    ] = None
    amount: Minor | None = None
    currency: str | None = None
    decline: Decline | None = None
    next_action: NextAction | None = None
    hold_expires_at: Millis | None = None
    detail: Annotated[str | None, msgspec.Meta(description="raw status or error, for operators; never card data")] = (
        None
    )
    after_success: Annotated[
        bool,
        msgspec.Meta(description="declined: the provider takes back that it was done, whichever word comes here first"),
    ] = False

    @property
    def input_id(self) -> str:
        return self.report_id


class DisputeReport(Input, frozen=True, kw_only=True):
    """A provider's word on a dispute (chargeback or inquiry) of a payment."""

    report_id: Annotated[str, msgspec.Meta(description="derived from the provider's event id")]
    provider: str
    step: DisputeStep
    dispute_reference: Annotated[str, msgspec.Meta(description="the provider's id of the dispute, e.g. dp_...")]
    amount: Minor
    currency: str
    fee: Annotated[
        int,
        msgspec.Meta(
            description="what the provider charges for a withdrawal, or gives back with a reinstatement; minor units"
        ),
    ] = 0
    reason: Annotated[str | None, msgspec.Meta(description="the provider's reason, unchanged")] = None
    evidence_due_at: Millis | None = None
    detail: str | None = None

    @property
    def input_id(self) -> str:
        return self.report_id


class TimerFired(Input, frozen=True, kw_only=True):
    """A timer fell due. Cancelling is lazy: the state machine ignores a timer that no longer applies."""

    timer_id: str
    kind: TimerKind
    subject_id: Annotated[str, msgspec.Meta(description="attempt, hold, capture, void or refund it was set for")]
    operation: Operation
    generation: Annotated[int, msgspec.Meta(description="which timer of its subject: only the newest applies")]
    due_at: Millis

    @property
    def input_id(self) -> str:
        return self.timer_id


class RetryPlanned(Input, frozen=True, kw_only=True):
    """The retry policy's word: try again at `due_at`."""

    plan_id: str
    attempt_id: Annotated[str, msgspec.Meta(description="the declined attempt")]
    due_at: Millis
    rule: Annotated[str, msgspec.Meta(description="the policy's rule, by name")]
    moved_by: Annotated[
        list[str], msgspec.Meta(description="what put it off beyond the rule's delay: network limits, payday, hours")
    ] = []

    @property
    def input_id(self) -> str:
        return self.plan_id


class RetryAbandoned(Input, frozen=True, kw_only=True):
    """The retry policy's word: no further attempt."""

    plan_id: str
    attempt_id: Annotated[str, msgspec.Meta(description="the declined attempt")]
    rule: Annotated[str, msgspec.Meta(description="the policy's rule, by name")]

    @property
    def input_id(self) -> str:
        return self.plan_id


class ReverseEntry(Input, frozen=True, kw_only=True):
    """An operator's correction: post the opposite of a journal entry. Only trusted writers may send it."""

    command_id: Annotated[str, msgspec.Meta(description="derived from the entry, the reason and the operator")]
    entry_id: Annotated[str, msgspec.Meta(description="the entry to reverse, of this payment")]
    entry_fact_id: Annotated[str, msgspec.Meta(description="the fact that posted it")]
    entry_sequence: Annotated[int, msgspec.Meta(description="that fact's number in its payment")]
    postings: Annotated[list[Posting], msgspec.Meta(description="the entry's legs, as they stand in the books")]
    reason: str
    operator: Annotated[str, msgspec.Meta(description="who asks for it, by name")]

    @property
    def input_id(self) -> str:
        return self.command_id


class ReviewDecision(Input, frozen=True, kw_only=True):
    """An operator's word on an operation under review: what became of it at the provider. Only operators write it."""

    decision_id: str
    operation: Operation
    subject_id: Annotated[
        str, msgspec.Meta(description="attempt, capture, void, refund or orphan's return under review")
    ]
    outcome: Annotated[Outcome, msgspec.Meta(description="approved: it was done; declined: it was not")]
    operator: Annotated[str, msgspec.Meta(description="who decided")]
    reason: Annotated[str, msgspec.Meta(description="what they saw")]
    provider_reference: str | None = None
    amount: Minor | None = None

    @property
    def input_id(self) -> str:
        return self.decision_id


INPUTS: tuple[type[Input], ...] = (
    ProviderReport,
    DisputeReport,
    TimerFired,
    RetryPlanned,
    RetryAbandoned,
    ReverseEntry,
    ReviewDecision,
)
