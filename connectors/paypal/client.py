"""Requests to PayPal: an order for each attempt (Orders v2), whose authorization is captured or voided and whose
captures are refunded (Payments v2).

The payment's reference is the order's id: the order shows every authorization, capture and refund made of it, with our
references, so that a look-up asks for one thing and is certain. What only PayPal's own ids lead to is found there, too.

Three rules keep money from moving twice:

- `PayPal-Request-Id` is the request's subject: a repeated call is the same call, for as long as PayPal remembers it:
  6 hours for an order, 45 days for the rest (developer.paypal.com/reference/guidelines/idempotency);
- an order that never answered has no reference to ask for: it is made again while its key is known, and never later;
- a refused capture, void or refund may have been done by an earlier call: the order says so, not the error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import quote

import msgspec
import structlog
from msgspec.structs import replace

from connectors.paypal import answers
from connectors.paypal.amounts import AmountError, from_paypal, to_paypal
from connectors.paypal.api import Api, Fields
from connectors.paypal.objects import Movement, Order, parse
from connectors.provider import Answer, operation_of
from connectors.references import Reference
from connectors.transport import Connections, Reply, Timeouts
from pipeline import clock
from pipeline.messages.requests import (
    AuthorizeRequest,
    CaptureRequest,
    LookupRequest,
    ProviderRequest,
    RefundRequest,
    VoidRequest,
)
from pipeline.messages.values import CaptureMethod, Operation, Outcome
from pipeline.settings import Settings

log = structlog.get_logger()

HOUR: Final = 60 * 60 * 1000
OTHER_KEYS: Final = 45 * 24 * HOUR
"""How long PayPal remembers a capture's, void's or refund's key."""
_MARGIN: Final = 5 * 60 * 1000
_ORDERS: Final = "/v2/checkout/orders"
_PAYMENTS: Final = "/v2/payments"
_WALLET_REDIRECT: Final = "paypal_checkout"
_NOTE_LIMIT: Final = 255
_DESCRIPTION_LIMIT: Final = 127


class Refused(Exception):  # noqa: N818 - what PayPal said, not a fault of the program
    """A call of several did not go through. `asked`: it only asked, so that the operation itself was not sent."""

    def __init__(self, reply: Reply, *, asked: bool) -> None:
        super().__init__(reply.status)
        self.reply = reply
        self.asked = asked


