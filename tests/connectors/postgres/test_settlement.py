"""Settlement lines in the books, and what the views say of them beside the facts."""

from __future__ import annotations

from collections import defaultdict
from random import Random
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from pipeline import ids
from pipeline.domain.postings import entry_of, journal_record
from pipeline.domain.settlement import LineState, claimed, decide
from pipeline.messages.facts import EntryReversed, Fact, PaymentCaptured
from pipeline.messages.settlement import LineKind, SettlementJournalRecord, SettlementLine
from pipeline.settings import Settings
from tests.connectors.journal import captured, fresh
from tests.connectors.postgres.test_sink import CODEC, Delivered, sink
from tests.domain.samples import NOW, PAYMENT
from tests.domain.test_settlement import CHARGE, PAYOUT, line

pytestmark = pytest.mark.stack

FULL = line(LineKind.CHARGE, 10_000, 320, expected_fee=320)


def settled(lines: list[SettlementLine]) -> list[SettlementJournalRecord]:
    """What the settlement stage writes of these lines."""
    states: dict[str, LineState] = {}
    records: list[SettlementJournalRecord] = []
    for item in lines:
        decision = decide(states.get(item.line_id), item)
        states[item.line_id] = decision.state
        records += decision.outputs
    return records


def journal(facts: list[Fact], lines: list[SettlementLine], start: int = 0) -> list[Any]:
    records = [*(journal_record(fact, CODEC.encode(fact)) for fact in facts), *settled(lines)]
    return [Delivered(CODEC.encode(record), start + number) for number, record in enumerate(records)]


def rows(connection: psycopg.Connection, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    return connection.execute(query.encode(), parameters).fetchall()


def balances(connection: psycopg.Connection) -> dict[str, int]:
    return dict(rows(connection, "SELECT account, balance FROM ledger.balances WHERE balance <> 0"))


@pytest.fixture
def reader(books: Settings) -> Any:
    with psycopg.connect(books.reveal("postgres_reader_url"), autocommit=True) as connection:
        yield connection


def test_a_line_clears_what_the_facts_booked(
    books: Settings, sink_connection: psycopg.Connection, reader: psycopg.Connection
) -> None:
    payout = replace(line(LineKind.PAYOUT, -9_680, payment_id=None), payout_id="po_1")
    sink(books, sink_connection).write(journal(captured(), [replace(FULL, payout_id="po_1"), payout]))
    assert balances(reader) == {
        "merchant_payable:acme:USD": -10_000,
        "provider_fees:stripe:USD": 320,
        "payout_in_transit:stripe:USD": 9_680,
    }
    verdicts = rows(reader, "SELECT payment_id::text, kind, booked, reported, verdict FROM settlement.comparisons")
    assert verdicts == [(PAYMENT, "charge", 10_000, 10_000, "matched")]
    assert rows(reader, "SELECT * FROM settlement.differences") == []
    payouts = rows(reader, "SELECT payout_id, lines, earned, paid_out, arrived FROM settlement.payouts")
    assert payouts == [("po_1", 1, 9_680, 9_680, 0)]


def test_the_same_records_again_change_nothing(
    books: Settings, sink_connection: psycopg.Connection, reader: psycopg.Connection
) -> None:
    """In one batch, in the next, and from another instance."""
    unknown = replace(CHARGE, payment_id=None)
    records = journal([], [unknown, PAYOUT, CHARGE])
    writer = sink(books, sink_connection)
    writer.write([*records, *journal([], [unknown, PAYOUT, CHARGE], 3)])
    before = balances(reader)
    writer.write(journal([], [unknown, PAYOUT, CHARGE], 6))
    sink(books, sink_connection).write(journal([], [unknown, PAYOUT, CHARGE], 9))
    assert balances(reader) == before
    assert "suspense:stripe:USD" not in before
    assert rows(reader, "SELECT count(*) FROM settlement.lines") == [(2,)]
    assert rows(reader, "SELECT payment_id::text FROM settlement.reported WHERE kind = 'charge'") == [(PAYMENT,)]


def test_facts_and_lines_in_one_batch_keep_the_facts_order(
    books: Settings, sink_connection: psycopg.Connection, reader: psycopg.Connection
) -> None:
    """Lines have no sequence; a payment's facts still do, and a gap still parks them."""
    facts = captured()
    writer = sink(books, sink_connection)
    writer.write([*journal(facts[:2], []), *journal([], [FULL], 2), *journal(facts[3:], [], 3)])
    assert rows(reader, "SELECT sequence FROM payments.facts ORDER BY 1") == [(1,), (2,)]
    assert rows(reader, "SELECT sequence FROM payments.parked ORDER BY 1") == [(4,), (5,)]
    assert rows(reader, "SELECT verdict FROM settlement.comparisons") == [("missing_here",)]
    writer.write(journal(facts[2:3], [], 5))
    assert rows(reader, "SELECT verdict FROM settlement.comparisons") == [("matched",)]


def test_an_entry_of_another_line_is_dead_lettered_and_the_rest_goes_on(
    books: Settings, topics_there: Settings, sink_connection: psycopg.Connection, reader: psycopg.Connection
) -> None:
    (charge, payout) = settled([CHARGE, PAYOUT])
    forged = replace(charge, entry=payout.entry)
    bodies = [CODEC.encode(forged), CODEC.encode(payout)]
    sink(books, sink_connection).write([Delivered(body, at) for at, body in enumerate(bodies)])
    assert rows(reader, "SELECT kind FROM settlement.lines") == [("payout",)]


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({"gross": 9_000, "net": 8_680}, "different_amount"),
        ({"fee": 321, "net": 9_679}, "different_fee"),
        ({"expected_fee": None}, "matched"),
        ({"kind": LineKind.REFUND}, "missing_here"),
        ({"payment_id": None}, "missing_here"),
        ({"kind": LineKind.ADJUSTMENT, "payment_id": None}, "missing_here"),
    ],
)
def test_a_planted_difference_is_named(
    books: Settings,
    sink_connection: psycopg.Connection,
    reader: psycopg.Connection,
    change: dict[str, Any],
    verdict: str,
) -> None:
    sink(books, sink_connection).write(journal(captured(), [replace(FULL, **change)]))
    verdicts = {row[0] for row in rows(reader, "SELECT verdict FROM settlement.comparisons")}
    assert verdict in verdicts
    if verdict == "missing_here":
        assert "missing_there" in verdicts


