"""Stripe's HTTP API over an Account: forms in, JSON out, keys, faults, events."""

from __future__ import annotations

import asyncio
import base64
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from time import perf_counter, time
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from connectors.simulator.faults import Fault, FaultKind, Faults
from connectors.simulator.stripe.account import Account, Object, Params
from connectors.simulator.stripe.errors import StripeError
from connectors.simulator.stripe.idempotency import Keys
from connectors.simulator.webhooks import Sender

API_VERSION: Final = "2025-10-29.clover"
_SEARCH: Final = re.compile(r"metadata\[['\"](\w+)['\"]\]\s*:\s*['\"]([^'\"]+)['\"]")
_PART: Final = re.compile(r"[^\[\]]+")

Operation = Callable[[Account, str, Params], Object]
POSTS: Final[dict[str, tuple[str, Operation]]] = {
    "payment_intents": ("authorize", lambda account, _, params: account.create_intent(params)),
    "payment_intents/confirm": ("authorize", lambda account, ref, params: account.confirm_intent(ref, params)),
    "payment_intents/capture": ("capture", lambda account, ref, params: account.capture_intent(ref, params)),
    "payment_intents/cancel": ("void", lambda account, ref, params: account.cancel_intent(ref, params)),
    "refunds": ("refund", lambda account, _, params: account.create_refund(params)),
}


