"""Adyen's Checkout API: credentials, idempotency, faults, and the answer. A plain ASGI application."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import orjson
from starlette.types import Receive, Scope, Send

from connectors.simulator.adyen import errors
from connectors.simulator.adyen.account import PROVIDER, Account, Call, Fields
from connectors.simulator.adyen.errors import AdyenError
from connectors.simulator.adyen.keys import Answer, Keys
from connectors.simulator.adyen.outbox import Outbox
from connectors.simulator.adyen.payments import Kind as Modifying
from connectors.simulator.adyen.payments import Modification
from connectors.simulator.calls import Course
from connectors.simulator.exchange import BodyTooLargeError, Exchange, Header
from connectors.simulator.faults import Facts, Fault, Kind
from connectors.simulator.parts import Parts
from connectors.simulator.settings import SimulatorSettings

_JSON: Final[Header] = (b"content-type", b"application/json;charset=UTF-8")
_PATH: Final = re.compile(r"/checkout/v\d+(/.+)")
_MODIFICATION: Final = re.compile(r"/payments/([^/]+)/(captures|cancels|refunds|reversals)")


class Operation(StrEnum):
    """What a call does: the name in the statistics."""

    PAY = "payments"
    DETAILS = "payments_details"
    CAPTURE = "captures"
    CANCEL = "cancels"
    REFUND = "refunds"
    REVERSAL = "reversals"
    TECHNICAL_CANCEL = "technical_cancel"
    UNKNOWN = "unknown"


_EXACT: Final = {
    "/payments": Operation.PAY,
    "/payments/details": Operation.DETAILS,
    "/cancels": Operation.TECHNICAL_CANCEL,
}
_GROUPS: Final = {
    Operation.PAY: "authorize",
    Operation.DETAILS: "details",
    Operation.CAPTURE: "capture",
    Operation.CANCEL: "void",
    Operation.TECHNICAL_CANCEL: "void",
    Operation.REFUND: "refund",
    Operation.REVERSAL: "refund",
    Operation.UNKNOWN: "unknown",
}
"""The operation in every provider's words: what faults are about."""


class _Request(Course):
    """One call on its way."""

    def __init__(self, exchange: Exchange, body: bytes, call: Call) -> None:
        super().__init__(exchange)
        self.operation, self.payment = _route(exchange.method, exchange.path)
        self.body = body
        self.call = call
        self.fields: Fields = {}


