"""How changes are kept: objects, events, balance transactions, and the book."""

from __future__ import annotations

from typing import Any, Final, TypeVar

from msgspec.structs import replace

from connectors.simulator.book import Entry, Movement
from connectors.simulator.parts import Parts
from connectors.simulator.stripe import money
from connectors.simulator.stripe.objects import (
    BalanceTransaction,
    Charge,
    Event,
    Intent,
    Payout,
    StripeObject,
    TransactionType,
)
from connectors.simulator.stripe.store import Store

PROVIDER: Final = "stripe"
PAYMENT: Final = "payment_id"
"""The metadata that names our payment."""
_AVAILABLE_AFTER: Final = 2 * 24 * 3600

Thing = TypeVar("Thing", bound=StripeObject)


class Call:
    """What causes changes: an API request, or nobody's (a customer's authentication, time). Collects its events."""

    __slots__ = ("api_version", "base_url", "events", "key", "now", "request")

    def __init__(
        self, now: int, request: str | None = None, key: str | None = None, *, base_url: str = "", api_version: str = ""
    ) -> None:
        self.now = now
        self.request = request
        self.key = key
        self.base_url = base_url
        self.api_version = api_version
        self.events: list[Event] = []


class Records:
    """Where every change goes."""

    def __init__(self, store: Store, parts: Parts) -> None:
        self._store = store
        self._book = parts.book
        self.ids = parts.ids
        self.clock = parts.clock

    def put(self, thing: Thing) -> Thing:
        """Keep an object as it is now."""
        self._store.put(thing)
        return thing

    def emit(self, call: Call, kind: str, thing: StripeObject, previous: dict[str, Any] | None = None) -> None:
        """Something happened to an object."""
        event = Event(
            id=self.ids.new("evt"),
            type=kind,
            created=call.now,
            object=thing,
            previous=previous,
            request=call.request,
            idempotency_key=call.key,
        )
        call.events.append(event)

    def enter(self, movement: Movement, intent: Intent, amount: int, operation: str | None, call: Call) -> None:
        """Money moved, or was promised or refused: into the book."""
        self._book.record(
            Entry(
                provider=PROVIDER,
                movement=movement,
                amount=amount,
                currency=intent.currency,
                reference=intent.id,
                operation_reference=operation,
                payment_id=intent.metadata.get(PAYMENT),
                idempotency_key=call.key,
                at=call.now,
            )
        )

    def transact(
        self, kind: TransactionType, source: StripeObject | Payout, amount: int, call: Call, *, fee: int = 0
    ) -> BalanceTransaction:
        """The account\'s balance changed."""
        return self.put(
            BalanceTransaction(
                id=self.ids.new("txn"),
                created=call.now,
                amount=amount,
                fee=fee,
                currency=source.currency,
                type=kind,
                source=source.id,
                available_on=call.now + _AVAILABLE_AFTER,
            )
        )

    def credit(self, charge: Charge, amount: int, call: Call) -> Charge:
        """A captured amount is on the balance, less the fee. The charge names the first transaction."""
        if amount == 0:
            return self.put(charge)
        transaction = self.transact(TransactionType.CHARGE, charge, amount, call, fee=money.fee(amount))
        first = charge.balance_transaction is None
        credited = self.put(replace(charge, balance_transaction=charge.balance_transaction or transaction.id))
        self.emit(call, "charge.updated", credited, {"balance_transaction": None} if first else {})
        return credited
