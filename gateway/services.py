"""What the routes share, made once a process."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import structlog
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from connectors.provider import Webhooks, open_webhooks
from connectors.webhooks.addresses import Guard
from gateway import body, problems
from gateway.database import Database
from gateway.edge import client_of
from gateway.endpoint_store import Endpoints
from gateway.histories import Timelines
from gateway.idempotency import Requests
from gateway.keys import ApiKey, KeyRing, Mode, Scope
from gateway.ledger import Ledger
from gateway.limits import Buckets, Limits
from gateway.payments import Payments
from gateway.problems import Problem
from gateway.producer import AsyncProducer
from gateway.waits import Waits
from pipeline import topics
from pipeline.codec import Codec, Registry
from pipeline.domain.provider_choice import Rules, parse
from pipeline.messages import Record
from pipeline.messages.commands import COMMANDS
from pipeline.messages.inputs import DisputeReport, ProviderReport
from pipeline.messages.routing import UnroutedEvent
from pipeline.sealing import Sealer
from pipeline.settings import Settings

log = structlog.get_logger()

WRITES: Final[Sequence[type[Record]]] = (*COMMANDS, ProviderReport, DisputeReport, UnroutedEvent)
PRUNE_SECONDS: Final = 600.0
_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?", re.ASCII)

Body = TypeVar("Body", bound=BaseModel)


@dataclass(slots=True)
class Services:
    """The parts of one gateway."""

    settings: Settings
    limits: Limits
    codec: Codec = field(init=False)
    database: Database = field(init=False)
    producer: AsyncProducer = field(init=False)
    payments: Payments = field(init=False)
    ledger: Ledger = field(init=False)
    requests: Requests = field(init=False)
    keys: KeyRing = field(init=False)
    waits: Waits = field(init=False)
    webhooks: Mapping[str, Webhooks] = field(init=False)
    rules: Rules = field(init=False)
    timelines: Timelines = field(init=False)
    endpoints: Endpoints = field(init=False)
    sealer: Sealer = field(init=False)
    guard: Guard = field(init=False)
    key_buckets: Buckets = field(init=False)
    refused: Buckets = field(init=False)
    returns: Buckets = field(init=False)
    draining: bool = False
    mode: Mode | None = field(init=False)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.mode = _mode(self.settings, self.limits)
        self.codec = Codec(Registry(self.settings.registry_url))
        self.database = Database(self.settings.reveal("postgres_gateway_url"))
        self.payments = Payments(self.database, self.codec)
        self.ledger = Ledger(self.database)
        self.requests = Requests(self.database)
        self.keys = KeyRing(self.payments.key)
        self.waits = Waits(self.database, self.payments)
        self.rules = parse(self.settings.provider_rules.read_text())
        self.webhooks = {name: open_webhooks(name, self.settings) for name in topics.PROVIDERS}
        self.timelines = Timelines(self.settings)
        self.endpoints = Endpoints(self.database)
        self.sealer = Sealer(self.settings.reveal("webhook_secret_keys"))
        self.guard = Guard.of(self.settings)
        self.key_buckets = Buckets(self.limits.key_rate, self.limits.key_burst)
        self.refused = Buckets(self.limits.refused_rate, self.limits.refused_burst)
        self.returns = Buckets(self.limits.return_rate, self.limits.return_burst)

    async def start(self) -> None:
        """Check the contracts and open the connections. Raises UnregisteredContractError: a process that could write
        nothing must not start.
        """
        await asyncio.to_thread(self.codec.require, *WRITES)
        self.producer = AsyncProducer(self.settings)
        self.producer.start()
        await self.database.open()
        self.waits.start()
        self._tasks.append(asyncio.get_running_loop().create_task(self._prune_for_ever()))

    def drain(self) -> None:
        """The process is about to end: nobody waits any more."""
        self.draining = True
        self.waits.drain()

    async def stop(self) -> None:
        """Deliver what is enqueued and close everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.waits.stop()
        await asyncio.gather(*(webhooks.close() for webhooks in self.webhooks.values()))
        await self.producer.stop()
        await self.database.close()
        await asyncio.to_thread(self.timelines.close)

    async def _prune_for_ever(self) -> None:
        while True:
            await asyncio.sleep(PRUNE_SECONDS)
            try:
                await self.requests.prune()
            except Exception as error:
                log.warning("old idempotency keys could not be deleted", error=type(error).__name__)


def _mode(settings: Settings, limits: Limits) -> Mode | None:
    """The mode whose keys are taken; None for both."""
    if limits.mode == "any":
        return None
    if limits.mode != "auto":
        return Mode(limits.mode)
    live = settings.reveal("stripe_api_key").startswith(("sk_live_", "rk_live_"))
    return Mode.LIVE if live else Mode.TEST


def services_of(request: Request) -> Services:
    """The gateway that a request belongs to."""
    found = request.app.state.gateway
    assert isinstance(found, Services)
    return found


async def authenticated(request: Request, scope: Scope) -> ApiKey:
    """The caller's key. Raises Problem `unauthenticated`, `forbidden`, `rate_limited`, `unavailable`."""
    services = services_of(request)
    key = await services.keys.authenticate(_bearer(request))
    if key is None:
        services.refused.take(client_of(request.scope))  # never in the way of a valid key from the same address
        raise Problem(problems.UNAUTHENTICATED, headers={"WWW-Authenticate": 'Bearer realm="payments"'})
    structlog.contextvars.bind_contextvars(key_id=key.key_id, merchant_id=key.merchant_id)
    services.key_buckets.take(key.key_id)
    if services.mode is not None and key.mode is not services.mode:
        raise Problem(problems.WRONG_MODE, f"this is the {services.mode.value} API")
    if scope not in key.scopes:
        raise Problem(problems.FORBIDDEN, f"the key lacks the scope {scope.value}")
    return key


def _bearer(request: Request) -> str:
    given = request.headers.getlist("authorization")
    scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    return token.strip() if scheme.lower() == "bearer" else ""


async def json_body(request: Request) -> dict[str, Any]:
    """The request's strict JSON object. Raises Problem."""
    raw = await body.read(request, body.API_LIMIT, services_of(request).limits.body_seconds)
    return body.parse(raw, request.headers.get("content-type"))


def validated(model: type[Body], value: dict[str, Any]) -> Body:
    """`value` as the model. Raises Problem with all that is wrong."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise problems.invalid(body.errors_of(list(found))) from None


def trace_of(request: Request, record_span: str) -> str | None:
    """The client's trace (W3C Trace Context, section 3.2) with `record_span` as the parent of what follows; None if
    it sent none that is valid.
    """
    given = request.headers.getlist("traceparent")
    match = _TRACEPARENT.fullmatch(given[0].strip()) if len(given) == 1 else None
    if match is None:
        return None
    version, trace, span, flags = match.groups()
    if version == "ff" or not int(trace, 16) or not int(span, 16):
        return None
    return f"00-{trace}-{record_span}-{'01' if int(flags, 16) & 1 else '00'}"
