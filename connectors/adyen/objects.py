"""The parts of Adyen's objects that we read. Sources: CheckoutService-v72 and Webhooks-v1 in Adyen/adyen-openapi.

What webhooks may leave out has a default: which fields there are depends on the event and on the account's settings.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

import msgspec


class ResultCode(StrEnum):
    """`resultCode` of a payment."""

    AUTHORISED = "Authorised"
    PARTIALLY_AUTHORISED = "PartiallyAuthorised"
    REFUSED = "Refused"
    CANCELLED = "Cancelled"
    ERROR = "Error"
    RECEIVED = "Received"
    PENDING = "Pending"
    REDIRECT_SHOPPER = "RedirectShopper"
    IDENTIFY_SHOPPER = "IdentifyShopper"
    CHALLENGE_SHOPPER = "ChallengeShopper"
    PRESENT_TO_SHOPPER = "PresentToShopper"


class Amount(msgspec.Struct, frozen=True):
    value: int
    currency: str


class Action(msgspec.Struct, frozen=True):
    type: str = ""
    url: str | None = None


class Payment(msgspec.Struct, frozen=True, rename="camel"):
    """The answer of `POST /payments`, and of `POST /payments/details`."""

    result_code: str
    psp_reference: str | None = None
    merchant_reference: str | None = None
    amount: Amount | None = None
    refusal_reason: str | None = None
    refusal_reason_code: str | None = None
    action: Action | None = None
    additional_data: dict[str, str | None] = {}


class Modification(msgspec.Struct, frozen=True, rename="camel"):
    """The answer of a capture, cancel or refund: accepted, and decided by webhook."""

    psp_reference: str
    status: str
    payment_psp_reference: str | None = None


class ServiceError(msgspec.Struct, frozen=True, rename="camel"):
    """The body of an error response. `error_type`: internal, validation, security, configuration."""

    error_code: str = ""
    error_type: str = ""
    message: str = ""
    psp_reference: str | None = None


class EventAmount(msgspec.Struct, frozen=True):
    value: int | None = None
    currency: str | None = None


class Item(msgspec.Struct, frozen=True, rename="camel"):
    """A `NotificationRequestItem`: one event. `success` is the text `true` or `false`."""

    event_code: str
    psp_reference: str
    success: str
    merchant_account_code: str | None = None
    merchant_reference: str | None = None
    original_reference: str | None = None
    amount: EventAmount | None = None
    reason: str | None = None
    additional_data: dict[str, str | None] = {}


class Envelope(msgspec.Struct, frozen=True):
    """What `notificationItems` is a list of."""

    item: msgspec.Raw = msgspec.field(name="NotificationRequestItem")


class Notification(msgspec.Struct, frozen=True, rename="camel"):
    """A webhook's body."""

    live: str
    notification_items: list[Envelope]


Thing = TypeVar("Thing")


def parse(body: bytes | str | msgspec.Raw, kind: type[Thing]) -> Thing:
    """`body` as `kind`. Raises msgspec.MsgspecError (DecodeError, ValidationError)."""
    return msgspec.json.decode(body, type=kind)
