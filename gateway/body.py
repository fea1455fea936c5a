"""Request bodies: counted while they arrive, decoded strictly, and without card data."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any, Final, NoReturn

import orjson
from starlette.requests import ClientDisconnect, Request

from gateway import problems
from gateway.problems import FieldError, Problem
from pipeline.domain.card_data import contains_card_data

API_LIMIT: Final = 64 * 1024
WEBHOOK_LIMIT: Final = 1024 * 1024
DEADLINE: Final = 10.0
"""Seconds from the end of the headers to the end of the body."""
DRAIN_LIMIT: Final = 4 * 1024 * 1024
DRAIN_SECONDS: Final = 1.0
MAX_SAFE_INTEGER: Final = 2**53
"""RFC 8259, section 6, and RFC 7493 (I-JSON), section 2.2: beyond it, readers disagree about a number."""

_NO_TEXT: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
"""Control characters other than tabs and line ends, and halves of characters."""
_DIGITS: Final = b"0123456789"
_LEAST_DIGITS: Final = 13
"""A card number has at least as many (pipeline.domain.card_data)."""
_CODE_WORDS: Final = (b"cvv", b"cvc", b"cav", b"csc", b"cvn", b"pan", b"number", b"code", b"verification")
"""One of them is in every name of a card number or security code."""
_SECURITY_CODE_NAMES: Final = re.compile(
    r"(?:^|[^a-z])(?:cvv2?|cvc2?|cav2?|csc|cvn|card[ _-]?(?:number|pan|code)|security[ _-]?code|pan)(?:$|[^a-z])"
)


async def read(request: Request, limit: int, deadline: float = DEADLINE) -> bytes:
    """The raw body. Raises Problem: `unsupported_content_encoding`, `body_too_large`, `body_too_slow`."""
    headers = request.headers
    if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise Problem(problems.UNSUPPORTED_ENCODING)
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        await _refuse_as_too_large(request, limit)
    try:
        async with asyncio.timeout(deadline):
            return await _counted(request, limit)
    except TimeoutError:
        raise Problem(problems.BODY_TOO_SLOW, f"the body took longer than {deadline:g} s") from None


async def _counted(request: Request, limit: int) -> bytes:
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            await _refuse_as_too_large(request, limit)
        chunks.append(chunk)
    return b"".join(chunks)


async def _refuse_as_too_large(request: Request, limit: int) -> NoReturn:
    """Read on for a moment before answering: closing with unread bytes would reset the connection, and the client
    would never see the answer.
    """
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            size = 0
            while size < DRAIN_LIMIT:
                message = await request.receive()
                size += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body"):
                    break
    except (TimeoutError, ClientDisconnect):
        pass
    raise Problem(problems.BODY_TOO_LARGE, f"the body is larger than {limit} bytes")


def parse(raw: bytes, content_type: str | None) -> dict[str, Any]:
    """The JSON object in `raw`; no body at all is an empty object. Raises Problem for whatever is not strict JSON
    (RFC 8259, UTF-8, unique names, numbers within 2^53), for text that is none, and for card data.
    """
    if not raw:
        return {}
    if (content_type or "").split(";")[0].strip().lower() != "application/json":
        raise Problem(problems.UNSUPPORTED_TYPE)
    value = _decode(raw)
    if not isinstance(value, dict):
        raise Problem(problems.NOT_AN_OBJECT)
    _check_text(raw, value)
    refuse_card_data(raw, value)
    return value


def canonical(body: dict[str, Any]) -> bytes:
    """The body without what JSON leaves open (order of members, white space, escapes), for its fingerprint."""
    return orjson.dumps(body, option=orjson.OPT_SORT_KEYS)


def _decode(raw: bytes) -> Any:
    try:
        return _DECODER.decode(raw.decode("utf-8"))
    except Problem:
        raise
    except UnicodeDecodeError:
        raise Problem(problems.MALFORMED_JSON, "the body is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise Problem(problems.MALFORMED_JSON, f"at byte {error.pos}: {_reason(error)}") from None
    except RecursionError:
        raise Problem(problems.MALFORMED_JSON, "nested too deeply") from None


def _reason(error: json.JSONDecodeError) -> str:
    """The decoder's own words name what it expected; they quote nothing of the body."""
    return error.msg.split(":")[0].lower()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise Problem(problems.DUPLICATE_KEY)
    return made


