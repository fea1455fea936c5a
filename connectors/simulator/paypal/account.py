"""One PayPal business account: its records, its book, and what orders, payments and disputes have in common."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, TypeVar

from connectors.simulator.book import Entry, Movement
from connectors.simulator.parts import Parts
from connectors.simulator.paypal import errors
from connectors.simulator.paypal.events import Event
from connectors.simulator.paypal.methods import Method, Outcome, Stage
from connectors.simulator.paypal.records import (
    Authorization,
    Capture,
    Dispute,
    Order,
    Pending,
    References,
    Refund,
)
from connectors.simulator.settings import PayPalSettings

PROVIDER: Final = "paypal"

Fields = dict[str, Any]
Record = TypeVar("Record")


class Call:
    """What causes changes: an API request, or nobody's. Collects its events, and what is still to be decided."""

    __slots__ = ("base_url", "events", "key", "later", "now")

    def __init__(self, now: int, key: str | None = None, base_url: str = "") -> None:
        self.now = now
        self.key = key
        self.base_url = base_url
        self.events: list[Event] = []
        self.later: list[Pending] = []


class Account:
    """Every record by its id."""

    def __init__(self, settings: PayPalSettings, parts: Parts, references: References) -> None:
        self.settings = settings
        self.references = references
        self._parts = parts
        self.orders: dict[str, Order] = {}
        self.authorizations: dict[str, Authorization] = {}
        self.captures: dict[str, Capture] = {}
        self.refunds: dict[str, Refund] = {}
        self.disputes: dict[str, Dispute] = {}
        self._invoices: dict[str, str] = {}
        self._attempts: Counter[tuple[str, str]] = Counter()

    def reset(self) -> None:
        """An account without a history."""
        for kept in (self.orders, self.authorizations, self.captures, self.refunds, self.disputes, self._invoices):
            kept.clear()
        self._attempts.clear()

    # Look-ups; each raises PayPalError

    def order(self, name: str) -> Order:
        """The order."""
        return _found(self.orders, name)

    def authorization(self, name: str) -> Authorization:
        """The authorization."""
        return _found(self.authorizations, name)

    def capture(self, name: str) -> Capture:
        """The capture."""
        return _found(self.captures, name)

    def refund(self, name: str) -> Refund:
        """The refund."""
        return _found(self.refunds, name)

    def dispute(self, name: str) -> Dispute:
        """The dispute."""
        return _found(self.disputes, name)

    def order_of(self, name: str) -> Order | None:
        """The order that something belongs to, whatever it is."""
        if name in self.orders:
            return self.orders[name]
        found = self.authorizations.get(name) or self.captures.get(name)
        if found is not None:
            return found.order
        refund, dispute = self.refunds.get(name), self.disputes.get(name)
        of = refund or dispute
        return of.capture.order if of else None

    # What all rules need

    def goes_wrong(self, method: Method, order: Order) -> bool:
        """Whether a method that goes wrong for the first `times` orders of a payment does so now; counts."""
        if method.times is None:
            return True
        name = order.ours or order.custom_id or order.id
        self._attempts[name, method.name] += 1
        return self._attempts[name, method.name] <= method.times

    def claim(self, invoice_id: str | None, owner: str) -> None:
        """An invoice is paid once: PayPal's setting Block Accidental Payments. Raises PayPalError."""
        if invoice_id is None:
            return
        if self._invoices.setdefault(invoice_id, owner) != owner:
            raise errors.issue("DUPLICATE_INVOICE_ID", "/invoice_id", invoice_id)

    def book(self, movement: Movement, about: Pending | Dispute, value: int, now: int, key: str | None) -> None:
        """Write down what moved of an authorization, a capture, a refund or a dispute."""
        order = about.order
        if value:
            entry = Entry(PROVIDER, movement, value, order.currency, order.id, about.id, order.ours, key, now)
            self._parts.book.record(entry)

    def release(self, authorization: Authorization, now: int, key: str | None = None) -> None:
        """Give back what is left of the hold."""
        left = authorization.left
        authorization.released += left
        self.book(Movement.VOIDED, authorization, left, now, key)


def refuse(method: Method, *stages: Stage) -> None:
    """Refuse what the method has PayPal refuse at these stages. Raises PayPalError."""
    if method.at(*stages) is Outcome.ISSUE and method.detail is not None:
        raise errors.issue(method.detail)


def text(fields: Fields, name: str, longest: int, field: str | None = None) -> str | None:
    """An optional text. Raises PayPalError."""
    value = fields.get(name)
    if value is None:
        return None
    field = field or f"/{name}"
    if not isinstance(value, str):
        raise errors.invalid("INVALID_PARAMETER_SYNTAX", field, str(value))
    if not 0 < len(value) <= longest:
        raise errors.invalid("INVALID_STRING_LENGTH", field, value)
    return value


def _found(kept: dict[str, Record], name: str) -> Record:
    found = kept.get(name)
    if found is None:
        raise errors.not_found()
    return found
