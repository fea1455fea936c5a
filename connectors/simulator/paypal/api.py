"""PayPal's REST API: tokens, PayPal-Request-Id, faults, and the answer. A plain ASGI application."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
import orjson
from starlette.types import Receive, Scope, Send

from connectors.simulator.calls import Course
from connectors.simulator.exchange import BodyTooLargeError, Exchange, Header
from connectors.simulator.faults import Facts, Fault, Kind
from connectors.simulator.parts import Parts
from connectors.simulator.paypal import errors, render
from connectors.simulator.paypal.account import PROVIDER, Call, Fields
from connectors.simulator.paypal.business import Business
from connectors.simulator.paypal.errors import ISSUES, OAuthError, PayPalError
from connectors.simulator.paypal.keys import Kept, Made
from connectors.simulator.paypal.records import Authorization, Capture, Dispute, Order, Pending, Refund, ours
from connectors.simulator.paypal.transactions import search
from connectors.simulator.settings import SimulatorSettings

_JSON: Final[Header] = (b"content-type", b"application/json")
_HTML: Final[Header] = (b"content-type", b"text/html")
_ORDERS: Final = r"/v2/checkout/orders"
_PAYMENTS: Final = r"/v2/payments"
_DEBUG_ID: Final = 13


class Operation(StrEnum):
    """What a call does: the name in the statistics."""

    OAUTH = "token"
    VERIFY = "webhook_verify"
    ORDER_CREATE = "order_create"
    ORDER_SHOW = "order_show"
    ORDER_AUTHORIZE = "order_authorize"
    ORDER_CAPTURE = "order_capture"
    AUTHORIZATION_SHOW = "authorization_show"
    AUTHORIZATION_CAPTURE = "authorization_capture"
    AUTHORIZATION_VOID = "authorization_void"
    CAPTURE_SHOW = "capture_show"
    CAPTURE_REFUND = "capture_refund"
    REFUND_SHOW = "refund_show"
    DISPUTE_SHOW = "dispute_show"
    TRANSACTION_SEARCH = "transaction_search"
    UNKNOWN = "unknown"


_PATHS: Final = [
    (method, re.compile(path), operation)
    for method, path, operation in (
        ("POST", r"/v1/oauth2/token", Operation.OAUTH),
        ("POST", r"/v1/notifications/verify-webhook-signature", Operation.VERIFY),
        ("POST", _ORDERS, Operation.ORDER_CREATE),
        ("GET", rf"{_ORDERS}/([^/]+)", Operation.ORDER_SHOW),
        ("POST", rf"{_ORDERS}/([^/]+)/authorize", Operation.ORDER_AUTHORIZE),
        ("POST", rf"{_ORDERS}/([^/]+)/capture", Operation.ORDER_CAPTURE),
        ("GET", rf"{_PAYMENTS}/authorizations/([^/]+)", Operation.AUTHORIZATION_SHOW),
        ("POST", rf"{_PAYMENTS}/authorizations/([^/]+)/capture", Operation.AUTHORIZATION_CAPTURE),
        ("POST", rf"{_PAYMENTS}/authorizations/([^/]+)/void", Operation.AUTHORIZATION_VOID),
        ("GET", rf"{_PAYMENTS}/captures/([^/]+)", Operation.CAPTURE_SHOW),
        ("POST", rf"{_PAYMENTS}/captures/([^/]+)/refund", Operation.CAPTURE_REFUND),
        ("GET", rf"{_PAYMENTS}/refunds/([^/]+)", Operation.REFUND_SHOW),
        ("GET", r"/v1/customer/disputes/([^/]+)", Operation.DISPUTE_SHOW),
        ("GET", r"/v1/reporting/transactions", Operation.TRANSACTION_SEARCH),
    )
]
_GROUPS: Final = {
    Operation.OAUTH: "token",
    Operation.VERIFY: "verify",
    Operation.ORDER_CREATE: "authorize",
    Operation.ORDER_AUTHORIZE: "authorize",
    Operation.ORDER_CAPTURE: "authorize",
    Operation.AUTHORIZATION_CAPTURE: "capture",
    Operation.AUTHORIZATION_VOID: "void",
    Operation.CAPTURE_REFUND: "refund",
    Operation.ORDER_SHOW: "retrieve",
    Operation.AUTHORIZATION_SHOW: "retrieve",
    Operation.CAPTURE_SHOW: "retrieve",
    Operation.REFUND_SHOW: "retrieve",
    Operation.DISPUTE_SHOW: "dispute",
    Operation.TRANSACTION_SEARCH: "retrieve",
    Operation.UNKNOWN: "unknown",
}
"""The operation in every provider's words: what faults are about. An order that is captured at once is authorized."""
_OF_ORDERS: Final = frozenset({Operation.ORDER_CREATE, Operation.ORDER_AUTHORIZE, Operation.ORDER_CAPTURE})

