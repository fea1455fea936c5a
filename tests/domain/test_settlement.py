"""What settlement lines post: the worked example of docs/settlement.md, and what holds for any lines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from pipeline import ids
from pipeline.domain.settlement import LineError, LineState, decide, entry_of
from pipeline.messages.journal import Posting, Side
from pipeline.messages.settlement import LineKind, SettlementJournalRecord, SettlementLine
from tests.domain.samples import NOW, PAYMENT


def line(kind: LineKind, gross: int, fee: int = 0, **fields: Any) -> SettlementLine:
    """A line of a Stripe report in USD, about the sample payment where it is about one."""
    own = fields.pop("own", f"txn_{kind}_{gross}")
    values: dict[str, Any] = {
        "line_id": ids.line_id("stripe", own),
        "provider": "stripe",
        "report_id": ids.derive("report", "sample"),
        "line_number": 2,
        "occurred_at": NOW,
        "provider_kind": kind.value,
        "provider_line": own,
        "payment_id": PAYMENT,
        "net": gross - fee,
        "currency": "USD",
        **fields,
    }
    return SettlementLine(kind=kind, gross=gross, fee=fee, **values)


def balances(postings: Iterable[Posting]) -> dict[str, int]:
    """Debit minus credit by account, zeros left out."""
    result: dict[str, int] = defaultdict(int)
    for posting in postings:
        result[posting.account] += posting.amount if posting.side is Side.DEBIT else -posting.amount
    return {account: balance for account, balance in result.items() if balance}


def posted(lines: Iterable[SettlementLine]) -> dict[str, int]:
    entries = [entry_of(item) for item in lines]
    return balances(posting for entry in entries if entry for posting in entry.postings)


CHARGE: Final = line(LineKind.CHARGE, 6_000, 204)
REFUND: Final = line(LineKind.REFUND, -1_000)
PAYOUT: Final = line(LineKind.PAYOUT, -4_796, payment_id=None)
ARRIVED: Final = line(LineKind.PAYOUT_ARRIVED, 4_796, payment_id=None)


def test_the_worked_example() -> None:
    """A capture of 60.00 and a refund of 10.00 are in the books: 50.00 receivable, which the lines clear."""
    assert posted([CHARGE]) == {
        "provider_balance:stripe:USD": 5_796,
        "provider_receivable:stripe:USD": -6_000,
        "provider_fees:stripe:USD": 204,
    }
    assert posted([CHARGE, REFUND, PAYOUT]) == {
        "provider_receivable:stripe:USD": -5_000,
        "provider_fees:stripe:USD": 204,
        "payout_in_transit:stripe:USD": 4_796,
    }
    assert posted([CHARGE, REFUND, PAYOUT, ARRIVED]) == {
        "provider_receivable:stripe:USD": -5_000,
        "provider_fees:stripe:USD": 204,
        "bank:USD": 4_796,
    }


def test_a_payout_that_fails_is_on_the_balance_again() -> None:
    assert posted([PAYOUT, line(LineKind.PAYOUT_FAILED, 4_796, payment_id=None)]) == {}


def test_a_disputes_fee_clears_what_its_facts_booked() -> None:
    assert posted([line(LineKind.DISPUTE, -6_000, 1_500)]) == {
        "provider_balance:stripe:USD": -7_500,
        "provider_receivable:stripe:USD": 7_500,
    }


def test_settled_in_another_currency_both_sides_balance() -> None:
    euro = line(LineKind.CHARGE, 6_600, 100, payment_amount=6_000, payment_currency="EUR")
    assert posted([euro]) == {
        "provider_balance:stripe:USD": 6_500,
        "provider_fees:stripe:USD": 100,
        "fx_exchange:USD": -6_600,
        "fx_exchange:EUR": 6_000,
        "provider_receivable:stripe:EUR": -6_000,
    }


def test_what_matches_nothing_waits_in_suspense_until_it_is_explained() -> None:
    stranger = replace(CHARGE, payment_id=None)
    first = decide(None, stranger)
    again = decide(first.state, stranger)
    explained = decide(again.state, CHARGE)
    assert again.outputs == ()
    assert posted([stranger])["suspense:stripe:USD"] == -6_000
    records = [*first.outputs, *explained.outputs]
    assert balances(_postings(records)) == posted([CHARGE]), "in the end it is posted as if it had been known at once"
    assert len({record.entry.entry_id for record in records if record.entry}) == 2
    assert decide(explained.state, CHARGE).outputs == ()


def test_a_payout_learned_later_posts_nothing() -> None:
    first = decide(None, CHARGE)
    (record,) = decide(first.state, replace(CHARGE, payout_id="po_1")).outputs
    assert record.explains
    assert record.entry is None
    assert record.line.payout_id == "po_1"


def test_the_same_line_in_another_report_changes_nothing() -> None:
    first = decide(None, CHARGE)
    again = decide(
        first.state, replace(CHARGE, report_id=ids.derive("report", "another"), line_number=900, expected_fee=203)
    )
    assert again.outputs == ()
    assert again.state == first.state


def test_other_figures_under_the_same_id_are_refused() -> None:
    first = decide(None, CHARGE)
    with pytest.raises(LineError) as refused:
        decide(first.state, replace(CHARGE, gross=6_001, net=5_797))
    assert refused.value.code == "line_changed"


@pytest.mark.parametrize(
    "wrong",
    [
        replace(CHARGE, net=6_000),
        replace(CHARGE, payment_amount=5),
        replace(CHARGE, payment_currency="EUR"),
        replace(CHARGE, payment_amount=5, payment_currency="USD"),
    ],
)
def test_a_line_that_does_not_add_up_is_refused(wrong: SettlementLine) -> None:
    with pytest.raises(LineError) as refused:
        decide(None, wrong)
    assert refused.value.code == "contradictory_figures"


AMOUNTS = st.integers(-(10**9), 10**9)


@st.composite
def any_line(draw: st.DrawFn) -> SettlementLine:
    kind = draw(st.sampled_from(LineKind))
    fee = 0 if kind is LineKind.PAYOUT_ARRIVED else draw(AMOUNTS)
    made = line(kind, draw(AMOUNTS), fee, own=draw(st.uuids()).hex)
    foreign = draw(st.booleans())
    return replace(
        made,
        payment_id=draw(st.sampled_from([None, PAYMENT])),
        payment_amount=draw(AMOUNTS) if foreign else None,
        payment_currency="EUR" if foreign else None,
    )


@given(st.lists(any_line(), max_size=20))
def test_the_balance_is_the_sum_of_the_nets(lines: list[SettlementLine]) -> None:
    """Whatever the lines are about, our books have on the provider's balance what the provider's report has."""
    kept = sum(item.net for item in lines if item.kind is not LineKind.PAYOUT_ARRIVED)
    assert posted(lines).get("provider_balance:stripe:USD", 0) == kept


@given(st.lists(any_line(), max_size=20), st.data())
def test_order_and_repeats_change_nothing(lines: list[SettlementLine], data: st.DataObject) -> None:
    repeated = data.draw(st.permutations(lines + lines[: len(lines) // 2]))
    assert balances(_postings(_run(repeated))) == posted(lines)


@given(st.lists(any_line(), max_size=20), st.data())
def test_what_is_learned_late_ends_as_if_known_at_once(lines: list[SettlementLine], data: st.DataObject) -> None:
    known = [replace(item, payment_id=PAYMENT) for item in lines]
    unknown = [replace(item, payment_id=None) for item in data.draw(st.permutations(known))]
    assert balances(_postings(_run([*unknown, *known]))) == posted(known)


def _run(lines: Iterable[SettlementLine]) -> list[SettlementJournalRecord]:
    states: dict[str, LineState] = {}
    records: list[SettlementJournalRecord] = []
    for item in lines:
        decision = decide(states.get(item.line_id), item)
        states[item.line_id] = decision.state
        records.extend(decision.outputs)
    return records


def _postings(records: Iterable[SettlementJournalRecord]) -> Iterable[Posting]:
    return (posting for record in records if record.entry for posting in record.entry.postings)
