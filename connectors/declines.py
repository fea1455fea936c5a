"""What a provider's decline code means: its category for another attempt, our code, and words for the customer.

The meaning is data, one TOML file a provider, checked when it is loaded:

    [messages]   text: name -> words that may be shown to a customer
    [codes]      decline code -> { category, code, message }
    [advice]     the provider's own advice -> category
    [network]    response code of the card network that forbids another attempt -> category
    [mac]        Mastercard merchant advice code -> category

Two rules. **An unknown code is `soft`, canonical code `unknown`**: a provider adds codes without notice, the retry
policy bounds what a wrong guess costs, and a payment that was declined for good by mistake is lost for good. It is
counted, so that operators can add it. **Advice only ever hardens**: an advice or network code may forbid or redirect
another attempt that the decline code would allow, never allow one that it forbids.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Final

import msgspec
import structlog
from prometheus_client import Counter

from pipeline.messages.values import Decline, DeclineCategory

log = structlog.get_logger()

UNKNOWN: Final = "unknown"
UNKNOWN_CODES: Final = Counter(
    "payments_decline_codes_unknown_total", "Decline codes that no table knows, taken as soft", ["provider"]
)

_STRICTNESS: Final = {
    DeclineCategory.TEMPORARY: 0,
    DeclineCategory.SOFT: 1,
    DeclineCategory.NEEDS_CUSTOMER: 2,
    DeclineCategory.HARD: 3,
    DeclineCategory.FRAUD: 4,
}


class DeclineTableError(ValueError):
    """A decline table that cannot be used; the message names the entry."""


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One decline code's meaning; `message` names a text of `[messages]`."""

    category: DeclineCategory
    code: str
    message: str


_UNKNOWN: Final = Entry(DeclineCategory.SOFT, UNKNOWN, UNKNOWN)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    messages: dict[str, str]
    codes: dict[str, Entry]
    advice: dict[str, DeclineCategory] = {}
    network: dict[str, DeclineCategory] = {}
    mac: dict[str, DeclineCategory] = {}


class Declines:
    """A provider's decline table."""

    def __init__(self, provider: str, file: _File) -> None:
        self._provider = provider
        self._file = file

    @property
    def codes(self) -> frozenset[str]:
        """Every decline code that the table knows."""
        return frozenset(self._file.codes)

    def decline(
        self,
        raw_code: str,
        *,
        advice: str | None = None,
        network_code: str | None = None,
        network_advice_code: str | None = None,
        otherwise: str | None = None,
    ) -> Decline:
        """What `raw_code` means, hardened by the advice that came with it; what `otherwise` means if it is unknown."""
        entry = self._file.codes.get(raw_code) or self._unknown(raw_code, otherwise)
        hints = (
            self._file.advice.get(advice or ""),
            self._file.network.get(network_code or ""),
            self._file.mac.get(network_advice_code or ""),
        )
        return Decline(
            category=_hardest(entry.category, *hints),
            code=entry.code,
            raw_code=raw_code,
            network_code=network_code,
            network_advice_code=network_advice_code,
            message=self._file.messages[entry.message],
        )

    def _unknown(self, raw_code: str, otherwise: str | None) -> Entry:
        if otherwise is not None:
            return self._file.codes[otherwise]
        UNKNOWN_CODES.labels(self._provider).inc()
        log.warning("a decline code that no table knows", provider=self._provider, raw_code=raw_code)
        return _UNKNOWN


def load(provider: str, path: Path) -> Declines:
    """The table in `path`. Raises DeclineTableError when it is not one."""
    try:
        file = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _File)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise DeclineTableError(f"{path.name}: {error}") from error
    missing = {entry.message for entry in file.codes.values()} | {UNKNOWN}
    missing -= set(file.messages)
    if missing:
        raise DeclineTableError(f"{path.name}: no text called {', '.join(sorted(missing))} in [messages]")
    return Declines(provider, file)


def _hardest(category: DeclineCategory, *hints: DeclineCategory | None) -> DeclineCategory:
    return max((category, *(hint for hint in hints if hint)), key=_STRICTNESS.__getitem__)
