"""What a line of a provider's report posts, and what a repeat of it teaches. Pure.

The captured, refunded and disputed money is in the books already, as `provider_receivable`: what we say the provider
owes us. A line is the provider's own word: it moves the amount from there to `provider_balance`, what the provider says
it holds for us. So `provider_receivable` is zero for every payment on which both agree, and what is left there, by
payment, is the difference. A payout takes from the balance. docs/settlement.md has the table and a worked example.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from pipeline import ids
from pipeline.domain.postings import check_balanced
from pipeline.messages.facts import Fact, PaymentAuthorized, PaymentCaptured, PaymentRefunded
from pipeline.messages.journal import Posting, Side
from pipeline.messages.settlement import LineKind, SettlementEntry, SettlementJournalRecord, SettlementLine

OF_A_PAYMENT: Final = frozenset(
    {LineKind.CHARGE, LineKind.REFUND, LineKind.REFUND_FAILED, LineKind.DISPUTE, LineKind.DISPUTE_REVERSED}
)
"""The kinds that the facts of a payment book as well."""
_FEE_IN_FACTS: Final = frozenset({LineKind.DISPUTE, LineKind.DISPUTE_REVERSED})


class LineError(ValueError):
    """A line that cannot be posted. `code` is stable: the dead letter's reason."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class LineState(msgspec.Struct, frozen=True, kw_only=True):
    """What must be known of a line that was posted: its figures, and what it was found to belong to."""

    figures: tuple[int | str | None, ...]
    payment_id: str | None = None
    payout_id: str | None = None


@dataclass(frozen=True, slots=True)
class LineDecision:
    """What a line brings about."""

    state: LineState
    outputs: tuple[SettlementJournalRecord, ...] = ()
    forward: bool = False


def decide(state: LineState | None, line: SettlementLine) -> LineDecision:
    """A new line posts its entry. A repeat posts nothing, unless it names a payment or payout that the line did not
    name before. Raises LineError: `contradictory_figures` for a line that does not add up, `line_changed` for a
    repeat with other figures.
    """
    _require_sound(line)
    if state is None:
        known = LineState(figures=figures(line), payment_id=line.payment_id, payout_id=line.payout_id)
        return LineDecision(known, (SettlementJournalRecord(line=line, entry=entry_of(line)),))
    if state.figures != figures(line):
        raise LineError("line_changed", f"{line.provider} line {line.provider_line} came with other figures before")
    learned = LineState(
        figures=state.figures,
        payment_id=state.payment_id or line.payment_id,
        payout_id=state.payout_id or line.payout_id,
    )
    if learned == state:
        return LineDecision(state)
    explained = msgspec.structs.replace(line, payment_id=learned.payment_id, payout_id=learned.payout_id)
    entry = explanation_of(explained) if state.payment_id is None else None
    return LineDecision(learned, (SettlementJournalRecord(line=explained, entry=entry, explains=True),))


def _require_sound(line: SettlementLine) -> None:
    if line.net != line.gross - line.fee:
        raise LineError("contradictory_figures", "net is not gross less fee")
    if (line.payment_amount is None) != (line.payment_currency is None) or line.payment_currency == line.currency:
        raise LineError("contradictory_figures", "an amount in another currency has both, amount and another currency")


def figures(line: SettlementLine) -> tuple[int | str | None, ...]:
    """What a line says that must never change. Which report it stands in may, and so may its time: one kind of report
    gives a time zone, another a date.
    """
    return (
        line.kind.value,
        line.gross,
        line.fee,
        line.net,
        line.currency,
        line.payment_amount,
        line.payment_currency,
    )


def entry_of(line: SettlementLine) -> SettlementEntry | None:
    """The entry of a line that is new; None for one that moves nothing. Raises UnbalancedError."""
    return _entry(ids.entry_id(line.line_id), line, line.kind.value, _RULES[line.kind](line))


def explanation_of(line: SettlementLine) -> SettlementEntry | None:
    """The entry of a line that waited in suspense and now names its payment; None where nothing waits."""
    if line.kind not in OF_A_PAYMENT or line.payment_id is None:
        return None
    postings = _confirmed(line, suspense(line.provider, line.currency))
    return _entry(ids.derive("explanation", line.line_id), line, f"{line.kind.value}_explained", postings)


def claimed(line: SettlementLine) -> tuple[int, str]:
    """What the line confirms of what its payment's facts booked, in the currency the customer paid in."""
    if line.payment_amount is not None and line.payment_currency is not None:
        return line.payment_amount, line.payment_currency
    return line.gross - _fee_in_facts(line), line.currency


def _entry(entry_id: str, line: SettlementLine, description: str, postings: list[Posting]) -> SettlementEntry | None:
    if not postings:
        return None
    check_balanced(postings)
    return SettlementEntry(
        entry_id=entry_id,
        line_id=line.line_id,
        payment_id=line.payment_id,
        occurred_at=line.occurred_at,
        description=description,
        postings=postings,
    )


