"""The API's shapes: what it takes (strict, no unknown field) and what it gives. `/openapi.json` is made from these."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline.domain.accounts import AccountClass
from pipeline.domain.projection import DisputeStatus, MoveState, OperationState, PaymentStatus
from pipeline.domain.recovery import RecoveryPoint
from pipeline.domain.timeline import EntryKind
from pipeline.messages.journal import Side
from pipeline.messages.values import DeclineCategory

Amount = Annotated[
    str,
    Field(
        description="Plain decimal string with at most as many decimals as the currency has (ISO 4217).",
        examples=["10.50"],
        max_length=32,
    ),
]
CurrencyCode = Annotated[str, Field(description="ISO 4217 alphabetic code.", examples=["USD"], max_length=16)]
Reference = Annotated[str, Field(min_length=1, max_length=255)]
Reason = Annotated[str, Field(min_length=1, max_length=500)]
MetadataKey = Annotated[str, Field(min_length=1, max_length=40)]
MetadataValue = Annotated[str, Field(max_length=500)]
Time = Annotated[str, Field(description="RFC 3339, UTC, milliseconds.", examples=["2026-01-31T12:00:00.000Z"])]


class Taken(BaseModel):
    """A request body, or a part of one."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


Token = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[!-~]+$", examples=["pm_card_visa"])]


class PaymentMethodIn(Taken):
    """How the payment is paid: the provider's token, never card data."""

    kind: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$", examples=["card"])] = "card"
    token: Token
    tokens: Annotated[
        dict[str, Token],
        Field(description='The same method at each provider, for AUTO: `{"stripe": "pm_..."}`.', max_length=8),
    ] = {}


class CreateIntentIn(Taken):
    """A payment intent: what is to be paid, by whom, through whom."""

    amount: Amount
    currency: CurrencyCode
    provider: Annotated[
        str,
        Field(
            examples=["stripe"],
            max_length=32,
            description="`AUTO` lets the routing rules choose, and go on to the next provider when one is out.",
        ),
    ]
    country: Annotated[
        str | None, Field(pattern=r"^[A-Z]{2}$", description="The customer's, ISO 3166-1; the rules may ask for it.")
    ] = None
    capture_method: Annotated[
        Literal["manual", "automatic"], Field(description="When the money of an authorization is claimed.")
    ] = "manual"
    customer_id: Reference | None = None
    merchant_reference: Annotated[
        Reference | None, Field(description="Your own name for the payment; the provider sees it.")
    ] = None
    order_id: Reference | None = None
    payment_method: PaymentMethodIn | None = None
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=50)] = {}
    return_url: Annotated[
        str | None,
        Field(max_length=2_048, description="https; where the customer goes after an action elsewhere (`/return/…`)."),
    ] = None


class SetMethodIn(Taken):
    """Choose, or change, how the payment is paid."""

    payment_method: PaymentMethodIn


class AuthorizeIn(Taken):
    """Ask for the hold; with automatic capture, for the money."""

    payment_method: PaymentMethodIn | None = None


class CaptureIn(Taken):
    """Claim held money."""

    amount: Annotated[Amount | None, Field(description="Omitted: all that is left of the hold.")] = None
    final: Annotated[bool, Field(description="Release the rest of the hold with this capture.")] = True


class VoidIn(Taken):
    """Give the hold back, or cancel what was never authorized."""

    reason: Reason | None = None


class CancelIn(Taken):
    """Call the payment off: no scheduled retry will be made, and nothing stays held."""

    reason: Reason | None = None


class RefundIn(Taken):
    """Give captured money back."""

    amount: Annotated[Amount | None, Field(description="Omitted: all that is left to refund.")] = None
    reason: Reason | None = None


class RetryNowIn(Taken):
    """Make the scheduled retry at once."""


class CompleteActionIn(Taken):
    """The customer did what was asked of them: ask the provider what it makes of it."""

    result: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=10_000,
            description="What the provider handed the customer's browser (Adyen: `redirectResult`), unchanged. Omitted "
            "where the provider hands none.",
        ),
    ] = None


class Given(BaseModel):
    """An answer, or a part of one."""


class PaymentMethodOut(Given):
    """How the payment is paid."""

    kind: str
    token: str


