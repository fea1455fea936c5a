"""OpenAPI 3.1, made from the route table and the pydantic models."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import orjson
from pydantic.json_schema import models_json_schema

from gateway import problems
from gateway.idempotency import HEADER, MAX_LENGTH, REPLAYED
from gateway.problems import Kind
from gateway.schemas import Model, ProblemOut
from gateway.waits import MAX_SECONDS
from pipeline import topics
from pipeline.messages.values import RejectionReason

if TYPE_CHECKING:
    from gateway.routes import ApiRoute

Json = dict[str, Any]
_REF: Final = "#/components/schemas/{model}"
_EVERYWHERE: Final = (problems.RATE_LIMITED, problems.OVERLOADED, problems.UNAVAILABLE)
_AUTHENTICATED: Final = (problems.UNAUTHENTICATED, problems.FORBIDDEN)


@lru_cache(maxsize=1)
def document() -> bytes:
    """The description as JSON."""
    from gateway.routes import ROUTES  # noqa: PLC0415 - the table holds the endpoint that serves this

    routes = [route for route in ROUTES if not route.hidden]
    paths: dict[str, Json] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return orjson.dumps(
        {
            "openapi": "3.1.1",
            "info": {
                "title": "Payments",
                "version": "1.0.0",
                "description": "Payment intents on a Kafka-native pipeline. Errors are problem details (RFC 9457).",
                "license": {"name": "Proprietary", "identifier": "LicenseRef-Proprietary"},
            },
            "servers": [{"url": "/"}],
            "tags": [{"name": name} for name in ("intents", "ledger", "webhook-endpoints", "webhooks", "operations")],
            "paths": paths,
            "components": {
                "schemas": _schemas(routes),
                "securitySchemes": {
                    "apiKey": {"type": "http", "scheme": "bearer", "description": "sk_test_... or sk_live_..."}
                },
            },
        }
    )


def _schemas(routes: Iterable[ApiRoute]) -> Json:
    models: dict[Model, None] = {ProblemOut: None}
    for route in routes:
        models.update({model: None for model, _ in route.answers.values() if model})
        if route.body:
            models[route.body] = None
    _, definitions = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    schemas: Json = definitions["$defs"]
    return schemas


def _operation(route: ApiRoute) -> Json:
    made: Json = {
        "operationId": route.name,
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": _parameters(route),
        "responses": _responses(route),
        "security": [{"apiKey": []}] if route.scope else [],
    }
    if route.scope:
        made["description"] = f"Needs the scope `{route.scope.value}`. {route.notes}".strip()
        made["x-scope"] = route.scope.value
    if route.body:
        required = any(field.is_required() for field in route.body.model_fields.values())
        made["requestBody"] = {"required": required, "content": {"application/json": {"schema": _ref(route.body)}}}
    if route.tag == "webhooks":
        made["requestBody"] = {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
    return made


def _parameters(route: ApiRoute) -> list[Json]:
    found = [_path_parameter(name) for name in re.findall(r"{(\w+)}", route.path)]
    found += [
        {"name": name, "in": "query", "required": False, "schema": schema, "description": words}
        for name, schema, words in route.query
    ]
    if route.idempotent:
        found.append(_IDEMPOTENCY_KEY)
    if _waits(route):
        found.append(_PREFER)
    if route.scope:
        found.append(_TRACEPARENT)
    return found


def _waits(route: ApiRoute) -> bool:
    """Whether `Prefer: wait` means something: the route carries out a command."""
    return route.idempotent and route.tag == "intents"


def _path_parameter(name: str) -> Json:
    schema: Json = {"type": "string"}
    if name in ("payment_id", "entry_id", "endpoint_id", "delivery_id"):
        schema["format"] = "uuid"
    if name == "provider":
        schema["enum"] = list(topics.PROVIDERS)
    return {"name": name, "in": "path", "required": True, "schema": schema}


_IDEMPOTENCY_KEY: Final[Json] = {
    "name": HEADER,
    "in": "header",
    "required": True,
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_LENGTH},
    "description": "The same key with the same method, path and body gets the same answer again, for seven days.",
}
_PREFER: Final[Json] = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "examples": ["wait=10"]},
    "description": f"RFC 7240: `wait=N` waits up to N seconds (at most {MAX_SECONDS}) for the outcome.",
}
_TRACEPARENT: Final[Json] = {
    "name": "traceparent",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "W3C Trace Context; the trace goes on through every record.",
}


def _responses(route: ApiRoute) -> Json:
    made: Json = {}
    for status, (model, words) in route.answers.items():
        made[str(status)] = {"description": words, "headers": _headers(route, status)}
        if status != 204:
            content = {route.media: {"schema": _ref(model) if model else {"type": "string"}}}
            made[str(status)]["content"] = content | {media: {"schema": {"type": "string"}} for media in route.also}
    for status, kinds in sorted(_by_status(route).items()):
        made.setdefault(str(status), _problem(kinds))
    return made


def _headers(route: ApiRoute, status: int) -> Json:
    names = ["Request-Id"]
    if status in (201, 202):
        names.append("Location")
    if route.idempotent:
        names.append(REPLAYED)
    if _waits(route):
        names.append("Preference-Applied")
    return {name: {"schema": {"type": "string"}} for name in names}


def _by_status(route: ApiRoute) -> dict[int, list[Kind]]:
    kinds = [*route.kinds, *(_EVERYWHERE if route.path not in ("/health", "/ready", "/metrics") else ())]
    if route.scope:
        kinds += _AUTHENTICATED
    if route.notes:
        kinds += [problems.KINDS[reason.value] for reason in RejectionReason]
    grouped: dict[int, list[Kind]] = {}
    for kind in kinds:
        grouped.setdefault(kind.status, []).append(kind)
    return grouped


def _problem(kinds: list[Kind]) -> Json:
    return {
        "description": "`type` is one of: " + ", ".join(f"`{kind.type}`" for kind in dict.fromkeys(kinds)),
        "content": {problems.MEDIA_TYPE: {"schema": _ref(ProblemOut)}},
    }


def _ref(model: Model) -> Json:
    return {"$ref": _REF.format(model=model.__name__)}
