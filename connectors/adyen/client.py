"""Requests to Adyen: one call of the Checkout API each.

Whatever happens is an outcome (see `answers.of_failure`). Captures, cancels and refunds are only accepted here; a
webhook decides them.

Adyen cannot be asked what became of a call. What can be done is to make the same call again: under a key that Adyen
still knows it answers what it answered first. So a look-up is NOT_FOUND while that is so, which makes the pipeline send
the request again, and UNKNOWN later: then only the webhook, or somebody, can tell. A shopper's return is the exception:
`POST /payments/details` with what their browser brought decides the payment, and says how.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

import msgspec
import structlog

from connectors.adyen import answers
from connectors.adyen.amounts import AmountError, to_adyen
from connectors.adyen.objects import Modification, Payment, parse
from connectors.provider import Answer, operation_of
from connectors.references import Reference
from connectors.transport import Connections, Reply, Timeouts
from pipeline import clock, ids
from pipeline.messages.requests import (
    AuthorizeRequest,
    CaptureRequest,
    LookupRequest,
    ProviderRequest,
    RefundRequest,
    VoidRequest,
)
from pipeline.messages.values import CaptureMethod, Outcome
from pipeline.settings import Settings

log = structlog.get_logger()

VERSION: Final = "v72"
"""Of the Checkout API."""
DAY: Final = 24 * 60 * 60 * 1000
REPEATABLE: Final = 3 * DAY
"""Adyen keeps an idempotency key for at least 7 days. A look-up sends a request again up to 3 days after it was first
sent, and what is sent again may lie on Kafka for up to 3 days."""

_VALUE_LIMIT: Final = 80
_REFUND_REASONS: Final = {
    "fraudulent": "FRAUD",
    "requested_by_customer": "CUSTOMER REQUEST",
    "return": "RETURN",
    "duplicate": "DUPLICATE",
}

Fields = dict[str, Any]


class AdyenProvider:
    """Adyen's Checkout API for one merchant account. Create it on the event loop that calls it."""

    name = answers.NAME

    def __init__(
        self,
        api_url: str,
        api_key: str,
        merchant_account: str,
        *,
        connections: int = 64,
        timeouts: Timeouts | None = None,
        return_url: str | None = None,
        now: Callable[[], int] = clock.now,
    ) -> None:
        self._base = f"{api_url.rstrip('/')}/{VERSION}"
        headers = {"X-API-Key": api_key, "Content-Type": "application/json"}
        self._connections = Connections(connections, timeouts or Timeouts(), headers)
        self._account = merchant_account
        self._return_url = return_url
        self._now = now

    async def call(self, request: ProviderRequest) -> Answer:
        """Make the call. Never raises for what Adyen or the network does."""
        if isinstance(request, LookupRequest):
            return await self._asked_about(request)
        if self._now() - request.issued_at > REPEATABLE:
            return Answer(outcome=Outcome.UNKNOWN, detail="too old to be sent: Adyen may have forgotten its key")
        try:
            path, fields = self._asked(request)
        except AmountError as error:
            return answers.invalid(str(error))
        reply = await self._send(path, fields, request.subject_id)
        if not reply.ok:
            return self._failure(reply)
        try:
            return _meaning(request, reply)
        except (msgspec.MsgspecError, AmountError) as error:
            # Adyen said yes in words that we cannot read: it may well have been done.
            log.error("an answer of Adyen cannot be read", request_id=request.request_id, error=str(error))
            return Answer(outcome=Outcome.UNKNOWN, detail=f"unreadable answer: {error}")

    async def close(self) -> None:
        """Close the connections."""
        await self._connections.close()

    def _asked(self, request: ProviderRequest) -> tuple[str, Fields]:
        """The path and the body of the call. Raises AmountError."""
        match request:
            case AuthorizeRequest():
                return "payments", self._payment(request)
            case CaptureRequest():
                fields = self._common(request) | _amount(request.amount, request.currency)
                return _of(request.provider_reference, "captures"), fields
            case VoidRequest():
                return _of(request.provider_reference, "cancels"), self._common(request)
            case RefundRequest():
                fields = self._common(request) | _amount(request.amount, request.currency) | _reason(request)
                return _of(request.provider_reference, "refunds"), fields
        raise TypeError(f"no call for {type(request).__name__}")

    def _common(self, request: ProviderRequest) -> Fields:
        reference = Reference(request.payment_id, operation_of(request), request.subject_id)
        return {"merchantAccount": self._account, "reference": str(reference)}

    def _payment(self, request: AuthorizeRequest) -> Fields:
        """`captureDelayHours` and `additionalData.manualCapture` say what holds, whatever the account's setting is."""
        method = "scheme" if request.payment_method.kind == "card" else request.payment_method.kind
        fields: Fields = {
            **self._common(request),
            **_amount(request.amount, request.currency),
            "paymentMethod": {"type": method, "storedPaymentMethodId": request.payment_method.token},
            "shopperInteraction": "ContAuth",
            "recurringProcessingModel": "CardOnFile",
            "channel": "Web",
            "merchantOrderReference": request.payment_id,
            "metadata": _metadata(request),
        }
        if request.capture_method is CaptureMethod.MANUAL:
            fields["additionalData"] = {"manualCapture": "true"}
        else:
            fields["captureDelayHours"] = 0
        if request.customer_id:
            fields["shopperReference"] = request.customer_id
        if self._return_url:
            fields["returnUrl"] = self._return_url.replace("{payment_id}", request.payment_id)
        return fields

    async def _asked_about(self, question: LookupRequest) -> Answer:
        """The look-up; for a shopper who is back, with what their browser brought."""
        answer = self._look_up(question)
        if question.action_result is None or answer.outcome is Outcome.UNKNOWN:
            return answer
        fields = {"details": {"redirectResult": question.action_result}}
        # A key of the shopper's result: given again it is the same submission, another result is another one.
        key = ids.derive("details", question.subject_id, question.action_result)
        reply = await self._send("payments/details", fields, key)
        if not reply.ok:
            return answers.of_refused_details(self._failure(reply))
        try:
            reference = Reference(question.payment_id, question.operation, question.subject_id)
            return answers.of_details(parse(reply.body, Payment), str(reference))
        except (msgspec.MsgspecError, AmountError) as error:
            log.error("an answer of Adyen cannot be read", request_id=question.request_id, error=str(error))
            return Answer(outcome=Outcome.UNKNOWN, detail=f"unreadable answer: {error}")

    def _look_up(self, question: LookupRequest) -> Answer:
        if self._now() - question.asked_at > REPEATABLE:
            detail = "Adyen cannot be asked, and may have forgotten the key"
            return Answer(outcome=Outcome.UNKNOWN, detail=detail, looked_up=True)
        return Answer(
            outcome=Outcome.NOT_FOUND,
            provider_reference=question.provider_reference,
            operation_reference=question.operation_reference,
            detail="Adyen cannot be asked: to be sent again under its key",
            looked_up=True,
        )

    def _failure(self, reply: Reply) -> Answer:
        failure = answers.of_failure(reply)
        if reply.status in {401, 403}:
            log.critical("Adyen refuses our credentials: no payment can be made", detail=failure.detail)
        return failure

    async def _send(self, path: str, fields: Fields, key: str) -> Reply:
        body = msgspec.json.encode(fields)
        headers = {"idempotency-key": key}
        return await self._connections.send("POST", f"{self._base}/{path}", content=body, headers=headers)