class PayPalProvider:
    """PayPal's API for one merchant account. Create it on the event loop that calls it.

    `key_hours`: how long PayPal remembers an order's key; 6, unless it was agreed otherwise.
    """

    name = answers.NAME

    def __init__(
        self,
        api_url: str,
        client_id: str,
        client_secret: str,
        *,
        connections: int = 64,
        timeouts: Timeouts | None = None,
        return_url: str | None = None,
        key_hours: int = 6,
        now: Callable[[], int] = clock.now,
    ) -> None:
        connected = Connections(connections, timeouts or Timeouts(), {"Content-Type": "application/json"})
        self._api = Api(api_url, (client_id, client_secret), connected, now)
        self._return_url = return_url
        # Half for a look-up to find that it has to be sent again, half for what is sent again to lie on Kafka.
        self._repeatable = key_hours * HOUR // 2 - _MARGIN
        self._now = now

    async def call(self, request: ProviderRequest) -> Answer:
        """Make the call. Never raises for what PayPal or the network does."""
        try:
            if isinstance(request, LookupRequest):
                return replace(await self._look_up(request), looked_up=True)
            return await self._do(request)
        except AmountError as error:
            return answers.invalid(str(error))
        except msgspec.MsgspecError as error:
            # PayPal said yes in words that we cannot read: it may well have been done.
            log.error("an answer of PayPal cannot be read", request_id=request.request_id, error=str(error))
            return Answer(outcome=Outcome.UNKNOWN, detail=f"unreadable answer: {error}")
        except Refused as refused:
            return self._failure(refused)

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    # The operations

    async def _do(self, request: ProviderRequest) -> Answer:
        match request:
            case AuthorizeRequest():
                return await self._authorize(request)
            case CaptureRequest():
                return await self._capture(request)
            case VoidRequest():
                return await self._void(request)
            case RefundRequest():
                return await self._refund(request)
        raise TypeError(f"no call for {type(request).__name__}")

    async def _authorize(self, request: AuthorizeRequest) -> Answer:
        """The order of a saved method is paid when it is made; any other waits for its payer."""
        if self._now() - request.issued_at > self._repeatable:
            return Answer(outcome=Outcome.UNKNOWN, detail="too old to be sent: PayPal may have forgotten its key")
        reply = await self._api.post(_ORDERS, self._order(request), request.subject_id)
        if not reply.ok:
            return self._order_refused(reply)
        order = parse(reply.body, Order)
        return await self._completed(order, request.subject_id)

    def _order_refused(self, reply: Reply) -> Answer:
        error = answers.error_of(reply)
        if reply.status == 422 and error is not None and error.issue == "DUPLICATE_INVOICE_ID":
            # Paid under this attempt's name before, and the key is forgotten.
            return Answer(outcome=Outcome.UNKNOWN, detail=f"PayPal knows this attempt already: {error.message}")
        return self._failure(Refused(reply, asked=False))

    async def _completed(self, order: Order, subject_id: str) -> Answer:
        """The order's outcome; one that its payer has approved is authorized or captured first."""
        said = answers.of_order(order)
        if order.status != "APPROVED" or said.operation_reference is not None:
            return said
        action = "capture" if order.intent == "CAPTURE" else "authorize"
        reply = await self._api.post(f"{_path(_ORDERS, order.id)}/{action}", {}, f"{subject_id}-{action}")
        if reply.ok:
            return answers.of_order(parse(reply.body, Order))
        if _done_before(reply):
            return answers.of_order(await self._order_of(order.id))
        return replace(self._failure(Refused(reply, asked=False)), provider_reference=order.id)

    async def _capture(self, request: CaptureRequest) -> Answer:
        order = await self._order_of(request.provider_reference)
        hold = _hold(order)
        if hold is None:
            return answers.invalid("the order has no authorization", "NO_AUTHORIZATION")
        fields = _amount(request.amount, request.currency) | {
            "invoice_id": _reference(request),
            "final_capture": request.final,
        }
        reply = await self._api.post(
            f"{_path(_PAYMENTS, 'authorizations', hold.id)}/capture", fields, request.subject_id
        )
        return await self._moved(request, reply, Operation.CAPTURE, order.id)

    async def _void(self, request: VoidRequest) -> Answer:
        order = await self._order_of(request.provider_reference)
        hold = _hold(order)
        if hold is None:
            return answers.invalid("the order has no authorization", "NO_AUTHORIZATION")
        reply = await self._api.post(f"{_path(_PAYMENTS, 'authorizations', hold.id)}/void", {}, request.subject_id)
        if reply.ok:
            return answers.voided(order.id)
        return await self._settled(request, reply, order.id)

    async def _refund(self, request: RefundRequest) -> Answer:
        order = await self._order_of(request.provider_reference)
        reference = _reference(request)
        capture = _refundable(order, request.amount, request.currency, reference)
        if capture is None:
            return answers.invalid("no single capture has so much left to refund", "REFUND_AMOUNT_EXCEEDED")
        fields = _amount(request.amount, request.currency) | {"invoice_id": reference, "custom_id": reference}
        if request.reason:
            fields["note_to_payer"] = request.reason[:_NOTE_LIMIT]
        reply = await self._api.post(f"{_path(_PAYMENTS, 'captures', capture.id)}/refund", fields, request.subject_id)
        return await self._moved(request, reply, Operation.REFUND, order.id)

    async def _moved(self, request: ProviderRequest, reply: Reply, operation: Operation, order_id: str) -> Answer:
        if reply.ok:
            return answers.of_movement(parse(reply.body, Movement), operation, order_id)
        return await self._settled(request, reply, order_id)

    async def _settled(self, request: ProviderRequest, reply: Reply, order_id: str) -> Answer:
        """What a refusal means: the order tells whether an earlier call did it."""
        if _done_before(reply):
            found = _found(await self._order_of(order_id), request)
            if found.outcome is not Outcome.NOT_FOUND:
                return found
        return self._failure(Refused(reply, asked=False))

    # Look-ups

    async def _look_up(self, question: LookupRequest) -> Answer:
        if question.provider_reference is None:
            return self._nameless(question)
        try:
            order = await self._order_of(question.provider_reference)
            if question.operation is Operation.AUTHORIZE:
                return await self._wanted(order, question)
            return _found(order, question)
        except Refused as refused:
            if refused.reply.status == 404:
                return _gone(question)
            return answers.unanswered(refused.reply)

    async def _wanted(self, order: Order, question: LookupRequest) -> Answer:
        """Only we can have an unpaid order paid: once the attempt is given up, nothing comes of it any more."""
        if not question.given_up:
            return await self._completed(order, question.subject_id)
        said = answers.of_order(order)
        if said.operation_reference is not None or said.outcome is Outcome.UNKNOWN:
            return said
        return answers.invalid("the order was given up unpaid", "ORDER_VOIDED")

    def _nameless(self, question: LookupRequest) -> Answer:
        """An order that never answered: PayPal cannot be asked, only told again under the same key."""
        if self._now() - question.asked_at > self._repeatable:
            return Answer(outcome=Outcome.UNKNOWN, detail="PayPal cannot be asked, and may have forgotten the key")
        return Answer(outcome=Outcome.NOT_FOUND, detail="PayPal cannot be asked: to be sent again under its key")

    # The parts

    def _order(self, request: AuthorizeRequest) -> Fields:
        reference = _reference(request)
        unit: Fields = {**_amount(request.amount, request.currency), "custom_id": reference, "invoice_id": reference}
        if request.merchant_reference:
            unit["description"] = request.merchant_reference[:_DESCRIPTION_LIMIT]
        manual = request.capture_method is CaptureMethod.MANUAL
        return {
            "intent": "AUTHORIZE" if manual else "CAPTURE",
            "purchase_units": [unit],
            "payment_source": self._source(request),
        }

    def _source(self, request: AuthorizeRequest) -> Fields:
        """A saved card or wallet by its vault id; a wallet that is not saved sends its payer to PayPal."""
        method = request.payment_method
        back = (self._return_url or "").replace("{payment_id}", request.payment_id)
        shown = {"experience_context": {"return_url": back, "cancel_url": back}} if back else {}
        if method.kind == _WALLET_REDIRECT:
            return {"paypal": shown}
        stored: Fields = {"payment_initiator": "MERCHANT", "usage": "SUBSEQUENT"}
        if method.kind == "card":
            stored["payment_type"] = "UNSCHEDULED"
        return {method.kind: {"vault_id": method.token, "stored_credential": stored, **shown}}

    async def _order_of(self, order_id: str) -> Order:
        """The order as it stands. Raises Refused."""
        reply = await self._api.get(_path(_ORDERS, order_id))
        if not reply.ok:
            raise Refused(reply, asked=True)
        return parse(reply.body, Order)

    def _failure(self, refused: Refused) -> Answer:
        reply = refused.reply
        failure = answers.not_asked(reply) if refused.asked else answers.of_failure(reply)
        if reply.status in {401, 403}:
            log.critical("PayPal refuses our credentials: no payment can be made", detail=failure.detail)
        return failure


