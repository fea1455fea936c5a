"""Stripe's HTTP API: credentials, parameters, idempotency, faults, and the answer. A plain ASGI application."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any, Final

from starlette.types import Receive, Scope, Send

from connectors.simulator.calls import Course
from connectors.simulator.exchange import BodyTooLargeError, Exchange, Header
from connectors.simulator.faults import Facts, Kind
from connectors.simulator.parts import Parts
from connectors.simulator.settings import SimulatorSettings
from connectors.simulator.stripe import errors, render
from connectors.simulator.stripe.account import Account
from connectors.simulator.stripe.errors import StripeError, invalid
from connectors.simulator.stripe.forms import Params, decode
from connectors.simulator.stripe.idempotency import Answer, Keys, refused
from connectors.simulator.stripe.objects import Event, Intent, StripeObject
from connectors.simulator.stripe.outbox import Outbox
from connectors.simulator.stripe.records import PROVIDER, Call
from connectors.simulator.stripe.store import Page, listed, search

_ID: Final = "{id}"
_JSON: Final[Header] = (b"content-type", b"application/json")
_TEST_KEYS: Final = ("sk_test_", "rk_test_")


class Operation(StrEnum):
    """What a call does: the name in the statistics."""

    CREATE_INTENT = "create_payment_intent"
    UPDATE_INTENT = "update_payment_intent"
    CONFIRM_INTENT = "confirm_payment_intent"
    CAPTURE_INTENT = "capture_payment_intent"
    CANCEL_INTENT = "cancel_payment_intent"
    RETRIEVE_INTENT = "retrieve_payment_intent"
    LIST_INTENTS = "list_payment_intents"
    SEARCH_INTENTS = "search_payment_intents"
    CREATE_REFUND = "create_refund"
    RETRIEVE_REFUND = "retrieve_refund"
    LIST_REFUNDS = "list_refunds"
    RETRIEVE_CHARGE = "retrieve_charge"
    LIST_CHARGES = "list_charges"
    RETRIEVE_TRANSACTION = "retrieve_balance_transaction"
    LIST_TRANSACTIONS = "list_balance_transactions"
    RETRIEVE_PAYOUT = "retrieve_payout"
    RETRIEVE_DISPUTE = "retrieve_dispute"
    UPDATE_DISPUTE = "update_dispute"
    CLOSE_DISPUTE = "close_dispute"
    LIST_DISPUTES = "list_disputes"
    RETRIEVE_EVENT = "retrieve_event"
    LIST_EVENTS = "list_events"
    UNKNOWN = "unknown"


_ROUTES: Final = {
    ("POST", "payment_intents"): Operation.CREATE_INTENT,
    ("GET", "payment_intents"): Operation.LIST_INTENTS,
    ("GET", "payment_intents", "search"): Operation.SEARCH_INTENTS,
    ("GET", "payment_intents", _ID): Operation.RETRIEVE_INTENT,
    ("POST", "payment_intents", _ID): Operation.UPDATE_INTENT,
    ("POST", "payment_intents", _ID, "confirm"): Operation.CONFIRM_INTENT,
    ("POST", "payment_intents", _ID, "capture"): Operation.CAPTURE_INTENT,
    ("POST", "payment_intents", _ID, "cancel"): Operation.CANCEL_INTENT,
    ("POST", "refunds"): Operation.CREATE_REFUND,
    ("GET", "refunds"): Operation.LIST_REFUNDS,
    ("GET", "refunds", _ID): Operation.RETRIEVE_REFUND,
    ("GET", "charges"): Operation.LIST_CHARGES,
    ("GET", "charges", _ID): Operation.RETRIEVE_CHARGE,
    ("GET", "balance_transactions"): Operation.LIST_TRANSACTIONS,
    ("GET", "balance_transactions", _ID): Operation.RETRIEVE_TRANSACTION,
    ("GET", "payouts", _ID): Operation.RETRIEVE_PAYOUT,
    ("GET", "disputes"): Operation.LIST_DISPUTES,
    ("GET", "disputes", _ID): Operation.RETRIEVE_DISPUTE,
    ("POST", "disputes", _ID): Operation.UPDATE_DISPUTE,
    ("POST", "disputes", _ID, "close"): Operation.CLOSE_DISPUTE,
    ("GET", "events"): Operation.LIST_EVENTS,
    ("GET", "events", _ID): Operation.RETRIEVE_EVENT,
}

_GROUPS: Final = {
    operation: {
        Operation.CREATE_INTENT: "authorize",
        Operation.CONFIRM_INTENT: "authorize",
        Operation.UPDATE_INTENT: "update",
        Operation.CAPTURE_INTENT: "capture",
        Operation.CANCEL_INTENT: "void",
        Operation.CREATE_REFUND: "refund",
        Operation.UPDATE_DISPUTE: "dispute",
        Operation.CLOSE_DISPUTE: "dispute",
    }.get(operation, "retrieve")
    for operation in Operation
}
"""The operation in every provider's words: what faults are about."""

