"""GET /api/v1/intents: filters and an opaque cursor, newest first; and what other lists share with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from gateway import query
from gateway.keys import Scope
from gateway.payments import Filter
from gateway.query import MAX_LIMIT
from gateway.services import authenticated, services_of
from pipeline.domain.projection import PaymentStatus

__all__ = ["MAX_LIMIT", "page"]


async def page(request: Request) -> Response:
    """One page."""
    key = await authenticated(request, Scope.PAYMENTS_READ)
    wanted = _filter(request, key.merchant_id)
    rows = await services_of(request).payments.page(wanted)
    return Response(orjson.dumps(query.as_page(rows, wanted.limit, "payment_id")), media_type="application/json")


def _filter(request: Request, merchant_id: str) -> Filter:
    values = query.values_of(request, _PARAMETERS)
    after = values.pop("cursor", None)
    return Filter(merchant_id, values.pop("limit", query.DEFAULT_LIMIT), after=after, **values)


_PARAMETERS: Final[dict[str, Callable[[str], Any]]] = {
    "status": query.one_of(*(status.value for status in PaymentStatus if status is not PaymentStatus.NONE)),
    "customer_id": query.text,
    "merchant_reference": query.text,
    "created_from": query.time,
    "created_to": query.time,
    "cursor": query.position,
    "limit": query.limit,
}
