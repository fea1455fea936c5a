"""Each stage does what its row in the picture says."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace
from prometheus_client import REGISTRY

from pipeline import topics
from pipeline.codec import Codec, LocalIds
from pipeline.domain.chain import PaymentChain
from pipeline.domain.postings import journal_record
from pipeline.domain.routing import HOUR
from pipeline.messages.commands import Capture, CreateIntent, Refund
from pipeline.messages.facts import AttemptStarted, PaymentAuthorized
from pipeline.messages.inputs import DisputeReport, RetryPlanned
from pipeline.messages.reports import ReadOutcome, ReportAnnounced, ReportRead
from pipeline.messages.timers import Timer
from pipeline.messages.values import CaptureMethod, DeclineCategory, Operation, Outcome, TimerKind
from tests.domain.samples import NOW, PAYMENT, VISA, commands, report, unrouted_event
from tests.domain.test_postings import authorized
from tests.domain.test_retry import declined, started
from tests.topologies.conftest import SCHEDULE
from tests.topologies.driver import Driver, Written
from topologies.intake import MAX_COMMAND
from topologies.timer_relay import Waiting, fired, outgoing

CODEC = Codec(LocalIds())
Drive = Callable[[str], Driver]


# intake


@pytest.mark.parametrize("command", commands(), ids=lambda command: str(command.command_id))
def test_intake_passes_a_valid_command_dated_by_the_broker(drive: Drive, command: Any) -> None:
    (written,) = drive("intake").send(command, at=NOW + 99)
    assert (written.topic, written.key) == (topics.INTAKE, PAYMENT.encode())
    assert written.record == replace(command, occurred_at=NOW + 99)


def test_intake_names_the_first_problem_and_tells_of_all(drive: Drive) -> None:
    create = replace(commands()[0], amount=0, currency="XXX", provider="cash")
    (written,) = drive("intake").send(create)
    assert written.topic == "payments.commands.dlq"
    assert written.record.reason == "unknown_currency"
    assert "provider" in written.record.detail
    assert written.record.value == CODEC.encode(create)


def test_intake_withholds_a_command_with_a_card_number(drive: Drive) -> None:
    create = replace(commands()[0], metadata={"note": "4000 0566 5566 5556"})
    (written,) = drive("intake").send(create)
    assert (written.record.reason, written.record.value) == ("card_data", None)
    assert b"4000" not in written.value
    assert written.record.key == PAYMENT.encode()


@pytest.mark.parametrize("length", range(16, 40))
def test_no_framing_hides_a_card_number(drive: Drive, length: int) -> None:
    """Avro writes a text's length before it: for some lengths that byte is a digit. Also when nobody can decode it."""
    text = "4000056655665556".ljust(length, "x")
    value = CODEC.encode(replace(commands()[0], merchant_reference=text, order_id="y" * 25))
    driver = drive("intake")
    for written in (*driver.send_raw(value, PAYMENT.encode()), *driver.send_raw(value + b"\x00", b"key")):
        assert written.record.value is None
        assert b"4000056655665556" not in written.value


def test_intake_withholds_a_verification_code_that_metadata_names(drive: Drive) -> None:
    (written,) = drive("intake").send(replace(commands()[0], metadata={"cvc": "123"}))
    assert (written.record.reason, written.record.value) == ("card_data", None)


def test_intake_refuses_a_giant_before_decoding_it(drive: Drive) -> None:
    (written,) = drive("intake").send(replace(commands()[0], metadata={"k": "v" * MAX_COMMAND}))
    assert written.record.reason == "too_large"


def test_intake_refuses_forged_provider_answers(drive: Drive) -> None:
    (written,) = drive("intake").send(report(Operation.AUTHORIZE, Outcome.APPROVED, "attempt"))
    assert (written.topic, written.record.reason) == ("payments.commands.dlq", "unexpected_type")


# authorization and capture