def provider_references(fact: Fact) -> list[tuple[str, str, str]]:
    """The provider's names of a payment, a capture or a refund that a fact tells: provider, name, our payment."""
    names: tuple[str | None, ...]
    match fact:
        case PaymentAuthorized():
            names = (fact.provider_reference, fact.operation_reference)
        case PaymentCaptured() | PaymentRefunded():
            names = (fact.operation_reference,)
        case _:
            return []
    return [(fact.provider, name, fact.payment_id) for name in dict.fromkeys(names) if name]


def provider_receivable(provider: str, currency: str) -> str:
    """Asset, clearing: captured, and not yet confirmed by the provider."""
    return f"provider_receivable:{provider}:{currency}"


def provider_balance(provider: str, currency: str) -> str:
    """Asset: what the provider says it holds for us."""
    return f"provider_balance:{provider}:{currency}"


def provider_reserve(provider: str, currency: str) -> str:
    """Asset, clearing: withheld by the provider, or carried over to its next batch."""
    return f"provider_reserve:{provider}:{currency}"


def payout_in_transit(provider: str, currency: str) -> str:
    """Asset, clearing: on its way to the bank."""
    return f"payout_in_transit:{provider}:{currency}"


def provider_fees(provider: str, currency: str) -> str:
    """Expense: what the provider charges."""
    return f"provider_fees:{provider}:{currency}"


def dispute_fees(provider: str, currency: str) -> str:
    """Expense: what the provider charges for chargebacks."""
    return f"dispute_fees:{provider}:{currency}"


def suspense(provider: str, currency: str) -> str:
    """Clearing: lines that match nothing yet."""
    return f"suspense:{provider}:{currency}"


def bank(currency: str) -> str:
    """Asset: money that we have."""
    return f"bank:{currency}"


def fx_exchange(currency: str) -> str:
    """Equity: one side of a conversion; the other is in another currency."""
    return f"fx_exchange:{currency}"


def _move(debit: str, credit: str, amount: int, currency: str) -> list[Posting]:
    """Two legs, the other way round for a negative amount; none at all for nothing."""
    if amount == 0:
        return []
    if amount < 0:
        debit, credit = credit, debit
    return [
        Posting(account=debit, side=Side.DEBIT, amount=abs(amount), currency=currency),
        Posting(account=credit, side=Side.CREDIT, amount=abs(amount), currency=currency),
    ]


def _of_a_payment(line: SettlementLine) -> list[Posting]:
    """What the facts booked is confirmed; a line that names no payment of ours waits in suspense."""
    balance, in_facts = provider_balance(line.provider, line.currency), _fee_in_facts(line)
    waiting = suspense(line.provider, line.currency)
    principal = (
        _move(balance, waiting, line.gross - in_facts, line.currency)
        if line.payment_id is None
        else _confirmed(line, balance)
    )
    return [*principal, *_cost(line, line.fee - in_facts)]


def _confirmed(line: SettlementLine, debit: str) -> list[Posting]:
    """The amount, off `provider_receivable` in the customer's currency, to `debit` in the provider's."""
    amount, currency = claimed(line)
    theirs = provider_receivable(line.provider, currency)
    if line.payment_amount is None:
        return _move(debit, theirs, amount, currency)
    return [
        *_move(debit, fx_exchange(line.currency), line.gross, line.currency),
        *_move(fx_exchange(currency), theirs, amount, currency),
    ]


def _fee_in_facts(line: SettlementLine) -> int:
    """The part of the fee that the facts book: a dispute's, if it is in the customer's currency."""
    return line.fee if line.kind in _FEE_IN_FACTS and line.payment_amount is None else 0


def _cost(line: SettlementLine, fee: int) -> list[Posting]:
    """What the provider kept; given back if it is negative."""
    account = dispute_fees if line.kind in _FEE_IN_FACTS or line.kind is LineKind.DISPUTE_FEE else provider_fees
    balance = provider_balance(line.provider, line.currency)
    return _move(account(line.provider, line.currency), balance, fee, line.currency)


def _fee(line: SettlementLine) -> list[Posting]:
    """All of the line is a cost."""
    return _cost(line, -line.net)


def _against(account: Callable[[str, str], str]) -> Callable[[SettlementLine], list[Posting]]:
    """The balance moves against one account, by the gross; a fee on the line is a cost."""

    def rule(line: SettlementLine) -> list[Posting]:
        balance, other = provider_balance(line.provider, line.currency), account(line.provider, line.currency)
        return [*_move(balance, other, line.gross, line.currency), *_cost(line, line.fee)]

    return rule


def _arrived(line: SettlementLine) -> list[Posting]:
    transit = payout_in_transit(line.provider, line.currency)
    return _move(bank(line.currency), transit, line.gross, line.currency)


_RULES: Final[dict[LineKind, Callable[[SettlementLine], list[Posting]]]] = {
    **dict.fromkeys(OF_A_PAYMENT, _of_a_payment),
    LineKind.FEE: _fee,
    LineKind.DISPUTE_FEE: _fee,
    LineKind.PAYOUT: _against(payout_in_transit),
    LineKind.PAYOUT_ARRIVED: _arrived,
    LineKind.PAYOUT_FAILED: _against(payout_in_transit),
    LineKind.CONVERSION: _against(lambda _, currency: fx_exchange(currency)),
    LineKind.RESERVE: _against(provider_reserve),
    LineKind.ADJUSTMENT: _against(suspense),
}
