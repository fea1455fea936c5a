"""Double entry: each fact that moves or promises money, and the one balanced journal entry it posts.

The ledger is a pure function of the fact. Holds are memo accounts: a promise is no asset, but its sum must be known
and must return to zero. Accounts and postings are explained in docs/ledger.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Final

from msgspec.structs import replace

from pipeline import ids
from pipeline.messages.facts import (
    AuthorizationOrphaned,
    CaptureFailed,
    DisputeFundsReinstated,
    DisputeFundsWithdrawn,
    DisputeLost,
    DisputeWon,
    EntryReversed,
    Fact,
    HoldExpired,
    OrphanReturned,
    OrphanReturnFailed,
    PaymentAuthorized,
    PaymentCaptured,
    PaymentRefunded,
    PaymentVoided,
    RefundFailed,
    RefundRequested,
)
from pipeline.messages.journal import JournalEntry, JournalRecord, Posting, Side
from pipeline.messages.values import CaptureMethod


class UnbalancedError(AssertionError):
    """Debits and credits of an entry differ in a currency: a bug in this file, never an input's fault."""


def entry_of(fact: Fact) -> JournalEntry | None:
    """The journal entry of a fact, or None for one that neither moves nor promises money. Raises UnbalancedError."""
    rule = _RULES.get(type(fact))
    postings = rule(fact) if rule else []
    if rule is None or not postings:
        return None
    entry = JournalEntry(
        entry_id=ids.entry_id(fact.fact_id),
        fact_id=fact.fact_id,
        payment_id=fact.payment_id,
        occurred_at=fact.occurred_at,
        description=type(fact).__name__,
        postings=postings,
    )
    check_balanced(entry.postings)
    return entry


def journal_record(fact: Fact, raw: bytes) -> JournalRecord:
    """The journal's record of a fact; `raw` is the fact as it stands in payments.events. Raises UnbalancedError."""
    return JournalRecord(
        payment_id=fact.payment_id,
        fact_id=fact.fact_id,
        sequence=fact.sequence,
        occurred_at=fact.occurred_at,
        fact=raw,
        entry=entry_of(fact),
    )


def holds_receivable(fact: Any) -> str:
    """Memo, debit: promised by cardholders' banks."""
    return f"holds_receivable:{fact.merchant_id}:{fact.provider}:{fact.currency}"


def holds_commitment(fact: Any) -> str:
    """Memo, credit: the mirror of holds_receivable."""
    return f"holds_commitment:{fact.merchant_id}:{fact.provider}:{fact.currency}"


def provider_receivable(fact: Any) -> str:
    """Asset, clearing: captured, and still at the provider."""
    return f"provider_receivable:{fact.provider}:{fact.currency}"


def merchant_payable(fact: Any) -> str:
    """Liability: what is owed to the merchant."""
    return f"merchant_payable:{fact.merchant_id}:{fact.currency}"


def refunds_pending(fact: Any) -> str:
    """Liability, clearing: refunds asked for and not yet confirmed."""
    return f"refunds_pending:{fact.provider}:{fact.currency}"


def disputes_receivable(fact: Any) -> str:
    """Asset, clearing: withdrawn by chargeback and undecided."""
    return f"disputes_receivable:{fact.provider}:{fact.currency}"


def dispute_fees(fact: Any) -> str:
    """Expense: what the provider charged for chargebacks."""
    return f"dispute_fees:{fact.provider}:{fact.currency}"


def _move(debit: str, credit: str, amount: int, currency: str) -> list[Posting]:
    """Two legs; none at all for nothing."""
    if amount == 0:
        return []
    return [
        Posting(account=debit, side=Side.DEBIT, amount=amount, currency=currency),
        Posting(account=credit, side=Side.CREDIT, amount=amount, currency=currency),
    ]


def _authorized(fact: PaymentAuthorized) -> list[Posting]:
    return _move(holds_receivable(fact), holds_commitment(fact), fact.amount, fact.currency)


def _released(fact: PaymentVoided | HoldExpired) -> list[Posting]:
    return _move(holds_commitment(fact), holds_receivable(fact), fact.hold_released, fact.currency)


def _captured(fact: PaymentCaptured) -> list[Posting]:
    """What was claimed and what was let go both leave the hold; only what was claimed becomes money."""
    left = fact.hold_captured + fact.hold_released
    return [
        *_move(holds_commitment(fact), holds_receivable(fact), left, fact.currency),
        *_move(provider_receivable(fact), merchant_payable(fact), fact.amount, fact.currency),
    ]


