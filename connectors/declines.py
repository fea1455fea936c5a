"""What a provider's decline code means: its category for another attempt, our code, and words for the customer.

The meaning is data, one TOML file a provider and one for the card networks (`connectors/networks.toml`), checked when
it is loaded:

    [messages]   text: name -> words that may be shown to a customer
    [codes]      decline code -> { category, code, message }
    [advice]     the provider's own advice -> category
    [network]    response code of the card network that forbids another attempt -> category, over the networks' own
    [mac]        Mastercard merchant advice code -> category, over the networks' own

Three rules. **An unknown code means what the network's response code says**, if there is one that is known. **Else it
is `soft`, canonical code `unknown`**: a provider adds codes without notice, the retry policy bounds what a wrong guess
costs, and a payment that was declined for good by mistake is lost for good. Either way it is counted, and `payments
declines unknown` lists it, so that operators can add it. **Advice only ever hardens**: an advice or network code may
forbid or redirect another attempt that the decline code would allow, never allow one that it forbids.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import structlog
from prometheus_client import Counter

from pipeline.messages.values import Decline, DeclineCategory

log = structlog.get_logger()

NETWORKS: Final = Path(__file__).with_name("networks.toml")
UNKNOWN: Final = "unknown"
Table = TypeVar("Table", bound=msgspec.Struct)
UNKNOWN_CODES: Final = Counter(
    "payments_decline_codes_unknown_total", "Decline codes that the provider's table does not know", ["provider"]
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


class _Networks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`connectors/networks.toml`."""

    messages: dict[str, str]
    codes: dict[str, Entry]
    mac: dict[str, DeclineCategory]


class Declines:
    """A provider's decline table."""

    def __init__(self, provider: str, file: _File, networks: _Networks) -> None:
        self._provider = provider
        self._file = file
        self._networks = networks
        self._by_network = {code: entry.category for code, entry in networks.codes.items()} | file.network
        self._by_advice = networks.mac | file.mac

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
        known = self._file.codes.get(raw_code)
        entry, texts = (known, self._file.messages) if known else self._unknown(raw_code, network_code, otherwise)
        hints = (
            self._file.advice.get(advice or ""),
            self._by_network.get(network_code or ""),
            self._by_advice.get(network_advice_code or ""),
        )
        return Decline(
            category=_hardest(entry.category, *hints),
            code=entry.code,
            raw_code=raw_code,
            network_code=network_code,
            network_advice_code=network_advice_code,
            message=texts[entry.message],
        )

    def knows(self, raw_code: str) -> bool:
        """Whether the table has a meaning for the provider's code."""
        return raw_code in self._file.codes

    def _unknown(self, raw_code: str, network_code: str | None, otherwise: str | None) -> tuple[Entry, dict[str, str]]:
        UNKNOWN_CODES.labels(self._provider).inc()
        log.warning("a decline code that no table knows", provider=self._provider, raw_code=raw_code)
        if otherwise is not None:
            return self._file.codes[otherwise], self._file.messages
        if said := self._networks.codes.get(network_code or ""):
            return said, self._networks.messages
        return _UNKNOWN, self._file.messages


def load(provider: str, path: Path, networks: Path = NETWORKS) -> Declines:
    """The table in `path`, over the card networks'. Raises DeclineTableError when one is wrong."""
    file, common = _read(path, _File), _read(networks, _Networks)
    _check_texts(path, file.codes, file.messages, {UNKNOWN})
    _check_texts(networks, common.codes, common.messages, set())
    return Declines(provider, file, common)


def _read(path: Path, kind: type[Table]) -> Table:
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), kind)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise DeclineTableError(f"{path.name}: {error}") from error


def _check_texts(path: Path, codes: Mapping[str, Entry], messages: Mapping[str, str], others: set[str]) -> None:
    missing = ({entry.message for entry in codes.values()} | others) - set(messages)
    if missing:
        raise DeclineTableError(f"{path.name}: no text called {', '.join(sorted(missing))} in [messages]")


def _hardest(category: DeclineCategory, *hints: DeclineCategory | None) -> DeclineCategory:
    return max((category, *(hint for hint in hints if hint)), key=_STRICTNESS.__getitem__)
