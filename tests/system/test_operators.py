"""What operators see and do, on the whole system: explain, what if, timers, reviews, orphans, unknown codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from connectors.provider import UnroutedReason
from pipeline import clock, ids, topics
from pipeline.codec import Codec, Registry
from pipeline.headers import headers_of
from pipeline.kafka import producer_config
from pipeline.messages import Record
from pipeline.messages.inputs import TimerFired
from pipeline.messages.routing import UnroutedEvent
from pipeline.messages.values import Operation, TimerKind
from pipeline.settings import PROJECT
from tests.system.conftest import System, until
from tests.system.test_chain import WAIT, Calls

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

EFFECTS = {
    topics.COMMANDS, topics.EVENTS, topics.JOURNAL, topics.requests("stripe"), *(t.value for t in topics.PublicTopic),
}  # fmt: skip
RESCUED = "pm_sim_declineTimes1_insufficient_funds"


def payments(system: System, *arguments: str, code: int = 0) -> str:
    """What a `payments` command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *arguments],
        cwd=PROJECT, env={**os.environ, "PAYMENTS_HOME": str(system.home), "COLUMNS": "200"},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == code, f"payments {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def status(calls: Calls, payment: str) -> str:
    answer: str = calls.client.get(f"/intents/{payment}").json()["status"]
    return answer


def attempts(calls: Calls, payment: str) -> list[Any]:
    found: list[Any] = calls.client.get(f"/intents/{payment}").json()["attempts"]
    return found


@pytest.fixture(scope="module")
def rescued(system: System) -> str:
    """A payment that was declined softly, approved by a retry, captured and partly refunded."""
    calls = Calls(system)
    payment = calls.create(token=RESCUED)
    declined = calls.post(f"/intents/{payment}/authorize", {}, 402, **WAIT)["intent"]
    assert declined["retry"]["decline"]["code"] == "insufficient_funds"
    until(lambda: status(calls, payment) == "authorized", "the retry is approved")
    calls.post(f"/intents/{payment}/capture", {"amount": "60.00"}, 200, **WAIT)
    calls.post(f"/intents/{payment}/refund", {"amount": "10.00"}, 200, **WAIT)
    return payment


def test_the_timeline_is_whole(system: System, rescued: str) -> None:
    calls = Calls(system)
    seen: dict[str, Any] = {}

    def is_whole() -> bool:
        seen.update(calls.client.get(f"/intents/{rescued}/timeline").json())
        return "payments.refunded" in {entry["topic"] for entry in seen["entries"]}

    until(is_whole, "the public event of the refund is in the timeline")
    assert seen["complete"], seen["missing_facts"]
    by_kind: dict[str, set[str]] = {}
    for entry in seen["entries"]:
        by_kind.setdefault(entry["kind"], set()).add(entry["name"])
    assert by_kind["command"] == {"CreateIntent", "Authorize", "Capture", "Refund"}
    assert by_kind["report"] == {"ProviderReport"}
    assert by_kind["plan"] == {"RetryPlanned"}
    assert by_kind["timer_fired"] >= {"TimerFired"}
    assert by_kind["request"] >= {"AuthorizeRequest", "CaptureRequest", "RefundRequest"}
    assert {"AttemptDeclined", "RetryScheduled", "PaymentAuthorized", "PaymentCaptured"} <= by_kind["fact"]
    assert by_kind["public_event"] == {
        "payments.created", "payments.authorized", "payments.captured", "payments.refunded",
    }  # fmt: skip
    places = [(entry["topic"], entry["partition"], entry["offset"]) for entry in seen["entries"]]
    assert len(set(places)) == len(places)
    facts = [entry for entry in seen["entries"] if entry["kind"] == "fact"]
    assert all(entry["rule"] for entry in facts), "the log recomputes to the facts that are in it"
    retried = next(entry for entry in facts if entry["name"] == "RetryScheduled")
    assert "by the policy's rule local_soft" in retried["summary"]
    points = {operation["kind"]: operation["recovery_point"] for operation in seen["operations"]}
    assert points == dict.fromkeys(("CreateIntent", "Authorize", "Capture", "Refund"), "completed")


def test_an_operation_has_its_recovery_points(system: System, rescued: str) -> None:
    calls = Calls(system)
    operation = next(
        o for o in calls.client.get(f"/intents/{rescued}/timeline").json()["operations"] if o["kind"] == "Capture"
    )
    found = calls.client.get(f"/intents/{rescued}/operations/{operation['operation_id']}").json()
    assert list(found["recovery_points"]) == ["started", "validated", "authorized", "ledger_written", "completed"]
    times = list(found["recovery_points"].values())
    assert times == sorted(times)


