"""GET /api/v1/intents: filters and an opaque cursor, newest first; and what other lists share with it."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import orjson
from starlette.requests import Request
from starlette.responses import Response

from gateway import problems
from gateway.keys import Scope
from gateway.payments import Filter
from gateway.problems import FieldError, Problem
from gateway.services import authenticated, services_of
from pipeline.domain.projection import PaymentStatus

DEFAULT_LIMIT: Final = 20
MAX_LIMIT: Final = 100
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)", re.ASCII)


async def page(request: Request) -> Response:
    """One page."""
    key = await authenticated(request, Scope.PAYMENTS_READ)
    wanted = _filter(request, key.merchant_id)
    rows = await services_of(request).payments.page(wanted)
    return Response(orjson.dumps(as_page(rows, wanted.limit, "payment_id")), media_type="application/json")


def as_page(rows: Sequence[tuple[datetime, Any]], limit: int, name: str) -> dict[str, Any]:
    """One page of rows, of which there is one more than `limit` if there are more; `name` is their id's."""
    shown, more = rows[:limit], len(rows) > limit
    cursor = _cursor(shown[-1][0], shown[-1][1][name]) if more else None
    return {"data": [item for _, item in shown], "next_cursor": cursor}


def _filter(request: Request, merchant_id: str) -> Filter:
    values = parsed(request, _PARAMETERS)
    after = values.pop("cursor", None)
    return Filter(merchant_id, values.pop("limit", DEFAULT_LIMIT), after=after, **values)


def parsed(request: Request, parameters: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
    """The query's parameters by name, each as its function makes it. Raises Problem `invalid_query` with all that is
    wrong.
    """
    values: dict[str, Any] = {}
    errors: list[FieldError] = []
    for name, text in request.query_params.multi_items():
        try:
            if name in values:
                raise ValueError("given twice")
            values[name] = parameters[name](text)
        except KeyError:
            known = name if re.fullmatch(r"[a-z_]{1,32}", name) else "?"
            errors.append(FieldError(known, "unknown_parameter", "known are: " + ", ".join(parameters)))
        except ValueError as error:
            errors.append(FieldError(name, "invalid_parameter", str(error)))
    if errors:
        raise Problem(problems.INVALID_QUERY, errors=tuple(errors))
    return values


def limit(text: str) -> int:
    """A page's size. Raises ValueError in words, as the other parameters' functions do."""
    if not re.fullmatch(r"[0-9]{1,3}", text, re.ASCII) or not 1 <= int(text) <= MAX_LIMIT:
        raise ValueError(f"a number from 1 to {MAX_LIMIT}")
    return int(text)


def _status(text: str) -> str:
    shown = [status.value for status in PaymentStatus if status is not PaymentStatus.NONE]
    if text not in shown:
        raise ValueError("one of: " + ", ".join(shown))
    return text


def _text(text: str) -> str:
    if not 0 < len(text) <= 255 or not text.isprintable():
        raise ValueError("1 to 255 printable characters")
    return text


def time(text: str) -> datetime:
    """A time with an offset, RFC 3339."""
    if not _TIME.fullmatch(text):
        raise ValueError("an RFC 3339 time with an offset, e.g. 2026-01-31T12:00:00Z")
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("no such time") from None


def _cursor(at: datetime, payment_id: str) -> str:
    micros = (at - _EPOCH) // _MICROSECOND
    return base64.urlsafe_b64encode(micros.to_bytes(8, "big", signed=True) + UUID(payment_id).bytes).decode()


def position(text: str) -> tuple[datetime, str]:
    """A cursor: time and id of the last row of the page before."""
    try:
        raw = base64.b64decode(text, altchars=b"-_", validate=True)
        if len(raw) != 24:
            raise ValueError
        at = _EPOCH + int.from_bytes(raw[:8], "big", signed=True) * _MICROSECOND
        return at, str(UUID(bytes=raw[8:]))
    except (ValueError, OverflowError, binascii.Error):
        raise ValueError("not a cursor of ours") from None


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = datetime.resolution

_PARAMETERS: Final[dict[str, Callable[[str], Any]]] = {
    "status": _status,
    "customer_id": _text,
    "merchant_reference": _text,
    "created_from": time,
    "created_to": time,
    "cursor": position,
    "limit": limit,
}
