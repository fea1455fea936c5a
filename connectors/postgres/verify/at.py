"""The books as they stood, from the log alone: at a time, or at a place in each partition of the journal."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

from connectors.postgres.settled import Settled
from connectors.postgres.verify.fold import Fold
from connectors.postgres.verify.log import Log
from connectors.postgres.verify.rows import Balances
from connectors.postgres.verify.settled import SettlementFold
from connectors.postgres.verify.source import Source
from pipeline.codec import Codec
from pipeline.messages.journal import JournalEntry, Side
from pipeline.messages.settlement import SettlementEntry

_PLACE: Final = re.compile(r"(\d{1,6}):(\d{1,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a trial balance: a kind of account (`total` for all of a currency), in minor units."""

    currency: str
    accounts: str
    debit: int
    credit: int

    @property
    def balance(self) -> int:
        """Debit minus credit; zero in a `total`, or the books are wrong."""
        return self.debit - self.credit


def places(log: Log, text: str) -> dict[int, int]:
    """`text` as the offset behind the last record that counts, by partition of the journal: an ISO 8601 time (records
    that the broker took by then), or `partition:offset` pairs (a partition that is not named counts whole). Raises
    ValueError in words.
    """
    words = text.replace(",", " ").split()
    ends = log.ends(log.journal)
    if words and all(_PLACE.fullmatch(word) for word in words):
        named = {int(partition): int(offset) for partition, offset in (word.split(":") for word in words)}
        if unknown := named.keys() - ends.keys():
            raise ValueError(f"{log.journal} has no partition {min(unknown)}")
        return {partition: min(named.get(partition, end), end) for partition, end in ends.items()}
    return log.at_time(log.journal, _millis(text))


def _millis(text: str) -> int:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is neither a time (2026-01-31T12:00:00Z) nor partition:offset pairs (0:1200 1:1187)"
        ) from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def books_at(log: Log, codec: Codec, ends: Mapping[int, int], advance: Callable[[int], None]) -> Balances:
    """Every account's debits and credits, of the records before `ends`."""
    balances: Balances = defaultdict(lambda: (0, 0))
    events = log.ends(log.events)
    for partition, end in ends.items():
        fold, settle = Fold(), partial(_settle, balances, SettlementFold())
        source = Source(log, codec, partition, end, events[partition], fold.is_taken, settle)
        for posted in source.facts():
            advance(1)
            for written in fold.take(posted) if posted else ():
                _add(balances, written.entry)
    return dict(balances)


def _settle(balances: Balances, settlement: SettlementFold, settled: Settled) -> None:
    if implied := settlement.take(settled):
        _add(balances, implied.entry)


def _add(balances: Balances, entry: JournalEntry | SettlementEntry | None) -> None:
    for leg in entry.postings if entry else ():
        debit, credit = balances[leg.account, leg.currency]
        more = (leg.amount, 0) if leg.side is Side.DEBIT else (0, leg.amount)
        balances[leg.account, leg.currency] = (debit + more[0], credit + more[1])


def trial_balance(balances: Balances) -> list[Line]:
    """By currency and kind of account, each currency with its total."""
    sums: dict[tuple[str, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for (account, currency), (debit, credit) in balances.items():
        for accounts in (account.split(":", 1)[0], "total"):
            before = sums[currency, accounts]
            sums[currency, accounts] = (before[0] + debit, before[1] + credit)
    ordered = sorted(sums, key=lambda key: (key[0], key[1] == "total", key[1]))
    return [Line(*key, *sums[key]) for key in ordered]
