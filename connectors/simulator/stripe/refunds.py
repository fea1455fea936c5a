"""Refunds: at once, later, or failing later."""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from connectors.simulator.book import Movement
from connectors.simulator.settings import StripeSettings
from connectors.simulator.stripe import errors, parameters
from connectors.simulator.stripe.cards import RefundBehaviour
from connectors.simulator.stripe.errors import StripeError, invalid
from connectors.simulator.stripe.forms import Params
from connectors.simulator.stripe.objects import Charge, ChargeStatus, Refund, RefundStatus, TransactionType
from connectors.simulator.stripe.records import Call, Records
from connectors.simulator.stripe.schedule import Schedule
from connectors.simulator.stripe.store import Store

_REASONS: Final = ("duplicate", "fraudulent", "requested_by_customer")


class Refunds:
    """The account's refunds."""

    def __init__(self, settings: StripeSettings, store: Store, records: Records, schedule: Schedule) -> None:
        self._settings = settings
        self._store = store
        self._records = records
        self._schedule = schedule

    def create(self, params: Params, call: Call) -> Refund:
        """POST /v1/refunds"""
        params.only(parameters.CREATE_REFUND)
        amount, reason = params.integer("amount"), params.choice("reason", _REASONS)
        charge = self._charge(params)
        amount = self._check(charge, amount)
        card = charge.card
        refund = Refund(
            id=self._records.ids.new("re"),
            created=call.now,
            amount=amount,
            currency=charge.currency,
            status=RefundStatus.PENDING if card.refund is RefundBehaviour.PENDING else RefundStatus.SUCCEEDED,
            charge=charge.id,
            payment_intent=charge.payment_intent,
            reason=reason,
            metadata=params.metadata({}),
        )
        return self._make(refund, charge, call)

    def settle(self, identifier: str, *, succeeded: bool) -> Refund | None:
        """An asynchronous refund ends; None if there is none that could."""
        refund = self._store.refunds.get(identifier)
        if refund is None or refund.status is RefundStatus.FAILED:
            return None
        call = Call(self._records.clock.now())
        settled = self._succeed(refund, call) if succeeded else self._fail(refund, call)
        self._schedule.publish(call.events)
        return settled

    def _charge(self, params: Params) -> Charge:
        charge, intent = params.text("charge"), params.text("payment_intent")
        if charge is None and intent is None:
            raise invalid("One of the following params should be provided for this request: payment_intent or charge.")
        if charge is not None:
            return self._store.charge(charge, "charge")
        found = self._store.intents.get(intent or "")
        if found is None:
            raise errors.no_such("payment_intent", intent or "", "payment_intent")
        if found.latest_charge is None:
            message = f"This PaymentIntent ({found.id}) does not have a successful charge to refund."
            raise StripeError(400, message, param="payment_intent", code="charge_not_refundable")
        return self._store.charges[found.latest_charge]

    def _check(self, charge: Charge, amount: int | None) -> int:
        """What is to be refunded. Raises StripeError."""
        if charge.status is ChargeStatus.FAILED or charge.amount_captured == 0:
            message = f"This PaymentIntent ({charge.payment_intent}) does not have a successful charge to refund."
            raise StripeError(400, message, code="charge_not_refundable")
        if charge.disputed:
            message = f"Charge {charge.id} has been charged back; cannot issue a refund."
            raise StripeError(400, message, code="charge_disputed")
        left = charge.amount_captured - charge.amount_refunded
        if left == 0:
            raise StripeError(400, f"Charge {charge.id} has already been refunded.", code="charge_already_refunded")
        if amount is None:
            return left
        if amount < 1:
            raise invalid("This value must be greater than or equal to 1.", "amount", "parameter_invalid_integer")
        if amount > left:
            message = (
                f"Refund amount ({amount} {charge.currency}) is greater than unrefunded amount on charge "
                f"({left} {charge.currency})"
            )
            raise StripeError(400, message, param="amount")
        return amount

    def _make(self, refund: Refund, charge: Charge, call: Call) -> Refund:
        transaction = self._records.transact(TransactionType.REFUND, refund, -refund.amount, call)
        refund = self._records.put(replace(refund, balance_transaction=transaction.id))
        refunded = self._records.put(replace(charge, amount_refunded=charge.amount_refunded + refund.amount))
        self._enter(Movement.REFUNDED, refund, call)
        self._records.emit(call, "refund.created", refund)
        previous: dict[str, Any] = {"amount_refunded": charge.amount_refunded}
        if refunded.refunded:
            previous["refunded"] = False
        self._records.emit(call, "charge.refunded", refunded, previous)
        if charge.card.refund is not RefundBehaviour.SUCCEEDS:
            succeeds = charge.card.refund is RefundBehaviour.PENDING
            self._schedule.later(self._settings.refund_seconds, lambda: self._settle_later(refund.id, succeeds))
        return refund

    def _settle_later(self, identifier: str, succeeds: bool) -> None:
        self.settle(identifier, succeeded=succeeds)

    def _succeed(self, refund: Refund, call: Call) -> Refund:
        done = self._records.put(replace(refund, status=RefundStatus.SUCCEEDED))
        self._tell(call, "refund.updated", done, {"status": refund.status.value})
        return done

    def _fail(self, refund: Refund, call: Call) -> Refund:
        back = self._records.transact(TransactionType.REFUND_FAILURE, refund, refund.amount, call)
        failed = self._records.put(
            replace(
                refund,
                status=RefundStatus.FAILED,
                failure_reason="unknown",
                failure_balance_transaction=back.id,
            )
        )
        charge = self._store.charges[refund.charge]
        self._records.put(replace(charge, amount_refunded=charge.amount_refunded - refund.amount))
        self._enter(Movement.REFUND_FAILED, failed, call)
        previous = {"status": refund.status.value}
        self._records.emit(call, "refund.failed", failed)
        self._tell(call, "refund.updated", failed, previous)
        return failed

    def _tell(self, call: Call, kind: str, refund: Refund, previous: dict[str, Any]) -> None:
        """Under today's name and under that of older API versions."""
        self._records.emit(call, kind, refund, previous)
        self._records.emit(call, "charge.refund.updated", refund, previous)

    def _enter(self, movement: Movement, refund: Refund, call: Call) -> None:
        intent = self._store.intents[refund.payment_intent]
        self._records.enter(movement, intent, refund.amount, refund.id, call)
