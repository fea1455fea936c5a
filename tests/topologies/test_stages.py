"""Each stage does what its row in the picture says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from pipeline import topics
from pipeline.codec import Codec, LocalIds
from pipeline.domain.chain import PaymentChain
from pipeline.domain.postings import journal_record
from pipeline.messages.commands import Capture, CreateIntent, Refund
from pipeline.messages.facts import AttemptStarted, PaymentAuthorized
from pipeline.messages.inputs import RetryPlanned
from pipeline.messages.values import CaptureMethod, DeclineCategory, Operation, Outcome
from tests.domain.samples import NOW, PAYMENT, VISA, commands, report
from tests.domain.test_retry import declined, started
from tests.topologies.conftest import SCHEDULE
from tests.topologies.driver import Driver, Written
from topologies.intake import MAX_COMMAND

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
