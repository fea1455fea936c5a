"""Orders v2: made, approved by the payer, authorized or captured."""

from __future__ import annotations

from typing import Any, Final

from connectors.simulator.book import Movement
from connectors.simulator.paypal import errors, money
from connectors.simulator.paypal.account import Account, Call, Fields, refuse, text
from connectors.simulator.paypal.events import EventType
from connectors.simulator.paypal.methods import APPROVED, Method, Outcome, Stage, method_of
from connectors.simulator.paypal.payments import Payments
from connectors.simulator.paypal.records import (
    Authorization,
    Capture,
    CaptureStatus,
    Intent,
    Order,
    OrderStatus,
    Reason,
    SourceKind,
)

_LONGEST: Final = 127
_LONGEST_REFERENCE: Final = 256
_LONGEST_VAULT_ID: Final = 255
_UNIT: Final = "/purchase_units/0"


class Orders:
    """What can be done with orders."""

    def __init__(self, account: Account, payments: Payments) -> None:
        self._account = account
        self._payments = payments

    def create(self, fields: Fields, call: Call) -> Order:
        """`POST /v2/checkout/orders`: with a vaulted payment method, it is paid at once. Raises PayPalError."""
        order = self._new(fields, call)
        self._take_source(order, fields, call)
        if order.method is not None and order.status is OrderStatus.CREATED:
            self._pay(order, call)
        self._account.orders[order.id] = order
        return order

    def authorize(self, order: Order, fields: Fields, call: Call) -> Order:
        """`POST /v2/checkout/orders/{id}/authorize`. Raises PayPalError."""
        if order.intent is not Intent.AUTHORIZE:
            raise errors.issue("ACTION_DOES_NOT_MATCH_INTENT")
        if order.authorizations:
            raise errors.issue("ORDER_ALREADY_AUTHORIZED")
        return self._complete(order, fields, call)

    def capture(self, order: Order, fields: Fields, call: Call) -> Order:
        """`POST /v2/checkout/orders/{id}/capture`. Raises PayPalError."""
        if order.intent is not Intent.CAPTURE:
            raise errors.issue("ACTION_DOES_NOT_MATCH_INTENT")
        if order.captures:
            raise errors.issue("ORDER_ALREADY_CAPTURED")
        return self._complete(order, fields, call)

    def approve(self, order: Order, call: Call) -> None:
        """The payer approves; the merchant must still authorize or capture."""
        if order.status not in {OrderStatus.CREATED, OrderStatus.PAYER_ACTION_REQUIRED}:
            return
        if order.source is None:
            order.source, order.method = SourceKind.PAYPAL, method_of("paypal_ok")
        order.status = OrderStatus.APPROVED
        self._payments.tell(EventType.ORDER_APPROVED, order, call)

    def void(self, order: Order, call: Call) -> None:
        """The payer never came back: the order lapses, and nobody is told."""
        if order.status is not OrderStatus.COMPLETED:
            order.status = OrderStatus.VOIDED

    # Making one

    def _new(self, fields: Fields, call: Call) -> Order:
        if not fields.get("intent"):
            raise errors.missing("/intent")
        if fields["intent"] not in set(Intent):
            raise errors.invalid("INVALID_PARAMETER_VALUE", "/intent", str(fields["intent"]))
        unit = _unit(fields)
        amount = money.parse(unit.get("amount"), f"{_UNIT}/amount")
        return Order(
            id=self._account.references.new(),
            intent=Intent(fields["intent"]),
            value=amount.value,
            currency=amount.currency,
            created=call.now,
            key=call.key,
            reference_id=text(unit, "reference_id", _LONGEST_REFERENCE, f"{_UNIT}/reference_id") or "default",
            custom_id=text(unit, "custom_id", _LONGEST, f"{_UNIT}/custom_id"),
            invoice_id=text(unit, "invoice_id", _LONGEST, f"{_UNIT}/invoice_id"),
            description=text(unit, "description", _LONGEST, f"{_UNIT}/description"),
        )

    def _take_source(self, order: Order, fields: Fields, call: Call) -> None:
        """The payment source of a request, if it names one. Raises PayPalError."""
        found = _source(fields)
        if found is None:
            return
        if call.key is None:
            raise errors.issue("PAYPAL_REQUEST_ID_REQUIRED")
        kind, source = found
        context = _object(source.get("experience_context"))
        order.source = kind
        order.return_url = text(context, "return_url", 2_000) or order.return_url
        order.cancel_url = text(context, "cancel_url", 2_000) or order.cancel_url
        vaulted = _vaulted(kind, source)
        if vaulted is None and kind is SourceKind.PAYPAL:
            order.method, order.status = method_of("paypal_ok"), OrderStatus.PAYER_ACTION_REQUIRED
            return
        order.method = _method(kind, vaulted)
        if order.method.at(Stage.PAYMENT) is Outcome.PAYER_ACTION:
            order.status = OrderStatus.PAYER_ACTION_REQUIRED

    # Paying for it

    def _complete(self, order: Order, fields: Fields, call: Call) -> Order:
        if order.status is OrderStatus.VOIDED:
            raise errors.issue("ORDER_EXPIRED" if order.intent is Intent.AUTHORIZE else "ORDER_NOT_APPROVED")
        if order.status is OrderStatus.CREATED:
            self._take_source(order, fields, call)
            if order.method is None:
                raise errors.issue("ORDER_NOT_APPROVED")
        if order.status is OrderStatus.PAYER_ACTION_REQUIRED:
            raise errors.issue("ORDER_NOT_APPROVED")
        self._pay(order, call)
        return order

    def _pay(self, order: Order, call: Call) -> None:
        """Authorize or capture; a processor's decline completes the order as well. Raises PayPalError."""
        method = order.method
        assert method is not None
        if method.times is not None and not self._account.goes_wrong(method, order):
            order.method = method = Method(name=method.name)
        refuse(method, Stage.PAYMENT)
        if order.intent is Intent.AUTHORIZE:
            self._authorize(order, method, call)
        else:
            self._capture(order, method, call)
        order.status = OrderStatus.COMPLETED
        if not _is_declined(order):
            self._payments.tell(EventType.ORDER_COMPLETED, order, call)

    def _authorize(self, order: Order, method: Method, call: Call) -> None:
        outcome, declined = method.at(Stage.PAYMENT), method.declines(Stage.PAYMENT)
        made = Authorization(
            id=self._account.references.new(),
            order=order,
            value=order.value,
            created=call.now,
            expires=call.now + self._account.settings.hold_seconds,
            updated=call.now,
            response=declined or APPROVED,
            advice=method.advice,
            pending=outcome is Outcome.PENDING,
            ends=method.detail if outcome is Outcome.PENDING else None,
            denied=declined is not None,
        )
        self._payments.add_authorization(made, call)

    def _capture(self, order: Order, method: Method, call: Call) -> None:
        refuse(method, Stage.CAPTURE)
        stages = (Stage.PAYMENT, Stage.CAPTURE)
        outcome, declined = method.at(*stages), method.declines(*stages)
        reason = Reason.PENDING_REVIEW if method.stage is Stage.PAYMENT else Reason.ECHECK
        made = Capture(
            id=self._account.references.new(),
            order=order,
            value=order.value,
            created=call.now,
            updated=call.now,
            key=call.key,
            invoice_id=order.invoice_id,
            response=declined or APPROVED,
            advice=method.advice,
            reason=reason if outcome is Outcome.PENDING else None,
            ends=method.detail if outcome is Outcome.PENDING else None,
            declined=declined is not None,
        )
        if not made.declined:
            self._account.claim(order.invoice_id, order.id)
        movement = Movement.DECLINED if made.declined else Movement.AUTHORIZED
        self._account.book(movement, made, made.value, call.now, call.key)
        self._payments.add_capture(made, call)


