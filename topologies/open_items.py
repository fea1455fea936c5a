"""What is open on the clearing accounts, in a SQLite file: on disk, so that a million open payments cost no memory, and
in order of age, so that the oldest are found at once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

from pipeline.domain.clearing import Movement, Standing
from pipeline.messages.clearing import AlertState, LedgerAlert, OpenEntry

REMEMBER: Final = 35 * 24 * 60 * 60 * 1000
"""Milliseconds for which an entry is known again. Repeats come within minutes, or as a replay from the beginning, which
begins without a file.
"""
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS offsets (partition INTEGER PRIMARY KEY, next_offset INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS accounts (
    account TEXT PRIMARY KEY, currency TEXT NOT NULL, balance INTEGER NOT NULL, open_items INTEGER NOT NULL,
    changed INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS items (
    account TEXT NOT NULL, item TEXT NOT NULL, amount INTEGER NOT NULL, since INTEGER NOT NULL,
    PRIMARY KEY (account, item)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS items_by_age ON items (account, since);
CREATE TABLE IF NOT EXISTS entries (
    account TEXT NOT NULL, item TEXT NOT NULL, entry_id BLOB NOT NULL, amount INTEGER NOT NULL, at INTEGER NOT NULL,
    description TEXT NOT NULL, PRIMARY KEY (account, item, entry_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seen (
    entry_id BLOB NOT NULL, account TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (entry_id, account)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS seen_by_age ON seen (at);
CREATE TABLE IF NOT EXISTS alerts (account TEXT PRIMARY KEY, alert BLOB NOT NULL, sent INTEGER NOT NULL) WITHOUT ROWID;
"""


class OpenItems:
    """The file. Not for use by several threads or processes at once."""

    def __init__(self, path: Path | None) -> None:
        """`path` None keeps it in memory."""
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path or ":memory:", isolation_level=None)
        self._db.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;" + _SCHEMA)
        self._pruned_at = 0

    def close(self) -> None:
        """Release the file."""
        self._db.close()

    def offsets(self) -> dict[int, int]:
        """Where it stands in each partition."""
        return dict(self._db.execute("SELECT partition, next_offset FROM offsets"))

    def apply(self, movements: Iterable[Movement], offsets: Mapping[int, int], now: int) -> None:
        """Everything of a batch or nothing of it. An entry that was seen before does nothing."""
        with self._db:
            self._db.execute("BEGIN")
            for movement in movements:
                self._move(movement, now)
            self._db.executemany("INSERT OR REPLACE INTO offsets VALUES (?, ?)", offsets.items())
            self._prune(now)

    def accounts(self) -> list[str]:
        """Every account that something was posted to."""
        return [row[0] for row in self._db.execute("SELECT account FROM accounts")]

    def changed(self) -> list[str]:
        """The accounts whose balances were not sent as they are now."""
        return [row[0] for row in self._db.execute("SELECT account FROM accounts WHERE changed")]

    def standing(self, account: str, before: int) -> Standing | None:
        """The account, with what is open since `before` or longer; None for one that nothing was posted to."""
        query = "SELECT currency, balance, open_items FROM accounts WHERE account = ?"
        row = self._db.execute(query, [account]).fetchone()
        if row is None:
            return None
        currency, balance, items = row
        query = "SELECT coalesce(sum(abs(amount)), 0), count(*) FROM items WHERE account = ? AND since <= ?"
        overdue, count = self._db.execute(query, [account, before]).fetchone()
        (oldest,) = self._db.execute("SELECT min(since) FROM items WHERE account = ?", [account]).fetchone()
        return Standing(account, currency, balance, items, oldest, overdue, count)

    def oldest(self, account: str, before: int, limit: int) -> list[OpenEntry]:
        """What the items that are open since `before` or longer are made of, the oldest first."""
        query = """
            SELECT e.entry_id, e.item, e.description, e.amount, e.at
              FROM items AS i JOIN entries AS e USING (account, item)
             WHERE i.account = ? AND i.since <= ? ORDER BY i.since, i.item, e.at, e.entry_id LIMIT ?"""
        return [
            OpenEntry(entry_id=str(UUID(bytes=entry)), item=item, description=text, amount=amount, occurred_at=at)
            for entry, item, text, amount, at in self._db.execute(query, [account, before, limit])
        ]

    def alert(self, account: str) -> LedgerAlert | None:
        """The alert that stands."""
        row = self._db.execute("SELECT alert FROM alerts WHERE account = ?", [account]).fetchone()
        alert = msgspec.json.decode(row[0], type=LedgerAlert) if row else None
        return alert if alert is not None and alert.state is AlertState.RAISED else None

    def keep_alert(self, alert: LedgerAlert) -> None:
        """To be sent."""
        row = (alert.account, msgspec.json.encode(alert), 0)
        self._db.execute("INSERT OR REPLACE INTO alerts VALUES (?, ?, ?)", row)

    def unsent(self) -> list[LedgerAlert]:
        """The alerts that were kept and not sent."""
        rows = self._db.execute("SELECT alert FROM alerts WHERE NOT sent")
        return [msgspec.json.decode(row[0], type=LedgerAlert) for row in rows]

    def sent(self, accounts: Iterable[str], alerts: Iterable[LedgerAlert]) -> None:
        """These balances and alerts are out; an alert that ended is done with."""
        with self._db:
            self._db.execute("BEGIN")
            self._db.executemany("UPDATE accounts SET changed = 0 WHERE account = ?", [(one,) for one in accounts])
            for alert in alerts:
                self._db.execute("UPDATE alerts SET sent = 1 WHERE account = ?", [alert.account])
                if alert.state is AlertState.ENDED:
                    self._db.execute("DELETE FROM alerts WHERE account = ?", [alert.account])

    def _move(self, move: Movement, now: int) -> None:
        entry = UUID(move.entry_id).bytes
        seen = self._db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", [entry, move.account, now])
        if seen.rowcount == 0:
            return
        place = [move.account, move.item]
        row = self._db.execute("SELECT amount FROM items WHERE account = ? AND item = ?", place).fetchone()
        amount = (row[0] if row else 0) + move.amount
        if amount == 0:
            self._db.execute("DELETE FROM items WHERE account = ? AND item = ?", place)
            self._db.execute("DELETE FROM entries WHERE account = ? AND item = ?", place)
        else:
            if row is None:
                self._db.execute("INSERT INTO items VALUES (?, ?, ?, ?)", [*place, amount, move.occurred_at])
            else:
                self._db.execute("UPDATE items SET amount = ? WHERE account = ? AND item = ?", [amount, *place])
            kept = [*place, entry, move.amount, move.occurred_at, move.description]
            self._db.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)", kept)
        opened = (amount != 0) - (row is not None)
        self._db.execute(
            "INSERT INTO accounts VALUES (?, ?, ?, ?, 1) ON CONFLICT (account) DO UPDATE SET "
            "balance = balance + excluded.balance, open_items = open_items + excluded.open_items, changed = 1",
            [move.account, move.currency, move.amount, opened],
        )

    def _prune(self, now: int) -> None:
        """Once an hour, forget the entries that nobody repeats any more."""
        if now - self._pruned_at > 3_600_000:
            self._pruned_at = now
            self._db.execute("DELETE FROM seen WHERE at < ?", [now - REMEMBER])
