"""What the gateway reads of payments: the projection in Postgres, and what it accepted itself a moment ago.

Every statement names the merchant; another merchant's payment is not found.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from gateway.batching import Batcher
from gateway.database import Database, Row
from gateway.keys import ApiKey, Mode, Scope
from pipeline import views
from pipeline.codec import Codec, CodecError
from pipeline.domain.projection import OperationState, PaymentStatus
from pipeline.messages.commands import Command, CreateIntent

Json = dict[str, Any]
REMEMBERED: Final = 20_000

_SETTLED_FOR_NOW: Final = frozenset(
    {PaymentStatus.REQUIRES_ACTION, PaymentStatus.RETRY_SCHEDULED, PaymentStatus.NEEDS_REVIEW}
)


@dataclass(frozen=True, slots=True)
class Target:
    """A payment, asked for by a merchant."""

    merchant_id: str
    payment_id: str


@dataclass(frozen=True, slots=True)
class Operation:
    """What became of a command. `state` is an OperationState, or `accepted` while it is on its way."""

    operation_id: str
    payment_id: str
    kind: str
    state: str
    reason: str | None
    detail: str | None
    updated_at: int

    def as_json(self) -> Json:
        """The API's operation."""
        return {
            "operation_id": self.operation_id,
            "payment_id": self.payment_id,
            "kind": self.kind,
            "state": self.state,
            "reason": self.reason,
            "detail": self.detail,
            "updated_at": views.time(self.updated_at),
            "intent": f"/api/v1/intents/{self.payment_id}",
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """A command's operation once there is something to say about it, with the payment as it then stands."""

    operation: Operation
    intent: Json

    @property
    def settled(self) -> bool:
        """Whether waiting longer may tell more. A decline is followed at once by the retry policy's word."""
        state, status = self.operation.state, self.intent["status"]
        if state == OperationState.FAILED:
            return bool(status != PaymentStatus.DECLINED)
        return state != OperationState.STARTED or status in _SETTLED_FOR_NOW


@dataclass(frozen=True, slots=True)
class Filter:
    """Which intents a list shows. Times with an offset; `after` is the last row of the page before."""

    merchant_id: str
    limit: int
    status: str | None = None
    customer_id: str | None = None
    merchant_reference: str | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    after: tuple[datetime, str] | None = None


class Payments:
    """Reads. Methods raise Problem `unavailable` when Postgres does not answer."""

    def __init__(self, database: Database, codec: Codec) -> None:
        self._database = database
        self._codec = codec
        self._currencies: OrderedDict[Target, str] = OrderedDict()
        self._views: Batcher[Target, Json | None] = Batcher(self._read_views, lanes=2)
        self._accepted: Batcher[Target, CreateIntent | None] = Batcher(self._read_accepted)
        self._keys: Batcher[str, ApiKey | None] = Batcher(self._read_keys)

    async def intent(self, target: Target) -> Json | None:
        """The API's intent, or None. One that is accepted and not yet processed is shown as accepted."""
        view = await self._views.ask(target)
        if view is not None:
            return views.intent(view)
        command = await self._accepted.ask(target)
        return views.accepted(command) if command is not None else None

    async def returning(self, payment_id: str) -> Json | None:
        """The view of a payment whoever's it is, or None: for a customer who comes back, and has no key."""
        rows = await self._database.fetch(_RETURNING, (payment_id,))
        return rows[0][0] if rows else None

    async def currency(self, target: Target) -> str | None:
        """The payment's currency, or None if the merchant has no such payment. It never changes: it is remembered."""
        known = self._currencies.get(target)
        if known is not None:
            self._currencies.move_to_end(target)
            return known
        intent = await self.intent(target)
        if intent is not None:
            self.remember(target, intent["currency"])
            return str(intent["currency"])
        return None

    def remember(self, target: Target, currency: str) -> None:
        """Note a payment that is known to be accepted."""
        self._currencies[target] = currency
        while len(self._currencies) > REMEMBERED:
            self._currencies.popitem(last=False)

    async def operation(self, target: Target, operation_id: str) -> Operation | None:
        """What became of a command or timer, or None."""
        parameters = (target.payment_id, operation_id, target.merchant_id)
        rows = await self._database.fetch(_OPERATION, parameters)
        if rows:
            return _operation(rows[0])
        rows = await self._database.fetch(_ACCEPTED_OPERATION, parameters)
        return self._accepted_operation(rows[0][0]) if rows else None

    async def outcomes(self, asked: Sequence[tuple[Target, str]]) -> dict[tuple[Target, str], Outcome]:
        """The outcomes that there are, of many operations at once."""
        columns = (
            [target.payment_id for target, _ in asked],
            [operation_id for _, operation_id in asked],
            [target.merchant_id for target, _ in asked],
        )
        rows = await self._database.fetch(_OUTCOMES, columns)
        return {
            (Target(row[8], str(row[1])), row[0]): Outcome(_operation(row[:7]), views.intent(row[7])) for row in rows
        }

    async def page(self, wanted: Filter) -> list[tuple[datetime, Json]]:
        """Intents, newest first, each with its key for the cursor; one more than `limit` if there are more."""
        rows = await self._database.fetch(
            _PAGE,
            {
                "merchant": wanted.merchant_id,
                "status": wanted.status,
                "customer": wanted.customer_id,
                "reference": wanted.merchant_reference,
                "from": wanted.created_from,
                "to": wanted.created_to,
                "after_at": wanted.after[0] if wanted.after else None,
                "after_id": wanted.after[1] if wanted.after else None,
                "limit": wanted.limit + 1,
            },
        )
        return [(row[0], views.intent(row[1])) for row in rows]

    async def key(self, key_id: str) -> ApiKey | None:
        """The API key's row."""
        return await self._keys.ask(key_id)

    async def _read_keys(self, batch: Sequence[str]) -> Sequence[ApiKey | None]:
        found = {row[0]: _key(row) for row in await self._database.fetch(_KEYS, (list(set(batch)),))}
        return [found.get(key_id) for key_id in batch]

    async def _read_views(self, batch: Sequence[Target]) -> Sequence[Json | None]:
        rows = await self._database.fetch(_VIEWS, _columns(batch))
        found = {Target(row[0], str(row[1])): row[2] for row in rows}
        return [found.get(target) for target in batch]

    async def _read_accepted(self, batch: Sequence[Target]) -> Sequence[CreateIntent | None]:
        rows = await self._database.fetch(_ACCEPTED, _columns(batch))
        found: dict[Target, CreateIntent] = {}
        for merchant, payment, command in rows:
            decoded = self._decode(command)
            if isinstance(decoded, CreateIntent):
                found[Target(merchant, str(payment))] = decoded
        return [found.get(target) for target in batch]

    def _decode(self, command: bytes) -> Command | None:
        """A stored command; None if a later version of ours wrote it and this one cannot read it."""
        try:
            decoded = self._codec.decode(bytes(command))
        except CodecError:
            return None
        return decoded if isinstance(decoded, Command) else None

    def _accepted_operation(self, stored: bytes) -> Operation | None:
        command = self._decode(stored)
        if command is None:
            return None
        kind = type(command).__name__
        return Operation(command.command_id, command.payment_id, kind, "accepted", None, None, command.occurred_at)


def _columns(batch: Sequence[Target]) -> tuple[list[str], list[str]]:
    return [target.payment_id for target in batch], [target.merchant_id for target in batch]


def _operation(row: Row) -> Operation:
    operation_id, payment_id, kind, state, reason, detail, updated_at = row
    return Operation(operation_id, str(payment_id), kind, state, reason, detail, round(updated_at.timestamp() * 1000))


def _key(row: Row) -> ApiKey:
    key_id, merchant, mode, scopes, secret, expires, revoked = row
    granted = frozenset(scope for scope in Scope if scope.value in scopes)
    return ApiKey(key_id, merchant, Mode(mode), granted, bytes(secret), _epoch(expires), _epoch(revoked))


def _epoch(at: datetime | None) -> float | None:
    return at.timestamp() if at is not None else None


_VIEWS: Final = """
SELECT merchant_id, payment_id, view
  FROM payments.payments JOIN unnest(%t::uuid[], %b::text[]) AS asked (payment_id, merchant_id)
 USING (payment_id, merchant_id)
 WHERE status <> 'none'
"""

_RETURNING: Final = "SELECT view FROM payments.payments WHERE payment_id = %s AND status <> 'none'"

_ACCEPTED: Final = """
SELECT merchant_id, payment_id, command
  FROM gateway.requests JOIN unnest(%t::uuid[], %b::text[]) AS asked (payment_id, merchant_id)
 USING (payment_id, merchant_id)
 WHERE response_status BETWEEN 200 AND 299
"""

_OPERATION: Final = """
SELECT operation_id, payment_id, kind, state, reason, detail, updated_at
  FROM payments.operations WHERE payment_id = %s AND operation_id = %s AND merchant_id = %s
"""

_ACCEPTED_OPERATION: Final = """
SELECT command FROM gateway.requests WHERE payment_id = %s AND command_id = %s AND merchant_id = %s
"""

_OUTCOMES: Final = """
SELECT o.operation_id, o.payment_id, o.kind, o.state, o.reason, o.detail, o.updated_at, p.view, o.merchant_id
  FROM unnest(%t::uuid[], %b::text[], %b::text[]) AS asked (payment_id, operation_id, merchant_id)
  JOIN payments.operations o USING (payment_id, operation_id, merchant_id)
  JOIN payments.payments p USING (payment_id, merchant_id)
 WHERE p.status <> 'none'
"""

_PAGE: Final = """
SELECT created_at, view FROM payments.payments
 WHERE merchant_id = %(merchant)s AND status <> 'none'
   AND (%(status)s::text IS NULL OR status = %(status)s)
   AND (%(customer)s::text IS NULL OR customer_id = %(customer)s)
   AND (%(reference)s::text IS NULL OR merchant_reference = %(reference)s)
   AND (%(from)s::timestamptz IS NULL OR created_at >= %(from)s)
   AND (%(to)s::timestamptz IS NULL OR created_at < %(to)s)
   AND (%(after_at)s::timestamptz IS NULL OR (created_at, payment_id) < (%(after_at)s, %(after_id)s::uuid))
 ORDER BY created_at DESC, payment_id DESC LIMIT %(limit)s
"""

_KEYS: Final = """
SELECT key_id, merchant_id, mode, scopes, secret_sha256, expires_at, revoked_at
  FROM gateway.api_keys WHERE key_id = ANY (%s)
"""

__all__ = ["Filter", "Operation", "Outcome", "Payments", "Target"]
