"""Payments v2: what becomes of authorizations, captures and refunds, and what PayPal decides about them later."""

from __future__ import annotations

from typing import Final

from connectors.simulator.book import Movement
from connectors.simulator.paypal import errors, events, money
from connectors.simulator.paypal.account import Account, Call, Fields, refuse, text
from connectors.simulator.paypal.disputes import Disputes
from connectors.simulator.paypal.events import EventType
from connectors.simulator.paypal.methods import APPROVED, Method, Outcome, Stage
from connectors.simulator.paypal.records import (
    Authorization,
    AuthorizationStatus,
    Capture,
    Order,
    Pending,
    Reason,
    Refund,
    RefundStatus,
)

MOST_CAPTURES: Final = 10
"""Of one authorization."""
OVERAGE_PERCENT: Final = 115
"""All captures together may be so much of the authorization: PayPal's default."""
_LONGEST: Final = 127
_LONGEST_NOTE: Final = 255


class Payments:
    """What can be done with authorizations, captures and refunds."""

    def __init__(self, account: Account, disputes: Disputes) -> None:
        self._account = account
        self._disputes = disputes

    def tell(self, kind: EventType, about: Order | Authorization | Capture | Refund, call: Call) -> None:
        """An event about a resource as it is now."""
        call.events.append(events.of(kind, about, self._account.references.new(), call.now, call.base_url))

    # Authorizations

    def add_authorization(self, made: Authorization, call: Call) -> None:
        """A new one: it holds money, waits to be decided, or is denied. PayPal has no event of a denied one."""
        self._account.authorizations[made.id] = made
        made.order.authorizations.append(made)
        if made.denied:
            self._account.book(Movement.DECLINED, made, made.value, call.now, call.key)
            return
        if made.pending:
            call.later.append(made)
        else:
            self._account.book(Movement.AUTHORIZED, made, made.value, call.now, call.key)
        self.tell(EventType.AUTHORIZATION_CREATED, made, call)

    def capture(self, held: Authorization, fields: Fields, call: Call) -> Capture:
        """`POST /v2/payments/authorizations/{id}/capture`. Raises PayPalError."""
        self.expire_if_due(held, call)
        _check_open(held)
        value = _amount(fields, held.order, "AUTH_CAPTURE_CURRENCY_MISMATCH", held.left)
        _check_overage(held, value)
        invoice = text(fields, "invoice_id", _LONGEST)
        text(fields, "note_to_payer", _LONGEST_NOTE)
        made = self._new_capture(held, value, call, invoice=invoice, final=_flag(fields, "final_capture"))
        if not made.declined:
            self._account.claim(made.invoice_id, made.id if invoice else held.order.id)
        self.add_capture(made, call)
        return made

    def void(self, held: Authorization, call: Call) -> Authorization:
        """`POST /v2/payments/authorizations/{id}/void`. Raises PayPalError."""
        self.expire_if_due(held, call)
        if held.voided:
            raise errors.issue("PREVIOUSLY_VOIDED")
        if held.denied:
            raise errors.issue("CANNOT_BE_VOIDED")
        if held.status is AuthorizationStatus.CAPTURED:
            raise errors.issue("PREVIOUSLY_CAPTURED")
        refuse(_method(held.order), Stage.VOID)
        self._void(held, call)
        return held

    def expire(self, held: Authorization, call: Call) -> None:
        """The authorization period is over: PayPal voids it."""
        if not (held.voided or held.denied or held.status is AuthorizationStatus.CAPTURED):
            held.expired = True
            self._void(held, call)

    def expire_if_due(self, held: Authorization, call: Call) -> None:
        """The same, where the clock says so."""
        if call.now >= held.expires:
            self.expire(held, call)

    def _void(self, held: Authorization, call: Call) -> None:
        self._account.release(held, call.now, call.key)
        held.voided, held.pending, held.updated = True, False, call.now
        self.tell(EventType.AUTHORIZATION_VOIDED, held, call)

    # Captures

    def _new_capture(self, held: Authorization, value: int, call: Call, *, invoice: str | None, final: bool) -> Capture:
        method = _method(held.order)
        refuse(method, Stage.CAPTURE)
        outcome, declined = method.at(Stage.CAPTURE), method.declines(Stage.CAPTURE)
        return Capture(
            id=self._account.references.new(),
            order=held.order,
            value=value,
            created=call.now,
            updated=call.now,
            key=call.key,
            authorization=held,
            invoice_id=invoice or held.order.invoice_id,
            final=final,
            response=declined or APPROVED,
            reason=Reason.ECHECK if outcome is Outcome.PENDING else None,
            ends=method.detail if outcome is Outcome.PENDING else None,
            declined=declined is not None,
        )

    def add_capture(self, made: Capture, call: Call) -> None:
        """A new one: it moves money, waits to be decided, or is declined."""
        self._account.captures[made.id] = made
        made.order.captures.append(made)
        if made.declined:
            self.tell(EventType.CAPTURE_DECLINED, made, call)
            return
        if made.authorization is not None:
            self._take_from(made.authorization, made, call)
        if made.pending:
            call.later.append(made)
            self.tell(EventType.CAPTURE_PENDING, made, call)
        else:
            self._captured(made, call)

    def _take_from(self, held: Authorization, made: Capture, call: Call) -> None:
        held.captured += made.value
        held.captures += 1
        held.updated = call.now
        if made.final:
            self._account.release(held, call.now, call.key)
            held.closed = True

    def _captured(self, made: Capture, call: Call) -> None:
        self._account.book(Movement.CAPTURED, made, made.value, call.now, made.key)
        self.tell(EventType.CAPTURE_COMPLETED, made, call)
        outcome = _method(made.order).at(Stage.CAPTURE)
        if outcome is Outcome.REVERSED:
            self.reverse(made, call)
        if outcome is Outcome.DISPUTED:
            self._disputes.open(made, call)

    def reverse(self, made: Capture, call: Call) -> None:
        """PayPal takes back what is left of a capture."""
        left = made.value - made.refunded
        if left and not (made.pending or made.declined):
            taken = self._new_refund(made, left, call)
            self._give_back(taken, EventType.CAPTURE_REVERSED, call)

    # Refunds

    def refund(self, made: Capture, fields: Fields, call: Call) -> Refund:
        """`POST /v2/payments/captures/{id}/refund`. Raises PayPalError."""
        _check_refundable(made)
        left = made.value - made.refunded
        value = _amount(fields, made.order, "REFUND_CAPTURE_CURRENCY_MISMATCH", left)
        if value > left:
            raise errors.issue(
                "REFUND_AMOUNT_EXCEEDED", "/amount/value", money.shown(value, made.order.currency)["value"]
            )
        if made.dispute is not None and made.dispute.outcome is None and value < made.value:
            raise errors.issue("TRANSACTION_DISPUTED")
        invoice, custom = text(fields, "invoice_id", _LONGEST), text(fields, "custom_id", _LONGEST)
        note = text(fields, "note_to_payer", _LONGEST_NOTE)
        method = _method(made.order)
        refuse(method, Stage.REFUND)
        refund = self._new_refund(made, value, call)
        self._account.claim(invoice, refund.id)
        refund.custom_id, refund.invoice_id = custom or made.order.custom_id, invoice or made.invoice_id
        refund.note = note
        self._send(refund, method, call)
        return refund

    def _new_refund(self, made: Capture, value: int, call: Call) -> Refund:
        refund = Refund(
            id=self._account.references.new(),
            capture=made,
            value=value,
            created=call.now,
            updated=call.now,
            key=call.key,
            custom_id=made.order.custom_id,
            invoice_id=made.invoice_id,
        )
        self._account.refunds[refund.id] = refund
        made.order.refunds.append(refund)
        return refund

    def _send(self, refund: Refund, method: Method, call: Call) -> None:
        match method.at(Stage.REFUND):
            case Outcome.FAILED:
                refund.status = RefundStatus.FAILED
                self.tell(EventType.REFUND_FAILED, refund, call)
            case Outcome.PENDING:
                refund.status, refund.ends = RefundStatus.PENDING, method.detail
                refund.capture.refunded += refund.value
                call.later.append(refund)
                self.tell(EventType.REFUND_PENDING, refund, call)
            case _:
                self._give_back(refund, EventType.CAPTURE_REFUNDED, call)

    def _give_back(self, refund: Refund, kind: EventType, call: Call) -> None:
        """The money goes back; a pending refund's was set aside before."""
        made = refund.capture
        if not refund.pending:
            made.refunded += refund.value
        made.returned += refund.value
        made.updated = refund.updated = call.now
        refund.status, refund.total = RefundStatus.COMPLETED, made.returned
        self._account.book(Movement.REFUNDED, refund, refund.value, call.now, refund.key)
        self.tell(kind, refund, call)

    # What is decided later

    def decide(self, pending: Pending, call: Call, *, success: bool) -> None:
        """What was pending ends; nothing happens to what is decided."""
        if not pending.pending:
            return
        pending.updated = call.now
        match pending:
            case Authorization():
                self._decide_authorization(pending, call, success)
            case Capture():
                self._decide_capture(pending, call, success)
            case Refund():
                self._decide_refund(pending, call, success)

    def _decide_authorization(self, held: Authorization, call: Call, success: bool) -> None:
        held.pending = False
        if success:
            self._account.book(Movement.AUTHORIZED, held, held.value, call.now, held.order.key)
            self.tell(EventType.AUTHORIZATION_CREATED, held, call)
        else:
            held.denied = True
            self._account.book(Movement.DECLINED, held, held.value, call.now, held.order.key)
            self.tell(EventType.AUTHORIZATION_VOIDED, held, call)

    def _decide_capture(self, made: Capture, call: Call, success: bool) -> None:
        if success:
            made.reason = None
            self._captured(made, call)
            return
        made.declined = True
        self._account.book(Movement.VOIDED, made, _returned(made), call.now, made.key)
        self.tell(EventType.CAPTURE_DENIED, made, call)

    def _decide_refund(self, refund: Refund, call: Call, success: bool) -> None:
        if success:
            self._give_back(refund, EventType.CAPTURE_REFUNDED, call)
            return
        refund.status = RefundStatus.FAILED
        refund.capture.refunded -= refund.value
        self.tell(EventType.REFUND_FAILED, refund, call)