Shown = Made | Dispute


class Answer(msgspec.Struct, frozen=True):
    """One answer."""

    status: int
    body: bytes
    retry_after: int | None = None


class Verification(msgspec.Struct, frozen=True):
    """verify_webhook_signature; the event as it was sent, byte by byte."""

    auth_algo: str
    cert_url: str
    transmission_id: str
    transmission_sig: str
    transmission_time: str
    webhook_id: str
    webhook_event: msgspec.Raw


class _Request(Course):
    """One call on its way."""

    def __init__(self, exchange: Exchange, body: bytes, call: Call) -> None:
        super().__init__(exchange)
        self.operation, self.subject = _route(exchange.method, exchange.path)
        self.body = body
        self.call = call
        self.fields: Fields = {}

    @property
    def is_full(self) -> bool:
        """Whether the whole resource is wanted."""
        preferred = (self.exchange.header(b"prefer") or "").replace(" ", "")
        return self.exchange.method == "GET" or "return=representation" in preferred


class PayPalApi:
    """The application under /v2/checkout, /v2/payments, and PayPal's part of /v1."""

    def __init__(self, settings: SimulatorSettings, parts: Parts, business: Business) -> None:
        self._settings = settings
        self._parts = parts
        self._account = business.account
        self._orders = business.orders
        self._payments = business.payments
        self._tokens = business.tokens
        self._keys = business.keys
        self._outbox = business.outbox

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One HTTP request."""
        exchange = Exchange(scope, receive, send)
        try:
            body = await exchange.body()
        except BodyTooLargeError:
            await exchange.answer(413, [_JSON], orjson.dumps(PayPalError(413).body(self._debug_id())))
            return
        started = time.thread_time()
        key = exchange.header(b"paypal-request-id") or None
        request = _Request(exchange, body, Call(self._parts.clock.now(), key, exchange.base_url))
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
        except (PayPalError, OAuthError) as error:
            answer = self._refusal(error)
        return await self._deliver(request, answer)

    def _admit(self, request: _Request) -> None:
        """Read the call and meet its faults. Raises PayPalError, OAuthError."""
        exchange = request.exchange
        if request.operation is Operation.UNKNOWN:
            raise PayPalError(404)
        if request.operation is not Operation.OAUTH:
            self._tokens.check(exchange.header(b"authorization"), request.call.now)
            if request.body and exchange.method == "POST":
                request.fields = _object(request.body, exchange.header(b"content-type") or "")
        if self._parts.faults:
            request.met = self._parts.faults.meet(self._facts(request))
        fault = request.met.call
        if fault is not None and fault.kind is Kind.RATE_LIMIT:
            raise errors.rate_limited(fault.retry_after)
        _mock(exchange.header(b"paypal-mock-response"))

    async def _answer(self, request: _Request) -> Answer:
        """The call's answer: of its own, or of the first one under its id. Raises PayPalError, OAuthError."""
        fault, key = request.met.call, request.call.key
        if fault is not None and fault.kind is Kind.UNAVAILABLE:
            return Answer(fault.status, b"<html><h1>Service unavailable</h1></html>", fault.retry_after)
        if key is None or request.exchange.method != "POST" or request.operation in {Operation.OAUTH, Operation.VERIFY}:
            await self._wait(request)
            return self._do(request)[0]
        kind = request.operation.value
        known = self._keys.begin(kind, key, request.call.now, self._life(request.operation))
        if known is not None:
            return self._again(request, known)
        made: Made | None = None
        refused: PayPalError | None = None
        try:
            await self._wait(request)
            answer, made = self._do(request)
        except PayPalError as error:
            refused = error if error.kept else None
            raise
        finally:
            self._keys.end(kind, key, made, refused)
        return answer

    def _life(self, operation: Operation) -> int:
        settings = self._settings.paypal
        return settings.order_key_seconds if operation in _OF_ORDERS else settings.payment_key_seconds

    async def _wait(self, request: _Request) -> None:
        await request.wait(self._settings.latency_ms)

    def _do(self, request: _Request) -> tuple[Answer, Made | None]:
        """Do it: the answer, and what was made. A 500 may be untrue. Raises PayPalError, OAuthError."""
        if request.met.is_call(Kind.SERVER_ERROR):
            raise PayPalError(500)
        if request.operation is Operation.OAUTH:
            token = self._tokens.give(request.exchange.header(b"authorization"), request.body, request.call.now)
            return Answer(200, orjson.dumps(token)), None
        if request.operation is Operation.VERIFY:
            return self._verified(request), None
        if request.operation is Operation.TRANSACTION_SEARCH:
            return self._searched(request), None
        subject = self._done(request)
        made = None if isinstance(subject, Dispute) or request.exchange.method == "GET" else subject
        if request.met.is_call(Kind.SERVER_ERROR_AFTER):
            return self._refusal(PayPalError(500)), made
        return self._shown(request, subject, 201), made

    def _done(self, request: _Request) -> Shown:
        account, call, fields, subject = self._account, request.call, request.fields, request.subject
        doings: dict[Operation, Callable[[], Shown]] = {
            Operation.ORDER_CREATE: lambda: self._orders.create(fields, call),
            Operation.ORDER_SHOW: lambda: self._current_order(account.order(subject), call),
            Operation.ORDER_AUTHORIZE: lambda: self._orders.authorize(account.order(subject), fields, call),
            Operation.ORDER_CAPTURE: lambda: self._orders.capture(account.order(subject), fields, call),
            Operation.AUTHORIZATION_SHOW: lambda: self._current(account.authorization(subject), call),
            Operation.AUTHORIZATION_CAPTURE: lambda: self._payments.capture(
                account.authorization(subject), fields, call
            ),
            Operation.AUTHORIZATION_VOID: lambda: self._payments.void(account.authorization(subject), call),
            Operation.CAPTURE_SHOW: lambda: account.capture(subject),
            Operation.CAPTURE_REFUND: lambda: self._payments.refund(account.capture(subject), fields, call),
            Operation.REFUND_SHOW: lambda: account.refund(subject),
            Operation.DISPUTE_SHOW: lambda: account.dispute(subject),
        }
        return doings[request.operation]()

    def _current_order(self, order: Order, call: Call) -> Order:
        for held in order.authorizations:
            self._payments.expire_if_due(held, call)
        return order

    def _current(self, held: Authorization, call: Call) -> Authorization:
        self._payments.expire_if_due(held, call)
        return held

    def _again(self, request: _Request, known: Kept) -> Answer:
        """The latest status of what the first request made. Raises PayPalError."""
        if known.refused is not None:
            raise known.refused
        assert known.made is not None
        return self._shown(request, known.made, 200 if request.operation in _OF_ORDERS else 201)

    def _shown(self, request: _Request, subject: Shown, made: int) -> Answer:
        """The answer of a call that worked; `made` is the status where it made something."""
        base = request.call.base_url
        if request.operation is Operation.AUTHORIZATION_VOID:
            if not request.is_full:
                return Answer(204, b"")
            made = 200
        status = made if request.exchange.method == "POST" else 200
        return Answer(status, orjson.dumps(_body(subject, base, request)))

    def _searched(self, request: _Request) -> Answer:
        """`GET /v1/reporting/transactions`. Raises PayPalError."""
        asked = dict(parse_qsl(request.exchange.scope["query_string"].decode("latin-1")))
        before = request.call.now - self._settings.paypal.search_lag_seconds
        return Answer(200, orjson.dumps(search(self._account, asked, before)))

    def _verified(self, request: _Request) -> Answer:
        """`POST /v1/notifications/verify-webhook-signature`. Raises PayPalError."""
        try:
            asked = msgspec.json.decode(request.body, type=Verification)
        except msgspec.MsgspecError as error:
            raise errors.invalid("INVALID_PARAMETER_SYNTAX", "/", str(error)) from error
        good = asked.webhook_id == self._settings.paypal.webhook_id and self._outbox.certificates.verifies(
            asked.transmission_sig,
            asked.transmission_id,
            asked.transmission_time,
            asked.webhook_id,
            bytes(asked.webhook_event),
        )
        return Answer(200, orjson.dumps({"verification_status": "SUCCESS" if good else "FAILURE"}))

    async def _deliver(self, request: _Request, answer: Answer) -> int:
        """Send the answer and the webhooks, in the order that the faults ask for."""
        faults, call = request.met.webhooks, request.call
        if any(fault.kind is Kind.WEBHOOK_FIRST for fault in faults):
            with request.waiting():
                await self._outbox.publish_before_answer(call.events, faults)
            call.events = []
        if request.is_lost_after:
            self._publish(request)
            await request.lose()
            return 0
        await request.exchange.answer(answer.status, self._headers(answer), answer.body)
        self._publish(request)
        return answer.status

    def _publish(self, request: _Request) -> None:
        """The webhooks of what is decided, and of the rest once that is decided."""
        faults, call = request.met.webhooks, request.call
        self._outbox.publish(call.events, faults)
        loop, seconds = asyncio.get_running_loop(), self._settings.paypal.pending_seconds
        for pending in call.later:
            if pending.ends is not None:
                loop.call_later(seconds, self._decide, pending, call.base_url, faults)

    def _decide(self, pending: Pending, base: str, faults: Sequence[Fault]) -> None:
        call = Call(self._parts.clock.now(), base_url=base)
        self._payments.decide(pending, call, success=pending.ends == "completed")
        self._outbox.publish(call.events, faults)

    def _headers(self, answer: Answer) -> list[Header]:
        headers = [_HTML if answer.body[:1] == b"<" else _JSON, (b"paypal-debug-id", self._debug_id().encode())]
        if answer.retry_after is not None:
            headers.append((b"retry-after", str(answer.retry_after).encode()))
        return headers

    def _refusal(self, error: PayPalError | OAuthError) -> Answer:
        if isinstance(error, OAuthError):
            return Answer(error.status, orjson.dumps(error.body()))
        return Answer(error.status, orjson.dumps(error.body(self._debug_id())), error.retry_after)

    def _debug_id(self) -> str:
        return self._account.references.new()[-_DEBUG_ID:].lower()

    def _facts(self, request: _Request) -> Facts:
        """What a fault may ask of a call: its own parameters, and those of the order it is about."""
        order = self._account.order_of(request.subject)
        method = order.method.name if order and order.method else _vaulted(request.fields)
        known = ours(order.custom_id) if order else {}
        return Facts(
            provider=PROVIDER,
            operation=_GROUPS[request.operation],
            method=request.exchange.method,
            path=request.exchange.path,
            payment_method=method,
            idempotency_key=request.call.key,
            metadata={**known, **ours(*_given(request.fields))},
        )


