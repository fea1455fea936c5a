"""Structured logs: one JSON object a line on standard error, without card numbers and secrets.

Every process calls `configure` once. Redaction is the last line of defence, not the first: requests, records and rows
are never logged whole. It reads all that is about to be written, tracebacks included, since an exception's message may
quote what it was given. A line is looked at as a whole first; only one that may hold something is taken apart.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, TextIO

import orjson
import structlog

from pipeline.domain.card_data import contains_pan

EventDict = MutableMapping[str, Any]

_SECRETS: Final = re.compile(
    r"""
      \b(?:sk|rk|pk)_(?:test|live)_[A-Za-z0-9_\-]{4,}      # API keys, ours and Stripe's
    | \bwhsec_[A-Za-z0-9+/=_\-]{4,}                         # webhook signing secrets
    | (?<=\bBearer\ )[^\s"',]+                              # Authorization headers
    | (?<=\bBasic\ )[A-Za-z0-9+/=]{8,}
    | (?<=://)[^\s/:@]*:[^\s/@]+(?=@)                       # user:password@host
    """,
    re.VERBOSE | re.IGNORECASE,
)
_DIGIT_RUN: Final = re.compile(r"[0-9](?:[\s\-._/\\,:;|*+()\[\]]{0,3}[0-9]){12,}", re.ASCII)
_UUID: Final = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})", re.IGNORECASE)
_SECRET_NAMES: Final = re.compile(
    r".*(?:secret|passw|api_?key|cvv|cvc|card_?number|signature|dsn).*|authorization", re.IGNORECASE | re.DOTALL
)
_SUSPECT_WORDS: Final = (
    *(b"_test_", b"_live_", b"whsec_", b"bearer", b"basic", b"@", b"\\u"),
    *(b"secret", b"passw", b"apikey", b"api_key", b"cvv", b"cvc", b"cardnumber", b"card_number", b"signature", b"dsn"),
    b'"authorization"',
)
"""What a line with a secret has at least one of, in lower case."""
_SEPARATORS: Final = b" \t\r\n-._/\\,:;|*+()[]"
_THIRTEEN_DIGITS: Final = re.compile(rb"[0-9]{13}")
_CHATTY: Final = ("httpx", "httpcore", "urllib3", "asyncio")
REDACTED: Final = "[redacted]"


def configure(stage: str, level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Send this process's logs, its libraries' too, to `stream` (standard error) as JSON lines that name `stage`."""
    shared = _processors(stage)
    structlog.configure(
        processors=[*shared, _render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(file=stream or sys.stderr),
        cache_logger_on_first_use=stream is None,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_stdlib_formatter(shared))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.INFO))
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("uvicorn.access").disabled = True  # it would log paths and queries as they were sent
    logging.captureWarnings(capture=True)


def redact(text: str) -> str:
    """`text` without secrets and card numbers."""
    clean = _SECRETS.sub(REDACTED, text)
    return _without_pan(clean) if contains_pan(clean) else clean


def redact_event(_logger: object, _method: str, event: EventDict) -> EventDict:
    """A structlog processor: every name and value, however deep, without secrets and card numbers."""
    return {redact(str(name)): _clean(str(name), value) for name, value in event.items()}


def _processors(stage: str) -> list[Any]:
    def name_stage(_logger: object, _method: str, event: EventDict) -> EventDict:
        event["stage"] = stage
        return event

    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        name_stage,
        structlog.processors.format_exc_info,
    ]


def _stdlib_formatter(shared: list[Any]) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder(), *shared],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _without_colors, _render],
    )


def _without_colors(_logger: object, _method: str, event: EventDict) -> EventDict:
    """uvicorn says everything twice, once with terminal colours."""
    event.pop("color_message", None)
    return event


def _render(logger: object, method: str, event: EventDict) -> str:
    line = _dumps(event)
    return (_dumps(redact_event(logger, method, event)) if _is_suspect(line) else line).decode()


def _is_suspect(line: bytes) -> bool:
    """Whether a line may hold a secret or card number: wrong one way only, and two hundred times as fast as looking."""
    lower = line.lower()
    if not lower.isascii() or any(word in lower for word in _SUSPECT_WORDS):
        return True
    return _THIRTEEN_DIGITS.search(lower.translate(None, _SEPARATORS)) is not None


def _dumps(event: EventDict) -> bytes:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS)


def _clean(name: str, value: Any) -> Any:
    if _SECRET_NAMES.fullmatch(name) and isinstance(value, str | bytes):
        return REDACTED
    match value:
        case None | bool() | float():
            return value
        case str():
            return redact(value)
        case int():
            return REDACTED if contains_pan(str(value)) else value
        case Mapping():
            return {redact(str(key)): _clean(str(key), item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_clean("", item) for item in value]
        case bytes():
            return f"[{len(value)} bytes]"
    return redact(str(value))


def _without_pan(text: str) -> str:
    """Runs of digits that hold a card number go; ids, which are UUIDs, stay. What is written in other scripts, or in
    some other way that a run does not show, goes as a whole.
    """
    pieces = (piece if _UUID.fullmatch(piece) else _DIGIT_RUN.sub(_digits, piece) for piece in _UUID.split(text))
    clean = "".join(pieces)
    return REDACTED if contains_pan(clean) else clean


def _digits(match: re.Match[str]) -> str:
    return REDACTED if contains_pan(match[0]) else match[0]