def test_the_stages_do_what_the_pure_chain_does(drive: Drive) -> None:
    """The same inputs through both drivers and through the pure fold: the same facts, requests and timers."""
    authorization, capture = drive("authorization"), drive("capture")
    chain = PaymentChain(SCHEDULE)
    create = replace(commands()[0], payment_method=VISA)
    common: dict[str, Any] = {"payment_id": PAYMENT, "occurred_at": NOW, "merchant_id": "acme"}
    attempt = None
    for item in [
        create,
        commands()[2],
        report(Operation.AUTHORIZE, Outcome.APPROVED, None),
        Capture(command_id="cap-1", amount=4_000, final=False, **common),
        Capture(command_id="cap-1", amount=4_000, final=False, **common),
        Refund(command_id="ref-1", amount=1, **common),
        commands()[0],
    ]:
        if attempt is not None and getattr(item, "report_id", None):
            item = replace(item, subject_id=attempt)  # noqa: PLW2901
        step = chain.feed(item)
        passed = authorization.send(item)
        attempt = next((w.record.attempt_id for w in passed if isinstance(w.record, AttemptStarted)), attempt)
        inner = [w for w in passed if w.topic == topics.AUTHORIZATIONS]
        outer = [w for w in passed if w.topic != topics.AUTHORIZATIONS]
        for written in inner:
            outer += capture.send_raw(written.value, written.key, headers=written.headers)
        assert [w.record for w in inner] == list(step.authorizations)
        assert [w.record for w in outer if w.topic == topics.EVENTS] == list(step.facts)
        assert [w.record for w in outer if w.topic == topics.requests("stripe")] == list(step.requests)
        assert [w.record for w in outer if w.topic.startswith("timers.")] == list(step.timers)
        authorization.commit()
        capture.commit()
    assert [fact.sequence for fact in chain.facts] == list(range(1, len(chain.facts) + 1))
    assert any(isinstance(fact, PaymentAuthorized) for fact in chain.facts)


# retry


def test_retry_answers_a_soft_decline_into_the_intake(drive: Drive) -> None:
    driver = drive("retry")
    assert driver.send(started(1)) == []
    (written,) = driver.send(declined(1))
    assert (written.topic, written.key) == (topics.INTAKE, PAYMENT.encode())
    assert isinstance(written.record, RetryPlanned)
    assert written.record.attempt_id == "attempt-1"


def test_retry_counts_attempts_over_commits_and_restarts(drive: Drive) -> None:
    rules = []
    for number in range(1, 6):
        driver = drive("retry")
        driver.send(started(number, NOW + number))
        (written,) = driver.send(declined(number, NOW + number))
        rules.append((type(written.record).__name__, written.record.rule))
        driver.commit()
    assert rules[:3] == [("RetryPlanned", "soft_decline")] * 3
    assert rules[3] == ("RetryAbandoned", "soft_decline:max_attempts")


def test_retry_is_silent_about_final_declines(drive: Drive) -> None:
    assert drive("retry").send(declined(1, category=DeclineCategory.HARD)) == []


# ledger


def test_the_ledger_keeps_the_fact_s_bytes_beside_its_entry(drive: Drive) -> None:
    fact = PaymentAuthorized(
        fact_id="f", payment_id=PAYMENT, merchant_id="acme", sequence=4, occurred_at=NOW, cause_id="c",
        operation_id="o", attempt_id="a", provider="stripe", amount=10_000, currency="USD",
        capture_method=CaptureMethod.MANUAL, provider_reference="pi_1", hold_expires_at=NOW,
    )  # fmt: skip
    (written,) = drive("ledger").send(fact)
    assert isinstance(written, Written)
    assert (written.topic, written.key) == (topics.JOURNAL, PAYMENT.encode())
    assert written.record == journal_record(fact, CODEC.encode(fact))
    assert written.record.entry is not None


def test_a_fact_that_moves_nothing_is_journalled_without_an_entry(drive: Drive) -> None:
    (written,) = drive("ledger").send(started(1))
    assert written.record.entry is None
    assert CODEC.decode(written.record.fact) == started(1)


def test_the_samples_begin_with_a_create(drive: Drive) -> None:
    assert isinstance(commands()[0], CreateIntent)
    (written,) = drive("authorization").send(commands()[0])
    assert type(written.record).__name__ == "IntentCreated"


