"""Corrections: an entry is never changed, its opposite is posted besides.

A reversal is a fact of its payment, like every other cause of an entry. An operator's `ReverseEntry` goes through
`payments.intake`, the capture stage numbers the fact `EntryReversed` into `payments.events`, and the ledger stage posts
its entry, which is a function of that fact alone. So a replay makes the same reversals in the same place, the sink
writes them once, the reconciler finds one that was lost, and the books stay a pure function of the log. (The other
ways, a topic for corrections that the ledger stage reads besides, and a ledger stage that remembers every entry to
look one up, would have given entries two orders, or each payment a second state.)

The command carries the entry's legs: this stage knows which facts there are, not what they posted. That they are
the entry's is held by those who know it: the command line before it sends, Postgres when it commits, `verify` when
it recomputes both entries. What this stage can tell, it refuses, and says so in a fact.
"""

from __future__ import annotations

from pipeline import ids
from pipeline.domain.card_data import contains_card_data
from pipeline.domain.decision import Draft
from pipeline.domain.postings import UnbalancedError, check_balanced
from pipeline.messages.facts import CommandRejected, EntryReversed
from pipeline.messages.inputs import ReverseEntry
from pipeline.messages.values import RejectionReason

MAX_REASON = 500
MAX_OPERATOR = 255

Reversals = dict[str, str]
"""Entries of a payment that were reversed, each with the entry that reverses it."""


def decide(known: Reversals, facts: int, item: ReverseEntry, draft: Draft) -> Reversals:
    """What a reversal brings about in a payment that has so many facts: the fact in `draft`, and what is reversed now.
    Total: a command that does not fit is a CommandRejected of nobody's merchant, which no merchant sees.
    """
    refusal = _refusal(known, facts, item)
    if refusal is not None:
        draft.merchant_id = ""
        draft.fact(
            CommandRejected,
            item.command_id,
            command_id=item.command_id,
            command=type(item).__name__,
            reason=RejectionReason.NOT_REVERSIBLE,
            detail=refusal,
        )
        return known
    fact = draft.fact(
        EntryReversed,
        item.command_id,
        entry_id=item.entry_id,
        postings=item.postings,
        reason=item.reason,
        operator=item.operator,
    )
    return {**known, item.entry_id: ids.entry_id(fact.fact_id)}


def _refusal(known: Reversals, facts: int, item: ReverseEntry) -> str | None:
    if item.entry_id in known:
        return f"the entry is reversed already, by {known[item.entry_id]}"
    if item.entry_id in known.values():
        return "the entry is itself a reversal: post what is right instead"
    if item.entry_id != ids.entry_id(item.entry_fact_id) or not 0 < item.entry_sequence <= facts:
        return "the payment has no such entry"
    try:
        check_balanced(item.postings)
    except UnbalancedError:
        return "these are not the entry's postings: they are not balanced"
    return next(iter(problems(item)), None)


def problems(item: ReverseEntry) -> list[str]:
    """What is wrong with the reason or the operator; empty when they may be kept for good."""
    found = []
    for name, text, longest in (("reason", item.reason, MAX_REASON), ("operator", item.operator, MAX_OPERATOR)):
        if not 0 < len(text.strip()) <= len(text) <= longest or not text.isprintable():
            found.append(f"the {name} has 1 to {longest} printable characters")
        elif contains_card_data(text):
            found.append(f"the {name} looks like card data")
    return found
