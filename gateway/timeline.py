"""A payment's timeline, and how far its operations have come: read from the log and from the facts in Postgres."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import orjson
from starlette.requests import Request
from starlette.responses import Response

from gateway import problems
from gateway.intents import target_of
from gateway.keys import Scope
from gateway.payments import Target
from gateway.problems import Problem
from gateway.recovery import facts_of, points
from gateway.services import authenticated, services_of
from pipeline import views
from pipeline.domain.decision import Schedule
from pipeline.domain.recovery import progress
from pipeline.domain.timeline import Entry, Placed, timeline
from pipeline.history import Found, Known

Json = dict[str, Any]


async def read(request: Request) -> Response:
    """GET /api/v1/intents/{payment_id}/timeline"""
    services = services_of(request)
    key = await authenticated(request, Scope.PAYMENTS_READ)
    target = target_of(request, key)
    known = await facts_of(services, target)
    if not known:
        raise Problem(problems.NOT_FOUND)
    found = await services.timelines.read(target.payment_id, known)
    theirs = [placed for placed in found.records.values() if _is_theirs(placed, target)]
    entries = timeline(theirs, Schedule().scaled(services.settings.recovery_scale))
    return Response(orjson.dumps(_document(target, found, entries, known)), media_type="application/json")


def _is_theirs(placed: Placed, target: Target) -> bool:
    return getattr(placed.record, "merchant_id", target.merchant_id) == target.merchant_id


def _document(target: Target, found: Found, entries: Sequence[Entry], known: Sequence[Known]) -> Json:
    operations = progress(item.written for item in known)
    return {
        "payment_id": target.payment_id,
        "complete": found.complete,
        "missing_facts": found.missing,
        "entries": [_shown(entry) for entry in entries],
        "operations": [
            {"operation_id": o.operation_id, "kind": o.kind, "state": o.state.value, **points(o)}
            for o in operations.values()
        ],
    }


def _shown(entry: Entry) -> Json:
    shown: Json = msgspec.to_builtins(entry)
    return {**shown, "at": views.time(entry.at), "occurred_at": views.time(entry.occurred_at)}
