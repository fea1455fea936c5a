"""An operator's reversal of a journal entry: looked up in the books, sent to `payments.intake`, awaited."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic, sleep
from typing import Final
from uuid import UUID

import psycopg
from confluent_kafka import KafkaError, Message, Producer

from pipeline import clock, ids, topics
from pipeline.codec import Codec, Registry
from pipeline.domain.projection import OperationState
from pipeline.domain.reversals import problems
from pipeline.headers import headers_of
from pipeline.kafka import producer_config
from pipeline.messages.inputs import ReverseEntry
from pipeline.messages.journal import Posting, Side
from pipeline.settings import Settings

WRITER: Final = "operators"
POLL: Final = 0.1

_ENTRY: Final = """
SELECT e.payment_id::text, e.fact_id::text, f.sequence, e.reverses::text, r.entry_id::text, r.reason, r.operator
  FROM ledger.entries AS e JOIN payments.facts AS f USING (fact_id)
  LEFT JOIN ledger.entries AS r ON r.reverses = e.entry_id
 WHERE e.entry_id = %s::uuid
"""
_LEGS: Final = "SELECT account, side, amount, currency FROM ledger.postings WHERE entry_id = %s::uuid ORDER BY leg"
_OUTCOME: Final = "SELECT state, detail FROM payments.operations WHERE payment_id = %s::uuid AND operation_id = %s"
_REVERSAL: Final = "SELECT entry_id::text FROM ledger.entries WHERE reverses = %s::uuid"


class NotReversedError(RuntimeError):
    """The entry was not reversed, or not that anybody here knows; the message says why."""


@dataclass(frozen=True, slots=True)
class Reversed:
    """An entry and the one that reverses it; `before`: it was there already, asked for in the same words."""

    entry_id: str
    by: str
    before: bool = False


@dataclass(slots=True)
class Corrections:
    """Sends reversals as a trusted writer."""

    settings: Settings
    codec: Codec
    producer: Producer
    connection: psycopg.Connection

    def reverse(self, entry_id: str, reason: str, operator: str, wait: float) -> Reversed:
        """Post the opposite of an entry, and wait for it so many seconds. The same words again change nothing. Raises
        NotReversedError.
        """
        command = self.command(entry_id, reason, operator)
        if isinstance(command, Reversed):
            return command
        self.send(command)
        return self._await(command, wait)

    def command(self, entry_id: str, reason: str, operator: str) -> ReverseEntry | Reversed:
        """The command that reverses an entry, or what it has brought about already. Raises NotReversedError."""
        row = self.connection.execute(_ENTRY, [entry_id]).fetchone() if _is_uuid(entry_id) else None
        if row is None:
            raise NotReversedError(f"there is no entry {entry_id}")
        payment, fact, sequence, reverses, by, known_reason, known_operator = row
        if reverses is not None:
            raise NotReversedError(f"{entry_id} is itself the reversal of {reverses}: post what is right instead")
        if by is not None and (known_reason, known_operator) == (reason, operator):
            return Reversed(entry_id, by, before=True)
        if by is not None:
            raise NotReversedError(f"{entry_id} is reversed already, by {by}: {known_reason} ({known_operator})")
        command = ReverseEntry(
            payment_id=payment,
            occurred_at=clock.now(),
            command_id=ids.reversal_id(entry_id, operator, reason),
            entry_id=entry_id,
            entry_fact_id=fact,
            entry_sequence=sequence,
            postings=self._legs(entry_id),
            reason=reason,
            operator=operator,
        )
        if found := problems(command):
            raise NotReversedError("; ".join(found))
        return command

    def send(self, command: ReverseEntry) -> None:
        """To `payments.intake`. Raises NotReversedError when the broker does not take it."""
        failed: list[KafkaError] = []

        def delivered(error: KafkaError | None, _: Message) -> None:
            failed.extend([error] if error else [])

        self.producer.produce(
            topics.INTAKE,
            key=command.payment_id,
            value=self.codec.encode(command),
            headers=headers_of(command, WRITER),
            on_delivery=delivered,
        )
        if self.producer.flush(30) or failed:
            raise NotReversedError(f"the broker did not take it: {failed[0].str() if failed else 'it does not answer'}")

    def _await(self, command: ReverseEntry, wait: float) -> Reversed:
        deadline = monotonic() + wait
        while True:
            row = self.connection.execute(_OUTCOME, [command.payment_id, command.command_id]).fetchone()
            if row is not None and row[0] == OperationState.REJECTED:
                raise NotReversedError(f"refused: {row[1]}")
            if row is not None:
                return Reversed(command.entry_id, self._reversal(command.entry_id))
            if monotonic() > deadline:
                raise NotReversedError(
                    f"it is on {topics.INTAKE} and will be carried out, but not within {wait:.0f} s: is everything "
                    "running? The same command again tells what became of it"
                )
            sleep(POLL)

    def _reversal(self, entry_id: str) -> str:
        row = self.connection.execute(_REVERSAL, [entry_id]).fetchone()
        assert row is not None
        return str(row[0])

    def _legs(self, entry_id: str) -> list[Posting]:
        rows = self.connection.execute(_LEGS, [entry_id])
        return [Posting(account=a, side=Side(s), amount=amount, currency=c) for a, s, amount, c in rows]


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def reverse(settings: Settings, entry_id: str, reason: str, operator: str, wait: float) -> Reversed:
    """Reverse an entry. Raises NotReversedError."""
    codec = Codec(Registry(settings.registry_url)).require(ReverseEntry)
    producer = Producer(producer_config(settings, WRITER))
    with psycopg.connect(settings.reveal("postgres_reader_url"), autocommit=True) as connection:
        return Corrections(settings, codec, producer, connection).reverse(entry_id, reason, operator, wait)
