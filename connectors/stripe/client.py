"""Requests to Stripe: one call each, through the official SDK on its aiohttp client.

Whatever happens is an outcome (see `answers.of_failure`). Three rules keep money from moving twice:

- the idempotency key is the request's subject, so that a repeated call is the same call;
- Stripe may forget a key after 24 hours and would then do a repeated call *anew*: a request older than 23 hours is
  looked up, and never repeated;
- a refused capture, void or refund may have been done by an earlier call: the object says so, not the error.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final

import aiohttp
import msgspec
import stripe
import structlog

from connectors.provider import Answer
from connectors.stripe import answers
from connectors.stripe.amounts import AmountError, to_stripe
from connectors.stripe.answers import StripeReply
from connectors.stripe.objects import Intents, PaymentIntent, Refund, Refunds, parse
from connectors.transport import Timeouts
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
KEY_LIFE: Final = 23 * HOUR
"""Stripe keeps an idempotency key for at least 24 hours."""

_INTENTS: Final = "/v1/payment_intents"
_REFUNDS: Final = "/v1/refunds"
_EXPAND: Final = ["latest_charge"]
_PAGE: Final = 100
_PAGES: Final = 10
_BEFORE_ASKED: Final = 5 * 60
"""Seconds by which Stripe's clock may be behind ours."""
_VALUE_LIMIT: Final = 500
_REFUND_REASONS: Final = frozenset({"duplicate", "fraudulent", "requested_by_customer"})

Params = dict[str, Any]


