"""What the books and the provider's reports say of a period, side by side. Read from Postgres as the reader role."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import psycopg

from pipeline.messages.settlement import SettlementLine

_SCOPE: Final = """
  FROM settlement.comparisons
 WHERE provider = %(provider)s
   AND (reported_at BETWEEN %(first)s AND %(last)s OR first_reported_at BETWEEN %(first)s AND %(last)s
        OR (verdict = 'missing_there' AND booked_at <= %(until)s AND booked_at >= %(since)s))
"""
_SUMS: Final = f"""
SELECT verdict, currency, count(*), sum(lines)::bigint, sum(booked)::bigint, sum(reported)::bigint, sum(fee)::bigint
{_SCOPE} GROUP BY verdict, currency ORDER BY currency, verdict
"""
_DIFFERENCES: Final = f"""
SELECT verdict, kind, payment_id::text, reference, currency, booked, reported, fee, expected_fee,
       coalesce(booked_at, reported_at)
{_SCOPE} AND verdict <> 'matched' ORDER BY verdict, coalesce(booked_at, reported_at), payment_id, reference
"""
_PAYOUTS: Final = """
SELECT payout_id, currency, lines, earned, paid_out, arrived, failed FROM settlement.payouts
 WHERE provider = %(provider)s AND last_at >= %(first)s AND first_at <= %(last)s ORDER BY first_at, payout_id
"""
_KNOWN: Final = """
SELECT count(*), count(*) FILTER (WHERE (l.kind, l.gross, l.fee, l.currency, l.payment_amount)
                                        IS DISTINCT FROM (v.kind, v.gross, v.fee, v.currency, v.payment_amount))
  FROM unnest(%s::uuid[], %s::text[], %s::bigint[], %s::bigint[], %s::text[], %s::bigint[])
    AS v (line_id, kind, gross, fee, currency, payment_amount)
  JOIN settlement.lines AS l USING (line_id)
"""
_ABSENT: Final = """
SELECT count(*) FROM unnest(%s::uuid[]) AS wanted (line_id)
 WHERE NOT EXISTS (SELECT FROM settlement.lines AS l WHERE l.line_id = wanted.line_id)
"""


class Verdict(StrEnum):
    """What a comparison comes to."""

    MATCHED = "matched"
    MISSING_HERE = "missing_here"
    """The provider reports what no payment of ours explains."""
    MISSING_THERE = "missing_there"
    """We booked what the provider's reports do not have."""
    DIFFERENT_AMOUNT = "different_amount"
    DIFFERENT_FEE = "different_fee"


@dataclass(frozen=True, slots=True)
class Scope:
    """A period of a provider's reports, in milliseconds. What was booked between `since` and `until` must be there."""

    provider: str
    first_at: int
    last_at: int
    until: int
    since: int = 0

    @property
    def parameters(self) -> dict[str, Any]:
        """As the queries take them."""
        times = {"first": self.first_at, "last": self.last_at, "until": self.until, "since": self.since}
        return {"provider": self.provider, **{name: _time(millis) for name, millis in times.items()}}


@dataclass(frozen=True, slots=True)
class Sum:
    """The comparisons with one verdict in one currency; amounts in minor units."""

    verdict: Verdict
    currency: str
    count: int
    lines: int
    booked: int
    reported: int
    fee: int


@dataclass(frozen=True, slots=True)
class Difference:
    """One comparison that does not match; amounts in minor units. `reference` is the provider's name of it."""

    verdict: Verdict
    kind: str
    payment_id: str | None
    reference: str | None
    currency: str
    booked: int
    reported: int
    fee: int
    expected_fee: int | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Payout:
    """A payout beside what its lines earned; amounts in minor units."""

    payout_id: str
    currency: str
    lines: int
    earned: int
    paid_out: int
    arrived: int
    failed: int

    @property
    def clears(self) -> bool | None:
        """Whether the provider paid out what its own lines add up to; None while one of the two is not reported."""
        if not self.lines or not self.paid_out:
            return None
        return self.earned == self.paid_out


@dataclass(frozen=True, slots=True)
class Result:
    """What the comparison comes to."""

    sums: list[Sum]
    payouts: list[Payout]

    @property
    def agrees(self) -> bool:
        """Whether nothing differs."""
        differs = any(one.verdict is not Verdict.MATCHED for one in self.sums)
        return not differs and all(payout.clears is not False for payout in self.payouts)


def compare(connection: psycopg.Connection, scope: Scope) -> Result:
    """The sums by verdict, and the payouts; not the differences."""
    sums = connection.execute(_SUMS, scope.parameters).fetchall()
    payouts = connection.execute(_PAYOUTS, scope.parameters).fetchall()
    return Result([Sum(Verdict(row[0]), *row[1:]) for row in sums], [Payout(*row) for row in payouts])


def differences(connection: psycopg.Connection, scope: Scope) -> Generator[Difference, None, None]:
    """Everything that does not match, in flat memory. Close it before the connection is used again."""
    with connection.transaction(), connection.cursor("differences") as cursor:
        cursor.itersize = 2_000
        for row in cursor.execute(_DIFFERENCES, scope.parameters):
            yield Difference(Verdict(row[0]), *row[1:])


def known(connection: psycopg.Connection, lines: Sequence[SettlementLine]) -> tuple[int, int]:
    """How many of the lines are in the books, and how many of those with other figures."""
    rows = [(one.line_id, one.kind.value, one.gross, one.fee, one.currency, one.payment_amount) for one in lines]
    row = connection.execute(_KNOWN, [list(column) for column in zip(*rows, strict=True)]).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def absent(connection: psycopg.Connection, line_ids: list[str]) -> int:
    """How many of the lines are not in the books."""
    row = connection.execute(_ABSENT, [line_ids]).fetchone()
    assert row is not None
    return int(row[0])


def _time(millis: int) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC)
