"""Webhook endpoints of a merchant: where events go, with which secret, and what became of each delivery.

A repeat under an Idempotency-Key makes nothing twice: the ids of endpoint, secret and event derive from the key. The
answer that is kept for repeats has no secret; it is unsealed anew for each.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Final
from uuid import UUID

import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response

from gateway import idempotency, metrics, problems, query
from gateway.body import canonical
from gateway.endpoint_schemas import CreateEndpointIn, NothingIn, UpdateEndpointIn
from gateway.endpoint_store import DeliveryFilter, Place, Secret
from gateway.idempotency import Answer, Asked, Key
from gateway.keys import Scope
from gateway.problems import FieldError, Problem
from gateway.services import Services, authenticated, json_body, services_of, validated
from pipeline import clock, ids, views
from pipeline.domain import signing
from pipeline.domain.deliveries import ALERT_TYPES, EVENT_TYPES, OPERATOR, PING, DeliveryStatus
from pipeline.sealing import SealError

ENDPOINTS: Final = "/api/v1/webhook-endpoints"
Json = dict[str, Any]


async def create(request: Request) -> Response:
    """POST /api/v1/webhook-endpoints"""
    services, once = await _begin(request)
    taken = validated(CreateEndpointIn, once.body)
    _check_url(services, taken.url)
    _check_types(once.key.merchant_id, taken.event_types)
    place = Place(once.key.merchant_id, ids.webhook_endpoint_id(once.key.merchant_id, once.key.command_id))

    async def work() -> Answer:
        chosen = list(dict.fromkeys(taken.event_types))
        if not await services.endpoints.create(place, taken.url, chosen, _new_secret(once, place)):
            deleted = await services.endpoints.is_deleted(place)
            raise Problem(problems.IDEMPOTENCY_KEY_REUSED if deleted else problems.TOO_MANY_ENDPOINTS)
        return Answer(201, {"Location": f"{ENDPOINTS}/{place.endpoint_id}"}, await _shown(services, place))

    return await once.with_secret(place, work)


async def page(request: Request) -> Response:
    """GET /api/v1/webhook-endpoints"""
    key = await authenticated(request, Scope.WEBHOOKS_MANAGE)
    return _json(200, {"data": await services_of(request).endpoints.endpoints(key.merchant_id)})


async def read(request: Request) -> Response:
    """GET /api/v1/webhook-endpoints/{endpoint_id}"""
    _, endpoint = await _found(request, await _place(request))
    return _json(200, endpoint)


async def update(request: Request) -> Response:
    """PATCH /api/v1/webhook-endpoints/{endpoint_id}: repeating it changes nothing more, so that it needs no key."""
    place, services = await _place(request), services_of(request)
    taken = validated(UpdateEndpointIn, await json_body(request))
    if taken.url is not None:
        _check_url(services, taken.url)
    _check_types(place.merchant_id, taken.event_types or ())
    endpoint = await services.endpoints.update(place, taken.url, taken.event_types, taken.enabled)
    if endpoint is None:
        raise Problem(problems.NOT_FOUND)
    return _json(200, endpoint)


async def delete(request: Request) -> Response:
    """DELETE /api/v1/webhook-endpoints/{endpoint_id}"""
    if not await services_of(request).endpoints.delete(await _place(request)):
        raise Problem(problems.NOT_FOUND)
    return Response(status_code=204)


async def rotate_secret(request: Request) -> Response:
    """POST /api/v1/webhook-endpoints/{endpoint_id}/rotate-secret"""
    services, once = await _begin(request)
    validated(NothingIn, once.body)
    place, _ = await _found(request, _place_of(request, once.key.merchant_id))

    async def work() -> Answer:
        if not await services.endpoints.rotate(place, _new_secret(once, place)):
            raise Problem(problems.TOO_MANY_SECRETS)
        return Answer(200, {}, await _shown(services, place))

    return await once.with_secret(place, work)


async def ping(request: Request) -> Response:
    """POST /api/v1/webhook-endpoints/{endpoint_id}/test"""
    services, once = await _begin(request)
    validated(NothingIn, once.body)
    place, _ = await _found(request, _place_of(request, once.key.merchant_id))
    event_id = ids.derive("ping", place.endpoint_id, once.key.command_id)
    body = {"type": PING, "timestamp": views.time(clock.now()), "data": {"endpoint_id": place.endpoint_id}}

    async def work() -> Answer:
        delivery_id = await services.endpoints.ping(place, event_id, PING, orjson.dumps(body))
        if delivery_id is None:
            raise Problem(problems.ENDPOINT_DISABLED)
        return await _queued(services, place, delivery_id)

    return await once.carry_out(place.endpoint_id, work)


async def replay(request: Request) -> Response:
    """POST /api/v1/webhook-endpoints/{endpoint_id}/replay?since="""
    services, once = await _begin(request)
    validated(NothingIn, once.body)
    since = query.values_of(request, {"since": query.time}).get("since")
    if since is None:
        errors = (FieldError("since", "invalid_parameter", "required: an RFC 3339 time"),)
        raise Problem(problems.INVALID_QUERY, errors=errors)
    place, endpoint = await _enabled(request, once)

    async def work() -> Answer:
        count, later = await services.endpoints.replay_since(place, endpoint["event_types"], since)
        following = views.time(int(later.timestamp() * 1000)) if later else None
        return Answer(202, {}, orjson.dumps({"deliveries": count, "continue_since": following}))

    return await once.carry_out(place.endpoint_id, work)


async def replay_delivery(request: Request) -> Response:
    """POST /api/v1/webhook-endpoints/{endpoint_id}/deliveries/{delivery_id}/replay"""
    services, once = await _begin(request)
    validated(NothingIn, once.body)
    place, _ = await _enabled(request, once)
    delivery_id = _uuid(request, "delivery_id")

    async def work() -> Answer:
        if not await services.endpoints.replay(place, delivery_id):
            raise Problem(problems.NOT_FOUND)
        return await _queued(services, place, delivery_id)

    return await once.carry_out(place.endpoint_id, work)


async def read_delivery(request: Request) -> Response:
    """GET /api/v1/webhook-endpoints/{endpoint_id}/deliveries/{delivery_id}"""
    place = await _place(request)
    delivery = await services_of(request).endpoints.delivery(place, _uuid(request, "delivery_id"))
    if delivery is None:
        raise Problem(problems.NOT_FOUND)
    return _json(200, delivery)


async def deliveries(request: Request) -> Response:
    """GET /api/v1/webhook-endpoints/{endpoint_id}/deliveries"""
    place, _ = await _found(request, await _place(request))
    values = query.values_of(request, _PARAMETERS)
    after = values.pop("cursor", None)
    wanted = DeliveryFilter(values.pop("limit", query.DEFAULT_LIMIT), after=after, **values)
    rows = await services_of(request).endpoints.deliveries(place, wanted)
    shown, more = rows[: wanted.limit], len(rows) > wanted.limit
    cursor = query.cursor(shown[-1][0], shown[-1][1]["delivery_id"]) if more else None
    return _json(200, {"data": [delivery for _, delivery in shown], "next_cursor": cursor})


_PARAMETERS: Final[dict[str, Callable[[str], Any]]] = {
    "status": query.one_of(*DeliveryStatus),
    "event_type": query.one_of(*EVENT_TYPES, *ALERT_TYPES, PING),
    "cursor": query.position,
    "limit": query.limit,
}


class _Once:
    """One request that is carried out once for its Idempotency-Key."""

    def __init__(self, services: Services, request: Request, key: Key, body: Json) -> None:
        self.services = services
        self.key = key
        self.body = body
        path, question = request.scope["path"], request.url.query
        self._fingerprint = idempotency.fingerprint(
            request.method, f"{path}?{question}" if question else path, canonical(body)
        )

    @property
    def secret_id(self) -> str:
        """The secret that the request makes."""
        return ids.derive("signing secret", self.key.command_id)

    async def carry_out(self, subject: str, work: Callable[[], Awaitable[Answer]]) -> Response:
        """The answer: the first one to this key, or the new one. `subject` is the endpoint's id."""
        answer, replayed = await self._answer(subject, work)
        return answer.response(replayed=replayed)

    async def with_secret(self, place: Place, work: Callable[[], Awaitable[Answer]]) -> Response:
        """The same, with the secret that the request made."""
        answer, replayed = await self._answer(place.endpoint_id, work)
        sealed = await self.services.endpoints.secret(place, self.secret_id)
        try:
            plain = self.services.sealer.open(sealed, place.endpoint_id) if sealed else None
        except SealError as error:
            raise _no_key() from error
        shown = {**orjson.loads(answer.body), "secret": signing.written(plain) if plain else None}
        return Answer(answer.status, answer.headers, orjson.dumps(shown)).response(replayed=replayed)

    async def _answer(self, subject: str, work: Callable[[], Awaitable[Answer]]) -> tuple[Answer, bool]:
        asked = Asked(self.key, self._fingerprint, subject, self.key.command_id, b"", idempotency.LEASE_SECONDS)
        begun = await self.services.requests.begin(asked)
        if isinstance(begun, Answer):
            metrics.REPLAYED.inc()
            return begun, True
        answer: Answer | None = None
        try:
            answer = await work()
        finally:
            await self.services.requests.finish(self.key, answer)
        return answer, False


