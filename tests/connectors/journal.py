"""Payments as the ledger stage writes them to `ledger.journal`, for tests of what stands behind it."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import uuid4

from msgspec.structs import replace

from pipeline import ids, topics
from pipeline.domain.postings import journal_record
from pipeline.domain.projection import apply, public_event
from pipeline.messages.commands import Capture
from pipeline.messages.facts import Fact
from pipeline.messages.public import PaymentEvent
from pipeline.messages.values import Operation, Outcome
from tests.domain.samples import report
from tests.domain.test_postings import authorized, command
from tests.topologies.processes import Writer


def captured() -> list[Fact]:
    """The five facts of a payment that was authorized and captured."""
    chain = authorized()
    (request,) = chain.feed(Capture(**command("capture"))).requests
    chain.feed(report(Operation.CAPTURE, Outcome.APPROVED, request.subject_id))
    return chain.facts


def moved(facts: list[Fact], payment: str) -> list[Fact]:
    """The same facts, of another payment."""
    return [replace(fact, payment_id=payment, fact_id=ids.derive(payment, fact.fact_id)) for fact in facts]


def fresh(count: int) -> list[list[Fact]]:
    """That many captured payments that nobody has seen before."""
    facts = captured()
    return [moved(facts, str(uuid4())) for _ in range(count)]


def post(writer: Writer, facts: Iterable[Fact]) -> None:
    """Write the facts' journal records, and see them acknowledged."""
    for fact in facts:
        writer.send(journal_record(fact, writer.codec.encode(fact)), topics.JOURNAL)
    writer.flush()


def public_events(facts: list[Fact]) -> list[PaymentEvent]:
    """What consumer teams are to read of one payment, in order."""
    view, events = None, list[PaymentEvent]()
    for fact in facts:
        view = apply(view, fact)
        if event := public_event(view, fact):
            events.append(event)
    return events