@dataclass(slots=True)
class StripeApi:
    """The API as an ASGI endpoint, and what it needs."""

    key: str
    url: str
    sender: Sender
    enabled_events: frozenset[str] | None = None
    faults: Faults = field(default_factory=Faults)
    keys: Keys = field(default_factory=Keys)
    events: list[Object] = field(default_factory=list)
    calls: int = 0
    seconds: float = 0.0
    account: Account = field(init=False)
    _pending: list[tuple[str, bytes, Object | None]] = field(default_factory=list)
    _by_key: dict[str, Object] = field(default_factory=dict)
    _ids: Any = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self.account = Account(self.url, self._note)

    async def handle(self, request: Request) -> Response:
        """Any call under /v1."""
        self.calls += 1
        try:
            self._authenticate(request)
            path = request.path_params["path"].strip("/")
            if request.method == "GET":
                return await self._get(path, request)
            return await self._post(path, await request.body(), request.headers.get("idempotency-key"))
        except StripeError as error:
            return self._answer(error.status, orjson.dumps(error.body))
        except _Reset:
            _abort(request)
            return Response()

    async def three_d_secure(self, request: Request) -> Response:
        """The page that the cardholder is redirected to, and its two buttons."""
        reference, outcome = request.path_params["intent"], request.query_params.get("outcome")
        if outcome not in {"success", "fail"}:
            links = "".join(f'<p><a href="?outcome={word}">{word}</a></p>' for word in ("success", "fail"))
            return HTMLResponse(f"<h1>3-D Secure, simulated</h1>{links}")
        try:
            intent = self.account.authenticate(reference, outcome == "success")
        except StripeError as error:
            return self._answer(error.status, orjson.dumps(error.body))
        self._publish(None, [])
        return self._answer(200, orjson.dumps(intent))

    def settle_refund(self, reference: str, success: bool) -> Object:
        """Let a pending refund succeed, or a reported one fail."""
        refund = self.account.settle_refund(reference, success)
        self._publish(None, [])
        return refund

    def resend(self, payment_id: str | None) -> int:
        """Deliver every event again, or those of one payment of ours; returns how many."""
        again = [event for event in self.events if payment_id in {None, self._payment_of(event)}]
        for event in again:
            self.sender.send(event)
        return len(again)

    def book(self) -> list[Object]:
        """What was really authorized, captured and refunded, per payment intent."""
        return [self._page(intent) for intent in self.account.intents.values()]

    def _page(self, intent: Object) -> Object:
        charge = self.account.charges.get(intent["latest_charge"] or "", {})
        charged = bool(charge.get("paid"))
        return {
            "payment_intent": intent["id"],
            "payment_id": intent["metadata"].get("payment_id"),
            "attempt_id": intent["metadata"].get("attempt_id"),
            "status": intent["status"],
            "currency": intent["currency"].upper(),
            "authorized": charge["amount"] if charged else 0,
            "captured": charge["amount_captured"] if charged else 0,
            "refunded": charge["amount_refunded"] if charged else 0,
        }

    async def _get(self, path: str, request: Request) -> Response:
        faults = self.faults.take("retrieve", {})
        if refused := await self._before(faults):
            return refused
        expand = [value for name, value in request.query_params.multi_items() if name.startswith("expand")]
        found = self._find(path, dict(request.query_params))
        body = orjson.dumps(self.account.expanded(found, expand))
        return await self._after(faults, self._answer(200, body))

    def _find(self, path: str, query: dict[str, str]) -> Object:
        match path.split("/"):
            case ["payment_intents"]:
                return _listing(_created(self.account.intents.values(), query), query)
            case ["payment_intents", "search"]:
                return _listing(self._search(query.get("query", "")), query, "search_result")
            case ["payment_intents", reference]:
                return self.account.intent(reference)
            case ["charges", reference]:
                return self.account.charge(reference)
            case ["refunds"]:
                wanted = query.get("payment_intent")
                return _listing([r for r in self.account.refunds.values() if r["payment_intent"] == wanted], query)
            case ["refunds", reference]:
                return self.account.refund(reference)
            case ["balance_transactions", reference]:
                return self.account.transaction(reference)
            case ["events"]:
                return _listing(self.events, query)
        raise StripeError(404, "invalid_request_error", f"Unrecognized request URL (GET: /v1/{path}).")

    def _search(self, query: str) -> list[Object]:
        wanted = _SEARCH.findall(query)
        intents = self.account.intents.values()
        return [i for i in intents if all(i["metadata"].get(name) == value for name, value in wanted)]

    async def _post(self, path: str, raw: bytes, key: str | None) -> Response:
        parts = path.split("/")
        name = "/".join([parts[0], *parts[2:]])
        if name not in POSTS:
            raise StripeError(404, "invalid_request_error", f"Unrecognized request URL (POST: /v1/{path}).")
        kind, operation = POSTS[name]
        params = form(raw)
        faults = self.faults.take(kind, params)
        fingerprint = (path, raw)
        if key and (saved := self.keys.begin(key, fingerprint)):
            return self._answer(saved.status, saved.body, replayed=True)
        try:
            refused = await self._before(faults)
        except BaseException:
            self.keys.abandon(key or "")
            raise
        if refused:
            self._keep(key, fingerprint, refused)
            return refused
        answer = self._execute(operation, parts[1] if len(parts) > 1 else "", params, key)
        self._keep(key, fingerprint, answer)
        self._publish(key, faults)
        if any(fault.kind is FaultKind.WEBHOOK_FIRST for fault in faults):
            await asyncio.sleep(0.3)
        return await self._after(faults, answer)

    def _execute(self, operation: Operation, reference: str, params: Params, key: str | None) -> Response:
        started = perf_counter()
        try:
            found = operation(self.account, reference, params)
            body, status = orjson.dumps(self.account.expanded(found, _expand(params))), 200
            self._by_key[key or ""] = found
        except StripeError as error:
            body, status = orjson.dumps(error.body), error.status
        self.seconds += perf_counter() - started
        return self._answer(status, body)

    def _keep(self, key: str | None, fingerprint: tuple[str, bytes], answer: Response) -> None:
        if not key:
            return
        if answer.status_code == 429:
            self.keys.abandon(key)  # refused before it was looked at
        else:
            self.keys.finish(key, fingerprint, answer.status_code, bytes(answer.body))

    async def _before(self, faults: list[Fault]) -> Response | None:
        """What goes wrong before anything is done."""
        for fault in faults:
            match fault.kind:
                case FaultKind.LATENCY:
                    await asyncio.sleep(fault.seconds)
                case FaultKind.TIMEOUT_BEFORE:
                    await asyncio.sleep(fault.seconds)
                    raise _Reset
                case FaultKind.RESET_BEFORE:
                    raise _Reset
                case FaultKind.RATE_LIMIT:
                    error = StripeError(429, "invalid_request_error", "Too many requests.", code="rate_limit")
                    return self._answer(429, orjson.dumps(error.body), retry_after="1")
                case FaultKind.SERVER_ERROR:
                    error = StripeError(500, "api_error", "An unknown error occurred.")
                    return self._answer(500, orjson.dumps(error.body))
        return None

    async def _after(self, faults: list[Fault], answer: Response) -> Response:
        """What goes wrong after it was done."""
        for fault in faults:
            if fault.kind is FaultKind.TIMEOUT_AFTER:
                await asyncio.sleep(fault.seconds)
                raise _Reset
            if fault.kind is FaultKind.RESET_AFTER:
                raise _Reset
        return answer

    def _note(self, kind: str, found: Object, previous: Object | None) -> None:
        """An event, with the object as it stands at this moment."""
        if self.enabled_events is None or kind in self.enabled_events:
            self._pending.append((kind, orjson.dumps(found), previous))

    def _publish(self, key: str | None, faults: list[Fault]) -> None:
        """Send the events of one call, with what goes wrong on their way."""
        kinds = {fault.kind: fault for fault in faults}
        made = [self._event(*pending, key) for pending in self._pending]
        self._pending.clear()
        self.events.extend(made)
        if FaultKind.WEBHOOK_NEVER in kinds:
            return
        delay = kinds[FaultKind.WEBHOOK_DELAY].seconds if FaultKind.WEBHOOK_DELAY in kinds else 0.0
        copies = 2 if FaultKind.WEBHOOK_DUPLICATE in kinds else 1
        if FaultKind.WEBHOOK_DISORDER in kinds:
            made.reverse()
        for event in made * copies:
            self.sender.send(event, delay)

    def _event(self, kind: str, found: bytes, previous: Object | None, key: str | None) -> Object:
        data: Object = {"object": orjson.Fragment(found)}
        if previous:
            data["previous_attributes"] = previous
        return {
            "id": f"evt_sim{next(self._ids):012d}",
            "object": "event",
            "api_version": API_VERSION,
            "created": int(time()),
            "data": data,
            "livemode": False,
            "pending_webhooks": 1,
            "request": {"id": f"req_sim{self.calls}", "idempotency_key": key},
            "type": kind,
        }

    def _payment_of(self, event: Object) -> str | None:
        found = orjson.loads(orjson.dumps(event["data"]))["object"]
        payment: str | None = found.get("metadata", {}).get("payment_id")
        return payment

    def _authenticate(self, request: Request) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme == "Basic":
            given = base64.b64decode(given).decode().partition(":")[0]
        if not hmac.compare_digest(given.encode(), self.key.encode()):
            raise StripeError(401, "invalid_request_error", "Invalid API Key provided.")

    def _answer(self, status: int, body: bytes, *, replayed: bool = False, retry_after: str | None = None) -> Response:
        headers = {"Request-Id": f"req_sim{self.calls}", "Stripe-Version": API_VERSION}
        if replayed:
            headers["Idempotent-Replayed"] = "true"
        if retry_after:
            headers["Retry-After"] = retry_after
        return Response(body, status, headers, "application/json")


