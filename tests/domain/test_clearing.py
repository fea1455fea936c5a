"""What is open on the clearing accounts, for how long, and when that is an alert."""

from __future__ import annotations

from random import Random
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from pipeline.domain import clearing
from pipeline.domain.clearing import REPEAT, LimitsError, Movement, Standing, assess, movements, parse
from pipeline.domain.postings import journal_record
from pipeline.domain.settlement import decide
from pipeline.messages.clearing import AlertState, LedgerAlert
from pipeline.messages.journal import JournalRecord
from pipeline.messages.settlement import LineKind, SettlementJournalRecord, SettlementLine
from pipeline.settings import PROJECT
from tests.connectors.journal import captured
from tests.domain.samples import NOW, PAYMENT
from tests.domain.test_settlement import ARRIVED, PAYOUT, line
from topologies.open_items import OpenItems

HOUR: Final = 60 * 60 * 1000
LIMITS: Final = parse(
    '[[account]]\nmatch = "provider_receivable:*"\nage = "1h"\n\n[[account]]\nmatch = "p*"\nage = "2h"'
)
RECEIVABLE: Final = "provider_receivable:stripe:USD"
FULL: Final = line(LineKind.CHARGE, 10_000, 320)


def records(lines: list[SettlementLine]) -> list[SettlementJournalRecord]:
    return [record for item in lines for record in decide(None, item).outputs]


def booked() -> list[JournalRecord]:
    return [journal_record(fact, b"") for fact in captured()]


def moved(*of: JournalRecord | SettlementJournalRecord) -> list[Movement]:
    return [move for record in of for move in movements(record, LIMITS)]


def open_items(moves: list[Movement], now: int = NOW) -> OpenItems:
    items = OpenItems(None)
    items.apply(moves, {0: len(moves)}, now)
    return items


def test_only_watched_accounts_move_and_each_names_its_item() -> None:
    (move,) = moved(*booked())
    assert (move.account, move.item, move.amount, move.currency) == (RECEIVABLE, PAYMENT, 10_000, "USD")
    (confirmed,) = [move for move in moved(*records([FULL])) if move.account == RECEIVABLE]
    assert (confirmed.item, confirmed.amount) == (PAYMENT, -10_000)
    out, arrived = (replace(one, payout_id="po_1") for one in (PAYOUT, ARRIVED))
    in_transit = [move for move in moved(*records([out, arrived])) if move.account.startswith("payout_in_transit")]
    assert [(move.item, move.amount) for move in in_transit] == [("po_1", 4_796), ("po_1", -4_796)]


def test_an_item_is_open_from_its_first_entry_until_it_is_zero() -> None:
    items = open_items(moved(*booked()))
    standing = items.standing(RECEIVABLE, NOW)
    assert standing == Standing(RECEIVABLE, "USD", 10_000, 1, standing.oldest_at if standing else 0, 10_000, 1)
    items.apply(moved(*records([FULL])), {0: 6}, NOW)
    assert items.standing(RECEIVABLE, NOW + 10 * HOUR) == Standing(RECEIVABLE, "USD", 0, 0, None, 0, 0)
    assert items.offsets() == {0: 6}


def test_two_errors_that_cancel_out_are_two_errors() -> None:
    moves = moved(*booked(), *records([replace(FULL, payment_id="another", line_id=PAYMENT)]))
    standing = open_items(moves).standing(RECEIVABLE, NOW)
    assert standing is not None
    assert (standing.balance, standing.open_items, standing.overdue) == (0, 2, 20_000)


MOVES = st.lists(
    st.builds(
        Movement,
        account=st.sampled_from(["a", "b"]),
        currency=st.just("USD"),
        item=st.sampled_from("xyz"),
        amount=st.sampled_from([-2, -1, 1, 2]),
        entry_id=st.uuids().map(str),
        description=st.just("Test"),
        occurred_at=st.integers(0, 100),
    ),
    max_size=40,
    unique_by=lambda move: move.entry_id,
)


