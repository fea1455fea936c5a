"""The short cut for journal records says what the codec says."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from connectors.postgres.verify.wire import PREFIX_BYTES, journal_body
from pipeline.codec import Codec, LocalIds
from pipeline.domain.postings import entry_of, journal_record
from pipeline.messages.facts import Fact
from tests.domain.test_postings import authorized

CODEC = Codec(LocalIds())
FACTS = authorized().facts
AMOUNTS = st.integers(1, 2**62)
TEXTS = st.text(st.characters(blacklist_categories=["Cs"]), max_size=200)
COMMON = st.fixed_dictionaries(
    {"sequence": st.integers(0, 2**62), "occurred_at": st.integers(-(2**62), 2**62), "merchant_id": TEXTS}
)


@given(st.sampled_from(FACTS), COMMON, AMOUNTS, st.binary())
def test_it_is_what_the_codec_writes(fact: Fact, common: dict[str, Any], amount: int, body: bytes) -> None:
    changes = {"amount": amount} if hasattr(fact, "amount") else {}
    fact = replace(fact, **common, **changes)
    record = journal_record(fact, body)
    assert CODEC.encode(record)[PREFIX_BYTES:] == journal_body(fact, body, entry_of(fact))
