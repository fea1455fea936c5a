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

from gateway import (
    accounts,
    endpoints,
    health,
    intents,
    listing,
    pages,
    problems,
    query,
    returns,
    timeline,
    webhooks,
)
from gateway.edge import ROUTE
from gateway.endpoint_schemas import (
    CreateEndpointIn,
    DeliveryListOut,
    DeliveryOut,
    EndpointListOut,
    EndpointOut,
    EndpointWithSecretOut,
    NothingIn,
    ReplayOut,
    UpdateEndpointIn,
)
from gateway.intents import act
from gateway.keys import Scope
from gateway.problems import Kind
from gateway.schemas import (
    AccountListOut,
    AuthorizeIn,
    BalanceOut,
    CancelIn,
    CaptureIn,
    CompleteActionIn,
    CreateIntentIn,
    EntryListOut,
    EntryOut,
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
    TimelineOut,
    TrialBalanceOut,
    VoidIn,
)
from pipeline.domain.deliveries import DeliveryStatus

Endpoint = Callable[[Request], Any]
Query = tuple[tuple[str, dict[str, Any], str], ...]

INTENT: Final = "/api/v1/intents/{payment_id}"
ACCOUNT: Final = "/api/v1/accounts/{account_id}"
ENDPOINT: Final = f"{endpoints.ENDPOINTS}/{{endpoint_id}}"

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
    query: Query = ()
    hidden: bool = False
    notes: str = ""
    media: str = field(default="application/json")
    also: tuple[str, ...] = ()
    """Media types that the answers have besides."""


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
    ("limit", {"type": "integer", "minimum": 1, "maximum": query.MAX_LIMIT, "default": 20}, "Page size."),
)

_DELIVERY_QUERY: Final = (
    ("status", {"type": "string", "enum": list(DeliveryStatus)}, "Only deliveries with this status."),
    ("event_type", {"type": "string"}, "Only events of this type."),
    *_LIST_QUERY[-2:],
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
    _command("POST", f"{INTENT}/complete-action", "completeAction", act(intents.COMPLETE_ACTION, Scope.PAYMENTS_WRITE),
             "Go on after the customer's action: ask the provider what it makes of it", CompleteActionIn,
             Scope.PAYMENTS_WRITE, declines=True),
    _command("POST", f"{INTENT}/cancel", "cancel", act(intents.CANCEL, Scope.PAYMENTS_WRITE),
             "Call the payment off: its scheduled retry, and a hold if there is one", CancelIn, Scope.PAYMENTS_WRITE,
             declines=False),
    ApiRoute(
        "GET", f"{INTENT}/timeline", "getTimeline", timeline.read,
        "Read everything that happened to a payment, with its place in the log",
        {200: (TimelineOut, "In order. Read from the log; for people, one at a time.")},
        scope=Scope.PAYMENTS_READ, kinds=(problems.NOT_FOUND,),
    ),
    ApiRoute(
        "GET", f"{INTENT}/operations/{{operation_id}}", "getOperation", intents.read_operation,
        "Read what became of a command", {200: (OperationOut, "Its state.")},
        scope=Scope.PAYMENTS_READ, kinds=(problems.NOT_FOUND,),
    ),
)  # fmt: skip

_LEDGER: Final = (
    ApiRoute(
        "GET", "/api/v1/accounts", "listAccounts", accounts.accounts, "Read your accounts with their balances",
        {200: (AccountListOut, "Every account that an entry of yours moves, by that part of it.")}, tag="ledger",
        scope=Scope.PAYMENTS_READ, kinds=(problems.INVALID_QUERY,),
    ),
    ApiRoute(
        "GET", f"{ACCOUNT}/balance", "getBalance", accounts.balance, "Read an account's balance, now or at a time",
        {200: (BalanceOut, "Of all that occurred up to then.")}, tag="ledger",
        scope=Scope.PAYMENTS_READ, kinds=(problems.NOT_FOUND, problems.INVALID_QUERY),
        query=(("at", _TIME, "RFC 3339 with an offset; default: now."),),
    ),
    ApiRoute(
        "GET", f"{ACCOUNT}/entries", "listEntries", accounts.entries, "List an account's entries, newest first",
        {200: (EntryListOut, "One page of whole entries.")}, tag="ledger",
        scope=Scope.PAYMENTS_READ, kinds=(problems.NOT_FOUND, problems.INVALID_QUERY), query=_LIST_QUERY[-2:],
    ),
    ApiRoute(
        "GET", "/api/v1/journal/{entry_id}", "getEntry", accounts.entry, "Read a journal entry",
        {200: (EntryOut, "The entry with its postings and its place in the log.")}, tag="ledger",
        scope=Scope.PAYMENTS_READ, kinds=(problems.NOT_FOUND,),
    ),
    ApiRoute(
        "GET", "/api/v1/trial-balance", "getTrialBalance", accounts.trial_balance, "Read your trial balance of a day",
        {200: (TrialBalanceOut, "At the end of the day, UTC.")}, tag="ledger",
        scope=Scope.PAYMENTS_READ, kinds=(problems.INVALID_QUERY,), also=(accounts.CSV,),
        query=(
            ("date", {"type": "string", "format": "date"}, "Default: today, so far."),
            ("format", {"type": "string", "enum": ["json", "csv"]}, "Default: as `Accept` says, else JSON."),
        ),
    ),
)  # fmt: skip