def _method(order: Order) -> Method:
    assert order.method is not None
    return order.method


def _returned(denied: Capture) -> int:
    """What a denied capture gives back to the payer: nothing, where it goes back to a hold that is still there."""
    held = denied.authorization
    if held is None:
        return denied.value
    held.captured -= denied.value
    if not (held.closed or held.voided):
        return 0
    returned = held.uncaptured
    held.released += returned
    return returned


def _check_open(held: Authorization) -> None:
    """Raises PayPalError."""
    if held.expired:
        raise errors.issue("AUTHORIZATION_EXPIRED")
    if held.voided:
        raise errors.issue("AUTHORIZATION_VOIDED")
    if held.denied:
        raise errors.issue("AUTHORIZATION_DENIED")
    if held.pending:
        raise errors.issue("TRANSACTION_REFUSED")
    if held.status is AuthorizationStatus.CAPTURED:
        raise errors.issue("AUTHORIZATION_ALREADY_CAPTURED")
    if held.captures >= MOST_CAPTURES:
        raise errors.issue("MAX_CAPTURE_COUNT_EXCEEDED")


def _check_overage(held: Authorization, value: int) -> None:
    """Raises PayPalError."""
    if (held.captured + value) * 100 > held.value * OVERAGE_PERCENT:
        shown = money.shown(value, held.order.currency)["value"]
        raise errors.issue("MAX_CAPTURE_AMOUNT_EXCEEDED", "/amount/value", shown)


def _check_refundable(made: Capture) -> None:
    """Raises PayPalError."""
    if made.pending:
        raise errors.issue("PENDING_CAPTURE")
    if made.declined:
        raise errors.issue("REFUND_NOT_ALLOWED")
    if made.refunded >= made.value:
        raise errors.issue("CAPTURE_FULLY_REFUNDED")
    if made.dispute is not None and made.dispute.is_lost:
        raise errors.issue("REFUND_NOT_PERMITTED_DUE_TO_CHARGEBACK")


def _amount(fields: Fields, order: Order, mismatch: str, default: int) -> int:
    """The request's amount, in the order's currency; all there is, if it names none. Raises PayPalError."""
    if fields.get("amount") is None:
        return default
    amount = money.parse(fields["amount"], "/amount")
    if amount.currency != order.currency:
        raise errors.issue(mismatch, "/amount/currency_code", amount.currency)
    return amount.value


def _flag(fields: Fields, name: str) -> bool:
    """Raises PayPalError."""
    value = fields.get(name, False)
    if not isinstance(value, bool):
        raise errors.invalid("INVALID_PARAMETER_SYNTAX", f"/{name}", str(value))
    return value
