"""One Stripe account: payment intents, charges, refunds, balance transactions, and the events they cause."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from time import time
from typing import Any, Final

from connectors.simulator.stripe.errors import StripeError, invalid, missing, unexpected_state
from connectors.simulator.stripe.methods import Approved, Authenticate, Declined, UnknownMethodError, verdict

HOLD_SECONDS: Final = 7 * 24 * 3600
FEE_PER_MILLE: Final = 29
FEE_FIXED: Final = 30

Object = dict[str, Any]
Params = dict[str, Any]


@dataclass(slots=True)
class Account:
    """The account's objects. `emit(type, object, previous)` is called for each event, in order."""

    url: str
    emit: Callable[[str, Object, Object | None], None]
    intents: dict[str, Object] = field(default_factory=dict)
    charges: dict[str, Object] = field(default_factory=dict)
    refunds: dict[str, Object] = field(default_factory=dict)
    transactions: dict[str, Object] = field(default_factory=dict)
    charges_of: dict[str, int] = field(default_factory=dict)
    """How many charges our payment (metadata.payment_id) has had."""
    _ids: Any = field(default_factory=lambda: count(1))

    def create_intent(self, params: Params) -> Object:
        """POST /v1/payment_intents"""
        amount = _positive(params, "amount")
        intent: Object = {
            "id": self._id("pi"),
            "object": "payment_intent",
            "amount": amount,
            "amount_capturable": 0,
            "amount_received": 0,
            "canceled_at": None,
            "cancellation_reason": None,
            "capture_method": params.get("capture_method", "automatic"),
            "client_secret": None,
            "confirmation_method": "automatic",
            "created": int(time()),
            "currency": params.get("currency", "usd"),
            "customer": params.get("customer"),
            "last_payment_error": None,
            "latest_charge": None,
            "livemode": False,
            "metadata": dict(params.get("metadata", {})),
            "next_action": None,
            "payment_method": params.get("payment_method"),
            "payment_method_options": params.get("payment_method_options", {}),
            "payment_method_types": ["card"],
            "status": "requires_confirmation" if params.get("payment_method") else "requires_payment_method",
        }
        self.intents[intent["id"]] = intent
        self.emit("payment_intent.created", intent, None)
        if params.get("confirm") == "true":
            self._confirm(intent)
        return intent

    def confirm_intent(self, reference: str, params: Params) -> Object:
        """POST /v1/payment_intents/{id}/confirm"""
        intent = self.intent(reference)
        if params.get("payment_method"):
            intent["payment_method"] = params["payment_method"]
        if intent["status"] not in {"requires_confirmation", "requires_payment_method", "requires_action"}:
            raise unexpected_state(intent, "confirmed")
        self._confirm(intent)
        return intent

    def capture_intent(self, reference: str, params: Params) -> Object:
        """POST /v1/payment_intents/{id}/capture"""
        intent = self.intent(reference)
        if intent["status"] != "requires_capture":
            raise unexpected_state(intent, "captured")
        amount = _positive(params, "amount_to_capture", intent["amount_capturable"])
        if amount > intent["amount_capturable"]:
            raise invalid("The amount could not be captured: it is more than is capturable.", code="amount_too_large")
        intent["metadata"].update(params.get("metadata", {}))
        self._capture(intent, amount, final=params.get("final_capture", "true") == "true")
        return intent

    def cancel_intent(self, reference: str, params: Params) -> Object:
        """POST /v1/payment_intents/{id}/cancel"""
        intent = self.intent(reference)
        if intent["status"] in {"succeeded", "canceled"}:
            raise unexpected_state(intent, "canceled")
        intent.update(status="canceled", canceled_at=int(time()), amount_capturable=0, next_action=None)
        intent["cancellation_reason"] = params.get("cancellation_reason")
        self.emit("payment_intent.canceled", intent, None)
        return intent

    def authenticate(self, reference: str, success: bool) -> Object:
        """The cardholder came back from the redirect."""
        intent = self.intent(reference)
        if intent["status"] != "requires_action":
            raise unexpected_state(intent, "authenticated")
        intent["next_action"] = None
        if success:
            self._approve(intent)
            return intent
        error = {
            "type": "card_error",
            "code": "payment_intent_authentication_failure",
            "message": "The provided PaymentMethod has failed authentication.",
        }
        self._fail(intent, error)
        return intent

    def create_refund(self, params: Params) -> Object:
        """POST /v1/refunds"""
        charge = self._charge_to_refund(params)
        left = charge["amount_captured"] - charge["amount_refunded"]
        if left == 0:
            raise invalid(f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded")
        amount = _positive(params, "amount", left)
        if amount > left:
            raise invalid("Refund amount is greater than unrefunded amount on charge.", param="amount")
        method = charge["payment_method"]
        refund: Object = {
            "id": self._id("re"),
            "object": "refund",
            "amount": amount,
            "charge": charge["id"],
            "created": int(time()),
            "currency": charge["currency"],
            "failure_reason": None,
            "metadata": dict(params.get("metadata", {})),
            "payment_intent": charge["payment_intent"],
            "reason": params.get("reason"),
            "status": "pending" if method == "pm_card_pendingRefund" else "succeeded",
        }
        self.refunds[refund["id"]] = refund
        charge["amount_refunded"] += amount
        charge["refunded"] = charge["amount_refunded"] == charge["amount_captured"]
        self.emit("refund.created", refund, None)
        self.emit("charge.refunded", charge, {"amount_refunded": charge["amount_refunded"] - amount})
        if method == "pm_card_refundFail":
            self.settle_refund(refund["id"], success=False)
        return refund

    def settle_refund(self, reference: str, success: bool) -> Object:
        """What becomes of a refund later."""
        refund = self.refund(reference)
        before = {"status": refund["status"]}
        refund["status"] = "succeeded" if success else "failed"
        self.emit("refund.updated", refund, before)
        if not success:
            refund["failure_reason"] = "expired_or_canceled_card"
            self.charges[refund["charge"]]["amount_refunded"] -= refund["amount"]
            self.emit("refund.failed", refund, before)
        return refund

    def intent(self, reference: str) -> Object:
        """A payment intent. Raises StripeError."""
        if reference not in self.intents:
            raise missing("payment_intent", reference)
        return self.intents[reference]

    def charge(self, reference: str) -> Object:
        """A charge. Raises StripeError."""
        if reference not in self.charges:
            raise missing("charge", reference)
        return self.charges[reference]

    def refund(self, reference: str) -> Object:
        """A refund. Raises StripeError."""
        if reference not in self.refunds:
            raise missing("refund", reference)
        return self.refunds[reference]

    def transaction(self, reference: str) -> Object:
        """A balance transaction. Raises StripeError."""
        if reference not in self.transactions:
            raise missing("balance_transaction", reference)
        return self.transactions[reference]

    def expanded(self, found: Object, expand: list[str]) -> Object:
        """The object as an answer, with what the caller wants written out."""
        if found["object"] == "payment_intent" and "latest_charge" in expand and found["latest_charge"]:
            return {**found, "latest_charge": self.charges[found["latest_charge"]]}
        return found

    def _confirm(self, intent: Object) -> None:
        ours = intent["metadata"].get("payment_id", intent["id"])
        before = self.charges_of.get(ours, 0)
        try:
            found = verdict(intent["payment_method"] or "", before)
        except UnknownMethodError:
            raise missing("PaymentMethod", str(intent["payment_method"])) from None
        self.charges_of[ours] = before + 1
        match found:
            case Approved():
                self._approve(intent)
            case Authenticate():
                self._require_action(intent)
            case Declined():
                self._decline(intent, found)

    def _approve(self, intent: Object) -> None:
        manual = intent["capture_method"] == "manual"
        charge = self._charge(intent, captured=not manual)
        intent.update(latest_charge=charge["id"], last_payment_error=None)
        if manual:
            intent.update(status="requires_capture", amount_capturable=intent["amount"])
            self.emit("charge.succeeded", charge, None)
            self.emit("payment_intent.amount_capturable_updated", intent, {"amount_capturable": 0})
            return
        self._book(charge, intent["amount"])
        intent.update(status="succeeded", amount_received=intent["amount"])
        self.emit("charge.succeeded", charge, None)
        self.emit("payment_intent.succeeded", intent, None)

    def _require_action(self, intent: Object) -> None:
        page = f"{self.url}/_sim/3ds/{intent['id']}"
        action = {"type": "redirect_to_url", "redirect_to_url": {"url": page, "return_url": None}}
        intent.update(status="requires_action", next_action=action)
        self.emit("payment_intent.requires_action", intent, None)

    def _decline(self, intent: Object, declined: Declined) -> None:
        charge = self._charge(intent, captured=False, declined=declined)
        intent["latest_charge"] = charge["id"]
        error: Object = {
            "type": "card_error",
            "code": declined.code,
            "decline_code": declined.decline_code,
            "message": "Your card was declined.",
            "charge": charge["id"],
        }
        if declined.advice:
            error["advice_code"] = declined.advice
        if declined.network:
            error["network_decline_code"] = declined.network
        self.emit("charge.failed", charge, None)
        self._fail(intent, error)
        members = {name: value for name, value in error.items() if name not in {"type", "message"}}
        raise StripeError(402, "card_error", error["message"], payment_intent=dict(intent), **members)

    def _fail(self, intent: Object, error: Object) -> None:
        method = {"id": intent["payment_method"], "object": "payment_method", "type": "card"}
        intent.update(status="requires_payment_method", last_payment_error={**error, "payment_method": method})
        self.emit("payment_intent.payment_failed", intent, None)

    def _charge(self, intent: Object, captured: bool, declined: Declined | None = None) -> Object:
        multicapture = intent["payment_method_options"].get("card", {}).get("request_multicapture")
        card = {
            "brand": "mastercard" if "mastercard" in str(intent["payment_method"]) else "visa",
            "last4": "4242",
            "capture_before": int(time()) + HOLD_SECONDS if not captured and not declined else None,
            "multicapture": {"status": "available" if multicapture == "if_available" else "unavailable"},
        }
        charge: Object = {
            "id": self._id("ch"),
            "object": "charge",
            "amount": intent["amount"],
            "amount_captured": intent["amount"] if captured else 0,
            "amount_refunded": 0,
            "balance_transaction": None,
            "captured": captured,
            "created": int(time()),
            "currency": intent["currency"],
            "failure_code": declined.code if declined else None,
            "livemode": False,
            "metadata": dict(intent["metadata"]),
            "outcome": {"network_status": "declined_by_network" if declined else "approved_by_network"},
            "paid": declined is None,
            "payment_intent": intent["id"],
            "payment_method": intent["payment_method"],
            "payment_method_details": {"type": "card", "card": card},
            "refunded": False,
            "status": "failed" if declined else "succeeded",
        }
        self.charges[charge["id"]] = charge
        return charge

    def _capture(self, intent: Object, amount: int, final: bool) -> None:
        charge = self.charges[intent["latest_charge"]]
        multicapture = charge["payment_method_details"]["card"]["multicapture"]["status"] == "available"
        if not final and not multicapture:
            raise invalid("This PaymentIntent does not support multicapture.", param="final_capture")
        before = {"amount_captured": charge["amount_captured"]}
        charge["amount_captured"] += amount
        charge["captured"] = True
        self._book(charge, amount)
        intent["amount_received"] += amount
        intent["amount_capturable"] = 0 if final else intent["amount_capturable"] - amount
        self.emit("charge.captured", charge, before)
        if intent["amount_capturable"] == 0:
            intent["status"] = "succeeded"
            self.emit("payment_intent.succeeded", intent, None)
        else:
            self.emit("payment_intent.amount_capturable_updated", intent, None)

    def _book(self, charge: Object, amount: int) -> None:
        """A balance transaction with Stripe's standard fee, rounded half up."""
        fee = (amount * FEE_PER_MILLE + 500) // 1000 + FEE_FIXED
        transaction: Object = {
            "id": self._id("txn"),
            "object": "balance_transaction",
            "amount": amount,
            "currency": charge["currency"],
            "fee": fee,
            "net": amount - fee,
            "source": charge["id"],
            "type": "charge",
            "created": int(time()),
        }
        self.transactions[transaction["id"]] = transaction
        charge["balance_transaction"] = transaction["id"]

    def _charge_to_refund(self, params: Params) -> Object:
        if "charge" in params:
            return self.charge(params["charge"])
        intent = self.intent(params.get("payment_intent", ""))
        if not intent["latest_charge"] or not self.charges[intent["latest_charge"]]["amount_captured"]:
            raise unexpected_state(intent, "refunded")
        return self.charges[intent["latest_charge"]]

    def _id(self, prefix: str) -> str:
        return f"{prefix}_sim{next(self._ids):012d}"


def _positive(params: Params, name: str, default: int | None = None) -> int:
    raw = params.get(name)
    if raw is None and default is not None:
        return default
    if raw is None or not str(raw).isdecimal() or int(raw) == 0:
        raise invalid(f"Invalid positive integer: {name}", code="parameter_invalid_integer", param=name)
    return int(raw)
