"""What holds for every stage: nothing is dropped, nothing forged passes, a bug stops it, state follows commits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace
from quixstreams.models.topics.exceptions import TopicNotFoundError

from pipeline import topics
from pipeline.codec import Codec, LocalIds
from pipeline.dead_letters import MAX_VALUE
from pipeline.messages import Record
from pipeline.messages.commands import CreateIntent
from pipeline.messages.facts import AttemptDeclined, Fact
from pipeline.messages.inputs import ProviderReport
from pipeline.messages.reports import ReportAnnounced
from pipeline.messages.timers import Timer
from pipeline.messages.values import Decline, DeclineCategory, Operation, Outcome, TimerKind
from tests.domain.samples import NOW, PAYMENT, VISA, commands, report, unrouted_event
from tests.domain.test_settlement import CHARGE
from tests.topologies.conftest import TOPOLOGIES
from tests.topologies.driver import Driver
from topologies.stage import Delivered, Stage

CODEC = Codec(LocalIds())
CREATE = commands()[0]
DECLINED = AttemptDeclined(
    fact_id="f", payment_id=PAYMENT, merchant_id="acme", sequence=3, occurred_at=NOW, cause_id="c", operation_id="o",
    attempt_id="a", number=1, provider="stripe", amount=1, currency="USD",
    decline=Decline(category=DeclineCategory.SOFT, code="do_not_honor", raw_code="x"),
)  # fmt: skip
ACCEPTED: dict[str, Record] = {
    "intake": CREATE,
    "authorization": CREATE,
    "capture": DECLINED,
    "retry": DECLINED,
    "ledger": DECLINED,
    "routing": unrouted_event(reference=PAYMENT),
    "settlement": replace(CHARGE, line_id=PAYMENT),
    "reports": ReportAnnounced(report=PAYMENT, provider="stripe", reference="po_1", event_id="evt_1", announced_at=NOW),
}
FOREIGN = Timer(
    timer_id="t", payment_id=PAYMENT, kind=TimerKind.RETRY, subject_id="a", operation=Operation.AUTHORIZE, generation=0,
    set_at=NOW, due_at=NOW,
)  # fmt: skip
Drive = Callable[[str], Driver]


@pytest.mark.parametrize("name", TOPOLOGIES)
@pytest.mark.parametrize(
    ("value", "key", "reason"),
    [
        (b"junk", b"key", "undecodable"),
        (b"", None, "undecodable"),
        (None, b"key", "undecodable"),
        (b"\x00\x00\x00\x00\x63body", b"key", "undecodable"),
        (CODEC.encode(FOREIGN), PAYMENT.encode(), "unexpected_type"),
    ],
)
def test_what_is_no_record_of_the_stage_is_dead_lettered_whole(
    drive: Drive, name: str, value: bytes | None, key: bytes | None, reason: str
) -> None:
    driver = drive(name)
    driver.send(ACCEPTED[name])
    (written,) = driver.send_raw(value, key, at=NOW + 5)
    assert (written.topic, written.key) == (topics.dlq(driver.source), key)
    letter = written.record
    assert (letter.stage, letter.reason, letter.topic) == (name, reason, driver.source)
    assert (letter.partition, letter.offset, letter.failed_at) == (0, 1, NOW + 5)
    assert (letter.key, letter.value) == (key, value)


@pytest.mark.parametrize("name", TOPOLOGIES)
@pytest.mark.parametrize("key", [None, b"", b"another", PAYMENT.upper().encode()])
def test_a_record_under_another_payments_key_is_forged(drive: Drive, name: str, key: bytes | None) -> None:
    driver = drive(name)
    value = CODEC.encode(ACCEPTED[name])
    (written,) = driver.send_raw(value, key)
    assert written.topic == topics.dlq(driver.source)
    assert (written.record.reason, written.record.value) == ("key_mismatch", value)


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_card_data_never_reaches_a_dead_letter(drive: Drive, name: str) -> None:
    driver = drive(name)
    (written,) = driver.send_raw(b'{"card": "4242 4242 4242 4242"}', b"5555555555554444")
    assert written.key is None
    assert (written.record.key, written.record.value) == (None, None)
    assert "withheld: looks like card data" in written.record.detail
    assert b"4242" not in written.value
    assert b"5555" not in written.value


def test_a_dead_letter_fits_its_topic(drive: Drive) -> None:
    driver = drive("authorization")
    (written,) = driver.send_raw(b"x" * (MAX_VALUE + 1), b"key")
    assert written.record.value is None
    assert "withheld" in written.record.detail


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_every_output_carries_the_cause_s_trace_and_its_own_identity(drive: Drive, name: str) -> None:
    trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    driver = drive(name)
    outputs = driver.send(ACCEPTED[name], headers=[("traceparent", trace)])
    for written in outputs:
        headers = dict(written.headers)
        assert headers["traceparent"] == trace
        assert headers["ce_source"] == f"/payments/{name}".encode()
        assert headers["ce_type"] == f"payments.v1.{type(written.record).__name__}".encode()
        assert written.key == PAYMENT.encode()


def test_a_bug_stops_the_stage(tmp_path: Any) -> None:
    def bug(delivered: Delivered) -> list[Record]:
        raise ZeroDivisionError

    def topology(stage: Stage) -> None:
        stage.maps(source=topics.EVENTS, accepts=(Fact,), step=bug, to=topics.JOURNAL)

    driver = Driver("broken", topology, tmp_path)
    with pytest.raises(ZeroDivisionError):
        driver.send(DECLINED)
    assert driver.written == []


def test_an_unknown_topic_fails_when_the_stage_is_built(tmp_path: Any) -> None:
    def topology(stage: Stage) -> None:
        stage.maps(source=topics.EVENTS, accepts=(Fact,), step=lambda delivered: [], to="payments.evnets")

    with pytest.raises(TopicNotFoundError, match=r"payments\.evnets"):
        Driver("misspelt", topology, tmp_path)


def test_uncommitted_state_is_forgotten_and_the_repeat_writes_the_same_bytes(drive: Drive) -> None:
    driver = drive("authorization")
    driver.send(CREATE)
    driver.commit()
    first = driver.send(commands()[3])
    driver.crash()
    again = driver.send(commands()[3])
    assert [(out.topic, out.key, out.value, out.headers) for out in again] == [
        (out.topic, out.key, out.value, out.headers) for out in first
    ]
    driver.commit()
    assert driver.send(commands()[3]) == [], "the same command again changes nothing"


def test_committed_state_survives_a_restart(drive: Drive) -> None:
    driver = drive("authorization")
    driver.send(replace(CREATE, payment_method=VISA))
    driver.commit()
    driver = drive("authorization")
    names = [type(written.record).__name__ for written in driver.send(commands()[2])]
    assert names == ["AttemptStarted", "AuthorizeRequest", "Timer"]


def test_what_another_stage_owns_passes_byte_for_byte(drive: Drive) -> None:
    driver = drive("authorization")
    driver.send(replace(CREATE, payment_method=VISA))
    attempt = driver.send(commands()[2])[0].record.attempt_id
    driver.send(report(Operation.AUTHORIZE, Outcome.APPROVED, attempt))
    headers = [("traceparent", b"00-aa-bb-01"), ("x", b"y")]
    value = CODEC.encode(commands()[4])
    (passed,) = driver.send_raw(value, PAYMENT.encode(), headers=headers)
    assert (passed.topic, passed.key, passed.value, passed.headers) == (
        topics.AUTHORIZATIONS,
        PAYMENT.encode(),
        value,
        headers,
    )


def test_outputs_keep_the_decision_s_order_and_go_where_they_belong(drive: Drive) -> None:
    driver = drive("authorization")
    assert isinstance(CREATE, CreateIntent)
    driver.send(CREATE)
    written = driver.send(commands()[3])
    assert [(type(out.record).__name__, out.topic) for out in written] == [
        ("MethodSet", topics.AUTHORIZATIONS),
        ("AttemptStarted", topics.AUTHORIZATIONS),
        ("AuthorizeRequest", topics.requests("stripe")),
        ("Timer", topics.tier("1d")),
    ]


def test_payments_do_not_share_state(drive: Drive) -> None:
    driver = drive("authorization")
    driver.send(replace(CREATE, payment_method=VISA))
    other = replace(commands()[2], payment_id=PAYMENT.replace("7b", "8c"))
    assert [written.record.reason for written in driver.send(other)] == ["payment_not_found"]
    stray = replace(report(Operation.CAPTURE, Outcome.APPROVED, "x"), payment_id=other.payment_id)
    assert isinstance(stray, ProviderReport)
    assert driver.send(stray) == []
