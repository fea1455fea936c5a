"""One Adyen merchant account: what can be done with it, and what comes of it.

Captures, cancels and refunds are accepted at once and decided later, each by an event. A decision is made once,
whoever makes it: the clock, a webhook that is to come before the answer, or `/_sim/adyen/settle`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from connectors.simulator.adyen import errors, items
from connectors.simulator.adyen.batches import Batches
from connectors.simulator.adyen.items import Event
from connectors.simulator.adyen.methods import Later, Method, Result, method_of
from connectors.simulator.adyen.payments import Kind, Modification, Payment, References, State
from connectors.simulator.book import Entry, Movement
from connectors.simulator.parts import Parts
from connectors.simulator.settings import AdyenSettings

PROVIDER: Final = "adyen"
_TOO_LITTLE: Final = "Insufficient balance on payment"
_REFUSED: Final = "Refused by the simulator"
_CURRENCY: Final = 3

Fields = dict[str, Any]


class Call:
    """What causes changes: an API request, or nobody's. Collects its events, and what is still to be decided."""

    __slots__ = ("base_url", "events", "key", "later", "now")

    def __init__(self, now: int, key: str | None = None, base_url: str = "") -> None:
        self.now = now
        self.key = key
        self.base_url = base_url
        self.events: list[Event] = []
        self.later: list[Modification] = []