class StripeProvider:
    """Stripe's API. Create it on the event loop that calls it."""

    name = answers.NAME

    def __init__(
        self,
        api_url: str,
        api_key: str,
        *,
        connections: int = 64,
        timeouts: Timeouts | None = None,
        return_url: str | None = None,
        now: Callable[[], int] = clock.now,
    ) -> None:
        _quiet_sdk()
        self._session = _session(connections, timeouts or Timeouts(), tls=api_url.startswith("https"))
        self._client = stripe.StripeClient(
            api_key,
            base_addresses={"api": api_url.rstrip("/")},
            max_network_retries=0,
            http_client=stripe.AIOHTTPClient(timeout=None, session=self._session),
        )
        self._return_url = return_url
        self._now = now

    async def call(self, request: ProviderRequest) -> Answer:
        """Make the call. Never raises for what Stripe or the network does."""
        try:
            if isinstance(request, LookupRequest):
                return await self._look_up(request)
            if self._now() - request.issued_at > KEY_LIFE:
                return await self._look_up(_question(request))
            return await self._do(request)
        except AmountError as error:
            return _invalid(str(error))
        except msgspec.MsgspecError as error:
            # Stripe said yes in words that we cannot read: it may well have been done.
            log.error("an answer of Stripe cannot be read", request_id=request.request_id, error=str(error))
            return Answer(outcome=Outcome.UNKNOWN, detail=f"unreadable answer: {error}")

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

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
        return _invalid(f"no call for {type(request).__name__}")

    async def _authorize(self, request: AuthorizeRequest) -> Answer:
        reply = await self._send("post", _INTENTS, self._authorization(request), request.subject_id)
        if reply.ok:
            return answers.of_authorization(parse(reply.body, PaymentIntent))
        return await self._settle(request, reply)

    async def _capture(self, request: CaptureRequest) -> Answer:
        amount = to_stripe(request.amount, request.currency)
        params: Params = {
            "amount_to_capture": amount,
            "metadata": answers.capture_tags(request.subject_id, amount),
            "expand": _EXPAND,
        }
        if not request.final:
            # Stripe takes the parameter only where several captures are possible; final is the default.
            params["final_capture"] = False
        reply = await self._send("post", _path(request.provider_reference, "capture"), params, request.subject_id)
        if reply.ok:
            return answers.captured(parse(reply.body, PaymentIntent), request.subject_id, request.amount)
        return await self._settle(request, reply)

    async def _void(self, request: VoidRequest) -> Answer:
        reply = await self._send("post", _path(request.provider_reference, "cancel"), {}, request.subject_id)
        if reply.ok:
            return answers.voided(parse(reply.body, PaymentIntent))
        return await self._settle(request, reply)

    async def _refund(self, request: RefundRequest) -> Answer:
        reply = await self._send("post", _REFUNDS, _refund_params(request), request.subject_id)
        if reply.ok:
            return answers.of_refund(parse(reply.body, Refund))
        return await self._settle(request, reply)

    def _authorization(self, request: AuthorizeRequest) -> Params:
        manual = request.capture_method is CaptureMethod.MANUAL
        params: Params = {
            "amount": to_stripe(request.amount, request.currency),
            "currency": request.currency.lower(),
            "payment_method": request.payment_method.token,
            "confirm": True,
            "capture_method": request.capture_method.value,
            "metadata": _metadata(request, attempt_id=request.subject_id),
            "expand": _EXPAND,
        }
        if request.payment_method.kind == "card":
            params["allowed_payment_method_types"] = ["card"]
        if manual:
            params["payment_method_options"] = {"card": {"request_multicapture": "if_available"}}
        if request.customer_id and request.customer_id.startswith("cus_"):
            params["customer"] = request.customer_id
        if self._return_url:
            params["return_url"] = self._return_url
        return params

    async def _settle(self, request: ProviderRequest, reply: StripeReply) -> Answer:
        """What a failed call means, after a look at the object where only that can say."""
        failure = answers.of_failure(reply)
        if reply.status in {401, 403}:
            log.critical("Stripe refuses our credentials: no payment can be made", detail=failure.detail)
        if reply.status == 500 and reply.replayed:
            return await self._after_saved_500(request, failure)
        refused = failure.outcome is Outcome.DECLINED and 400 <= reply.status < 500
        if not refused or isinstance(request, AuthorizeRequest):
            return failure
        found = await self._look_up(_question(request))
        return failure if found.outcome is Outcome.NOT_FOUND else found

    async def _after_saved_500(self, request: ProviderRequest, failure: Answer) -> Answer:
        """Stripe saved a 500 under the key and will answer nothing else. If nothing came of the first call, it is
        certain that nothing will.
        """
        found = await self._look_up(_question(request))
        if found.outcome is Outcome.NOT_FOUND and not found.repeat:
            return msgspec.structs.replace(failure, outcome=Outcome.TEMPORARY_FAILURE)
        return failure if found.outcome is Outcome.NOT_FOUND else found

    # Looking up

    async def _look_up(self, question: LookupRequest) -> Answer:
        return msgspec.structs.replace(await self._found(question), looked_up=True)

    async def _found(self, question: LookupRequest) -> Answer:
        if question.operation is Operation.REFUND:
            return await self._find_refund(question)
        if question.provider_reference is None:
            return await self._find_attempt(question)
        reply = await self._send("get", _path(question.provider_reference), {"expand": _EXPAND})
        if reply.status == 404 and reply.error:
            return Answer(outcome=Outcome.NOT_FOUND, detail="no such payment intent")
        if not reply.ok:
            return _unanswered(reply)
        intent = parse(reply.body, PaymentIntent)
        match question.operation:
            case Operation.CAPTURE:
                return answers.of_capture(intent, question.subject_id)
            case Operation.VOID:
                return answers.of_void(intent)
        return answers.found_authorization(intent)

    async def _find_attempt(self, question: LookupRequest) -> Answer:
        """An authorization whose call never answered. Search lags behind by a minute or, on a bad day, an hour; the
        list does not, but may be too long. A wrong NOT_FOUND is harmless: the repeat goes under the same living key.
        """
        query = f"metadata['{answers.ATTEMPT}']:'{question.subject_id}'"
        reply = await self._send("get", f"{_INTENTS}/search", {"query": query, "expand": ["data.latest_charge"]})
        if reply.ok and (found := _attempt(parse(reply.body, Intents), question.subject_id)):
            return answers.found_authorization(found)
        return await self._list_attempt(question)

    async def _list_attempt(self, question: LookupRequest) -> Answer:
        """The intents created since the question's operation was asked for, newest first."""
        params: Params = {
            "created": {"gte": question.asked_at // 1000 - _BEFORE_ASKED},
            "limit": _PAGE,
            "expand": ["data.latest_charge"],
        }
        for _ in range(_PAGES):
            reply = await self._send("get", _INTENTS, params)
            if not reply.ok:
                return _unanswered(reply)
            page = parse(reply.body, Intents)
            if found := _attempt(page, question.subject_id):
                return answers.found_authorization(found)
            if not page.has_more or not page.data:
                return Answer(outcome=Outcome.NOT_FOUND, detail="neither searched nor listed")
            params["starting_after"] = page.data[-1].id
        # Not certain: `repeat` says that only the repeat under the key can tell.
        return Answer(outcome=Outcome.NOT_FOUND, detail="not searched, and too many to list", repeat=True)

    async def _find_refund(self, question: LookupRequest) -> Answer:
        if question.operation_reference:
            reply = await self._send("get", f"{_REFUNDS}/{question.operation_reference}")
            return answers.of_refund(parse(reply.body, Refund)) if reply.ok else _unanswered(reply)
        params: Params = {"payment_intent": question.provider_reference, "limit": _PAGE}
        while True:
            reply = await self._send("get", _REFUNDS, params)
            if not reply.ok:
                return _unanswered(reply)
            page = parse(reply.body, Refunds)
            for refund in page.data:
                if refund.tag(answers.REFUND) == question.subject_id:
                    return answers.of_refund(refund)
            if not page.has_more or not page.data:
                return Answer(outcome=Outcome.NOT_FOUND, detail="no such refund of the payment intent")
            params["starting_after"] = page.data[-1].id

    async def _send(self, method: str, path: str, params: Params | None = None, key: str | None = None) -> StripeReply:
        options = {"idempotency_key": key} if key else {}
        try:
            response = await self._client.raw_request_async(method, path, **(params or {}), **options)
        except stripe.APIConnectionError as error:
            return StripeReply.never(error.__cause__ or error)
        except stripe.StripeError as error:
            return _reply(error.http_status, error.http_body, error.headers, type(error).__name__)
        except (aiohttp.ClientError, TimeoutError) as error:
            # The SDK reads the body outside its own error handling.
            return StripeReply.never(error)
        return _reply(response.code, response.body, response.headers)


def provider(settings: Settings) -> StripeProvider:
    """Stripe as the settings have it."""
    return StripeProvider(
        settings.stripe_api_url,
        settings.reveal("stripe_api_key"),
        connections=settings.provider_concurrency,
        return_url=settings.stripe_return_url,
    )


def _session(connections: int, timeouts: Timeouts, *, tls: bool) -> aiohttp.ClientSession:
    context = ssl.create_default_context(cafile=stripe.ca_bundle_path) if tls else True
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, ssl=context, keepalive_timeout=30),
        timeout=aiohttp.ClientTimeout(
            total=timeouts.total, connect=timeouts.connect, sock_connect=timeouts.connect, sock_read=timeouts.read
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
    )


