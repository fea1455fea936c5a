"""The API's shapes for webhooks to merchants."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

from pydantic import AfterValidator, Field, WithJsonSchema

from gateway.schemas import Given, Taken, Time
from pipeline.domain.deliveries import (
    ALERT_TYPES,
    EVENT_TYPES,
    EVERY_EVENT,
    PING,
    AttemptError,
    DeliveryStatus,
    DisabledReason,
)

CHOICES: Final = (EVERY_EVENT, *EVENT_TYPES, *ALERT_TYPES)


def _choice(text: str) -> str:
    if text not in CHOICES:
        raise ValueError("one of: " + ", ".join(CHOICES))
    return text


Url = Annotated[
    str,
    Field(min_length=1, max_length=2_048, examples=["https://shop.example/payments"]),
    Field(description="https; a name or public address, without user information and fragment."),
]
EventType = Annotated[str, AfterValidator(_choice), WithJsonSchema({"type": "string", "enum": list(CHOICES)})]
EventTypes = Annotated[
    list[EventType],
    Field(
        min_length=1,
        max_length=len(CHOICES),
        description=f"`{EVERY_EVENT}` is every `payments.` type, later ones too.",
    ),
]


class CreateEndpointIn(Taken):
    """Where events are to be sent."""

    url: Url
    event_types: EventTypes = [EVERY_EVENT]


class UpdateEndpointIn(Taken):
    """What is to be changed; what is left out, or null, stays."""

    url: Url | None = None
    event_types: EventTypes | None = None
    enabled: Annotated[
        bool | None, Field(description="Enabling sends what is pending, and forgets how long the endpoint failed.")
    ] = None


class NothingIn(Taken):
    """There is nothing to say."""


class EndpointOut(Given):
    """A webhook endpoint."""

    endpoint_id: str
    url: str
    event_types: list[str]
    enabled: bool
    disabled_reason: Annotated[
        DisabledReason | None,
        Field(description="merchant: by you; gone: it answered 410; failing: it took nothing for five days."),
    ]
    disabled_at: Time | None
    failing_since: Annotated[Time | None, Field(description="The first failed attempt since one that succeeded.")]
    old_secret_expires_at: Annotated[
        Time | None, Field(description="Until then a secret that was rotated out signs as well.")
    ]
    created_at: Time
    updated_at: Time


class EndpointWithSecretOut(EndpointOut):
    """A webhook endpoint with its new signing secret."""

    secret: Annotated[
        str | None,
        Field(
            description="Shown in this answer and in none but its repeat under the same Idempotency-Key; "
            "null there once it is no longer in use.",
            examples=["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"],
        ),
    ]


class EndpointListOut(Given):
    """A merchant's webhook endpoints, oldest first."""

    data: list[EndpointOut]


class DeliveryAttemptState(StrEnum):
    """What is known of an attempt."""

    UNDER_WAY = "under_way"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    """Its process ended before the answer was recorded; the receiver may have got it."""


class DeliveryAttemptOut(Given):
    """One request to the endpoint."""

    number: int
    state: DeliveryAttemptState
    started_at: Time
    ended_at: Time | None
    http_status: int | None
    error: AttemptError | None


class DeliveryOut(Given):
    """One event for one endpoint."""

    delivery_id: str
    event_id: Annotated[str, Field(description="The header `webhook-id`, the same in every attempt and replay.")]
    event_type: Annotated[str, Field(examples=["payments.captured", PING])]
    payment_id: str | None
    occurred_at: Time
    status: DeliveryStatus
    next_attempt_at: Annotated[
        Time | None, Field(description="While one is under way: when it counts as lost. Null while disabled.")
    ]
    created_at: Time
    attempt_count: int
    attempts: Annotated[list[DeliveryAttemptOut], Field(description="The newest twenty, oldest first.")]


class DeliveryListOut(Given):
    """One page of deliveries, newest first."""

    data: list[DeliveryOut]
    next_cursor: str | None


class ReplayOut(Given):
    """What is delivered again."""

    deliveries: Annotated[int, Field(description="Deliveries that are pending now and were not before.")]
    continue_since: Annotated[
        Time | None, Field(description="There is more: replay again since then. Null when there is not.")
    ]