# routing


def authorized_fact() -> PaymentAuthorized:
    (found,) = [fact for fact in authorized().facts if isinstance(fact, PaymentAuthorized)]
    return found


def test_routing_learns_from_facts_and_sends_what_waited_to_its_payment(drive: Drive) -> None:
    routing = drive("routing")
    (timer,) = routing.send(unrouted_event())
    assert (timer.topic.split(".")[0], timer.key) == ("timers", b"stripe:pi_1")
    (learned,) = [
        written
        for written in routing.send(authorized_fact(), source=topics.EVENTS)
        if written.record.reference == "stripe:pi_1"
    ]
    assert (learned.topic, learned.key) == (topics.UNROUTED, b"stripe:pi_1")
    routing.commit()
    (routed,) = routing.send(learned.record)
    assert (routed.topic, routed.key) == (topics.INTAKE, PAYMENT.encode())
    assert isinstance(routed.record, DisputeReport)
    assert routing.send(learned.record) == []


def test_what_waits_in_vain_is_listed_for_operators(drive: Drive) -> None:
    routing = drive("routing")
    (timer,) = routing.send(unrouted_event())
    (listed,) = routing.send(fired(timer.record, NOW + HOUR))
    assert listed.topic == topics.UNMATCHED
    assert (listed.record.event_id, listed.record.listed_at) == ("evt_1", NOW + HOUR)


@pytest.mark.parametrize(("kind", "topic"), [(TimerKind.UNROUTED, topics.UNROUTED), (TimerKind.REPORT, topics.REPORTS)])
def test_a_timer_of_what_is_no_payment_fires_where_it_waits(kind: TimerKind, topic: str) -> None:
    timer = Timer(
        timer_id="t", payment_id="stripe:x_1", kind=kind, subject_id="evt_1",
        operation=Operation.AUTHORIZE, generation=1, set_at=NOW, due_at=NOW,
    )  # fmt: skip
    out = outgoing(CODEC, topics.tier("1s"), Waiting(timer, None), NOW)
    assert (out.topic, out.key) == (topic, b"stripe:x_1")


# reports


def test_a_report_is_asked_for_and_asked_for_again_when_its_timer_fires(drive: Drive) -> None:
    reports = drive("reports")
    announced = ReportAnnounced(
        report="stripe:po_1", provider="stripe", reference="po_1", event_id="evt_1", announced_at=NOW
    )
    (asked,) = reports.send(announced)
    assert (asked.topic, asked.key, asked.record.number) == (topics.REPORT_REQUESTS, b"stripe:po_1", 1)
    reports.commit()
    assert reports.send(announced) == []
    (timer,) = reports.send(
        ReportRead(
            report="stripe:po_1", request_id=asked.record.request_id, outcome=ReadOutcome.UNAVAILABLE, read_at=NOW
        )
    )
    assert (timer.topic.split(".")[0], timer.key) == ("timers", b"stripe:po_1")
    (again,) = reports.send(fired(timer.record, timer.record.due_at))
    assert (again.topic, again.record.number) == (topics.REPORT_REQUESTS, 2)


def test_a_report_that_is_given_up_is_told_to_the_operator_once(drive: Drive, logged: io.StringIO) -> None:
    def given_up() -> float:
        return REGISTRY.get_sample_value("settlement_reports_given_up_total", {"provider": "adyen"}) or 0

    before, reports = given_up(), drive("reports")
    announced = ReportAnnounced(
        report="adyen:a.csv", provider="adyen", reference="a.csv", event_id="item_1", announced_at=NOW
    )
    (asked,) = reports.send(announced)
    read = ReportRead(
        report="adyen:a.csv", request_id=asked.record.request_id, outcome=ReadOutcome.REFUSED, detail="403", read_at=NOW
    )
    assert (reports.send(read), reports.send(read)) == ([], [])
    assert given_up() == before + 1
    (line,) = [line for line in logged.getvalue().splitlines() if "payments reports list" in line]
    assert '"report":"adyen:a.csv"' in line