@given(MOVES, st.randoms(), st.integers(1, 5))
def test_batches_order_and_repeats_change_no_balance(moves: list[Movement], random: Random, size: int) -> None:
    repeated = moves + random.sample(moves, len(moves) // 2)
    random.shuffle(repeated)
    items = OpenItems(None)
    for start in range(0, len(repeated), size):
        items.apply(repeated[start : start + size], {0: start + size}, NOW)
    for account in ("a", "b"):
        sums: dict[str, int] = {}
        for move in moves:
            if move.account == account:
                sums[move.item] = sums.get(move.item, 0) + move.amount
        standing = items.standing(account, 100)
        expected = (sum(sums.values()), sum(map(bool, sums.values())), sum(map(abs, sums.values())))
        if standing is None:
            assert not sums
        else:
            assert (standing.balance, standing.open_items, standing.overdue) == expected
            assert sum(entry.amount for entry in items.oldest(account, 100, 100)) == standing.balance


LIMIT = clearing.Limit(match="*", age=HOUR, amount=500)


def standing(overdue: int, items: int = 1) -> Standing:
    return Standing(RECEIVABLE, "USD", overdue, items, NOW, overdue, items)


def raised(overdue: int = 501) -> LedgerAlert:
    alert = assess(LIMIT, standing(overdue), None, NOW)
    assert alert is not None
    return alert


def test_an_alert_begins_beyond_the_amount_and_ends_itself() -> None:
    assert assess(LIMIT, standing(500), None, NOW) is None
    alert = raised()
    assert (alert.state, alert.overdue, alert.raised_at) == (AlertState.RAISED, 501, NOW)
    assert assess(LIMIT, standing(501), alert, NOW + 10 * REPEAT) is None, "nothing new"
    ended = assess(LIMIT, standing(500), alert, NOW + 5)
    assert ended is not None
    assert (ended.alert_id, ended.state, ended.raised_at, ended.at) == (alert.alert_id, AlertState.ENDED, NOW, NOW + 5)


def test_an_alert_that_changes_is_told_again_but_not_all_the_time() -> None:
    alert = raised()
    assert assess(LIMIT, standing(900, 2), alert, NOW + REPEAT - 1) is None
    again = assess(LIMIT, standing(900, 2), alert, NOW + REPEAT)
    assert again is not None
    assert (again.alert_id, again.state, again.overdue) == (alert.alert_id, AlertState.RAISED, 900)


def test_alerts_are_kept_until_they_are_sent() -> None:
    items = open_items(moved(*booked()))
    alert = clearing.with_entries(raised(), items.oldest(RECEIVABLE, NOW, 10))
    items.keep_alert(alert)
    assert items.unsent() == [alert]
    items.sent(items.changed(), [alert])
    assert (items.unsent(), items.changed(), items.alert(RECEIVABLE)) == ([], [], alert)
    ended = replace(alert, state=AlertState.ENDED)
    items.keep_alert(ended)
    assert (items.alert(RECEIVABLE), items.unsent()) == (None, [ended])
    items.sent([], [ended])
    assert items.unsent() == []


def test_our_own_limits_read_and_watch_every_clearing_account() -> None:
    limits = parse((PROJECT / "pipeline" / "policies" / "clearing.toml").read_text())
    watched = ("provider_receivable", "payout_in_transit", "refunds_pending", "disputes_receivable", "suspense")
    assert all(limits.of(f"{account}:stripe:USD") for account in watched)
    assert limits.of("merchant_payable:acme:USD") is None
    first = limits.of("suspense:stripe:USD")
    shorter = limits.scaled(0.001).of("suspense:stripe:USD")
    assert first is not None
    assert shorter is not None
    assert shorter.age == first.age / 1_000


@pytest.mark.parametrize(
    "wrong",
    ["[[account]]", "account = 5", "[[account]]\nmatch='x'\nage='soon'", "[[account]]\nmatch='x'\nage='1d'\nx=1", "[["],
)
def test_limits_that_cannot_be_followed_are_refused(wrong: str) -> None:
    with pytest.raises(LimitsError):
        parse(wrong)
