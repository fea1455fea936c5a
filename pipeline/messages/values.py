"""The vocabulary that records share: closed sets and small values."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from pipeline.messages.base import Record


class CaptureMethod(StrEnum):
    """When the money of an authorization is claimed."""

    MANUAL = "manual"
    AUTOMATIC = "automatic"


class Operation(StrEnum):
    """What a provider is asked to do with money, or with the promise of it."""

    AUTHORIZE = "authorize"
    CAPTURE = "capture"
    VOID = "void"
    REFUND = "refund"


class Outcome(StrEnum):
    """The one canonical meaning of a provider's answer or webhook."""

    APPROVED = "approved"
    DECLINED = "declined"
    REQUIRES_ACTION = "requires_action"
    PENDING = "pending"
    TEMPORARY_FAILURE = "temporary_failure"
    """Certainly not done; safe to try again."""
    UNKNOWN = "unknown"
    """Perhaps done: look it up, never repeat it blindly under another key."""
    NOT_FOUND = "not_found"
    """A look-up found that the provider never saw the operation."""


class ReportSource(StrEnum):
    """How a provider's word reached us. The answer and the webhook of one operation are the same fact."""

    ANSWER = "answer"
    WEBHOOK = "webhook"
    LOOKUP = "lookup"
    OPERATOR = "operator"
    """A person who looked it up at the provider, when no look-up of ours could tell."""


class DisputeStep(StrEnum):
    """One thing that happens in a dispute. Its funds move apart from its decision, before or after it."""

    OPENED = "opened"
    FUNDS_WITHDRAWN = "funds_withdrawn"
    FUNDS_REINSTATED = "funds_reinstated"
    WON = "won"
    LOST = "lost"


class DeclineCategory(StrEnum):
    """What a decline means for another attempt."""

    SOFT = "soft"
    """May pass later with the same method."""
    HARD = "hard"
    """Never with this method."""
    FRAUD = "fraud"
    """Never, and flagged."""
    TEMPORARY = "temporary"
    """The provider or issuer could not be asked; nothing was decided."""
    NEEDS_CUSTOMER = "needs_customer"
    """Needs another method, corrected details or authentication."""


class TimerKind(StrEnum):
    """What falls due."""

    RETRY = "retry"
    RECOVERY = "recovery"
    ACTION_EXPIRY = "action_expiry"
    HOLD_WARNING = "hold_warning"
    HOLD_EXPIRY = "hold_expiry"
    UNROUTED = "unrouted"
    """An event of a provider still waits for its payment."""
    REPORT = "report"
    """A settlement report is asked for again."""


class RejectionReason(StrEnum):
    """Why a command does not fit the payment's state. Stable: the API shows it as the problem's type."""

    PAYMENT_NOT_FOUND = "payment_not_found"
    PAYMENT_ALREADY_EXISTS = "payment_already_exists"
    METHOD_REQUIRED = "method_required"
    METHOD_DECLINED = "method_declined"
    AUTHORIZATION_IN_PROGRESS = "authorization_in_progress"
    ALREADY_AUTHORIZED = "already_authorized"
    NOT_AUTHORIZED = "not_authorized"
    RETRY_SCHEDULED = "retry_scheduled"
    NO_RETRY_PENDING = "no_retry_pending"
    NO_ACTION_PENDING = "no_action_pending"
    NETWORK_LIMIT = "network_limit"
    PAYMENT_CANCELED = "payment_canceled"
    PAYMENT_FAILED = "payment_failed"
    NEEDS_REVIEW = "needs_review"
    CAPTURE_IN_PROGRESS = "capture_in_progress"
    VOID_IN_PROGRESS = "void_in_progress"
    ALREADY_CAPTURED = "already_captured"
    ALREADY_VOIDED = "already_voided"
    HOLD_EXPIRED = "hold_expired"
    AMOUNT_EXCEEDS_HOLD = "amount_exceeds_hold"
    NOTHING_CAPTURED = "nothing_captured"
    AMOUNT_EXCEEDS_CAPTURED = "amount_exceeds_captured"
    NOT_REVERSIBLE = "not_reversible"
    """An operator's reversal of a journal entry; the API has no such command."""


class PaymentMethod(Record, frozen=True, kw_only=True):
    """How a payment is paid: a provider's token, never card data."""

    kind: Annotated[str, msgspec.Meta(description="card, wallet, bank_debit, ...")] = "card"
    token: Annotated[str, msgspec.Meta(description="the provider's token for the method, e.g. pm_...")]
    tokens: Annotated[
        dict[str, str],
        msgspec.Meta(description="the same method's token at each provider, for a payment that may go to several"),
    ] = {}

    def at(self, provider: str) -> PaymentMethod:
        """The method as `provider` knows it."""
        return PaymentMethod(kind=self.kind, token=self.tokens.get(provider, self.token))


class Decline(Record, frozen=True, kw_only=True):
    """Why a provider or issuer said no."""

    category: DeclineCategory
    code: Annotated[str, msgspec.Meta(description="canonical decline code")]
    raw_code: Annotated[str, msgspec.Meta(description="the provider's own code, unchanged")]
    network_code: Annotated[str | None, msgspec.Meta(description="ISO 8583 response code of the card network")] = None
    network_advice_code: Annotated[str | None, msgspec.Meta(description="Mastercard merchant advice code")] = None
    message: Annotated[str, msgspec.Meta(description="a text that may be shown to the customer")] = ""


class NextAction(Record, frozen=True, kw_only=True):
    """What the customer has to do before the provider decides (3-D Secure, redirect)."""

    kind: Annotated[str, msgspec.Meta(description="redirect")] = "redirect"
    url: str
