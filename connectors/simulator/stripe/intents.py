"""Payment intents and their charges: authorized, authenticated, captured, canceled, expired.

Synchronous and in one thread, so that each call is one step. What a call changes it changes at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import structlog
from msgspec.structs import replace

from connectors.simulator.book import Movement
from connectors.simulator.settings import StripeSettings
from connectors.simulator.stripe import errors, money, parameters
from connectors.simulator.stripe.cards import Card, Cards, Refusal
from connectors.simulator.stripe.disputes import Disputes
from connectors.simulator.stripe.errors import StripeError, invalid
from connectors.simulator.stripe.forms import Params
from connectors.simulator.stripe.objects import Charge, ChargeStatus, Failure, Intent, IntentStatus
from connectors.simulator.stripe.records import PAYMENT, Call, Records
from connectors.simulator.stripe.schedule import Schedule
from connectors.simulator.stripe.store import Store

log = structlog.get_logger()

_CAPTURES: Final = 50
_REASONS: Final = ("duplicate", "fraudulent", "requested_by_customer", "abandoned")
_METHODS: Final = ("automatic", "automatic_async", "manual")
_MULTICAPTURE_BRANDS: Final = frozenset({"visa", "mastercard", "amex", "discover", "diners", "jcb", "unionpay"})
_CANCELABLE: Final = (
    IntentStatus.REQUIRES_PAYMENT_METHOD,
    IntentStatus.REQUIRES_CAPTURE,
    IntentStatus.REQUIRES_CONFIRMATION,
    IntentStatus.REQUIRES_ACTION,
)
_CONFIRMABLE: Final = (
    IntentStatus.REQUIRES_CONFIRMATION,
    IntentStatus.REQUIRES_PAYMENT_METHOD,
    IntentStatus.REQUIRES_ACTION,
)
_OLD_TYPES: Final = "payment_method_types"
_TYPES_REMOVED: Final = "2026-09-30"
"""From this API version on, intents take `allowed_payment_method_types` instead (Stripe's changelog, Endive)."""


class Confirmation:
    """How an intent is to be confirmed."""

    __slots__ = ("off_session", "refuse_action")

    def __init__(self, params: Params) -> None:
        off_session = params.text("off_session")
        self.off_session = off_session not in (None, "false")
        self.refuse_action = params.boolean("error_on_requires_action")


class Intents:
    """The account's payment intents."""

    def __init__(
        self, settings: StripeSettings, store: Store, records: Records, schedule: Schedule, disputes: Disputes
    ) -> None:
        self._settings = settings
        self._store = store
        self._records = records
        self._schedule = schedule
        self._disputes = disputes
        self._declined: Counter[tuple[str, str]] = Counter()
        self._warned = False
        self.cards = Cards()

    def reset(self) -> None:
        """Forget what cards have done."""
        self._declined.clear()

    def create(self, params: Params, call: Call) -> Intent:
        """POST /v1/payment_intents"""
        params.only(parameters.CREATE_INTENT)
        self._check_types(params, call)
        intent = self._new_intent(params, call)
        confirm = params.boolean("confirm")
        options = Confirmation(params)
        if options.off_session and not confirm:
            raise invalid("You can only use `off_session` when `confirm` is true.", "off_session")
        if confirm and intent.payment_method is None:
            raise invalid("You must provide a payment method to confirm this PaymentIntent.", "payment_method")
        self._records.put(intent)
        self._records.emit(call, "payment_intent.created", intent)
        return self._confirm(intent, options, call) if confirm else intent

    def update(self, identifier: str, params: Params, call: Call) -> Intent:
        """POST /v1/payment_intents/{id}"""
        params.only(parameters.UPDATE_INTENT)
        self._check_types(params, call)
        intent = self._intent(identifier)
        changed = replace(
            intent,
            metadata=params.metadata(intent.metadata),
            description=params.text("description") or intent.description,
        )
        if params.text("amount") is not None or params.text("payment_method") is not None:
            changed = self._with_new_terms(changed, params)
        return self._records.put(changed)

    def confirm(self, identifier: str, params: Params, call: Call) -> Intent:
        """POST /v1/payment_intents/{id}/confirm"""
        params.only(parameters.CONFIRM_INTENT)
        self._check_types(params, call)
        intent = self._intent(identifier)
        if intent.status not in _CONFIRMABLE:
            raise errors.unexpected_state(_cannot("confirm", "confirmed", intent, _CONFIRMABLE), intent)
        intent = self._with_confirmation(intent, params)
        if intent.payment_method is None:
            message = (
                "You cannot confirm this PaymentIntent because it's missing a payment method. You can either update "
                "the PaymentIntent with a payment method and then confirm it again, or confirm it again directly with "
                "a payment method or ConfirmationToken."
            )
            raise errors.unexpected_state(message, intent)
        return self._confirm(self._records.put(intent), Confirmation(params), call)

    def capture(self, identifier: str, params: Params, call: Call) -> Intent:
        """POST /v1/payment_intents/{id}/capture"""
        params.only(parameters.CAPTURE_INTENT)
        amount, final = params.integer("amount_to_capture"), params.boolean("final_capture", default=True)
        intent = self._intent(identifier)
        if intent.status is not IntentStatus.REQUIRES_CAPTURE:
            raise errors.unexpected_state(_not_capturable(intent), intent)
        amount = intent.amount_capturable if amount is None else amount
        self._check_capture(intent, amount, final)
        return self._capture(replace(intent, metadata=params.metadata(intent.metadata)), amount, final, call)

    def cancel(self, identifier: str, params: Params, call: Call) -> Intent:
        """POST /v1/payment_intents/{id}/cancel"""
        params.only(parameters.CANCEL_INTENT)
        reason = params.choice("cancellation_reason", _REASONS)
        intent = self._intent(identifier)
        if intent.status not in _CANCELABLE:
            raise errors.unexpected_state(_cannot("cancel", "canceled", intent, _CANCELABLE), intent)
        return self._cancel(intent, reason, call)

    def expire(self, identifier: str, call: Call) -> Intent:
        """The hold has come to its end: the rest is released, without anybody's request."""
        intent = self._store.intent(identifier)
        if intent.status is not IntentStatus.REQUIRES_CAPTURE or intent.latest_charge is None:
            raise errors.unexpected_state(_not_capturable(intent), intent)
        charge = self._records.put(
            replace(self._store.charges[intent.latest_charge], captured=intent.amount_received > 0)
        )
        if intent.amount_received == 0:
            self._records.emit(call, "charge.expired", charge)
            return self._cancel(intent, "expired", call)
        return self._release(intent, charge, call)

    def authenticate(self, identifier: str, passed: bool, call: Call) -> Intent:
        """The customer's 3D Secure authentication has ended."""
        intent = self._store.intent(identifier)
        if intent.status is not IntentStatus.REQUIRES_ACTION or intent.payment_method is None:
            raise errors.unexpected_state("This PaymentIntent does not wait for an authentication.", intent)
        if not passed:
            return self._not_authenticated(intent, call)
        try:
            return self._charge(intent, call, authenticated=True)
        except StripeError:
            return self._store.intent(identifier)

    def _check_types(self, params: Params, call: Call) -> None:
        """`payment_method_types` is gone since API version 2026-09-30.endive. Raises StripeError, or only says so."""
        if _OLD_TYPES not in params.values or call.api_version[: len(_TYPES_REMOVED)] < _TYPES_REMOVED:
            return
        message = (
            f"The `{_OLD_TYPES}` parameter is no longer supported in API version {call.api_version}. Use "
            "`allowed_payment_method_types` instead."
        )
        if self._settings.refuse_removed:
            raise invalid(message, _OLD_TYPES, "payment_method_types_no_longer_supported")
        if not self._warned:
            self._warned = True
            log.warning("Stripe itself would refuse this call", reason=message)

    def _intent(self, identifier: str) -> Intent:
        """The intent as it is now: a hold that has run out is expired first. Raises StripeError."""
        intent = self._store.intent(identifier)
        if intent.status is not IntentStatus.REQUIRES_CAPTURE or intent.latest_charge is None:
            return intent
        before = self._store.charges[intent.latest_charge].capture_before
        if before is None or before > self._records.clock.now():
            return intent
        call = Call(self._records.clock.now())
        intent = self.expire(identifier, call)
        self._schedule.publish(call.events)
        return intent

    def _new_intent(self, params: Params, call: Call) -> Intent:
        params.required("amount")
        currency = money.checked_currency(params.required("currency"))
        amount = money.checked_amount(params.integer("amount") or 0, currency)
        method = params.text("payment_method")
        if method is not None:
            self._card(method)
        types = params.items("allowed_payment_method_types") or params.items(_OLD_TYPES) or ("card",)
        card_options = params.table("payment_method_options", "card")
        return Intent(
            id=self._records.ids.new("pi"),
            created=call.now,
            amount=amount,
            currency=currency,
            status=IntentStatus.REQUIRES_CONFIRMATION if method else IntentStatus.REQUIRES_PAYMENT_METHOD,
            capture_method=params.choice("capture_method", _METHODS, "automatic") or "automatic",
            confirmation_method=params.choice("confirmation_method", ("automatic", "manual"), "automatic") or "",
            metadata=params.metadata({}),
            payment_method=method,
            payment_method_types=types,
            automatic_payment_methods=params.table("automatic_payment_methods").get("enabled") == "true",
            request_multicapture=card_options.get("request_multicapture") == "if_available",
            return_url=params.text("return_url"),
            customer=params.text("customer"),
            description=params.text("description"),
            receipt_email=params.text("receipt_email"),
            setup_future_usage=params.text("setup_future_usage"),
            statement_descriptor_suffix=params.text("statement_descriptor_suffix"),
            transfer_group=params.text("transfer_group"),
        )

    def _with_new_terms(self, intent: Intent, params: Params) -> Intent:
        if intent.status not in _CONFIRMABLE:
            raise errors.unexpected_state(_cannot("update", "updated", intent, _CONFIRMABLE), intent)
        amount, method = params.integer("amount"), params.text("payment_method")
        if amount is not None:
            intent = replace(intent, amount=money.checked_amount(amount, intent.currency))
        if method is not None:
            self._card(method)
            intent = replace(intent, payment_method=method, status=IntentStatus.REQUIRES_CONFIRMATION)
        return intent

    def _with_confirmation(self, intent: Intent, params: Params) -> Intent:
        """The intent with what a confirmation may set."""
        method = params.text("payment_method") or intent.payment_method
        if method is not None:
            self._card(method)
        options = params.table("payment_method_options", "card")
        return replace(
            intent,
            payment_method=method,
            capture_method=params.choice("capture_method", _METHODS, intent.capture_method) or intent.capture_method,
            return_url=params.text("return_url") or intent.return_url,
            receipt_email=params.text("receipt_email") or intent.receipt_email,
            request_multicapture=options.get("request_multicapture") == "if_available" or intent.request_multicapture,
        )

    def _card(self, method: str) -> Card:
        card = self.cards.find(method)
        if card is None:
            message = f"No such PaymentMethod: '{method}'"
            raise StripeError(400, message, code="resource_missing", param="payment_method")
        return card

    def _confirm(self, intent: Intent, options: Confirmation, call: Call) -> Intent:
        card = self._card(intent.payment_method or "")
        if not card.asks(off_session=options.off_session):
            return self._charge(intent, call)
        if options.off_session or options.refuse_action:
            return self._refuse(intent, self.cards.refusal("authentication_required"), call)
        waiting = replace(
            intent,
            status=IntentStatus.REQUIRES_ACTION,
            action_url=f"{call.base_url}/_3ds/stripe/{intent.id}",
            last_payment_error=None,
        )
        self._records.put(waiting)
        self._records.emit(call, "payment_intent.requires_action", waiting)
        return waiting

    def _charge(self, intent: Intent, call: Call, *, authenticated: bool = False) -> Intent:
        card = self._card(intent.payment_method or "")
        counted = (intent.payment_method or "", intent.metadata.get(PAYMENT, intent.id))
        refusal = card.refuses(self._declined[counted]) if card.refusal else None
        if refusal is not None:
            self._declined[counted] += 1
            return self._refuse(intent, refusal, call)
        charge = self._approved(intent, card, call, authenticated=authenticated)
        self._records.enter(Movement.AUTHORIZED, intent, intent.amount, charge.id, call)
        if intent.capture_method == "manual":
            return self._held(intent, charge, call)
        return self._paid(intent, charge, call)

    def _approved(self, intent: Intent, card: Card, call: Call, *, authenticated: bool) -> Charge:
        manual = intent.capture_method == "manual"
        return Charge(
            id=self._records.ids.new("ch"),
            created=call.now,
            amount=intent.amount,
            currency=intent.currency,
            status=ChargeStatus.SUCCEEDED,
            payment_intent=intent.id,
            payment_method=intent.payment_method or "",
            card=card,
            multicapture=manual and intent.request_multicapture and card.brand in _MULTICAPTURE_BRANDS,
            authenticated=authenticated,
            metadata=intent.metadata,
            capture_before=call.now + self._settings.hold_seconds if manual else None,
            customer=intent.customer,
            description=intent.description,
        )

    def _held(self, intent: Intent, charge: Charge, call: Call) -> Intent:
        held = replace(
            intent,
            status=IntentStatus.REQUIRES_CAPTURE,
            amount_capturable=intent.amount,
            latest_charge=charge.id,
            last_payment_error=None,
            action_url=None,
        )
        self._records.put(charge)
        self._records.put(held)
        self._records.emit(call, "charge.succeeded", charge)
        self._records.emit(call, "payment_intent.amount_capturable_updated", held)
        return held

    def _paid(self, intent: Intent, charge: Charge, call: Call) -> Intent:
        """Authorized and captured in one. The fee is known a moment after: that is its own event, as at Stripe."""
        charge = replace(charge, captured=True, amount_captured=intent.amount)
        paid = replace(
            intent,
            status=IntentStatus.SUCCEEDED,
            amount_received=intent.amount,
            latest_charge=charge.id,
            last_payment_error=None,
            action_url=None,
        )
        self._records.put(paid)
        self._records.emit(call, "charge.succeeded", charge)
        self._records.emit(call, "payment_intent.succeeded", paid)
        self._records.enter(Movement.CAPTURED, paid, intent.amount, charge.id, call)
        self._disputes.foresee(self._records.credit(charge, intent.amount, call))
        return paid

    def _refuse(self, intent: Intent, refusal: Refusal, call: Call) -> Intent:
        """The charge fails. Always raises StripeError (402)."""
        failure = Failure(
            code=refusal.code,
            message=refusal.message,
            decline_code=refusal.decline_code,
            network=refusal.network,
            network_advice=refusal.network_advice,
            advice=refusal.advice,
            param=refusal.param,
            charge=self._records.ids.new("ch"),
            payment_method=intent.payment_method,
            blocked=refusal.blocked,
        )
        charge = Charge(
            id=failure.charge or "",
            created=call.now,
            amount=intent.amount,
            currency=intent.currency,
            status=ChargeStatus.FAILED,
            payment_intent=intent.id,
            payment_method=intent.payment_method or "",
            card=self._card(intent.payment_method or ""),
            metadata=intent.metadata,
            failure=failure,
            customer=intent.customer,
            description=intent.description,
        )
        failed = self._failed(intent, failure, charge.id)
        self._records.put(charge)
        self._records.emit(call, "charge.failed", charge)
        self._records.emit(call, "payment_intent.payment_failed", failed)
        self._records.enter(Movement.DECLINED, intent, intent.amount, charge.id, call)
        raise errors.card_error(failure, failed)

    def _not_authenticated(self, intent: Intent, call: Call) -> Intent:
        failure = Failure(
            kind="invalid_request_error",
            code="payment_intent_authentication_failure",
            message=(
                "We are unable to authenticate your payment method. Please choose a different payment method and "
                "try again."
            ),
            payment_method=intent.payment_method,
        )
        failed = self._failed(intent, failure, intent.latest_charge)
        self._records.emit(call, "payment_intent.payment_failed", failed)
        return failed

    def _failed(self, intent: Intent, failure: Failure, charge: str | None) -> Intent:
        return self._records.put(
            replace(
                intent,
                status=IntentStatus.REQUIRES_PAYMENT_METHOD,
                payment_method=None,
                latest_charge=charge,
                last_payment_error=failure,
                action_url=None,
            )
        )

    def _check_capture(self, intent: Intent, amount: int, final: bool) -> None:
        charge = self._store.charges[intent.latest_charge or ""]
        if not final and not charge.multicapture:
            message = "You can only set `final_capture` to false on PaymentIntents for which multicapture is available."
            raise StripeError(400, message, param="final_capture", intent=intent)
        releases = amount == 0 and final and intent.amount_received > 0
        if amount < 1 and not releases:
            message = "This value must be greater than or equal to 1."
            raise invalid(message, "amount_to_capture", "parameter_invalid_integer")
        if amount > intent.amount_capturable:
            message = (
                "The payment could not be captured because the requested capture amount is greater than the amount you "
                "can capture for this charge."
            )
            raise StripeError(400, message, code="amount_too_large", param="amount_to_capture", intent=intent)
        if intent.captures >= _CAPTURES and not final:
            raise StripeError(400, f"You can capture up to {_CAPTURES} times.", intent=intent)

    def _capture(self, intent: Intent, amount: int, final: bool, call: Call) -> Intent:
        charge = self._store.charges[intent.latest_charge or ""]
        before = intent.amount_capturable
        captured = self._records.put(
            replace(
                intent,
                status=IntentStatus.SUCCEEDED if final else IntentStatus.REQUIRES_CAPTURE,
                amount_received=intent.amount_received + amount,
                amount_capturable=0 if final else before - amount,
                captures=intent.captures + 1,
            )
        )
        changed = replace(charge, captured=final, amount_captured=charge.amount_captured + amount)
        if charge.multicapture:
            previous = {"amount_capturable": before, "amount_received": intent.amount_received}
            self._records.emit(call, "payment_intent.amount_capturable_updated", captured, previous)
        if final:
            self._records.emit(
                call, "charge.captured", changed, {"amount_captured": charge.amount_captured, "captured": False}
            )
            self._records.emit(call, "payment_intent.succeeded", captured)
        if amount:
            self._records.enter(Movement.CAPTURED, captured, amount, charge.id, call)
        if final and before > amount:
            self._records.enter(Movement.VOIDED, captured, before - amount, charge.id, call)
        self._disputes.foresee(self._records.credit(changed, amount, call))
        return captured

    def _release(self, intent: Intent, charge: Charge, call: Call) -> Intent:
        """Partly captured, and no more will be."""
        self._records.enter(Movement.VOIDED, intent, intent.amount_capturable, charge.id, call)
        done = self._records.put(replace(intent, status=IntentStatus.SUCCEEDED, amount_capturable=0))
        self._records.emit(call, "charge.captured", charge, {"captured": False})
        self._records.emit(call, "payment_intent.succeeded", done)
        return done

    def _cancel(self, intent: Intent, reason: str | None, call: Call) -> Intent:
        if intent.amount_capturable:
            self._records.enter(Movement.VOIDED, intent, intent.amount_capturable, intent.latest_charge, call)
        canceled = self._records.put(
            replace(
                intent,
                status=IntentStatus.CANCELED,
                amount_capturable=0,
                canceled_at=call.now,
                cancellation_reason=reason,
                action_url=None,
            )
        )
        self._records.emit(call, "payment_intent.canceled", canceled)
        return canceled


def _cannot(verb: str, done: str, intent: Intent, allowed: Sequence[IntentStatus]) -> str:
    if verb == "confirm" and intent.status is IntentStatus.SUCCEEDED:
        return (
            "You cannot confirm this PaymentIntent because it has already succeeded after being previously confirmed."
        )
    return (
        f"You cannot {verb} this PaymentIntent because it has a status of {intent.status}. Only a PaymentIntent with "
        f"one of the following statuses may be {done}: {', '.join(allowed)}."
    )


def _not_capturable(intent: Intent) -> str:
    if intent.status is IntentStatus.SUCCEEDED:
        return "This PaymentIntent could not be captured because it has already been captured."
    return (
        f"This PaymentIntent could not be captured because it has a status of {intent.status}. Only a PaymentIntent "
        "with one of the following statuses may be captured: requires_capture."
    )