Doing = Callable[[str, Params, Call], StripeObject]
Showing = Callable[[str, Params], Answer]


class _Request(Course):
    """One call on its way."""

    def __init__(self, exchange: Exchange, operation: Operation, identifier: str, form: bytes, call: Call) -> None:
        super().__init__(exchange)
        self.operation = operation
        self.identifier = identifier
        self.form = form
        self.call = call
        self.params = Params({})
        self.key = call.key
        self.replayed: str | None = None


class StripeApi:
    """The application under /v1."""

    def __init__(
        self,
        settings: SimulatorSettings,
        parts: Parts,
        account: Account,
        keys: Keys,
        outbox: Outbox,
    ) -> None:
        self._settings = settings
        self._parts = parts
        self._account = account
        self._store = account.store
        self._keys = keys
        self._faults = parts.faults
        self._stats = parts.stats
        self._outbox = outbox
        self._does = self._doings()
        self._shows = self._showings()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One HTTP request."""
        exchange = Exchange(scope, receive, send)
        try:
            body = await exchange.body()
        except BodyTooLargeError:
            await exchange.answer(413, [], b"")
            return
        started = time.thread_time()
        request = self._request(exchange, body)
        status = await self._serve(request)
        own = time.thread_time() - started - request.others
        self._stats.count(f"{PROVIDER}.{request.operation}", status, own, request.asked)

    # The way of a call

    def _request(self, exchange: Exchange, body: bytes) -> _Request:
        operation, identifier = _route(exchange.method, exchange.path)
        post = exchange.method == "POST"
        form = body if post else exchange.scope["query_string"]
        key = exchange.header(b"idempotency-key") if post else None
        version = exchange.header(b"stripe-version") or self._settings.stripe.api_version
        now, identity = self._parts.clock.now(), self._parts.ids.request()
        call = Call(now, identity, key or None, base_url=exchange.base_url, api_version=version)
        return _Request(exchange, operation, identifier, form, call)

    async def _serve(self, request: _Request) -> int:
        """Answer, or do not, as the faults have it. Returns the status; 0 is no answer."""
        try:
            self._admit(request)
            if request.is_lost_before:
                await request.lose()
                return 0
            answer = await self._answer(request)
        except StripeError as error:
            answer = refused(error, request.call.request or "")
        return await self._deliver(request, answer)

    def _admit(self, request: _Request) -> None:
        """Read the call and meet its faults. Raises StripeError."""
        self._authenticate(request.exchange)
        if request.operation is Operation.UNKNOWN:
            raise errors.unknown_url(request.exchange.method, request.exchange.path)
        request.params = Params(decode(request.form))
        if self._faults:
            request.met = self._faults.meet(self._facts(request))
        fault = request.met.call
        if fault is not None and fault.kind is Kind.RATE_LIMIT:
            raise errors.rate_limited(fault.retry_after)
        if fault is not None and fault.kind is Kind.UNAVAILABLE:
            raise errors.unavailable(fault.status, fault.retry_after)

    async def _answer(self, request: _Request) -> Answer:
        """The call's answer, its own or the one saved under its key. Raises StripeError."""
        if request.exchange.method != "POST":
            await request.wait(self._settings.latency_ms)
            self._fail(request)
            return self._shows[request.operation](request.identifier, request.params)
        call = request.call
        if request.key is None:
            await request.wait(self._settings.latency_ms)
            return self._do(request)[0]
        known = self._keys.begin(
            request.key, request.exchange.path, request.params.values, call.request or "", call.now
        )
        if known is not None:
            answer, request.replayed = known
            return answer
        saved, answer = False, Answer(500)
        try:
            await request.wait(self._settings.latency_ms)
            answer, saved = self._do(request)
        finally:
            self._keys.end(request.key, answer, saved=saved)
        return answer

    def _do(self, request: _Request) -> tuple[Answer, bool]:
        """Do it. The answer, and whether it is one to save."""
        try:
            if request.met.is_call(Kind.SERVER_ERROR):
                raise errors.server_error()
            thing = self._does[request.operation](request.identifier, request.params, request.call)
            self._fail(request, Kind.SERVER_ERROR_AFTER)
            expanded = self._store.expanded(thing, request.params.items("expand"))
        except StripeError as error:
            return refused(error, request.call.request or ""), error.saved
        return Answer(200, thing, expanded), True

    def _fail(self, request: _Request, *kinds: Kind) -> None:
        if request.met.is_call(*(kinds or (Kind.SERVER_ERROR, Kind.SERVER_ERROR_AFTER))):
            raise errors.server_error()

    async def _deliver(self, request: _Request, answer: Answer) -> int:
        """Send the answer and the webhooks, in the order that the faults ask for."""
        met, events = request.met, request.call.events
        if any(fault.kind is Kind.WEBHOOK_FIRST for fault in met.webhooks) and events:
            with request.waiting():
                await self._outbox.publish_before_answer(events, met.webhooks)
            events = []
        if request.is_lost_after:
            self._outbox.publish(events, met.webhooks)
            await request.lose()
            return 0
        await request.exchange.answer(answer.status, _headers(request, answer), answer.body())
        self._outbox.publish(events, met.webhooks)
        return answer.status

    def _authenticate(self, exchange: Exchange) -> None:
        key = _key_of(exchange.header(b"authorization"))
        known = self._settings.stripe.api_keys
        if key is None or not (key in known if known else key.startswith(_TEST_KEYS)):
            raise errors.unauthorized(key)

    def _facts(self, request: _Request) -> Facts:
        """What a fault may ask of a call: its own parameters, and those of the payment it is about."""
        values = request.params.values
        tags = values.get("metadata")
        given = tags if isinstance(tags, dict) else {}
        intent = self._subject(request)
        return Facts(
            provider=PROVIDER,
            operation=_GROUPS[request.operation],
            method=request.exchange.method,
            path=request.exchange.path,
            payment_method=request.params.text("payment_method") or self._method_of(intent),
            idempotency_key=request.key,
            metadata={**(intent.metadata if intent else {}), **given},
        )

    def _subject(self, request: _Request) -> Intent | None:
        name = request.params.values.get("payment_intent") or request.identifier
        charge = self._store.charges.get(str(request.params.values.get("charge", "")))
        return self._store.intents.get(charge.payment_intent if charge else str(name))

    def _method_of(self, intent: Intent | None) -> str | None:
        if intent is None:
            return None
        charge = self._store.charges.get(intent.latest_charge or "")
        return intent.payment_method or (charge.payment_method if charge else None)

    # What there is to do, and to show

    def _doings(self) -> dict[Operation, Doing]:
        intents, refunds, disputes = self._account.intents, self._account.refunds, self._account.disputes
        return {
            Operation.CREATE_INTENT: lambda _, params, call: intents.create(params, call),
            Operation.UPDATE_INTENT: intents.update,
            Operation.CONFIRM_INTENT: intents.confirm,
            Operation.CAPTURE_INTENT: intents.capture,
            Operation.CANCEL_INTENT: intents.cancel,
            Operation.CREATE_REFUND: lambda _, params, call: refunds.create(params, call),
            Operation.UPDATE_DISPUTE: disputes.answer,
            Operation.CLOSE_DISPUTE: lambda identifier, _, call: disputes.close(identifier, call),
        }

    def _showings(self) -> dict[Operation, Showing]:
        store = self._store
        return {
            Operation.RETRIEVE_INTENT: lambda i, p: self._one(store.intent(i), p),
            Operation.RETRIEVE_CHARGE: lambda i, p: self._one(store.charge(i), p),
            Operation.RETRIEVE_REFUND: lambda i, p: self._one(_get(store.refunds, i, "refund"), p),
            Operation.RETRIEVE_DISPUTE: lambda i, p: self._one(_get(store.disputes, i, "dispute"), p),
            Operation.RETRIEVE_TRANSACTION: lambda i, p: self._one(
                _get(store.transactions, i, "balance transaction"), p
            ),
            Operation.RETRIEVE_PAYOUT: lambda i, p: self._one(_get(store.payouts, i, "payout"), p),
            Operation.RETRIEVE_EVENT: lambda i, _: _raw(self._event(store.event(i))),
            Operation.LIST_INTENTS: lambda _, p: self._list(
                "payment_intents", listed(reversed(store.intents.values()), p, "customer"), p
            ),
            Operation.LIST_REFUNDS: lambda _, p: self._list(
                "refunds", listed(reversed(store.refunds.values()), p, "payment_intent", "charge"), p
            ),
            Operation.LIST_CHARGES: lambda _, p: self._list(
                "charges", listed(reversed(store.charges.values()), p, "payment_intent", "customer"), p
            ),
            Operation.LIST_DISPUTES: lambda _, p: self._list(
                "disputes", listed(reversed(store.disputes.values()), p, "payment_intent", "charge"), p
            ),
            Operation.LIST_TRANSACTIONS: lambda _, p: self._list(
                "balance_transactions",
                listed(store.paid_out(p.text("payout")), p, "source", "type", "currency"),
                p,
            ),
            Operation.LIST_EVENTS: lambda _, p: self._events(p),
            Operation.SEARCH_INTENTS: lambda _, p: self._search(p),
        }

    def _one(self, thing: StripeObject, params: Params) -> Answer:
        return Answer(200, thing, self._store.expanded(thing, params.items("expand")))

    def _list(self, name: str, page: Page, params: Params, kind: str = "list") -> Answer:
        paths = [path.removeprefix("data.") for path in params.items("expand")]
        data = [self._whole(item, paths) for item in page.items]
        body: dict[str, Any] = {"object": kind, "url": f"/v1/{name}", "has_more": page.has_more, "data": data}
        if kind == "search_result":
            body["next_page"] = page.next_page
        return _raw(body)

    def _whole(self, thing: StripeObject, paths: Iterable[str]) -> Any:
        answer = Answer(200, thing, self._store.expanded(thing, paths))
        return answer.shaped()

    def _events(self, params: Params) -> Answer:
        types = set(params.items("types"))
        newest = (event for event in reversed(self._store.events) if not types or event.type in types)
        page = listed(newest, params, "type")
        data = [self._event(event) for event in page.items]
        return _raw({"object": "list", "url": "/v1/events", "has_more": page.has_more, "data": data})

    def _event(self, event: Event) -> dict[str, Any]:
        return render.event(event, self._settings.stripe.api_version)

    def _search(self, params: Params) -> Answer:
        query, limit = params.required("query"), params.integer("limit", 10) or 10
        if not 1 <= limit <= 100:
            raise invalid("This value must be between 1 and 100.", "limit", "parameter_invalid_integer")
        newest: Iterable[Intent] = reversed(self._store.intents.values())
        lag = self._settings.stripe.search_lag_seconds
        if lag:
            shown = time.time() - lag
            newest = (intent for intent in newest if intent.created <= shown)
        page = search(newest, query, limit, params.text("page"))
        return self._list("payment_intents/search", page, params, "search_result")


