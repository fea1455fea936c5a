"""The API's routes, in one table: the application and `/openapi.json` are both made from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Send
from starlette.types import Scope as ASGIScope

from gateway import health, intents, listing, pages, problems, webhooks
from gateway.edge import ROUTE
from gateway.intents import act
from gateway.keys import Scope
from gateway.problems import Kind
from gateway.schemas import (
    AuthorizeIn,
    CaptureIn,
    CreateIntentIn,
    HealthOut,
    IntentListOut,
    IntentOut,
    Model,
    OperationOut,
    ReadyOut,
    ReceivedOut,
    RefundIn,
    RetryNowIn,
    SetMethodIn,
    VoidIn,
)

Endpoint = Callable[[Request], Any]

INTENT: Final = "/api/v1/intents/{payment_id}"

_STATE: Final = "The command does not fit the payment's state; `type` is the reason."


@dataclass(frozen=True, slots=True)
class ApiRoute:
    """One method on one path, and all that its description needs. `answers`: status to model and words."""

    method: str
    path: str
    name: str
    endpoint: Endpoint
    summary: str
    answers: Mapping[int, tuple[Model | None, str]]
    tag: str = "intents"
    scope: Scope | None = None
    body: Model | None = None
    kinds: tuple[Kind, ...] = ()
    idempotent: bool = False
    query: tuple[tuple[str, dict[str, Any], str], ...] = ()
    hidden: bool = False
    notes: str = ""
    media: str = field(default="application/json")


def _command(  # noqa: PLR0917 - a row of the table
    method: str, path: str, name: str, endpoint: Endpoint, summary: str, body: Model, scope: Scope, *, declines: bool
) -> ApiRoute:
    """A command on a payment that exists."""
    answers: dict[int, tuple[Model | None, str]] = {
        200: (IntentOut, "With `Prefer: wait`: done."),
        202: (OperationOut, "On its way. `Location` says where to read what becomes of it."),
    }
    kinds: tuple[Kind, ...] = (problems.NOT_FOUND, *_BODY_KINDS, *_IDEMPOTENCY_KINDS)
    if declines:
        kinds = (*kinds, problems.PAYMENT_DECLINED)
    return ApiRoute(
        method, path, name, endpoint, summary, answers, scope=scope, body=body, kinds=kinds, idempotent=True,
        notes=_STATE,
    )  # fmt: skip


_BODY_KINDS: Final = (
    problems.MALFORMED_JSON,
    problems.DUPLICATE_KEY,
    problems.NUMBER_OUT_OF_RANGE,
    problems.INVALID_TEXT,
    problems.NOT_AN_OBJECT,
    problems.BODY_TOO_LARGE,
    problems.BODY_TOO_SLOW,
    problems.UNSUPPORTED_ENCODING,
    problems.UNSUPPORTED_TYPE,
    problems.CARD_DATA,
    problems.INVALID_REQUEST,
    problems.UNKNOWN_FIELD,
    problems.REQUIRED,
    problems.TOO_LONG,
    problems.TOO_MANY,
    problems.WRONG_TYPE,
    problems.INVALID_VALUE,
)
_IDEMPOTENCY_KINDS: Final = (
    problems.IDEMPOTENCY_KEY_MISSING,
    problems.IDEMPOTENCY_KEY_INVALID,
    problems.IDEMPOTENCY_KEY_REUSED,
    problems.IDEMPOTENCY_IN_PROGRESS,
)
_AMOUNT_KINDS: Final = (
    problems.INVALID_AMOUNT,
    problems.TOO_MANY_DECIMALS,
    problems.AMOUNT_NEGATIVE,
    problems.AMOUNT_ZERO,
    problems.AMOUNT_TOO_LARGE,
    problems.UNKNOWN_CURRENCY,
)
_TEXT: Final = {"type": "string", "maxLength": 255}
_TIME: Final = {"type": "string", "format": "date-time"}

_LIST_QUERY: Final = (
    ("status", {"type": "string"}, "Only intents with this status."),
    ("customer_id", _TEXT, "Only this customer's."),
    ("merchant_reference", _TEXT, "Only with this reference."),
    ("created_from", _TIME, "Created at or after; RFC 3339 with an offset."),
    ("created_to", _TIME, "Created before; RFC 3339 with an offset."),
    ("cursor", {"type": "string"}, "`next_cursor` of the page before."),
    ("limit", {"type": "integer", "minimum": 1, "maximum": listing.MAX_LIMIT, "default": 20}, "Page size."),
)

_INTENTS: Final = (
    ApiRoute(
        "POST", "/api/v1/intents", "createIntent", intents.create, "Create a payment intent",
        {201: (IntentOut, "Accepted; `Location` can be read at once.")},
        scope=Scope.PAYMENTS_WRITE, body=CreateIntentIn, idempotent=True,
        kinds=(*_BODY_KINDS, *_AMOUNT_KINDS, problems.UNKNOWN_PROVIDER, *_IDEMPOTENCY_KINDS),
    ),
    ApiRoute(
        "GET", "/api/v1/intents", "listIntents", listing.page, "List payment intents, newest first",
        {200: (IntentListOut, "One page. An intent appears here once it is processed, usually within 100 ms.")},
        scope=Scope.PAYMENTS_READ, kinds=(problems.INVALID_QUERY,), query=_LIST_QUERY,
    ),
    ApiRoute(
        "GET", INTENT, "getIntent", intents.read, "Read a payment intent",
        {200: (IntentOut, "The intent with attempts, hold, captures, voids, refunds.")},
        scope=Scope.PAYMENTS_READ, kinds=(problems.NOT_FOUND,),
    ),
    _command("PUT", f"{INTENT}/method", "setMethod", act(intents.SET_METHOD, Scope.PAYMENTS_WRITE),
             "Choose or change the payment method", SetMethodIn, Scope.PAYMENTS_WRITE, declines=False),
    _command("POST", f"{INTENT}/authorize", "authorize", act(intents.AUTHORIZE, Scope.PAYMENTS_WRITE),
             "Authorize: place the hold", AuthorizeIn, Scope.PAYMENTS_WRITE, declines=True),
    _command("POST", f"{INTENT}/capture", "capture", act(intents.CAPTURE, Scope.PAYMENTS_WRITE),
             "Capture held money, whole or in part", CaptureIn, Scope.PAYMENTS_WRITE, declines=False),
    _command("POST", f"{INTENT}/void", "void", act(intents.VOID, Scope.PAYMENTS_WRITE),
             "Give the hold back, or cancel the intent", VoidIn, Scope.PAYMENTS_WRITE, declines=False),
    _command("POST", f"{INTENT}/refund", "refund", act(intents.REFUND, Scope.PAYMENTS_REFUND),
             "Refund captured money, whole or in part", RefundIn, Scope.PAYMENTS_REFUND, declines=False),
    _command("POST", f"{INTENT}/retry-now", "retryNow", act(intents.RETRY_NOW, Scope.PAYMENTS_WRITE),
             "Make the scheduled retry at once", RetryNowIn, Scope.PAYMENTS_WRITE, declines=True),
    ApiRoute(
        "GET", f"{INTENT}/operations/{{operation_id}}", "getOperation", intents.read_operation,
        "Read what became of a command", {200: (OperationOut, "Its state.")},
        scope=Scope.PAYMENTS_READ, kinds=(problems.NOT_FOUND,),
    ),
)  # fmt: skip

_OTHERS: Final = (
    ApiRoute(
        "POST", "/webhooks/{provider}", "receiveWebhook", webhooks.receive, "Take a provider's webhook",
        {200: (ReceivedOut, "Kept for good; do not deliver again.")}, tag="webhooks",
        kinds=(problems.SIGNATURE_INVALID, problems.WEBHOOK_UNAUTHENTICATED, problems.EVENT_INVALID,
               problems.UNKNOWN_WEBHOOK_PROVIDER, problems.BODY_TOO_LARGE, problems.UNSUPPORTED_ENCODING),
    ),
    ApiRoute("GET", "/health", "health", health.health, "The process runs",
             {200: (HealthOut, "It does.")}, tag="operations"),
    ApiRoute("GET", "/ready", "ready", health.ready, "Kafka, registry and Postgres, each looked at",
             {200: (ReadyOut, "Requests are taken."), 503: (ReadyOut, "Some part does not answer.")},
             tag="operations"),
    ApiRoute("GET", "/metrics", "metrics", health.prometheus, "Metrics for Prometheus",
             {200: (None, "Text exposition format.")}, tag="operations", media="text/plain"),
    ApiRoute("GET", "/openapi.json", "openapi", pages.openapi, "This description", {200: (None, "OpenAPI 3.1.")},
             tag="operations", hidden=True),
    ApiRoute("GET", "/docs", "docs", pages.docs, "This description, to read", {200: (None, "HTML.")},
             tag="operations", hidden=True),
    ApiRoute("GET", "/problems/{code}", "problem", pages.problem, "What a problem type means",
             {200: (None, "HTML.")}, tag="operations", hidden=True),
)  # fmt: skip

ROUTES: Final = (*_INTENTS, *_OTHERS)
"""Every route."""


def starlette_routes() -> list[Route]:
    """The routes for the application."""
    return [Route(route.path, _Endpoint(route), methods=[route.method], name=route.name) for route in ROUTES]


class _Endpoint:
    """A route's endpoint as an ASGI application. It notes the route's template, which is what logs and metrics name;
    a Problem is the edge's to answer.
    """

    def __init__(self, route: ApiRoute) -> None:
        self._path = route.path
        self._endpoint = route.endpoint

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        scope[ROUTE] = self._path
        response: Response = await self._endpoint(Request(scope, receive, send))
        await response(scope, receive, send)
