"""What somebody asks of a payment, through the API or on `payments.commands`."""

from __future__ import annotations

from typing import Annotated

import msgspec

from pipeline.messages.base import Input, Minor
from pipeline.messages.values import CaptureMethod, PaymentMethod


class Command(Input, frozen=True, kw_only=True):
    """A request by a merchant. The same `command_id` again is the same request and changes nothing."""

    command_id: Annotated[str, msgspec.Meta(description="idempotency key of the command, at most 255 characters")]
    merchant_id: str

    @property
    def input_id(self) -> str:
        return self.command_id


class CreateIntent(Command, frozen=True, kw_only=True):
    """Make a payment intent: what is to be paid, by whom, through whom."""

    amount: Minor
    currency: Annotated[str, msgspec.Meta(description="ISO 4217 alphabetic code")]
    provider: Annotated[str, msgspec.Meta(description="stripe, adyen or paypal; AUTO lets the rules choose")]
    fallbacks: Annotated[
        list[str], msgspec.Meta(description="whom to ask in turn when the provider is out; the rules choose them")
    ] = []
    capture_method: CaptureMethod
    country: Annotated[str | None, msgspec.Meta(description="the customer's, ISO 3166-1 alpha-2")] = None
    customer_id: str | None = None
    merchant_reference: Annotated[str | None, msgspec.Meta(description="the merchant's own name for the payment")] = (
        None
    )
    order_id: Annotated[str | None, msgspec.Meta(description="the order that is paid for")] = None
    payment_method: PaymentMethod | None = None
    metadata: dict[str, str] = {}
    return_url: Annotated[str | None, msgspec.Meta(description="where the customer goes after an action elsewhere")] = (
        None
    )


class SetMethod(Command, frozen=True, kw_only=True):
    """Choose, or change, how the payment is paid."""

    payment_method: PaymentMethod


class Authorize(Command, frozen=True, kw_only=True):
    """Ask for the hold; with automatic capture, for the money."""

    payment_method: PaymentMethod | None = None


class Capture(Command, frozen=True, kw_only=True):
    """Claim held money. `amount` null is what is left; `final` releases the rest of the hold."""

    amount: Minor | None = None
    final: bool = True


class Void(Command, frozen=True, kw_only=True):
    """Give the hold back, or cancel what was never authorized."""

    reason: str | None = None


class Refund(Command, frozen=True, kw_only=True):
    """Give captured money back. `amount` null is all that is left."""

    amount: Minor | None = None
    reason: str | None = None


class RetryNow(Command, frozen=True, kw_only=True):
    """Make the scheduled retry at once."""


class CompleteAction(Command, frozen=True, kw_only=True):
    """The customer did what was asked of them, as far as the sender knows: ask the provider what it makes of it."""

    result: Annotated[
        str | None,
        msgspec.Meta(description="what the provider handed the customer's browser, opaque; never card data"),
    ] = None


COMMANDS: tuple[type[Command], ...] = (
    CreateIntent,
    SetMethod,
    Authorize,
    Capture,
    Void,
    Refund,
    RetryNow,
    CompleteAction,
)
