"""What the simulated providers really did with money. Tests compare it with our ledger: it is the other side's word."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

import msgspec


class Movement(StrEnum):
    """What happened to an amount."""

    AUTHORIZED = "authorized"
    DECLINED = "declined"
    CAPTURED = "captured"
    CAPTURE_FAILED = "capture_failed"
    """A capture that came back: the card scheme would not have it."""
    VOIDED = "voided"
    """Given back uncaptured: canceled, expired, or left over by a last capture."""
    REFUNDED = "refunded"
    REFUND_FAILED = "refund_failed"
    """A refund that came back: the money is ours again."""
    DISPUTED = "disputed"
    DISPUTE_WON = "dispute_won"


class By(StrEnum):
    """What sums may be taken by."""

    PAYMENT_ID = "payment_id"
    REFERENCE = "reference"
    IDEMPOTENCY_KEY = "idempotency_key"


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One movement; `amount` in the provider's minor units, `at` in seconds."""

    provider: str
    movement: Movement
    amount: int
    currency: str
    reference: str
    operation_reference: str | None
    payment_id: str | None
    idempotency_key: str | None
    at: int


class Query(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which entries; None is all."""

    provider: str | None = None
    payment_id: str | None = None
    reference: str | None = None
    idempotency_key: str | None = None

    def takes(self, entry: Entry) -> bool:
        """Whether the entry is asked for."""
        wanted = (self.provider, self.payment_id, self.reference, self.idempotency_key)
        found = (entry.provider, entry.payment_id, entry.reference, entry.idempotency_key)
        return all(w is None or w == f for w, f in zip(wanted, found, strict=True))


class Book:
    """An append-only list of movements and its sums."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []

    def record(self, entry: Entry) -> None:
        """Write down what happened."""
        self._entries.append(entry)

    def reset(self) -> None:
        """An empty book."""
        self._entries.clear()

    def entries(self, query: Query) -> list[Entry]:
        """The movements, oldest first."""
        return [entry for entry in self._entries if query.takes(entry)]

    def sums(self, query: Query, by: By) -> dict[str, dict[str, Any]]:
        """payment, reference or key -> {provider, currency, references, <movement>: total, <movement>_count}"""
        return _sums(self.entries(query), by)


def nothing(provider: str, currency: str) -> dict[str, Any]:
    """The sums of no movement."""
    sums: dict[str, Any] = {"provider": provider, "currency": currency, "references": []}
    for movement in Movement:
        sums[movement.value] = 0
        sums[f"{movement.value}_count"] = 0
    return sums


def _sums(entries: Iterable[Entry], by: By) -> dict[str, dict[str, Any]]:
    sums: dict[str, dict[str, Any]] = {}
    for entry in entries:
        name = getattr(entry, by)
        if name is None:
            continue
        total = sums.setdefault(name, nothing(entry.provider, entry.currency))
        total[entry.movement] += entry.amount
        total[f"{entry.movement}_count"] += 1
        if entry.reference not in total["references"]:
            total["references"].append(entry.reference)
    return sums
