"""Query strings: known parameters, each once, each with a check of its own; and the opaque cursor of a page."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from starlette.requests import Request

from gateway import problems
from gateway.problems import FieldError, Problem

DEFAULT_LIMIT: Final = 20
MAX_LIMIT: Final = 100
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)", re.ASCII)
UUID_TEXT: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
"""An id of ours as it is written: what is looked up must be one."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = datetime.resolution


def values_of(request: Request, parameters: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
    """The request's parameters, as their checks read them. Raises Problem `invalid_query` with all that is wrong."""
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
    """A page's size."""
    if not re.fullmatch(r"[0-9]{1,3}", text, re.ASCII) or not 1 <= int(text) <= MAX_LIMIT:
        raise ValueError(f"a number from 1 to {MAX_LIMIT}")
    return int(text)


def one_of(*shown: str) -> Callable[[str], str]:
    """A check for a closed set."""

    def check(text: str) -> str:
        if text not in shown:
            raise ValueError("one of: " + ", ".join(shown))
        return text

    return check


def text(value: str) -> str:
    """Any text of ours."""
    if not 0 < len(value) <= 255 or not value.isprintable():
        raise ValueError("1 to 255 printable characters")
    return value


def time(value: str) -> datetime:
    """A time, in UTC."""
    if not _TIME.fullmatch(value):
        raise ValueError("an RFC 3339 time with an offset, e.g. 2026-01-31T12:00:00Z")
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("no such time") from None


def as_page(rows: Sequence[tuple[datetime, Any]], size: int, name: str) -> dict[str, Any]:
    """One page of rows, of which there is one more than `size` if there are more; `name` is their id's."""
    shown, more = rows[:size], len(rows) > size
    return {
        "data": [item for _, item in shown],
        "next_cursor": cursor(shown[-1][0], shown[-1][1][name]) if more else None,
    }


def cursor(at: datetime, item_id: str) -> str:
    """The place of a page's last row: its time and its id, a UUID."""
    micros = (at - _EPOCH) // _MICROSECOND
    return base64.urlsafe_b64encode(micros.to_bytes(8, "big", signed=True) + UUID(item_id).bytes).decode()


def position(text: str) -> tuple[datetime, str]:
    """What `cursor` wrote."""
    try:
        raw = base64.b64decode(text, altchars=b"-_", validate=True)
        if len(raw) != 24:
            raise ValueError
        at = _EPOCH + int.from_bytes(raw[:8], "big", signed=True) * _MICROSECOND
        return at, str(UUID(bytes=raw[8:]))
    except (ValueError, OverflowError, binascii.Error):
        raise ValueError("not a cursor of ours") from None