class DeclineOut(Given):
    """Why a provider or issuer said no."""

    category: DeclineCategory
    code: Annotated[str, Field(description="Canonical code, the same for every provider.")]
    raw_code: Annotated[str, Field(description="The provider's own code, unchanged.")]
    network_code: str | None = None
    network_advice_code: str | None = None
    message: Annotated[str, Field(description="May be shown to the customer.")] = ""


class NextActionOut(Given):
    """What the customer has to do before the provider decides."""

    kind: str
    url: str


class AttemptOut(Given):
    """One immutable authorization attempt."""

    attempt_id: str
    number: int
    state: MoveState
    payment_method: PaymentMethodOut
    started_at: Time
    provider_reference: str | None = None
    next_action: NextActionOut | None = None
    decline: DeclineOut | None = None


class HoldOut(Given):
    """What was authorized, what is left of it, until when."""

    amount: Amount
    remaining: Amount
    expires_at: Time
    provider_reference: str


class MoveOut(Given):
    """One capture, void or refund."""

    id: str
    state: MoveState
    amount: Amount
    requested_at: Time
    final: bool | None = None
    provider_reference: str | None = None
    reason: str | None = None
    detail: str | None = None


class RetryOut(Given):
    """The retry that is scheduled, when, and why. `POST …/retry-now` makes it at once, `POST …/cancel` calls it off."""

    due_at: Time
    rule: Annotated[str, Field(description="The retry policy's rule.", examples=["insufficient_funds"])]
    scheduled_at: Time
    attempt_number: Annotated[int, Field(description="The number that the attempt will have.")]
    moved_by: Annotated[
        list[str],
        Field(description="What put it off beyond the rule's delay.", examples=[["payday", "hours"]]),
    ]
    decline: Annotated[DeclineOut | None, Field(description="The decline that it answers.")] = None


class DisputeOut(Given):
    """A chargeback or inquiry."""

    dispute_id: str
    dispute_reference: Annotated[str, Field(description="The provider's id of the dispute.")]
    status: DisputeStatus
    amount: Amount
    withdrawn: Annotated[Amount, Field(description="What the provider holds back for it at present.")]
    opened_at: Time
    reason: str | None = None
    evidence_due_at: Time | None = None


class RejectionOut(Given):
    """A command that did not fit the payment's state."""

    command_id: str
    command: str
    reason: str
    detail: str
    occurred_at: Time


class IntentOut(Given):
    """A payment intent with all that happened to it."""

    payment_id: str
    status: PaymentStatus
    amount: Amount
    currency: CurrencyCode
    provider: str
    capture_method: Literal["manual", "automatic"]
    customer_id: str | None
    merchant_reference: str | None
    order_id: str | None
    payment_method: PaymentMethodOut | None
    metadata: dict[str, str]
    return_url: str | None
    created_at: Time
    updated_at: Time
    sequence: Annotated[int, Field(description="Facts so far; 0 while the intent is accepted and not yet processed.")]
    amount_captured: Amount
    amount_refunded: Amount
    hold: HoldOut | None
    retry: RetryOut | None
    decline: DeclineOut | None
    attempts: list[AttemptOut]
    captures: list[MoveOut]
    voids: list[MoveOut]
    refunds: list[MoveOut]
    disputes: list[DisputeOut]
    rejections: list[RejectionOut]


class IntentListOut(Given):
    """One page of intents, newest first."""

    data: list[IntentOut]
    next_cursor: Annotated[str | None, Field(description="Pass as `cursor` for the next page; null on the last.")]


class OperationOut(Given):
    """What became of a command."""

    operation_id: str
    payment_id: str
    kind: Annotated[str, Field(examples=["Authorize"])]
    state: Annotated[
        Literal["accepted", "started", "completed", "rejected", "failed"],
        Field(description="accepted: on its way; completed, rejected and failed are final, save that a retry may "
                          "still turn a failed authorization."),
    ]  # fmt: skip
    reason: str | None = None
    detail: str | None = None
    updated_at: Time
    intent: Annotated[str, Field(description="Where the payment is read.", examples=["/api/v1/intents/..."])]
    recovery_point: Annotated[
        RecoveryPoint | None, Field(description="The furthest point reached; a crash never goes back behind it.")
    ] = None
    recovery_points: Annotated[dict[RecoveryPoint, Time], Field(description="When each point was reached.")] = {}


