"""Records of the journal into the tables, a batch a transaction: what the sink and a rebuild of the books share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import psycopg
from confluent_kafka import Message

from connectors.postgres import statements
from connectors.postgres.folding import Folding, read
from connectors.postgres.rows import Arrival, Books
from connectors.postgres.settled import Settled
from pipeline.codec import Codec, CodecError
from pipeline.domain.hash_chain import Link
from pipeline.domain.projection import PaymentView

CACHED_VIEWS: Final = 4_000

UNWRITABLE: Final = (psycopg.DataError, psycopg.IntegrityError, ValueError, OverflowError)
"""What a record raises that will never fit, however often it is tried."""

Batch = Sequence[tuple[Message, Arrival | Settled | None]]
"""Records with what they carry; None for one that is passed over."""


class ViewCache:
    """The payments that were written last, as they stand; valid while nobody else writes them."""

    def __init__(self) -> None:
        self._views: OrderedDict[str, PaymentView] = OrderedDict()

    def load(self, connection: psycopg.Connection, payments: Iterable[str]) -> dict[str, PaymentView | None]:
        """The views of these payments, None for one that is new."""
        found: dict[str, PaymentView | None] = {payment: self._views.get(payment) for payment in payments}
        missing = [payment for payment, view in found.items() if view is None]
        for payment, text in connection.execute(statements.LOAD_VIEWS, [missing]) if missing else ():
            found[str(payment)] = msgspec.json.decode(text, type=PaymentView)
        return found

    def keep(self, views: Iterable[PaymentView]) -> None:
        """Remember views once they are committed."""
        for view in views:
            self._views[view.payment_id] = view
            self._views.move_to_end(view.payment_id)
        while len(self._views) > CACHED_VIEWS:
            self._views.popitem(last=False)

    def forget(self) -> None:
        """Somebody else may have written."""
        self._views.clear()


@dataclass(slots=True)
class Writer:
    """Writes batches. `begin` is told, in the transaction, which offset follows in each partition of the batch; `done`
    after it what was written; `refuse` of a record that cannot be used, with a reason and words that quote nothing.
    Public events go out only if it `announces`.
    """

    connection: psycopg.Connection
    codec: Codec
    begin: Callable[[dict[int, int]], None]
    done: Callable[[Batch, Books], None]
    refuse: Callable[[Message, str, str], None]
    announces: bool = True
    views: ViewCache = field(default_factory=ViewCache)
    heads: dict[int, Link] = field(default_factory=dict)

    def write(self, messages: Iterable[Message]) -> None:
        """The records' rows: one transaction, or a few if one of them does not fit."""
        self._write([(message, self._arrival(message)) for message in messages])

    def forget(self) -> None:
        """What was kept of tables that somebody else may have written to."""
        self.views.forget()
        self.heads.clear()

    def _arrival(self, message: Message) -> Arrival | Settled | None:
        try:
            return read(self.codec, message.value(), message.partition(), message.offset())
        except CodecError as error:
            self.refuse(message, "undecodable", str(error))
            return None

    def _write(self, batch: Batch) -> None:
        try:
            books = self._transact(batch)
        except UNWRITABLE as error:
            self.views.forget()
            self._isolate(batch, error)
            return
        self.done(batch, books)

    def _transact(self, batch: Batch) -> Books:
        """Everything of a batch or nothing of it."""
        with self.connection.transaction():
            self.begin({message.partition(): message.offset() + 1 for message, _ in batch})
            folding = Folding(self.connection, self.codec, Books(dict(self.heads)))
            payments = folding.take(arrival for _, arrival in batch if arrival)
            books = folding.fold(self.views.load(self.connection, payments))
            books.write(self.connection, self.codec, announces=self.announces)
            self.connection.execute(statements.CHECK_NOW)
        self.views.keep(books.views.values())
        self.heads = books.heads
        return books

    def _isolate(self, batch: Batch, error: Exception) -> None:
        """Find the record that does not fit by halving, and refuse it alone: its payment stands still and is parked,
        every other one goes on.
        """
        if len(batch) == 1:
            message, _ = batch[0]
            self.refuse(message, "unwritable", _words(error))
            self._write([(message, None)])
            return
        middle = len(batch) // 2
        self._write(batch[:middle])
        self._write(batch[middle:])


def _words(error: Exception) -> str:
    """What is wrong with a record, without quoting it: only a broken constraint's words name no value."""
    if isinstance(error, psycopg.IntegrityError) and error.diag.message_primary:
        return error.diag.message_primary
    return type(error).__name__
