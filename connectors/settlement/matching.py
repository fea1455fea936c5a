"""Which of our payments a line is about, as far as the books know by now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

import psycopg
from msgspec.structs import replace

from pipeline.domain.fees import FeeSchedule
from pipeline.messages.settlement import SettlementLine

AT_ONCE: Final = 2_000
"""Lines that are looked up together."""
_KNOWN: Final = "SELECT payment_id::text FROM payments.payments WHERE payment_id = ANY (%s::uuid[])"
_NAMED: Final = """
SELECT reference, payment_id::text FROM payments.provider_references WHERE provider = %s AND reference = ANY (%s)
"""


class Matcher:
    """Looks lines up as the reader role. What a report claims counts only if we have such a payment; what it does not
    claim is found by the provider's references.
    """

    def __init__(self, connection: psycopg.Connection, fees: FeeSchedule) -> None:
        self._connection = connection
        self._fees = fees

    def matched(self, lines: Iterable[SettlementLine]) -> Iterator[SettlementLine]:
        """The lines with the payment that they are about, if there is one, and the fee that the contract says."""
        rest = iter(lines)
        while some := list(islice(rest, AT_ONCE)):
            known = self._known({line.payment_id for line in some if line.payment_id})
            named = self._named(some[0].provider, [line for line in some if line.payment_id not in known])
            for line in some:
                payment = line.payment_id if line.payment_id in known else _first(named, line)
                yield replace(line, payment_id=payment, expected_fee=self._fees.expected(line))

    def _known(self, payments: Iterable[str]) -> set[str]:
        claimed = list(payments)
        return {row[0] for row in self._connection.execute(_KNOWN, [claimed])} if claimed else set()

    def _named(self, provider: str, lines: Sequence[SettlementLine]) -> dict[str, str]:
        names = list({name for line in lines for name in _names(line)})
        return dict(self._connection.execute(_NAMED, (provider, names)).fetchall()) if names else {}


def _names(line: SettlementLine) -> Iterator[str]:
    """The more exact name first."""
    yield from (name for name in (line.operation_reference, line.payment_reference) if name)


def _first(named: dict[str, str], line: SettlementLine) -> str | None:
    found: Callable[[str], str | None] = named.get
    return next((payment for name in _names(line) if (payment := found(name))), None)