def _is_declined(order: Order) -> bool:
    denied = any(each.denied for each in order.authorizations)
    return denied or any(each.status is CaptureStatus.DECLINED for each in order.captures)


def _unit(fields: Fields) -> Fields:
    """The one purchase unit. Raises PayPalError."""
    units = fields.get("purchase_units")
    if units is None:
        raise errors.missing("/purchase_units")
    if not isinstance(units, list) or not units:
        raise errors.invalid("INVALID_ARRAY_MIN_ITEMS", "/purchase_units", str(units))
    if len(units) > 1:
        raise errors.invalid("INVALID_ARRAY_MAX_ITEMS", "/purchase_units", f"{len(units)} units: the simulator takes 1")
    return _object(units[0])


def _source(fields: Fields) -> tuple[SourceKind, Fields] | None:
    sources = _object(fields.get("payment_source"))
    if not sources:
        return None
    kind = next(iter(sources))
    if len(sources) > 1 or kind not in set(SourceKind):
        raise errors.invalid("INVALID_PARAMETER_VALUE", "/payment_source", ", ".join(map(str, sources)))
    return SourceKind(kind), _object(sources[kind])


def _vaulted(kind: SourceKind, source: Fields) -> str | None:
    name = "id" if kind is SourceKind.AGREEMENT else "vault_id"
    return text(source, name, _LONGEST_VAULT_ID, f"/payment_source/{kind}/{name}")


def _method(kind: SourceKind, vaulted: str | None) -> Method:
    """A card's number is not taken: a vaulted card is. Raises PayPalError."""
    if vaulted is None:
        raise errors.missing(f"/payment_source/{kind}/{'id' if kind is SourceKind.AGREEMENT else 'vault_id'}")
    method = method_of(vaulted)
    if method is None:
        raise errors.issue("TOKEN_ID_NOT_FOUND", f"/payment_source/{kind}", vaulted)
    return method


def _object(value: Any) -> Fields:
    return value if isinstance(value, dict) else {}