def provider(settings: Settings) -> AdyenProvider:
    """Adyen as the settings have it."""
    return AdyenProvider(
        settings.adyen_api_url,
        settings.reveal("adyen_api_key"),
        settings.adyen_merchant_account,
        connections=settings.provider_concurrency,
        return_url=settings.adyen_return_url,
    )


def _meaning(request: ProviderRequest, reply: Reply) -> Answer:
    """What an answer to a request says. Raises msgspec.MsgspecError, AmountError."""
    if isinstance(request, AuthorizeRequest):
        return answers.of_authorization(parse(reply.body, Payment))
    return answers.accepted(parse(reply.body, Modification))


def _of(payment: str, modifications: str) -> str:
    return f"payments/{quote(payment, safe='')}/{modifications}"


def _amount(minor: int, currency: str) -> Fields:
    return {"amount": {"value": to_adyen(minor, currency), "currency": currency}}


def _reason(request: RefundRequest) -> Fields:
    reason = _REFUND_REASONS.get(request.reason or "")
    return {"merchantRefundReason": reason} if reason else {}


def _metadata(request: AuthorizeRequest) -> dict[str, str]:
    """For people in the Customer Area: up to 20 pairs, keys of 20 and values of 80 characters."""
    tags = {
        "payment_id": request.payment_id,
        "attempt_id": request.subject_id,
        "merchant_id": request.merchant_id,
        "merchant_reference": request.merchant_reference,
    }
    return {name: value[:_VALUE_LIMIT] for name, value in tags.items() if value}