def _route(method: str, path: str) -> tuple[Operation, str]:
    """The operation, and the id in the path."""
    segments = path.rstrip("/").split("/")[2:]
    exact = _ROUTES.get((method, *segments))
    if exact is not None:
        return exact, ""
    if len(segments) < 2:
        return Operation.UNKNOWN, ""
    identifier, segments[1] = segments[1], _ID
    return _ROUTES.get((method, *segments), Operation.UNKNOWN), identifier


def _key_of(authorization: str | None) -> str | None:
    """The API key of a Bearer token, or the user name of Basic credentials."""
    scheme, _, credentials = (authorization or "").partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip() or None
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(credentials, validate=True).decode().partition(":")[0] or None
        except (binascii.Error, UnicodeDecodeError):
            return None
    return None


def _headers(request: _Request, answer: Answer) -> list[Header]:
    call = request.call
    headers = [_JSON, (b"request-id", (call.request or "").encode()), (b"stripe-version", call.api_version.encode())]
    if request.key is not None:
        headers.append((b"idempotency-key", request.key.encode("latin-1", "replace")))
        headers.append((b"original-request", (request.replayed or call.request or "").encode()))
    if request.replayed is not None:
        headers.append((b"idempotent-replayed", b"true"))
    if answer.retry_after is not None:
        headers.append((b"retry-after", str(answer.retry_after).encode()))
    if answer.should_retry is not None:
        headers.append((b"stripe-should-retry", b"true" if answer.should_retry else b"false"))
    return headers


def _raw(body: dict[str, Any]) -> Answer:
    return Answer(200, raw=render.compact(body))


def _get(kept: dict[str, Any], identifier: str, kind: str) -> Any:
    thing = kept.get(identifier)
    if thing is None:
        raise errors.no_such(kind, identifier, "id")
    return thing