def provider(settings: Settings) -> PayPalProvider:
    """PayPal as the settings have it."""
    return PayPalProvider(
        settings.paypal_api_url,
        settings.paypal_client_id,
        settings.reveal("paypal_client_secret"),
        connections=settings.provider_concurrency,
        return_url=settings.paypal_return_url,
        key_hours=settings.paypal_key_hours,
    )


def _reference(request: ProviderRequest) -> str:
    return str(Reference(request.payment_id, operation_of(request), request.subject_id))


def _path(*parts: str) -> str:
    base, *ids = parts
    return "/".join((base, *(quote(part, safe="") for part in ids)))


def _amount(minor: int, currency: str) -> Fields:
    return {"amount": {"currency_code": currency, "value": to_paypal(minor, currency)}}


def _done_before(reply: Reply) -> bool:
    error = answers.error_of(reply)
    return error is not None and error.issue in answers.DONE_BEFORE


def _hold(order: Order) -> Movement | None:
    """The authorization that captures and voids are made of."""
    return order.payments.authorizations[-1] if order.payments.authorizations else None


def _found(order: Order, request: ProviderRequest) -> Answer:
    """What the order says of a capture, void or refund of ours."""
    operation = operation_of(request)
    if operation is Operation.VOID:
        hold = _hold(order)
        gone = hold is not None and hold.status == "VOIDED"
        return answers.voided(order.id) if gone else _absent(order.id)
    movements = order.payments.captures if operation is Operation.CAPTURE else order.payments.refunds
    reference = _reference(request)
    ours = [movement for movement in movements if reference in {movement.invoice_id, movement.custom_id}]
    return answers.of_movement(ours[-1], operation, order.id) if ours else _absent(order.id)


def _absent(order_id: str) -> Answer:
    return Answer(outcome=Outcome.NOT_FOUND, provider_reference=order_id, detail="not in the order")


def _gone(question: LookupRequest) -> Answer:
    """An order that was never paid is deleted after some hours; one that was paid is not."""
    if question.operation is Operation.AUTHORIZE:
        return answers.invalid("the order is gone: its payer never approved it", "ORDER_EXPIRED")
    return Answer(outcome=Outcome.UNKNOWN, detail="PayPal does not know the order")


def _refundable(order: Order, amount: int, currency: str, reference: str) -> Movement | None:
    """The capture that a refund is made of: the smallest that has enough left, without what this refund already took.

    PayPal refunds captures, not orders; a refund of several captures at once would be several refunds.
    """
    left = [(_left(order, capture, reference), capture) for capture in order.payments.captures]
    enough = [(rest, capture) for rest, capture in left if rest >= amount and _in(capture, currency)]
    return min(enough, key=lambda found: (found[0], found[1].id))[1] if enough else None


def _in(capture: Movement, currency: str) -> bool:
    return capture.amount is not None and capture.amount.currency_code == currency


def _left(order: Order, capture: Movement, reference: str) -> int:
    """Minor units of a capture that were not refunded, by others than the refund of that reference."""
    if answers.outcome_of(capture, Operation.CAPTURE) is not Outcome.APPROVED:
        return 0
    refunds = [r for r in order.payments.refunds if r.of == capture.id and reference not in {r.invoice_id, r.custom_id}]
    counted = [r for r in refunds if answers.outcome_of(r, Operation.REFUND) is not Outcome.DECLINED]
    return _minor(capture) - sum(map(_minor, counted))


def _minor(movement: Movement) -> int:
    amount = movement.amount
    return from_paypal(amount.value, amount.currency_code) if amount else 0