def _route(method: str, path: str) -> tuple[Operation, str]:
    """The operation, and the id in the path."""
    for wanted, pattern, operation in _PATHS:
        match = pattern.fullmatch(path.rstrip("/"))
        if match is not None and method == wanted:
            return operation, match[1] if match.groups() else ""
    return Operation.UNKNOWN, ""


def _body(subject: Shown, base: str, request: _Request) -> dict[str, Any]:
    match subject:
        case Order():
            if request.is_full:
                return render.order(subject, base)
            if request.operation is Operation.ORDER_CREATE:
                return render.minimal(render.order(subject, base))
            return render.paid_order(subject, base)
        case Authorization():
            full = render.authorization(subject, base)
        case Capture():
            full = render.capture(subject, base)
        case Refund():
            full = render.refund(subject, base)
        case Dispute():
            return render.dispute(subject, base)
    return full if request.is_full else render.minimal(full)


def _object(body: bytes, content_type: str) -> Fields:
    if not content_type.lower().startswith("application/json"):
        raise PayPalError(415)
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise errors.issue("MALFORMED_REQUEST_JSON") from error
    if not isinstance(found, dict):
        raise errors.issue("MALFORMED_REQUEST_JSON")
    return found


def _mock(header: str | None) -> None:
    """Negative testing: `{"mock_application_codes": "<issue>"}`. Raises PayPalError."""
    if header is None:
        return
    try:
        code = orjson.loads(header).get("mock_application_codes")
    except (orjson.JSONDecodeError, AttributeError) as error:
        raise errors.issue("MALFORMED_REQUEST_JSON") from error
    if code == "INTERNAL_SERVER_ERROR":
        raise PayPalError(500)
    if not any(code in issues for issues in ISSUES.values()):
        raise errors.invalid("INVALID_PARAMETER_VALUE", "PayPal-Mock-Response", str(code))
    raise errors.issue(code)


def _vaulted(fields: Fields) -> str | None:
    """The vaulted payment method that a request names."""
    sources = fields.get("payment_source")
    for source in sources.values() if isinstance(sources, dict) else ():
        if isinstance(source, dict):
            return source.get("vault_id") or source.get("id")
    return None


def _given(fields: Fields) -> list[object]:
    """The references that a request has of ours."""
    units = fields.get("purchase_units")
    unit = units[0] if isinstance(units, list) and units and isinstance(units[0], dict) else {}
    return [each.get(name) for each in (fields, unit) for name in ("custom_id", "invoice_id")]