def test_a_correction_counts_as_what_it_corrects(
    books: Settings, sink_connection: psycopg.Connection, reader: psycopg.Connection
) -> None:
    facts = captured()
    entry = entry_of(facts[-1])
    assert entry is not None
    reversal = EntryReversed(
        fact_id=ids.derive("reversal"), payment_id=PAYMENT, merchant_id="acme", sequence=len(facts) + 1,
        occurred_at=NOW, cause_id="c", operation_id="o", entry_id=entry.entry_id, postings=entry.postings,
        reason="captured twice", operator="ann",
    )  # fmt: skip
    sink(books, sink_connection).write(journal([*facts, reversal], []))
    assert rows(reader, "SELECT kind, booked, verdict FROM settlement.comparisons") == [("charge", 0, "matched")]


def test_references_lead_from_a_providers_name_to_our_payment(
    books: Settings, sink_connection: psycopg.Connection, reader: psycopg.Connection
) -> None:
    facts = captured()
    sink(books, sink_connection).write(journal(facts, []))
    named = {
        r for f in facts for r in (getattr(f, "provider_reference", None), getattr(f, "operation_reference", None))
    }
    found = rows(reader, "SELECT reference, payment_id::text FROM payments.provider_references")
    assert {reference for reference, _ in found} == {name for name in named if name}
    assert {payment for _, payment in found} == {PAYMENT}


def oracle(facts: list[Fact], lines: list[SettlementLine]) -> dict[tuple[str, str], str]:
    """The verdicts by payment (or line) and kind, the slow and obvious way."""
    booked: dict[tuple[str, str], int] = defaultdict(int)
    reported: dict[tuple[str, str], list[SettlementLine]] = defaultdict(list)
    for fact in facts:
        if isinstance(fact, PaymentCaptured):
            booked[fact.payment_id, "charge"] += fact.amount
    for item in lines:
        reported[item.payment_id or item.line_id, item.kind.value].append(item)
    verdicts = {}
    for key in booked.keys() | reported.keys():
        mine, theirs = booked.get(key), reported.get(key)
        if theirs is None or mine is None:
            verdicts[key] = "missing_there" if theirs is None else "missing_here"
        elif sum(claimed(item)[0] for item in theirs) != mine:
            verdicts[key] = "different_amount"
        elif any(item.fee != item.expected_fee for item in theirs):
            verdicts[key] = "different_fee"
        else:
            verdicts[key] = "matched"
    return verdicts


def test_the_view_agrees_with_the_obvious_way(
    books: Settings, sink_connection: psycopg.Connection, reader: psycopg.Connection
) -> None:
    random = Random(6)
    payments = fresh(40)
    lines: list[SettlementLine] = []
    for facts in payments:
        for part in random.choice([[], [10_000], [12_000, -2_000], [4_000, 6_000], [9_999], [10_000, 10_000]]):
            own, fee = f"txn_{len(lines)}", random.choice([0, 30])
            lines.append(
                replace(
                    line(LineKind.CHARGE, part, fee, own=own),
                    payment_id=random.choice([facts[0].payment_id] * 5 + [None]),
                    line_id=ids.line_id("stripe", own),
                    expected_fee=random.choice([fee] * 9 + [fee + 1]),
                )
            )
    facts = [fact for payment in payments for fact in payment]
    sink(books, sink_connection).write(journal(facts, lines))
    query = "SELECT coalesce(payment_id, line_id)::text, kind, verdict FROM settlement.comparisons"
    found = {(key, kind): verdict for key, kind, verdict in rows(reader, query)}
    expected = oracle(facts, lines)
    assert found == expected
    assert set(expected.values()) == {"matched", "missing_here", "missing_there", "different_amount", "different_fee"}