async def _begin(request: Request) -> tuple[Services, _Once]:
    """What every POST begins with."""
    services = services_of(request)
    key = await authenticated(request, Scope.WEBHOOKS_MANAGE)
    named = idempotency.key_of(request, key.merchant_id, key.mode)
    return services, _Once(services, request, named, await json_body(request))


async def _place(request: Request) -> Place:
    key = await authenticated(request, Scope.WEBHOOKS_MANAGE)
    return _place_of(request, key.merchant_id)


def _place_of(request: Request, merchant_id: str) -> Place:
    """The endpoint that the path names. Raises Problem `not_found`."""
    place = Place(merchant_id, _uuid(request, "endpoint_id"))
    structlog.contextvars.bind_contextvars(endpoint_id=place.endpoint_id)
    return place


async def _found(request: Request, place: Place) -> tuple[Place, Json]:
    """The endpoint, if its merchant asks. Raises Problem `not_found`."""
    endpoint = await services_of(request).endpoints.endpoint(place)
    if endpoint is None:
        raise Problem(problems.NOT_FOUND)
    return place, endpoint


async def _enabled(request: Request, once: _Once) -> tuple[Place, Json]:
    """The endpoint, if something can be sent to it. Raises Problem `not_found`, `endpoint_disabled`."""
    place, endpoint = await _found(request, _place_of(request, once.key.merchant_id))
    if not endpoint["enabled"]:
        raise Problem(problems.ENDPOINT_DISABLED)
    return place, endpoint


