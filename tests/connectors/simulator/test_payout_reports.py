"""A payout that is fetched, beside the CSV reports of the same account: the simulator's, over HTTP."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
import stripe

from connectors.settlement.fetching import FetchError
from connectors.settlement.report import Origin, ReportError
from connectors.stripe import reports, settlement
from connectors.stripe.reports import StripeReports, read
from pipeline import ids
from pipeline.domain.reports import key_of
from pipeline.domain.settlement import figures
from pipeline.messages.reports import ReadOutcome, ReportRequest
from pipeline.messages.settlement import LineKind, SettlementLine
from tests.connectors.simulator.test_payment_intents import make
from tests.connectors.simulator.test_refunds_and_disputes import paid, until
from tests.connectors.simulator.world import KEY, World

ORIGIN = Origin(ids.derive("report"))
PAYMENT = ids.payment_id("acme", "paid out")


@pytest.fixture
def source(sim: World) -> Iterator[StripeReports]:
    made = StripeReports(sim.url, KEY)
    yield made
    made.close()


def asked(reference: str) -> ReportRequest:
    return ReportRequest(
        report=key_of("stripe", None, reference), request_id="r", provider="stripe", reference=reference, number=1,
        issued_at=0,
    )  # fmt: skip


def fetched(source: StripeReports, reference: str) -> list[SettlementLine]:
    file = io.BytesIO()
    source.fetch(asked(reference), file)
    return list(read(io.StringIO(file.getvalue().decode()), ORIGIN))


def published(sim: World) -> dict[str, SettlementLine]:
    """Every line of the two CSV reports, by id."""
    texts = [sim.control.get(f"/_sim/stripe/{name}.csv").text for name in ("balance_report", "payouts_report")]
    return {line.line_id: line for text in texts for line in settlement.read(io.StringIO(text), ORIGIN)}


def same(line: SettlementLine) -> tuple[object, ...]:
    """What must be alike in both, so that neither is news after the other."""
    named = (line.payment_id, line.payment_reference, line.operation_reference, line.payout_id)
    return (line.line_id, line.provider_line, line.provider_kind, figures(line), named)


@pytest.mark.parametrize("end", ["in_transit", "paid", "failed"])
def test_a_payout_is_what_the_reports_say(
    sim: World, sdk: stripe.StripeClient, source: StripeReports, end: str
) -> None:
    intent = make(sdk, amount=9_000, capture_method="manual", metadata={"payment_id": PAYMENT})
    sdk.v1.payment_intents.capture(intent.id, {"amount_to_capture": 6_000})
    disputed = paid(sdk)
    sim.post(f"charges/{disputed.latest_charge}/dispute", {})
    until(lambda: len(published(sim)) == 3)
    sdk.v1.refunds.create({"payment_intent": paid(sdk).id, "amount": 100})
    (payout,) = sim.post("stripe/payouts")
    paid(sdk)
    if end != "in_transit":
        sim.post(f"stripe/payouts/{payout['id']}", outcome=end)
    found, wanted = fetched(source, payout["id"]), published(sim)
    of_it = {name: line for name, line in wanted.items() if line.payout_id == payout["id"]}
    assert {line.line_id: same(line) for line in found} == {name: same(line) for name, line in of_it.items()}
    kinds = {line.kind for line in found}
    assert (LineKind.PAYOUT_ARRIVED in kinds, LineKind.PAYOUT_FAILED in kinds) == (end == "paid", end == "failed")


def test_many_pages_are_read_to_the_end(
    sim: World, sdk: stripe.StripeClient, source: StripeReports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "_PAGE", 2)
    for _ in range(5):
        paid(sdk)
    (payout,) = sim.post("stripe/payouts")
    assert len(fetched(source, payout["id"])) == 6


@pytest.mark.parametrize(("key", "outcome"), [(KEY, ReadOutcome.UNAVAILABLE), ("sk_wrong", ReadOutcome.REFUSED)])
def test_what_is_not_there_is_asked_for_again_and_what_is_refused_is_not(
    sim: World, key: str, outcome: ReadOutcome
) -> None:
    source = StripeReports(sim.url, key)
    with pytest.raises(FetchError) as failed:
        source.fetch(asked("po_unknown"), io.BytesIO())
    assert failed.value.outcome is outcome
    assert key not in str(failed.value)


def test_a_provider_that_is_down_is_asked_again() -> None:
    with pytest.raises(FetchError) as failed:
        StripeReports("http://127.0.0.1:9", KEY).fetch(asked("po_1"), io.BytesIO())
    assert failed.value.outcome is ReadOutcome.UNAVAILABLE


CHARGE = (
    '{"id":"txn_1","amount":5000,"fee":200,"net":4800,"currency":"usd","created":1,"reporting_category":"%s",'
    '"source":{"id":"ch_1","object":"charge","amount":4600,"amount_captured":4000,"currency":"eur"}}'
)
PAYOUT = '{"id":"po_1","amount":1,"currency":"usd","status":"in_transit","arrival_date":1,"automatic":true}'


@pytest.mark.parametrize(
    ("category", "amount"), [("charge", 4_600), ("refund", -4_600), ("partial_capture_reversal", -600)]
)
def test_what_the_customer_paid_in_another_currency(category: str, amount: int) -> None:
    """The source's own amount: nothing is converted."""
    (line,) = read(io.StringIO(f"{PAYOUT}\n{CHARGE % category}\n"), ORIGIN)
    assert (line.currency, line.payment_currency, line.payment_amount) == ("USD", "EUR", amount)


@pytest.mark.parametrize(
    "text", ["", "{}", f"{PAYOUT}\n{{}}\n", PAYOUT + "\n" + (CHARGE % "charge").replace("4800", "1")]
)
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ReportError):
        list(read(io.StringIO(text), ORIGIN))