def _small(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > MAX_SAFE_INTEGER:
        raise Problem(problems.NUMBER_OUT_OF_RANGE)
    return int(text)


def _small_float(text: str) -> float:
    value = float(text)
    if not abs(value) <= MAX_SAFE_INTEGER:
        raise Problem(problems.NUMBER_OUT_OF_RANGE)
    return value


def _no_constant(_name: str) -> NoReturn:
    raise Problem(problems.MALFORMED_JSON, "NaN and Infinity are no JSON")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_small, parse_float=_small_float, parse_constant=_no_constant
)


def _check_text(raw: bytes, value: Any) -> None:
    """Control characters come only as escapes, since the decoder takes none as they are; U+007F is the exception."""
    if raw.isascii() and b"\\" not in raw and b"\x7f" not in raw:
        return
    for text in texts(value):
        if not text.isprintable() and _NO_TEXT.search(text):
            raise Problem(problems.INVALID_TEXT)


def texts(value: Any) -> Iterator[str]:
    """Every string in a JSON value, names of members and numbers included."""
    match value:
        case str():
            yield value
        case dict():
            for key, item in value.items():
                yield key
                yield from texts(item)
        case list():
            for item in value:
                yield from texts(item)
        case bool() | None:
            return
        case int() | float():
            yield format(value, ".0f")


def refuse_card_data(raw: bytes, value: Any) -> None:
    """Raises Problem `card_data` if any string, name or number in `value`, whose source is `raw`, looks like
    a card number or security code, or any name like that of one.
    """
    if _cannot_hold_card_data(raw):
        return
    for name in names(value):
        if _SECURITY_CODE_NAMES.search(name.lower()):
            raise Problem(problems.CARD_DATA)
    for text in texts(value):
        refuse_card_text(text)


def refuse_card_text(text: str) -> None:
    """Raises Problem `card_data` if `text` looks like a card number or security code. A UUID never does."""
    if contains_card_data(text):
        raise Problem(problems.CARD_DATA)


def names(value: Any) -> Iterator[str]:
    """Every member's name in a JSON value."""
    match value:
        case dict():
            for key, item in value.items():
                yield key
                if isinstance(item, dict | list):
                    yield from names(item)
        case list():
            for item in value:
                yield from names(item)


def _cannot_hold_card_data(raw: bytes) -> bool:
    """The common case at a fraction of the cost: too few digits, no other way to write them, no word for a code."""
    if not raw.isascii() or len(raw) - len(raw.translate(None, _DIGITS)) >= _LEAST_DIGITS:
        return False
    lower = raw.lower()
    return b"\\u" not in lower and not any(word in lower for word in _CODE_WORDS)


def errors_of(found: list[Any]) -> list[FieldError]:
    """pydantic's errors as ours: paths, stable codes and words that quote no input."""
    return [_error(item) for item in found]


_CODES: Final = {
    "extra_forbidden": problems.UNKNOWN_FIELD.code,
    "missing": problems.REQUIRED.code,
    "string_too_short": problems.REQUIRED.code,
    "string_too_long": problems.TOO_LONG.code,
    "too_long": problems.TOO_MANY.code,
}


def _error(item: Any) -> FieldError:
    kind = item["type"]
    code = _CODES.get(kind)
    if code is None:
        code = problems.WRONG_TYPE.code if kind.endswith(("_type", "_parsing")) else problems.INVALID_VALUE.code
    return FieldError(_path(item["loc"], kind), code, item["msg"])


def _path(location: tuple[str | int, ...], kind: str) -> str:
    """Where it is. An unknown member's name is the client's text: shown only if it looks like a name."""
    if kind == "extra_forbidden" and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_\-]{0,63}", str(location[-1])):
        location = (*location[:-1], "?")
    return ".".join(str(part) for part in location if part != "[key]")[:200]