def _uuid(request: Request, name: str) -> str:
    text: str = request.path_params[name]
    try:
        canonical_text = str(UUID(text))
    except ValueError:
        canonical_text = ""
    if text != canonical_text:
        raise Problem(problems.NOT_FOUND)
    return text


def _check_types(merchant_id: str, chosen: Collection[str]) -> None:
    """What concerns no merchant is the operator's. Raises Problem."""
    if merchant_id != OPERATOR and not set(ALERT_TYPES).isdisjoint(chosen):
        words = f"{', '.join(ALERT_TYPES)} are for the merchant {OPERATOR!r} only"
        raise problems.invalid([FieldError("event_types", "not_allowed", words)])


def _check_url(services: Services, url: str) -> None:
    objection = services.guard.objection(url)
    if objection is not None:
        raise problems.invalid([FieldError("url", problems.ENDPOINT_URL.code, objection)])


def _new_secret(once: _Once, place: Place) -> Secret:
    try:
        sealed = once.services.sealer.seal(secrets.token_bytes(signing.SECRET_BYTES), place.endpoint_id)
    except SealError as error:
        raise _no_key() from error
    return Secret(once.secret_id, sealed)


def _no_key() -> Problem:
    return Problem(problems.UNAVAILABLE, "the key that signing secrets are kept under is not set up")


async def _shown(services: Services, place: Place) -> bytes:
    endpoint = await services.endpoints.endpoint(place)
    if endpoint is None:
        raise Problem(problems.NOT_FOUND)
    return orjson.dumps(endpoint)


async def _queued(services: Services, place: Place, delivery_id: str) -> Answer:
    where = f"{ENDPOINTS}/{place.endpoint_id}/deliveries/{delivery_id}"
    return Answer(202, {"Location": where}, orjson.dumps(await services.endpoints.delivery(place, delivery_id)))


def _json(status: int, value: Any) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")