def test_nobody_reads_anothers_timeline(system: System, rescued: str) -> None:
    import httpx

    from gateway.keys import create_key

    key = create_key(system.settings.reveal("postgres_gateway_url"), "mallory")
    answer = httpx.get(f"{system.base}/intents/{rescued}/timeline", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 404


def test_explain_says_what_the_timeline_says(system: System, rescued: str) -> None:
    shown = Calls(system).client.get(f"/intents/{rescued}/timeline").json()["entries"]
    lines = [json.loads(line) for line in payments(system, "explain", rescued, "--json").splitlines()]
    assert [(e["topic"], e["offset"]) for e in lines] == [(e["topic"], e["offset"]) for e in shown]
    scanned = [json.loads(line) for line in payments(system, "explain", rescued, "--json", "--scan").splitlines()]
    assert {(e["topic"], e["offset"]) for e in lines} <= {(e["topic"], e["offset"]) for e in scanned}
    text = payments(system, "explain", rescued)
    assert "authorization: authorizing + declined → declined" in text
    assert "all facts found" in text
    assert "no payment" in payments(system, "explain", "00000000-0000-0000-0000-000000000000", code=1)


def ends(system: System) -> dict[tuple[str, int], int]:
    """The end of every partition in which a change would be an effect. Timers that no longer apply go their way in the
    others.
    """
    consumer = Consumer({"bootstrap.servers": system.settings.kafka_bootstrap, "group.id": "ends"})
    found = {}
    for name, topic in consumer.list_topics(timeout=10).topics.items():
        if name in EFFECTS:
            for partition in topic.partitions:
                found[name, partition] = consumer.get_watermark_offsets(TopicPartition(name, partition), timeout=10)[1]
    consumer.close()
    return found


def test_what_if_reports_and_touches_nothing(system: System, rescued: str, tmp_path: Path) -> None:
    before = ends(system)
    local = PROJECT / "pipeline" / "policies" / "local.toml"
    same = json.loads(payments(system, "whatif", "--policy", str(local), "--json"))
    assert (same["total"]["saved"], same["total"]["gained"], same["total"]["lost"]) == (0, 0, 0)
    never = tmp_path / "never.toml"
    never.write_text('[[rules]]\nname = "never"\nnever = true\n')
    report = json.loads(payments(system, "whatif", "--policy", str(never), "--json"))
    assert report["codes"]["insufficient_funds"]["lost"] >= 1
    assert report["codes"]["insufficient_funds"]["saved"] >= 1
    assert report["model"] in payments(system, "whatif", "--policy", str(never)).replace("\n", " ").replace("  ", " ")
    never.write_text("[[rules]]\n")
    assert "the retry policy is wrong" in payments(system, "whatif", "--policy", str(never), code=2)
    assert ends(system) == before


def test_timers_are_counted(system: System) -> None:
    calls = Calls(system)
    payment = calls.create()
    calls.post(f"/intents/{payment}/authorize", {}, 200, **WAIT)
    text = payments(system, "timers", "--all", "--upcoming", "100")
    rows = [line for line in text.splitlines() if payment in line]
    cells = [[cell.strip() for cell in line.split("│")] for line in text.splitlines() if "│" in line]
    (pending,) = [row[2] for row in cells if row[1] == "1d"]
    assert int(pending) > 0, "the hold's warning waits among the days, behind what falls due sooner"
    assert any("recovery" in row for row in rows), "a timer that no longer applies still falls due, and is ignored"


def test_an_unknown_code_is_listed(system: System) -> None:
    """No card of the simulator declines with a code that nobody knows, so the list is empty; and the query runs."""
    assert "every decline code" in payments(system, "declines", "unknown")
    assert "hard" in payments(system, "declines", "show", "stripe", "generic_decline", "--network", "57")


def test_an_event_that_fits_nothing_is_listed_until_somebody_has_looked(system: System) -> None:
    """Its hour has passed, and nobody knows the payment that it names."""
    event_id, reference, now = f"evt_{uuid4().hex}", f"stripe:pi_{uuid4().hex}", clock.now()
    event = UnroutedEvent(
        reference=reference,
        provider="stripe",
        event_id=event_id,
        event_type="charge.dispute.created",
        reason=UnroutedReason.UNKNOWN_PAYMENT,
        received_at=now,
        body=b"{}",
    )
    due = TimerFired(
        payment_id=reference,
        occurred_at=now,
        timer_id=ids.timer_id(reference, TimerKind.UNROUTED, event_id, 1),
        kind=TimerKind.UNROUTED,
        subject_id=event_id,
        operation=Operation.AUTHORIZE,
        generation=1,
        due_at=now,
    )
    produce(system, topics.UNROUTED, reference, event)
    produce(system, topics.UNROUTED, reference, due)
    until(lambda: event_id in system.run("unmatched", "list").stdout, "the event is listed")
    assert "charge.dispute.created" in payments(system, "unmatched", "types")
    assert "1 sent" in payments(system, "unmatched", "replay", event_id)
    assert "no such event" in payments(system, "unmatched", "replay", "evt_nobody", code=1)
    assert "name one" in payments(system, "unmatched", "replay", code=1)
    resolve = ("unmatched", "resolve", event_id, "--reason", "another shop's", "--operator", "ada")
    assert "resolved" in payments(system, *resolve)
    assert event_id not in system.run("unmatched", "list").stdout
    assert "resolved by ada" in system.run("unmatched", "list", "--all").stdout
    assert "needs nobody" in payments(system, *resolve, code=1)


def produce(system: System, topic: str, key: str, record: Record) -> None:
    """A record as a process of the pipeline would write it."""
    producer = Producer(producer_config(system.settings, "test"))
    value = Codec(Registry(system.settings.registry_url)).encode(record)
    producer.produce(topic, key=key, value=value, headers=headers_of(record, "test"))
    assert producer.flush(30) == 0


def fire(system: System, payment: str, subject: str, generation: int) -> None:
    """A recovery timer falls due before its time."""
    timer = TimerFired(
        payment_id=payment,
        occurred_at=clock.now(),
        timer_id=ids.timer_id(payment, TimerKind.RECOVERY, subject, generation),
        kind=TimerKind.RECOVERY,
        subject_id=subject,
        operation=Operation.AUTHORIZE,
        generation=generation,
        due_at=clock.now(),
    )
    produce(system, topics.INTAKE, payment, timer)


def test_an_operator_resolves_what_nobody_could_find_out(system: System) -> None:
    """Stripe did it, answered 500, sends no webhook, and answers no question."""
    calls, simulator = Calls(system), system.simulator()
    payment = calls.create(amount="42.00")
    about = {"payment_id": payment, "count": None}
    simulator.post("/_sim/faults", json={"kind": "webhook_never", **about})
    simulator.post("/_sim/faults", json={"kind": "server_error_after", "operation": "authorize", **about})
    blind = simulator.post("/_sim/faults", json={"kind": "unavailable", "method": "GET", "count": None}).json()["id"]
    try:
        calls.post(f"/intents/{payment}/authorize", {}, 202, Prefer="wait=1")
        until(lambda: attempts(calls, payment), "the attempt is known")
        attempt = attempts(calls, payment)[0]["attempt_id"]
        for generation in range(1, 7):
            fire(system, payment, attempt, generation)
        until(lambda: status(calls, payment) == "needs_review", "every look-up failed")
        assert payment in payments(system, "review", "list")
        entries = simulator.get("/_sim/book/entries", params={"payment_id": payment}).json()
        reference = entries[0]["reference"]
        resolve = ("review", "resolve", payment, attempt, "--outcome", "done", "--reason", "seen in the dashboard")
        assert "give it with --reference" in payments(system, *resolve, code=1)
        text = payments(system, *resolve, "--reference", reference, "--operator", "ada")
        assert "the payment is authorized" in text
    finally:
        simulator.delete(f"/_sim/faults/{blind}")
    assert payment not in payments(system, "review", "list")
    rows = system.query("SELECT type FROM payments.facts WHERE payment_id = %s ORDER BY sequence", payment)
    assert [row[0] for row in rows][-2:] == ["ReviewResolved", "PaymentAuthorized"]
    decided = next(
        entry for entry in calls.client.get(f"/intents/{payment}/timeline").json()["entries"]
        if entry["name"] == "ReviewResolved"
    )  # fmt: skip
    assert "operator ada" in decided["summary"]
    assert "seen in the dashboard" in decided["summary"]
    calls.post(f"/intents/{payment}/capture", {}, 200, **WAIT)


def test_what_was_approved_after_we_gave_up_goes_back(system: System) -> None:
    """The customer confirms while the merchant cancels, and the cancellation never reaches the provider."""
    calls, simulator = Calls(system), system.simulator()
    payment = calls.create(token="pm_card_authenticationRequired", amount="17.00")
    waiting = calls.post(f"/intents/{payment}/authorize", {}, 200, **WAIT)
    action = waiting["attempts"][0]["next_action"]["url"]
    lost = simulator.post("/_sim/faults", json={"kind": "reset_before", "operation": "void", "count": None}).json()
    assert calls.post(f"/intents/{payment}/cancel", {}, 200, **WAIT)["status"] == "canceled"
    simulator.post(action, params={"outcome": "success"})
    until(lambda: "AuthorizationOrphaned" in _types(system, payment), "the approval is known for an orphan")
    simulator.delete(f"/_sim/faults/{lost['id']}")
    until(lambda: "OrphanReturned" in _types(system, payment), "the hold is given back", 120)
    page = system.book([payment])[0]
    assert (page["authorized"], page["captured"]) == (1_700, 0)
    assert page["voided"] == 1_700
    held = system.query(
        "SELECT sum(CASE side WHEN 'debit' THEN amount ELSE -amount END) FROM ledger.postings "
        "JOIN ledger.entries USING (entry_id) WHERE payment_id = %s AND account LIKE 'holds_receivable:%%'",
        payment,
    )
    assert held == [(0,)]
    assert calls.client.get(f"/intents/{payment}").json()["attempts"][0]["state"] == "returned"


def _types(system: System, payment: str) -> list[str]:
    rows = system.query("SELECT type FROM payments.facts WHERE payment_id = %s ORDER BY sequence", payment)
    return [row[0] for row in rows]
