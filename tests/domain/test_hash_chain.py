"""What a link covers, and that nothing of it can be changed unseen."""

from __future__ import annotations

import json
from hashlib import sha256

from msgspec.structs import replace

from pipeline.domain import settlement
from pipeline.domain.hash_chain import (
    all_chains,
    content_of,
    explanation_content_of,
    line_content_of,
    line_origin,
    origin,
    parts,
    summary,
)
from pipeline.domain.postings import entry_of
from tests.domain.test_postings import authorized
from tests.domain.test_settlement import CHARGE

AUTHORIZED = next(fact for fact in authorized().facts if entry_of(fact))
ENTRY = entry_of(AUTHORIZED)
CONTENT = content_of(3, 7, AUTHORIZED, b"body", ENTRY)


def test_a_link_can_be_made_by_hand() -> None:
    """As docs/ledger.md says, with nothing of ours."""
    assert ENTRY is not None
    at = AUTHORIZED.occurred_at * 1000
    legs = [[leg.account, leg.side.value, leg.amount, leg.currency] for leg in ENTRY.postings]
    entry = [ENTRY.entry_id, AUTHORIZED.payment_id, "acme", at, "PaymentAuthorized", 3, 7, 2, legs, None, None, None]
    place = [3, 7, AUTHORIZED.payment_id, AUTHORIZED.sequence, AUTHORIZED.fact_id, "PaymentAuthorized", at]
    content = json.dumps([*place, sha256(b"body").hexdigest(), entry], separators=(",", ":")).encode()
    assert content == CONTENT
    assert parts(content)[8] == entry
    first = sha256(sha256(b"ledger.journal/3").digest() + content).digest()
    second = sha256(first + content).digest()
    link = origin(3).next(content).next(content)
    assert (link.position, link.hash) == (2, second)
    assert summary([link, origin(0)]) == sha256(second + sha256(b"ledger.journal/0").digest()).hexdigest()


def test_every_change_changes_the_content() -> None:
    assert ENTRY is not None
    legs = ENTRY.postings
    changed = [
        content_of(4, 7, AUTHORIZED, b"body", ENTRY),
        content_of(3, 8, AUTHORIZED, b"body", ENTRY),
        content_of(3, 7, replace(AUTHORIZED, sequence=9), b"body", ENTRY),
        content_of(3, 7, replace(AUTHORIZED, occurred_at=1), b"body", ENTRY),
        content_of(3, 7, AUTHORIZED, b"other", ENTRY),
        content_of(3, 7, AUTHORIZED, b"body", None),
        content_of(3, 7, replace(AUTHORIZED, merchant_id="other"), b"body", ENTRY),
        content_of(3, 7, AUTHORIZED, b"body", replace(ENTRY, entry_id="x")),
        content_of(3, 7, AUTHORIZED, b"body", replace(ENTRY, description="x")),
        content_of(3, 7, AUTHORIZED, b"body", replace(ENTRY, postings=legs[:1])),
        content_of(3, 7, AUTHORIZED, b"body", replace(ENTRY, postings=[replace(legs[0], amount=1), legs[1]])),
        content_of(3, 7, AUTHORIZED, b"body", replace(ENTRY, postings=[replace(legs[0], account="x"), legs[1]])),
    ]
    assert len({CONTENT, *changed}) == len(changed) + 1


def test_a_lines_link_can_be_made_by_hand() -> None:
    entry = settlement.entry_of(CHARGE)
    assert entry is not None
    legs = [[leg.account, leg.side.value, leg.amount, leg.currency] for leg in entry.postings]
    posted = [entry.entry_id, entry.payment_id, CHARGE.occurred_at * 1000, "charge", len(legs), legs]
    name = [CHARGE.line_id, "stripe", CHARGE.account, CHARGE.report_id, CHARGE.line_number, CHARGE.occurred_at * 1000]
    kind = ["charge", CHARGE.provider_kind, CHARGE.provider_line, CHARGE.payout_id, CHARGE.payment_id]
    references = [CHARGE.payment_reference, CHARGE.operation_reference]
    amounts = [CHARGE.gross, CHARGE.fee, CHARGE.net, CHARGE.currency]
    payment = [CHARGE.payment_amount, CHARGE.payment_currency, CHARGE.expected_fee]
    by_hand = [3, 7, "line", *name, *kind, *references, *amounts, *payment, posted]
    content = json.dumps(by_hand, separators=(",", ":")).encode()
    assert content == line_content_of(3, 7, CHARGE, entry)
    first = sha256(sha256(b"ledger.journal/3/lines").digest() + content).digest()
    assert line_origin(3).next(content).hash == first


def test_every_change_of_a_line_changes_the_content() -> None:
    entry = settlement.entry_of(CHARGE)
    assert entry is not None
    changes = [
        {name: "x"} for name in ("line_id", "provider", "account", "report_id", "provider_kind", "provider_line",
                                 "payout_id", "payment_id", "payment_reference", "operation_reference", "currency",
                                 "payment_currency")
    ] + [
        {name: 99} for name in ("line_number", "occurred_at", "gross", "fee", "net", "payment_amount", "expected_fee")
    ]  # fmt: skip
    changed = [line_content_of(3, 7, replace(CHARGE, **change), entry) for change in changes]
    changed += [
        line_content_of(3, 7, CHARGE, None),
        line_content_of(3, 7, CHARGE, replace(entry, postings=entry.postings[:1])),
        explanation_content_of(3, 7, "x", CHARGE, entry),
        explanation_content_of(3, 7, "y", CHARGE, entry),
        explanation_content_of(3, 7, "x", replace(CHARGE, payment_id=None), entry),
    ]
    assert len({line_content_of(3, 7, CHARGE, entry), *changed}) == len(changed) + 1


def test_chains_of_lines_count_from_their_first_link() -> None:
    facts, lines = {0: origin(0), 1: origin(1)}, {0: line_origin(0), 1: line_origin(1)}
    assert all_chains(facts, lines) == summary(facts.values())
    begun = lines | {1: line_origin(1).next(b"line")}
    assert all_chains(facts, begun) == summary([*facts.values(), begun[1]])