_OTHERS: Final = (
    ApiRoute(
        "POST", "/webhooks/{provider}", "receiveWebhook", webhooks.receive, "Take a provider's webhook",
        {200: (ReceivedOut, "Kept for good; do not deliver again.")}, tag="webhooks",
        kinds=(problems.SIGNATURE_INVALID, problems.WEBHOOK_UNAUTHENTICATED, problems.EVENT_INVALID,
               problems.UNKNOWN_WEBHOOK_PROVIDER, problems.BODY_TOO_LARGE, problems.UNSUPPORTED_ENCODING),
    ),
    ApiRoute(
        "GET", "/return/{provider}/{payment_id}", "returnFromProvider", returns.receive,
        "Take a customer back from the provider's page, in their browser",
        {200: (None, "A page that says that they can go back to the shop."),
         303: (None, "To the intent's `return_url`.")},
        tag="intents", kinds=(problems.NOT_FOUND, problems.INVALID_QUERY), media="text/html",
        query=(("redirectResult", {"type": "string"}, "Adyen's, as it adds it."),),
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


def _of_endpoints(  # noqa: PLR0917 - a row of the table
    method: str, path: str, name: str, endpoint: Endpoint, summary: str, answer: tuple[int, Model | None, str],
    kinds: tuple[Kind, ...] = (), body: Model | None = None, query: Query = (),
) -> ApiRoute:  # fmt: skip
    """One of a merchant's webhook endpoints; each POST is idempotent by its key."""
    status, model, words = answer
    body_kinds = _BODY_KINDS if body else ()
    idempotent = method == "POST"
    kinds = (*kinds, *body_kinds, *(_IDEMPOTENCY_KINDS if idempotent else ()))
    kinds = (*kinds, problems.NOT_FOUND) if path != endpoints.ENDPOINTS else kinds
    return ApiRoute(
        method, path, name, endpoint, summary, {status: (model, words)}, tag="webhook-endpoints",
        scope=Scope.WEBHOOKS_MANAGE, body=body, kinds=kinds, idempotent=idempotent, query=query,
    )  # fmt: skip


_DELIVERY: Final = f"{ENDPOINT}/deliveries/{{delivery_id}}"
_URL_KINDS: Final = (problems.ENDPOINT_URL,)
_SENDS: Final = (problems.ENDPOINT_DISABLED,)
_ENDPOINTS: Final = (
    _of_endpoints("POST", endpoints.ENDPOINTS, "createWebhookEndpoint", endpoints.create,
                  "Send events to a URL", (201, EndpointWithSecretOut, "With its signing secret, shown this once."),
                  (*_URL_KINDS, problems.TOO_MANY_ENDPOINTS), CreateEndpointIn),
    _of_endpoints("GET", endpoints.ENDPOINTS, "listWebhookEndpoints", endpoints.page, "List webhook endpoints",
                  (200, EndpointListOut, "All of them, oldest first.")),
    _of_endpoints("GET", ENDPOINT, "getWebhookEndpoint", endpoints.read, "Read a webhook endpoint",
                  (200, EndpointOut, "Without its secret.")),
    _of_endpoints("PATCH", ENDPOINT, "updateWebhookEndpoint", endpoints.update,
                  "Change a webhook endpoint's URL or event types; disable or enable it",
                  (200, EndpointOut, "As it is now."), _URL_KINDS, UpdateEndpointIn),
    _of_endpoints("DELETE", ENDPOINT, "deleteWebhookEndpoint", endpoints.delete, "Delete a webhook endpoint",
                  (204, None, "Nothing more is sent to it.")),
    _of_endpoints("POST", f"{ENDPOINT}/rotate-secret", "rotateWebhookSecret", endpoints.rotate_secret,
                  "Make a new signing secret; the old one signs as well for 24 hours",
                  (200, EndpointWithSecretOut, "With the new secret, shown this once."), (problems.TOO_MANY_SECRETS,),
                  NothingIn),
    _of_endpoints("POST", f"{ENDPOINT}/test", "testWebhookEndpoint", endpoints.ping, "Send a ping",
                  (202, DeliveryOut, "`Location` says what becomes of it."), _SENDS, NothingIn),
    _of_endpoints("POST", f"{ENDPOINT}/replay", "replayWebhooks", endpoints.replay,
                  "Deliver again what happened since a time, also what was never delivered",
                  (202, ReplayOut, "How many deliveries are pending now that were not."),
                  (*_SENDS, problems.INVALID_QUERY), NothingIn, (("since", _TIME, "Required. RFC 3339."),)),
    _of_endpoints("GET", f"{ENDPOINT}/deliveries", "listWebhookDeliveries", endpoints.deliveries,
                  "List deliveries with their attempts, newest first", (200, DeliveryListOut, "One page."),
                  (problems.INVALID_QUERY,), None, _DELIVERY_QUERY),
    _of_endpoints("GET", _DELIVERY, "getWebhookDelivery", endpoints.read_delivery, "Read a delivery with its attempts",
                  (200, DeliveryOut, "As it is now.")),
    _of_endpoints("POST", f"{_DELIVERY}/replay", "replayWebhookDelivery", endpoints.replay_delivery, "Deliver again",
                  (202, DeliveryOut, "`Location` says what becomes of it."), _SENDS, NothingIn),
)  # fmt: skip

ROUTES: Final = (*_INTENTS, *_LEDGER, *_ENDPOINTS, *_OTHERS)
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
