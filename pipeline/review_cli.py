"""`payments review list|resolve`: operations whose outcome only a person can find out.

A decision is an input like any other: it goes onto `payments.intake` with who decided and why, and stays there for
good.
"""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic, sleep
from typing import Annotated, Final

import msgspec
import psycopg
import typer
from rich.console import Console

from pipeline import clock, ids, money, topics
from pipeline.domain.card_data import contains_card_data
from pipeline.domain.projection import PaymentView, ReviewView
from pipeline.domain.timeline import utc
from pipeline.messages.inputs import ReviewDecision
from pipeline.messages.values import Operation, Outcome
from pipeline.operators import MAX_REASON, refuse, send
from pipeline.settings import Settings, settings

app: Final = typer.Typer(help="Operations whose outcome only a person can find out.", no_args_is_help=True)
console: Final = Console()
WAIT_SECONDS: Final = 15.0

_UNDER_REVIEW: Final = """
SELECT view::text FROM payments.payments WHERE view -> 'reviews' <> '[]'::jsonb ORDER BY updated_at
"""
_VIEW: Final = "SELECT view::text FROM payments.payments WHERE payment_id::text = %s"


class Decided(StrEnum):
    """What an operator found at the provider."""

    DONE = "done"
    NOT_DONE = "not-done"


_OUTCOMES: Final = {Decided.DONE: Outcome.APPROVED, Decided.NOT_DONE: Outcome.DECLINED}


@dataclass(frozen=True, slots=True)
class Open:
    """A review that nobody has decided, with its payment."""

    view: PaymentView
    review: ReviewView

    @property
    def reference(self) -> str | None:
        """What the provider calls it, as far as we know."""
        attempt = next((a for a in self.view.attempts if self.review.subject_id in {a.attempt_id, _orphan(a)}), None)
        if attempt is not None and attempt.provider_reference:
            return attempt.provider_reference
        return self.view.hold.provider_reference if self.view.hold else None

    @property
    def is_orphan(self) -> bool:
        """Whether something is to be given back that came after we gave up."""
        return any(_orphan(a) == self.review.subject_id for a in self.view.attempts)


def _orphan(attempt: msgspec.Struct) -> str:
    return ids.orphan_id(str(getattr(attempt, "attempt_id", "")))


@app.command("list")
def list_() -> None:
    """List what waits for a decision, oldest first, with the command that decides it."""
    waiting = list(_open(settings(), _UNDER_REVIEW))
    for found in waiting:
        view, review = found.view, found.review
        operation = f"give back by {review.operation}" if found.is_orphan else review.operation.value
        amount = f"{money.decimal(view.amount, view.currency)} {view.currency}"
        where = f"{view.provider} {found.reference or '(reference unknown)'}"
        console.print(f"[bold]{operation}[/] of {amount}, {where}, since {utc(review.since)}", highlight=False)
        console.print(f"  {review.detail or 'no detail'}", highlight=False, markup=False)
        command = f"payments review resolve {view.payment_id} {review.subject_id}"
        typer.echo(f"  {command} --outcome done|not-done --reason ...")
    console.print(f"{len(waiting)} wait for a decision" if waiting else "nothing waits for a decision", highlight=False)


@app.command()
def resolve(  # noqa: PLR0917 - typer's way of options
    payment_id: Annotated[str, typer.Argument(help="as `payments review list` shows it")],
    subject_id: Annotated[str, typer.Argument(help="as `payments review list` shows it")],
    outcome: Annotated[Decided, typer.Option(help="what you found at the provider")],
    reason: Annotated[str, typer.Option(help="what you saw there; kept for good")],
    operator: Annotated[str | None, typer.Option(help="who decides; default: you")] = None,
    reference: Annotated[
        str | None, typer.Option(help="the provider's id of the payment, if we do not know it")
    ] = None,
    amount: Annotated[str | None, typer.Option(help="what was done, if it is not what was asked for")] = None,
) -> None:
    """Say what became of an operation at its provider. The payment goes on from there, with its postings."""
    current = settings()
    found = next((o for o in _open(current, _VIEW, payment_id) if o.review.subject_id == subject_id), None)
    if found is None:
        refuse(f"nothing of payment {payment_id} with the subject {subject_id} waits for a decision")
    decision = _decision(found, outcome, reason, operator or getpass.getuser(), reference=reference, amount=amount)
    send(current, topics.INTAKE, [decision])
    after = _after(current, found)
    if after is None:
        refuse(f"written to {topics.INTAKE}, not processed within {WAIT_SECONDS:.0f} s: see `payments explain`")
    console.print(f"resolved: the payment is {after.status}", highlight=False)


def _decision(
    found: Open, outcome: Decided, reason: str, operator: str, *, reference: str | None, amount: str | None
) -> ReviewDecision:
    """The input. Its id is the review's own with the outcome: said twice, it is one decision."""
    review, view = found.review, found.view
    if found.is_orphan and outcome is Decided.NOT_DONE:
        refuse("give it back at the provider's console first, then resolve it as done")
    if any(map(contains_card_data, (reason, operator, reference or ""))) or not 0 < len(reason) <= MAX_REASON:
        refuse(f"a reason has at most {MAX_REASON} characters and no card data")
    missing = review.operation is Operation.AUTHORIZE and outcome is Decided.DONE and not (reference or found.reference)
    if missing:
        refuse("the provider's id of the payment is not known here: give it with --reference")
    return ReviewDecision(
        payment_id=view.payment_id,
        occurred_at=clock.now(),
        decision_id=ids.derive("review", view.payment_id, review.subject_id, review.since, outcome),
        operation=review.operation,
        subject_id=review.subject_id,
        outcome=_OUTCOMES[outcome],
        operator=operator,
        reason=reason,
        provider_reference=reference,
        amount=_minor(amount, view.currency),
    )


def _minor(amount: str | None, currency: str) -> int | None:
    try:
        return None if amount is None else money.parse(amount, currency)
    except money.MoneyError as error:
        refuse(str(error))


def _after(current: Settings, found: Open) -> PaymentView | None:
    """The payment once the review is closed; None if that takes too long."""
    deadline = monotonic() + WAIT_SECONDS
    while monotonic() < deadline:
        open_now = {o.review.subject_id for o in _open(current, _VIEW, found.view.payment_id)}
        if found.review.subject_id not in open_now:
            return next(_views(current, _VIEW, found.view.payment_id))
        sleep(0.1)
    return None


def _open(current: Settings, query: str, *parameters: str) -> Iterator[Open]:
    for view in _views(current, query, *parameters):
        yield from (Open(view, review) for review in view.reviews if review.resolved_at is None)


def _views(current: Settings, query: str, *parameters: str) -> Iterator[PaymentView]:
    with psycopg.connect(current.reveal("postgres_reader_url")) as connection:
        for (text,) in connection.execute(query.encode(), parameters):
            yield msgspec.json.decode(text, type=PaymentView)