def _quiet_sdk() -> None:
    """The SDK logs two lines a call, and tells Stripe how long each took."""
    logging.getLogger("stripe").setLevel(logging.WARNING)
    stripe.enable_telemetry = False


def _reply(status: int | None, body: object, headers: Mapping[str, str] | None, detail: str = "") -> StripeReply:
    """What the SDK hands out: the body as text or bytes, the headers' names as they were written."""
    return StripeReply(
        status=status or 0,
        body=body if isinstance(body, bytes) else str(body or "").encode(),
        headers={name.lower(): value for name, value in (headers or {}).items()},
        detail=detail,
    )


def _unanswered(reply: StripeReply) -> Answer:
    """It is the question that failed, which says nothing about the operation."""
    return msgspec.structs.replace(answers.of_failure(reply), outcome=Outcome.UNKNOWN, decline=None)


def _path(intent: str, *action: str) -> str:
    return "/".join((_INTENTS, intent, *action))


def _metadata(request: ProviderRequest, **tags: str | None) -> dict[str, str]:
    all_tags = {
        answers.PAYMENT: request.payment_id,
        **tags,
        "merchant_id": request.merchant_id,
        "merchant_reference": request.merchant_reference,
    }
    return {name: value[:_VALUE_LIMIT] for name, value in all_tags.items() if value}


def _refund_params(request: RefundRequest) -> Params:
    params: Params = {
        "payment_intent": request.provider_reference,
        "amount": to_stripe(request.amount, request.currency),
        "metadata": _metadata(request, refund_id=request.subject_id, reason=request.reason),
    }
    if request.reason in _REFUND_REASONS:
        params["reason"] = request.reason
    return params


def _question(request: ProviderRequest) -> LookupRequest:
    """What became of `request`?"""
    operations: dict[type[ProviderRequest], Operation] = {
        AuthorizeRequest: Operation.AUTHORIZE,
        CaptureRequest: Operation.CAPTURE,
        VoidRequest: Operation.VOID,
        RefundRequest: Operation.REFUND,
    }
    return LookupRequest(
        request_id=request.request_id,
        payment_id=request.payment_id,
        merchant_id=request.merchant_id,
        provider=request.provider,
        subject_id=request.subject_id,
        issued_at=request.issued_at,
        operation=operations[type(request)],
        provider_reference=getattr(request, "provider_reference", None),
        asked_at=request.issued_at,
    )


def _attempt(intents: Intents, attempt_id: str) -> PaymentIntent | None:
    return next((intent for intent in intents.data if intent.tag(answers.ATTEMPT) == attempt_id), None)


def _invalid(detail: str) -> Answer:
    decline = answers.DECLINES.decline("invalid_request_error")
    return Answer(outcome=Outcome.DECLINED, decline=decline, detail=detail)