class TimelineEntryOut(Given):
    """One thing that happened, and where it stands in the log."""

    at: Annotated[Time, Field(description="When the broker appended it.")]
    occurred_at: Time
    kind: EntryKind
    name: str
    summary: str
    rule: Annotated[str | None, Field(description="What decided it.")]
    id: str
    cause_id: str | None
    operation_id: str | None
    topic: str
    partition: int
    offset: int


class ProgressOut(Given):
    """One operation, and the points it has reached."""

    operation_id: str
    kind: str
    state: OperationState
    recovery_point: RecoveryPoint
    recovery_points: dict[RecoveryPoint, Time]


class TimelineOut(Given):
    """Everything that happened to a payment, in order."""

    payment_id: str
    complete: Annotated[bool, Field(description="False: the log was not read in time, or facts were not found in it.")]
    missing_facts: list[str]
    entries: list[TimelineEntryOut]
    operations: list[ProgressOut]


class FieldErrorOut(Given):
    """What is wrong with one field."""

    field: str
    code: str
    detail: str


class ProblemOut(Given):
    """Problem details (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: Annotated[str, Field(description="Stable; a page that explains it.", examples=["/problems/unknown_currency"])]
    title: str
    status: int
    detail: str | None = None
    errors: list[FieldErrorOut] | None = None
    decline: Annotated[DeclineOut | None, Field(description="With `payment_declined`.")] = None
    intent: Annotated[IntentOut | None, Field(description="With 402, and with 409 for the payment's state.")] = None


class AccountOut(Given):
    """An account, as far as your own entries move it. `balance` is debit minus credit."""

    model_config = ConfigDict(populate_by_name=True)

    account_id: Annotated[str, Field(examples=["merchant_payable:acme:USD"])]
    kind: Annotated[str, Field(examples=["merchant_payable"])]
    account_class: Annotated[AccountClass, Field(alias="class")]
    normal_side: Annotated[Side, Field(description="The side on which the account grows.")]
    currency: CurrencyCode
    debit: Amount
    credit: Amount
    balance: Amount


class AccountListOut(Given):
    """All your accounts."""

    data: list[AccountOut]


class BalanceOut(AccountOut):
    """An account as it stood."""

    at: Time


class PostingOut(Given):
    """One leg of a journal entry."""

    account_id: str
    side: Side
    amount: Amount
    currency: CurrencyCode


class RecordOut(Given):
    """Where the log has it."""

    topic: str
    partition: int
    offset: int


class EntryOut(Given):
    """A journal entry: what a fact of a payment posted, balanced in each currency."""

    entry_id: str
    payment_id: str
    fact_id: Annotated[str, Field(description="The fact that posted it; the event on payments.* derives from it.")]
    occurred_at: Time
    description: Annotated[str, Field(description="The fact's kind.", examples=["PaymentCaptured"])]
    postings: list[PostingOut]
    reverses: Annotated[str | None, Field(description="The entry that this one corrects by its opposite.")] = None
    reversed_by: Annotated[str | None, Field(description="The entry that corrects this one.")] = None
    reason: Annotated[str | None, Field(description="Why it reverses another.")] = None
    record: RecordOut


class EntryListOut(Given):
    """One page of entries, newest first."""

    data: list[EntryOut]
    next_cursor: Annotated[str | None, Field(description="Pass as `cursor` for the next page; null on the last.")]


class TotalOut(Given):
    """The sums of a currency. The balance is zero."""

    currency: CurrencyCode
    debit: Amount
    credit: Amount
    balance: Amount


class TrialBalanceOut(Given):
    """Your books at the end of a day (UTC)."""

    date: Annotated[str, Field(examples=["2026-01-31"])]
    lines: list[AccountOut]
    totals: list[TotalOut]


class PartOut(Given):
    """One part that the gateway needs."""

    ok: bool
    detail: str | None = None


class ReadyOut(Given):
    """Whether this instance can take requests, and which part fails if not."""

    ready: bool
    parts: dict[str, PartOut]


class HealthOut(Given):
    """The process runs."""

    status: Literal["ok"]


class ReceivedOut(Given):
    """A webhook was taken."""

    received: Annotated[int, Field(description="Reports and events passed on.")]


Model = type[BaseModel]
Json = dict[str, Any]
FINAL_STATES = frozenset({OperationState.COMPLETED, OperationState.REJECTED, OperationState.FAILED})