class AdyenApi:
    """The application under /checkout."""

    def __init__(self, settings: SimulatorSettings, parts: Parts, account: Account, keys: Keys, outbox: Outbox) -> None:
        self._settings = settings
        self._parts = parts
        self._account = account
        self._keys = keys
        self._outbox = outbox

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One HTTP request."""
        exchange = Exchange(scope, receive, send)
        try:
            body = await exchange.body()
        except BodyTooLargeError:
            await exchange.answer(413, [], b"")
            return
        started = time.thread_time()
        key = exchange.header(b"idempotency-key") or None
        call = Call(self._parts.clock.now(), key, exchange.base_url)
        request = _Request(exchange, body, call)
        status = await self._serve(request)
        own = time.thread_time() - started - request.others
        self._parts.stats.count(f"{PROVIDER}.{request.operation}", status, own, request.asked)

    # The way of a call

    async def _serve(self, request: _Request) -> int:
        """Answer, or do not, as the faults have it. Returns the status; 0 is no answer."""
        try:
            self._admit(request)
            if request.is_lost_before:
                await request.lose()
                return 0
            answer = await self._answer(request)
        except AdyenError as error:
            answer = self._refusal(error)
        return await self._deliver(request, answer)

    def _admit(self, request: _Request) -> None:
        """Read the call and meet its faults. Raises AdyenError."""
        settings = self._settings.adyen
        key = request.exchange.header(b"x-api-key")
        if not key or (settings.api_keys and key not in settings.api_keys):
            raise errors.unauthorized()
        if request.operation is Operation.UNKNOWN:
            raise AdyenError(404, "", "Not found", kept=False)
        request.fields = _object(request.body)
        account = request.fields.get("merchantAccount")
        if request.operation is not Operation.DETAILS:
            if not account:
                raise errors.missing("merchantAccount")
            if settings.merchant_account and account != settings.merchant_account:
                raise errors.other_account()
        if self._parts.faults:
            request.met = self._parts.faults.meet(self._facts(request))
        fault = request.met.call
        if fault is not None and fault.kind is Kind.RATE_LIMIT:
            raise errors.rate_limited(fault.retry_after)

    async def _answer(self, request: _Request) -> Answer:
        """The call's answer, its own or the one saved under its key. Raises AdyenError."""
        fault, key = request.met.call, request.call.key
        if fault is not None and fault.kind is Kind.UNAVAILABLE:
            return Answer(fault.status, b"<html><h1>Service unavailable</h1></html>", retry_after=fault.retry_after)
        if key is None:
            await self._wait(request)
            return self._do(request)[0]
        known = self._keys.begin(key, request.call.now)
        if known is not None:
            return known
        saved: Answer | None = None
        try:
            await self._wait(request)
            answer, is_kept = self._do(request)
            saved = answer if is_kept else None
        finally:
            self._keys.end(key, saved)
        return answer

    async def _wait(self, request: _Request) -> None:
        await request.wait(self._settings.latency_ms)

    def _do(self, request: _Request) -> tuple[Answer, bool]:
        """Do it. The answer, and whether it is one to keep."""
        try:
            if request.met.is_call(Kind.SERVER_ERROR):
                raise errors.server_error()
            body = self._done(request)
            if request.met.is_call(Kind.SERVER_ERROR_AFTER):
                raise errors.server_error()
        except AdyenError as error:
            return self._refusal(error), error.kept
        created = request.operation not in {Operation.PAY, Operation.DETAILS}
        return Answer(201 if created else 200, orjson.dumps(body)), True

    def _done(self, request: _Request) -> Fields:
        fields, call = request.fields, request.call
        match request.operation:
            case Operation.PAY:
                return self._account.pay(fields, call)
            case Operation.DETAILS:
                return self._account.finish(fields, call)
            case Operation.TECHNICAL_CANCEL:
                return self._account.cancel_by_reference(fields, call)
        return self._account.modify(Modifying(request.operation.value), request.payment, fields, call)

    async def _deliver(self, request: _Request, answer: Answer) -> int:
        """Send the answer and the webhooks, in the order that the faults ask for."""
        faults, call = request.met.webhooks, request.call
        if any(fault.kind is Kind.WEBHOOK_FIRST for fault in faults):
            for modification in call.later:
                call.events += self._account.settle(modification, call.now)
            call.later.clear()
            with request.waiting():
                await self._outbox.publish_before_answer(call.events, faults)
            call.events = []
        if request.is_lost_after:
            self._publish(request)
            await request.lose()
            return 0
        await request.exchange.answer(answer.status, _headers(request, answer), answer.body)
        self._publish(request)
        return answer.status

    def _publish(self, request: _Request) -> None:
        """The webhooks of what is decided, and of the rest once that is decided."""
        faults, call = request.met.webhooks, request.call
        self._outbox.publish(call.events, faults)
        loop, seconds = asyncio.get_running_loop(), self._settings.adyen.modification_seconds
        for modification in call.later:
            loop.call_later(seconds, self._settle, modification, faults)

    def _settle(self, modification: Modification, faults: Sequence[Fault]) -> None:
        self._outbox.publish(self._account.settle(modification, self._parts.clock.now()), faults)

    def _refusal(self, error: AdyenError) -> Answer:
        body = orjson.dumps(error.body(self._account.references.new()))
        return Answer(error.status, body, error.transient, error.retry_after)

    def _facts(self, request: _Request) -> Facts:
        """What a fault may ask of a call: its own parameters, and those of the payment it is about."""
        payment = self._account.payments.get(request.payment)
        asked, given = request.fields.get("paymentMethod"), request.fields.get("metadata")
        method = asked.get("storedPaymentMethodId") if isinstance(asked, dict) else None
        return Facts(
            provider=PROVIDER,
            operation=_GROUPS[request.operation],
            method=request.exchange.method,
            path=request.exchange.path,
            payment_method=method or (payment.method.name if payment else None),
            idempotency_key=request.call.key,
            metadata={**(payment.metadata if payment else {}), **(given if isinstance(given, dict) else {})},
        )


def _route(method: str, path: str) -> tuple[Operation, str]:
    """The operation, and the payment in the path."""
    match = _PATH.fullmatch(path)
    if method != "POST" or match is None:
        return Operation.UNKNOWN, ""
    rest = match[1].rstrip("/")
    if rest in _EXACT:
        return _EXACT[rest], ""
    modification = _MODIFICATION.fullmatch(rest)
    return (Operation(modification[2]), modification[1]) if modification else (Operation.UNKNOWN, "")


def _object(body: bytes) -> Fields:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise errors.unreadable(f"Unexpected input: {error}") from error
    if not isinstance(found, dict):
        raise errors.unreadable("Unexpected input, expected: {")
    return found


def _headers(request: _Request, answer: Answer) -> list[Header]:
    html = answer.body[:1] == b"<"
    headers = [(b"content-type", b"text/html") if html else _JSON]
    if request.call.key is not None:
        headers.append((b"idempotency-key", request.call.key.encode("latin-1", "replace")))
    if answer.transient:
        headers.append((b"transient-error", b"true"))
    if answer.retry_after is not None:
        headers.append((b"retry-after", str(answer.retry_after).encode()))
    return headers
