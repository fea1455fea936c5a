"""What the authorization stage knows of a payment: the intent's status, and every attempt's own linear states."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import msgspec

from pipeline.domain.decision import Decision, Schedule
from pipeline.messages import Input
from pipeline.messages.values import CaptureMethod, PaymentMethod


class Status(StrEnum):
    """Where the intent stands, up to the hold."""

    REQUIRES_METHOD = "requires_method"
    REQUIRES_AUTHORIZATION = "requires_authorization"
    AUTHORIZING = "authorizing"
    REQUIRES_ACTION = "requires_action"
    DECLINED = "declined"
    """Declined, and the retry policy has yet to speak."""
    RETRY_SCHEDULED = "retry_scheduled"
    NEEDS_REVIEW = "needs_review"
    AUTHORIZED = "authorized"
    FAILED = "failed"
    CANCELED = "canceled"


class AttemptStatus(StrEnum):
    """An attempt's own linear states."""

    OPEN = "open"
    APPROVED = "approved"
    CLOSED = "closed"
    GIVEN_UP = "given_up"
    """Ended by us, its outcome at the provider not known: asked for until it is."""
    ORPHANED = "orphaned"


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One immutable try: what was sent never changes, only its outcome becomes known. `generation` counts its timers,
    `checks` the questions after it was given up. `barred`: the card must not be tried again.

    `resumed` is the generation in which the customer's return set it going again, 0 when it never did; `returned_early`
    that the return was told of before the action. `action_due` is when the customer's time ends, whatever they send.
    """

    attempt_id: str
    number: int
    operation_id: str
    method: PaymentMethod
    provider: str
    started_at: int
    status: AttemptStatus = AttemptStatus.OPEN
    generation: int = 1
    unresolved: bool = False
    barred: bool = False
    reviewed: bool = False
    checks: int = 0
    provider_reference: str | None = None
    resumed: int = 0
    returned_early: bool = False
    action_due: int = 0
    action_result: str | None = None
    heard: tuple[str, ...] = ()
    """The reports on the customer's action that have had their effect: said again, they have none."""

    @property
    def asked(self) -> int:
        """How many answers of the provider it has waited for in vain since it was last set going, and one."""
        return self.generation - self.resumed


class AuthorizationState(msgspec.Struct, frozen=True, kw_only=True):
    """All that this stage knows of a payment."""

    status: Status
    merchant_id: str
    provider: str
    amount: int
    currency: str
    capture_method: CaptureMethod
    customer_id: str | None = None
    merchant_reference: str | None = None
    method: PaymentMethod | None = None
    fallbacks: tuple[str, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    seen: tuple[str, ...] = ()

    @property
    def current(self) -> Attempt | None:
        """The newest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def next_provider(self) -> str | None:
        """Who is asked when the provider is out: the next one at which the method has a token."""
        tokens = self.method.tokens if self.method else {}
        return next((name for name in self.fallbacks if name in tokens), None)

    def attempt(self, attempt_id: str | None, provider_reference: str | None) -> Attempt | None:
        """The attempt with that id, or else with that reference at the provider."""
        for attempt in reversed(self.attempts):
            if attempt.attempt_id == attempt_id:
                return attempt
            if attempt_id is None and provider_reference and attempt.provider_reference == provider_reference:
                return attempt
        return None


Result = Decision[AuthorizationState]


# The rules. Each takes the state before and the input; what does not apply to a rule never reaches it.

Rule = Callable[[AuthorizationState, Input, Schedule], Result]