class Account:
    """Payments by `pspReference`, and the rules."""

    def __init__(self, settings: AdyenSettings, parts: Parts, references: References) -> None:
        self._settings = settings
        self._parts = parts
        self.references = references
        self.payments: dict[str, Payment] = {}
        self.modifications: dict[str, Modification] = {}
        self._attempts: Counter[tuple[str, str]] = Counter()
        self.batches = Batches(parts.book, PROVIDER, settings.merchant_account or "TestMerchant")

    def reset(self) -> None:
        """An account without a history."""
        self.payments.clear()
        self.modifications.clear()
        self._attempts.clear()
        self.batches.reset()

    def knows(self, key: str | None) -> bool:
        """Whether an API key is one of this account's."""
        return bool(key) and (not self._settings.api_keys or key in self._settings.api_keys)

    def payment(self, psp: str) -> Payment:
        """The payment. Raises AdyenError."""
        found = self.payments.get(psp)
        if found is None:
            raise errors.invalid("167", "Original pspReference required for this operation")
        return found

    # Payments

    def pay(self, fields: Fields, call: Call) -> Fields:
        """`POST /payments`. Raises AdyenError."""
        payment = self._new(fields, call)
        self.payments[payment.psp] = payment
        match self._result(payment):
            case Result.REDIRECT:
                return self._redirect(payment, call)
            case Result.PENDING | Result.RECEIVED as result:
                return {"pspReference": payment.psp, "resultCode": result.value, "merchantReference": payment.reference}
            case Result.AUTHORISED:
                return self._authorise(payment, call)
        return self._refuse(payment, call)

    def finish(self, fields: Fields, call: Call) -> Fields:
        """`POST /payments/details`: the shopper is back. Raises AdyenError."""
        details = fields.get("details")
        result = str(details.get("redirectResult", "")) if isinstance(details, dict) else ""
        psp, _, outcome = result.partition("!")
        payment = self.payments.get(psp)
        if payment is None or outcome not in ("success", "fail"):
            raise errors.invalid("101", "Invalid redirectResult")
        if payment.state is State.WAITING:
            return self.decide(payment, call, success=outcome == "success")
        return self._answer(payment)

    def decide(self, payment: Payment, call: Call, *, success: bool) -> Fields:
        """A payment that waited is authorised or refused."""
        if success:
            return self._authorise(payment, call)
        payment.method = Method(name=payment.method.name, result=Result.REFUSED, code="11")
        return self._refuse(payment, call)

    def close(self, payment: Payment, call: Call) -> None:
        """The shopper never came back: the offer is closed."""
        if payment.state is State.WAITING:
            payment.state = State.CLOSED
            call.events.append(items.of_payment("OFFER_CLOSED", payment, call.now))

    def _new(self, fields: Fields, call: Call) -> Payment:
        value, currency = _amount(fields)
        for name in ("reference", "paymentMethod"):
            if not fields.get(name):
                raise errors.missing(name)
        if not fields.get("returnUrl"):
            raise errors.invalid("14_030", "Return URL is missing.")
        method = self._method(fields)
        data, metadata = _object(fields, "additionalData"), _object(fields, "metadata")
        manual = str(data.get("manualCapture", "")).lower() == "true"
        delay = fields.get("captureDelayHours")
        return Payment(
            psp=self.references.new(),
            reference=str(fields["reference"])[:80],
            account=str(fields["merchantAccount"]),
            value=value,
            currency=currency,
            method=method,
            created=call.now,
            key=call.key,
            automatic=not manual and (delay == 0 or (delay is None and not self._settings.manual_capture)),
            order=fields.get("merchantOrderReference"),
            return_url=str(fields["returnUrl"]),
            metadata={str(name): str(value) for name, value in metadata.items()},
        )

    def _method(self, fields: Fields) -> Method:
        asked = fields["paymentMethod"]
        if not isinstance(asked, dict) or not asked.get("type"):
            raise errors.missing("paymentMethod.type")
        stored = asked.get("storedPaymentMethodId")
        requested = _object(fields, "additionalData").get("RequestedTestAcquirerResponseCode")
        method = method_of(asked, requested)
        if method is not None:
            return method
        if stored and not fields.get("shopperReference"):
            raise errors.missing("shopperReference")
        raise errors.invalid("803", "PaymentDetail not found")

    def _result(self, payment: Payment) -> Result:
        method = payment.method
        if method.times is None or payment.ours is None:
            return method.result
        self._attempts[payment.ours, method.name] += 1
        return method.result if self._attempts[payment.ours, method.name] <= method.times else Result.AUTHORISED

    def _redirect(self, payment: Payment, call: Call) -> Fields:
        """No `pspReference` yet: Adyen gives it once the shopper is back."""
        url = f"{call.base_url}/_3ds/adyen/{payment.psp}"
        action = {"paymentMethodType": "scheme", "url": url, "method": "GET", "type": "redirect"}
        return {"resultCode": Result.REDIRECT.value, "action": action}

    def _authorise(self, payment: Payment, call: Call) -> Fields:
        payment.state = State.AUTHORISED
        self._book(Movement.AUTHORIZED, payment, payment.value, call.now, key=call.key or payment.key)
        if payment.automatic:
            payment.captured = payment.value
            self._book(Movement.CAPTURED, payment, payment.value, call.now, key=call.key or payment.key)
        call.events.append(items.of_payment("AUTHORISATION", payment, call.now, **items.authorised(payment)))
        if payment.automatic and payment.method.later is Later.CHARGEBACK:
            self.dispute(payment, call)
        return self._answer(payment)

    def _refuse(self, payment: Payment, call: Call) -> Fields:
        payment.state = State.REFUSED
        self._book(Movement.DECLINED, payment, payment.value, call.now, key=call.key or payment.key)
        refused = items.of_payment("AUTHORISATION", payment, call.now, success=False, **items.refused(payment))
        call.events.append(refused)
        return self._answer(payment)

    def _answer(self, payment: Payment) -> Fields:
        common = {
            "pspReference": payment.psp,
            "merchantReference": payment.reference,
            "amount": payment.amount,
        }
        if payment.state is State.AUTHORISED:
            data = items.authorised(payment)["additionalData"]
            return {**common, "resultCode": Result.AUTHORISED.value, "additionalData": data}
        if payment.state is State.CLOSED:
            return {**common, "resultCode": Result.CANCELLED.value}
        return {
            **common,
            "resultCode": payment.method.result.value,
            "refusalReason": payment.method.reason,
            "refusalReasonCode": payment.method.code,
            "additionalData": items.refusal_data(payment),
        }

    # Modifications

    def modify(self, kind: Kind, psp: str, fields: Fields, call: Call) -> Fields:
        """A capture, cancel, refund or reversal is accepted. Raises AdyenError."""
        payment = self.payment(psp)
        value: int | None = None
        if kind in {Kind.CAPTURE, Kind.REFUND}:
            value, currency = _amount(fields)
            if currency != payment.currency:
                raise errors.invalid("137", "Invalid amount specified")
        modification = self._accept(kind, payment, value, fields, call)
        answer = {
            "merchantAccount": payment.account,
            "paymentPspReference": payment.psp,
            "pspReference": modification.psp,
            "reference": modification.reference,
            "status": "received",
        }
        return answer if value is None else {**answer, "amount": modification.amount}

    def cancel_by_reference(self, fields: Fields, call: Call) -> Fields:
        """`POST /cancels`: a technical cancel, by our reference. Raises AdyenError."""
        wanted = fields.get("paymentReference")
        if not wanted:
            raise errors.missing("paymentReference")
        found = [payment for payment in self.payments.values() if payment.reference == wanted]
        if not found:
            raise errors.invalid("167", "Original pspReference required for this operation")
        modification = self._accept(Kind.TECHNICAL_CANCEL, found[-1], None, fields, call)
        return {
            "merchantAccount": found[-1].account,
            "paymentReference": wanted,
            "pspReference": modification.psp,
            "reference": modification.reference,
            "status": "received",
        }

    def _accept(self, kind: Kind, payment: Payment, value: int | None, fields: Fields, call: Call) -> Modification:
        reference = str(fields.get("reference") or "")[:80]
        modification = Modification(self.references.new(), kind, payment, reference, value, call.key)
        self.modifications[modification.psp] = modification
        call.later.append(modification)
        return modification

    def settle(self, modification: Modification, now: int) -> list[Event]:
        """Decide what was accepted; nothing if it is decided."""
        if modification.decided:
            return []
        modification.decided = True
        rules: dict[Kind, Callable[[Modification, int], list[Event]]] = {
            Kind.CAPTURE: self._capture,
            Kind.CANCEL: self._cancel,
            Kind.TECHNICAL_CANCEL: self._cancel,
            Kind.REFUND: self._refund,
            Kind.REVERSAL: self._reverse,
        }
        return rules[modification.kind](modification, now)

    def _capture(self, modification: Modification, now: int) -> list[Event]:
        payment, value = modification.payment, modification.value or 0
        later = payment.method.later
        reason = _REFUSED if later is Later.CAPTURE_REFUSED else None if 0 < value <= payment.left else _TOO_LITTLE
        if reason:
            return [items.of_modification("CAPTURE", modification, now, success=False, reason=reason)]
        payment.captured += value
        self._book(Movement.CAPTURED, payment, value, now, by=modification)
        if not self._settings.multiple_captures:
            self._release(payment, now)
        events = [items.of_modification("CAPTURE", modification, now)]
        if later is Later.CAPTURE_FAILED:
            payment.captured -= value
            self._book(Movement.CAPTURE_FAILED, payment, value, now, by=modification)
            events.append(items.of_modification("CAPTURE_FAILED", modification, now, reason="Capture Failed"))
        if later is Later.CHARGEBACK:
            call = Call(now)
            self.dispute(payment, call)
            events += call.events
        return events

    def _cancel(self, modification: Modification, now: int) -> list[Event]:
        code = "TECHNICAL_CANCEL" if modification.kind is Kind.TECHNICAL_CANCEL else "CANCELLATION"
        payment = modification.payment
        if payment.method.later is Later.CANCEL_REFUSED or not payment.left:
            reason = _REFUSED if payment.left else _TOO_LITTLE
            return [items.of_modification(code, modification, now, success=False, reason=reason)]
        self._release(payment, now, modification)
        return [items.of_modification(code, modification, now)]

    def _refund(self, modification: Modification, now: int, code: str = "REFUND", **data: str) -> list[Event]:
        payment = modification.payment
        value = payment.captured - payment.refunded if modification.value is None else modification.value
        later = payment.method.later
        fields: Fields = {"additionalData": data} if data else {}
        if later is Later.REFUND_REFUSED or not 0 < value <= payment.captured - payment.refunded:
            reason = _REFUSED if later is Later.REFUND_REFUSED else _TOO_LITTLE
            return [items.of_modification(code, modification, now, success=False, reason=reason, **fields)]
        payment.refunded += value
        self._book(Movement.REFUNDED, payment, value, now, by=modification)
        events = [items.of_modification(code, modification, now, **fields)]
        came_back = {Later.REFUND_FAILED: "REFUND_FAILED", Later.REFUND_REVERSED: "REFUNDED_REVERSED"}
        if later in came_back:
            payment.refunded -= value
            self._book(Movement.REFUND_FAILED, payment, value, now, by=modification)
            events.append(items.of_modification(came_back[later], modification, now, reason="Refund failed"))
        return events

    def _reverse(self, modification: Modification, now: int) -> list[Event]:
        payment = modification.payment
        if payment.left and not payment.captured:
            self._release(payment, now, modification)
            data = {"modification.action": "cancel"}
            return [items.of_modification("CANCEL_OR_REFUND", modification, now, additionalData=data)]
        return self._refund(modification, now, "CANCEL_OR_REFUND", **{"modification.action": "refund"})

    # What Adyen and banks do

    def expire(self, payment: Payment, call: Call) -> None:
        """The issuer lets go of what is left of the hold."""
        left = payment.left
        if left:
            self._release(payment, call.now)
            amount = {"currency": payment.currency, "value": left}
            psp = self.references.new()
            call.events.append(items.after_payment("EXPIRE", payment, psp, call.now, amount=amount))

    def dispute(self, payment: Payment, call: Call) -> None:
        """The cardholder disputes the payment: told first, then deducted."""
        psp = self.references.new()
        self._book(Movement.DISPUTED, payment, payment.captured, call.now)
        for code in ("NOTIFICATION_OF_CHARGEBACK", "CHARGEBACK"):
            event = items.after_payment(code, payment, psp, call.now, reason="Fraudulent use of card")
            call.events.append(event)

    def refund_in_customer_area(self, payment: Payment, call: Call) -> None:
        """Somebody refunds all in the Customer Area: without a reference of its own."""
        modification = self._accept(Kind.REFUND, payment, payment.captured - payment.refunded, {}, Call(call.now))
        call.events += self.settle(modification, call.now)

    def report(self, name: str, call: Call) -> None:
        """A report can be downloaded."""
        account = self._settings.merchant_account or "TestMerchant"
        url = f"{call.base_url}/reports/download/MerchantAccount/{account}/{name}"
        call.events.append(items.of_account("REPORT_AVAILABLE", account, name, call.now, reason=url))

    def _release(self, payment: Payment, now: int, modification: Modification | None = None) -> None:
        left = payment.left
        payment.released += left
        if left:
            self._book(Movement.VOIDED, payment, left, now, by=modification)

    def _book(
        self,
        movement: Movement,
        payment: Payment,
        value: int,
        now: int,
        *,
        by: Modification | None = None,
        key: str | None = None,
    ) -> None:
        psp, key = (by.psp, by.key) if by else (None, key)
        self._parts.book.record(
            Entry(PROVIDER, movement, value, payment.currency, payment.psp, psp, payment.ours, key, now)
        )


def _object(fields: Fields, name: str) -> Fields:
    found = fields.get(name)
    return found if isinstance(found, dict) else {}


def _amount(fields: Fields) -> tuple[int, str]:
    """`amount`. Raises AdyenError."""
    amount = fields.get("amount")
    if not isinstance(amount, dict) or "value" not in amount:
        raise errors.invalid("100", "No amount specified")
    value, currency = amount["value"], amount.get("currency")
    if not isinstance(currency, str) or len(currency) != _CURRENCY or not currency.isupper():
        raise errors.invalid("138", "Unsupported currency specified")
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise errors.invalid("137", "Invalid amount specified")
    return value, currency
