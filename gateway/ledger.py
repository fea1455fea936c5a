"""What the gateway reads of the ledger: a merchant's own books.

A merchant sees the entries of its own payments, whole, and every account as far as those entries move it. So an account
that holds several merchants' money (`provider_receivable:stripe:USD`) shows a merchant its own part, no scope shows
more, and each merchant's books balance by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from gateway.database import Database, Row
from pipeline import money, topics, views
from pipeline.domain.accounts import kind_name, kind_of

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Balance:
    """An account, as far as a merchant's own entries moved it, in minor units."""

    account: str
    currency: str
    debit: int
    credit: int

    def as_json(self) -> Json:
        """The API's account."""
        kind = kind_of(self.account)
        return {
            "account_id": self.account,
            "kind": kind_name(self.account),
            "class": kind.account_class.value,
            "normal_side": kind.normal.value,
            "currency": self.currency,
            "debit": money.decimal(self.debit, self.currency),
            "credit": money.decimal(self.credit, self.currency),
            "balance": money.decimal(self.debit - self.credit, self.currency),
        }


@dataclass(frozen=True, slots=True)
class Page:
    """Which of an account's entries are shown; `after` is the last one of the page before."""

    merchant_id: str
    account: str
    limit: int
    after: tuple[datetime, str] | None = None


class Ledger:
    """Reads. Methods raise Problem `unavailable` when Postgres does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def balances(
        self, merchant_id: str, *, before: datetime | None = None, account: str | None = None
    ) -> list[Balance]:
        """The merchant's accounts, or the one named, of the entries that occurred before a time; all without one."""
        asked = {"merchant": merchant_id, "before": before, "account": account}
        return [Balance(*row) for row in await self._database.fetch(_BALANCES, asked)]

    async def has_account(self, merchant_id: str, account: str) -> bool:
        """Whether any entry of the merchant moved the account."""
        rows = await self._database.fetch(_HAS_ACCOUNT, {"merchant": merchant_id, "account": account})
        return bool(rows)

    async def page(self, wanted: Page) -> list[tuple[datetime, Json]]:
        """Entries, newest first, each with its time for the cursor; one more than `limit` if there are more."""
        rows = await self._database.fetch(
            _PAGE,
            {
                "merchant": wanted.merchant_id,
                "account": wanted.account,
                "after_at": wanted.after[0] if wanted.after else None,
                "after_id": wanted.after[1] if wanted.after else None,
                "limit": wanted.limit + 1,
            },
        )
        return [(row[3], _entry(row)) for row in rows]

    async def entry(self, merchant_id: str, entry_id: str) -> Json | None:
        """An entry of the merchant's, or None."""
        rows = await self._database.fetch(_ENTRY, {"merchant": merchant_id, "entry": entry_id})
        return _entry(rows[0]) if rows else None


def _entry(row: Row) -> Json:
    entry_id, payment_id, fact_id, at, description, partition, offset, reverses, reversed_by, reason, legs = row
    return {
        "entry_id": str(entry_id),
        "payment_id": str(payment_id),
        "fact_id": str(fact_id),
        "occurred_at": views.time(round(at.timestamp() * 1000)),
        "description": description,
        "postings": [
            {"account_id": account, "side": side, "amount": money.decimal(amount, currency), "currency": currency}
            for account, side, amount, currency in legs
        ],
        "reverses": str(reverses) if reverses else None,
        "reversed_by": str(reversed_by) if reversed_by else None,
        "reason": reason,
        "record": {"topic": topics.JOURNAL, "partition": partition, "offset": offset},
    }


_BALANCES: Final = """
SELECT p.account, p.currency, coalesce(sum(p.amount) FILTER (WHERE p.side = 'debit'), 0)::bigint,
       coalesce(sum(p.amount) FILTER (WHERE p.side = 'credit'), 0)::bigint
  FROM ledger.entries AS e JOIN ledger.postings AS p USING (entry_id)
 WHERE e.merchant_id = %(merchant)s
   AND (%(before)s::timestamptz IS NULL OR e.occurred_at < %(before)s)
   AND (%(account)s::text IS NULL OR p.account = %(account)s)
 GROUP BY p.account, p.currency ORDER BY p.currency, p.account
"""

_HAS_ACCOUNT: Final = """
SELECT 1 FROM ledger.postings AS p JOIN ledger.entries AS e USING (entry_id)
 WHERE p.account = %(account)s AND e.merchant_id = %(merchant)s LIMIT 1
"""

_SELECT: Final = """
SELECT e.entry_id, e.payment_id, e.fact_id, e.occurred_at, e.description, e.journal_partition, e.journal_offset,
       e.reverses, (SELECT r.entry_id FROM ledger.entries AS r WHERE r.reverses = e.entry_id), e.reason,
       (SELECT json_agg(json_build_array(p.account, p.side, p.amount, p.currency) ORDER BY p.leg)
          FROM ledger.postings AS p WHERE p.entry_id = e.entry_id)
  FROM ledger.entries AS e
"""

_ENTRY: Final = f"{_SELECT} WHERE e.entry_id = %(entry)s::uuid AND e.merchant_id = %(merchant)s"

_PAGE: Final = f"""{_SELECT}
 WHERE e.merchant_id = %(merchant)s
   AND EXISTS (SELECT FROM ledger.postings AS p WHERE p.entry_id = e.entry_id AND p.account = %(account)s)
   AND (%(after_at)s::timestamptz IS NULL OR (e.occurred_at, e.entry_id) < (%(after_at)s, %(after_id)s::uuid))
 ORDER BY e.occurred_at DESC, e.entry_id DESC LIMIT %(limit)s
"""
