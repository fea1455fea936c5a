"""The parts of PayPal's objects that we read. Sources: checkout_orders_v2, payments_payment_v2, customer_disputes_v1
and notifications_webhooks_v1 in paypal/paypal-rest-api-specifications.

What a status may leave out has a default; an unknown status is no error here: what it means is `answers`' to say.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec


class Money(msgspec.Struct, frozen=True):
    """`value` is a decimal string."""

    currency_code: str
    value: str


class Link(msgspec.Struct, frozen=True):
    href: str
    rel: str = ""


class ProcessorResponse(msgspec.Struct, frozen=True):
    """What the card processor said. `payment_advice_code` is Mastercard's or Visa's."""

    response_code: str | None = None
    payment_advice_code: str | None = None


class StatusDetails(msgspec.Struct, frozen=True):
    reason: str | None = None


class RelatedIds(msgspec.Struct, frozen=True):
    order_id: str | None = None
    authorization_id: str | None = None
    capture_id: str | None = None


class SupplementaryData(msgspec.Struct, frozen=True):
    related_ids: RelatedIds = RelatedIds()


class Movement(msgspec.Struct, frozen=True):
    """An authorization, a capture or a refund: they share what we read. `custom_id` and `invoice_id` are ours; a
    capture has the order's `custom_id`, and an invoice number of its own where it was given one.
    """

    id: str
    status: str = ""
    status_details: StatusDetails = StatusDetails()
    amount: Money | None = None
    custom_id: str | None = None
    invoice_id: str | None = None
    expiration_time: str | None = None
    processor_response: ProcessorResponse = ProcessorResponse()
    supplementary_data: SupplementaryData = SupplementaryData()
    links: list[Link] = []

    @property
    def of(self) -> str | None:
        """The id of what it was made from: a refund's capture, a capture's authorization."""
        up = next((link.href for link in self.links if link.rel == "up"), None)
        return up.rstrip("/").rpartition("/")[2] if up else None


class Payments(msgspec.Struct, frozen=True):
    authorizations: list[Movement] = []
    captures: list[Movement] = []
    refunds: list[Movement] = []


class PurchaseUnit(msgspec.Struct, frozen=True):
    custom_id: str | None = None
    payments: Payments = Payments()


class Card(msgspec.Struct, frozen=True):
    brand: str = ""


class PaymentSource(msgspec.Struct, frozen=True):
    """What an order was paid with; only a card has a brand."""

    card: Card | None = None


class Order(msgspec.Struct, frozen=True):
    """An order with one purchase unit, as we make them."""

    id: str
    payment_source: PaymentSource | None = None
    status: str = ""
    intent: str = ""
    purchase_units: list[PurchaseUnit] = []
    links: list[Link] = []

    @property
    def payments(self) -> Payments:
        """What was authorized, captured and refunded of it."""
        return self.purchase_units[0].payments if self.purchase_units else Payments()

    @property
    def brand(self) -> str:
        """The card network's name, such as VISA; empty for what is no card."""
        card = self.payment_source.card if self.payment_source else None
        return card.brand if card else ""

    @property
    def action_url(self) -> str | None:
        """Where the payer has to go."""
        found = {link.rel: link.href for link in self.links}
        return found.get("payer-action") or found.get("approve")


class ErrorDetail(msgspec.Struct, frozen=True):
    issue: str = ""
    description: str = ""


class ServiceError(msgspec.Struct, frozen=True):
    """The body of an error response; OAuth's has `error` instead of a name."""

    name: str = ""
    message: str = ""
    debug_id: str = ""
    error: str = ""
    details: list[ErrorDetail] = []

    @property
    def issue(self) -> str:
        """The most exact code there is."""
        return next((detail.issue for detail in self.details if detail.issue), self.name or self.error)


class Token(msgspec.Struct, frozen=True):
    """The answer of `POST /v1/oauth2/token`; `expires_in` is in seconds."""

    access_token: str
    expires_in: int = 0


class Event(msgspec.Struct, frozen=True):
    """A webhook's body."""

    id: str
    event_type: str
    resource: msgspec.Raw = msgspec.Raw(b"{}")


class DisputedTransaction(msgspec.Struct, frozen=True):
    """`seller_transaction_id` is the capture's id."""

    seller_transaction_id: str | None = None


class DisputeOutcome(msgspec.Struct, frozen=True):
    outcome_code: str = ""


class Dispute(msgspec.Struct, frozen=True):
    dispute_id: str
    status: str = ""
    reason: str | None = None
    dispute_amount: Money | None = None
    dispute_outcome: DisputeOutcome = DisputeOutcome()
    disputed_transactions: list[DisputedTransaction] = []
    seller_response_due_date: str | None = None


class Verification(msgspec.Struct, frozen=True):
    """The answer of `POST /v1/notifications/verify-webhook-signature`."""

    verification_status: str = ""


Thing = TypeVar("Thing")


def parse(body: bytes | str | msgspec.Raw, kind: type[Thing]) -> Thing:
    """`body` as `kind`. Raises msgspec.MsgspecError (DecodeError, ValidationError)."""
    return msgspec.json.decode(body, type=kind)