class _Reset(ConnectionResetError):  # noqa: N818
    """Ends the connection without an answer."""


def _abort(request: Request) -> None:
    """Reset the connection, as a dying load balancer would. uvicorn's request cycle holds the transport."""
    cycle: Any = getattr(request.receive, "__self__", None)
    cycle.transport.abort()


def form(raw: bytes) -> Params:
    """A form as Stripe reads it: `metadata[payment_id]=x` is {"metadata": {"payment_id": "x"}}, `expand[0]` a list
    item.
    """
    params: Params = {}
    for name, value in parse_qsl(raw.decode(), keep_blank_values=True):
        *outer, last = _PART.findall(name)
        place = params
        for part in outer:
            place = place.setdefault(part, {})
        place[last] = value
    return params


def _expand(params: Params) -> list[str]:
    return list(params.get("expand", {}).values())


def _created(intents: Any, query: dict[str, str]) -> list[Object]:
    after, before = int(query.get("created[gte]", 0)), int(query.get("created[lte]", 2**62))
    return [intent for intent in intents if after <= intent["created"] <= before]


def _listing(found: list[Object], query: dict[str, str], kind: str = "list") -> Object:
    """Newest first, a page at a time."""
    newest = found[::-1]
    if start := query.get("starting_after"):
        places = [index for index, item in enumerate(newest) if item["id"] == start]
        newest = newest[places[0] + 1 :] if places else []
    limit = int(query.get("limit", 10))
    return {"object": kind, "data": newest[:limit], "has_more": len(newest) > limit, "url": "/v1"}