def _capture_failed(fact: CaptureFailed) -> list[Posting]:
    """After a reported success the money does not come: the merchant is owed nothing for it. The hold is gone."""
    if not fact.after_success:
        return []
    return _move(merchant_payable(fact), provider_receivable(fact), fact.amount, fact.currency)


def _refund_requested(fact: RefundRequested) -> list[Posting]:
    return _move(merchant_payable(fact), refunds_pending(fact), fact.amount, fact.currency)


def _refunded(fact: PaymentRefunded) -> list[Posting]:
    """What was not among the pending refunds comes straight out of what the merchant is owed."""
    owed = refunds_pending(fact) if fact.was_pending else merchant_payable(fact)
    return _move(owed, provider_receivable(fact), fact.amount, fact.currency)


def _refund_failed(fact: RefundFailed) -> list[Posting]:
    """After a reported success the money comes back to the provider, not out of the pending refunds."""
    back = provider_receivable(fact) if fact.after_success else refunds_pending(fact)
    return _move(back, merchant_payable(fact), fact.amount, fact.currency)


def _dispute_withdrawn(fact: DisputeFundsWithdrawn) -> list[Posting]:
    return [
        *_move(disputes_receivable(fact), provider_receivable(fact), fact.amount, fact.currency),
        *_move(dispute_fees(fact), provider_receivable(fact), fact.fee, fact.currency),
    ]


def _dispute_reinstated(fact: DisputeFundsReinstated) -> list[Posting]:
    return [
        *_move(provider_receivable(fact), disputes_receivable(fact), fact.amount, fact.currency),
        *_move(provider_receivable(fact), dispute_fees(fact), fact.fee, fact.currency),
    ]


def _dispute_lost(fact: DisputeLost) -> list[Posting]:
    return _move(merchant_payable(fact), disputes_receivable(fact), fact.amount, fact.currency)


def _dispute_won(fact: DisputeWon) -> list[Posting]:
    """The money moves when it is reinstated; only a loss that was booked before is taken back."""
    if not fact.after_loss:
        return []
    return _move(disputes_receivable(fact), merchant_payable(fact), fact.amount, fact.currency)


def _reversed(fact: EntryReversed) -> list[Posting]:
    """The same legs in the same order, each on the other side."""
    return [replace(leg, side=_OPPOSITE[leg.side]) for leg in fact.postings]


_OPPOSITE: Final = {Side.DEBIT: Side.CREDIT, Side.CREDIT: Side.DEBIT}


def _orphaned(fact: AuthorizationOrphaned | OrphanReturnFailed) -> list[Posting]:
    """What we did not want and have: a hold, or money that is nobody's but the customer's."""
    if fact.capture_method is CaptureMethod.AUTOMATIC:
        return _move(provider_receivable(fact), refunds_pending(fact), fact.amount, fact.currency)
    return _move(holds_receivable(fact), holds_commitment(fact), fact.amount, fact.currency)


def _orphan_returned(fact: OrphanReturned) -> list[Posting]:
    if fact.capture_method is CaptureMethod.AUTOMATIC:
        return _move(refunds_pending(fact), provider_receivable(fact), fact.amount, fact.currency)
    return _move(holds_commitment(fact), holds_receivable(fact), fact.amount, fact.currency)


def _orphan_return_failed(fact: OrphanReturnFailed) -> list[Posting]:
    """Only what was taken off the books goes back into them."""
    return _orphaned(fact) if fact.after_success else []


_RULES: Final[dict[type[Fact], Callable[[Any], list[Posting]]]] = {
    PaymentAuthorized: _authorized,
    PaymentCaptured: _captured,
    CaptureFailed: _capture_failed,
    PaymentVoided: _released,
    HoldExpired: _released,
    RefundRequested: _refund_requested,
    PaymentRefunded: _refunded,
    RefundFailed: _refund_failed,
    DisputeFundsWithdrawn: _dispute_withdrawn,
    DisputeFundsReinstated: _dispute_reinstated,
    DisputeLost: _dispute_lost,
    DisputeWon: _dispute_won,
    EntryReversed: _reversed,
    AuthorizationOrphaned: _orphaned,
    OrphanReturned: _orphan_returned,
    OrphanReturnFailed: _orphan_return_failed,
}


def check_balanced(postings: Iterable[Posting]) -> None:
    """Raises UnbalancedError unless debits equal credits in each currency and each leg moves something."""
    sums: dict[str, int] = defaultdict(int)
    for posting in postings:
        sums[posting.currency] += posting.amount if posting.side is Side.DEBIT else -posting.amount
        if posting.amount <= 0:
            raise UnbalancedError(f"a posting of {posting.amount}")
    if not sums or any(sums.values()):
        raise UnbalancedError(f"debit minus credit: {dict(sums)}")
