"""What a link covers, and that nothing of it can be changed unseen."""

from __future__ import annotations

import json
from hashlib import sha256

from msgspec.structs import replace

from pipeline.domain.hash_chain import content_of, origin, parts, summary
from pipeline.domain.postings import entry_of
from tests.domain.test_postings import authorized

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
