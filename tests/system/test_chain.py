"""One payment's way through the whole system, and the guarantees around it."""

from __future__ import annotations

from time import time
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer

from pipeline import clock, topics
from pipeline.codec import Codec, Registry
from pipeline.domain.postings import entry_of
from pipeline.headers import headers_of
from pipeline.kafka import producer_config
from pipeline.messages.commands import Capture, CreateIntent
from pipeline.messages.deadletters import DeadLetter
from pipeline.messages.facts import Fact
from pipeline.messages.journal import JournalRecord
from pipeline.messages.public import PaymentEvent
from pipeline.messages.values import CaptureMethod
from tests.system.conftest import System, until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

WAIT = {"Prefer": "wait=20"}


class Calls:
    """The API with a fresh key for each call."""

    def __init__(self, system: System, provider: str = "stripe") -> None:
        self.client = system.client()
        self.provider = provider
        self.run, self.count = f"chain-{time()}", 0

    def post(self, path: str, body: dict[str, Any], expect: int, **headers: str) -> Any:
        self.count += 1
        answer = self.client.post(path, json=body, headers={"Idempotency-Key": f"{self.run}-{self.count}", **headers})
        assert answer.status_code == expect, answer.text
        return answer.json()

    def create(self, amount: str = "100.00", token: str = "pm_card_visa", **more: Any) -> str:
        body = {"amount": amount, "currency": "USD", "provider": self.provider, "payment_method": {"token": token}}
        payment: str = self.post("/intents", {**body, **more}, 201)["payment_id"]
        return payment

    def read(self, payment: str) -> Any:
        """The payment as it is now."""
        return self.client.get(f"/intents/{payment}").json()

    def becomes(self, payment: str, status: str) -> None:
        """Wait until the payment has that status."""
        until(lambda: self.read(payment)["status"] == status, f"{payment} is {status}")


def read(system: System, topic: str, payment: str, count: int) -> list[Any]:
    """The records of one payment on a topic, once there are `count`."""
    codec = Codec(Registry(system.settings.registry_url))
    consumer = Consumer(
        {
            "bootstrap.servers": system.settings.kafka_bootstrap,
            "group.id": f"test-{time()}",
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        }
    )
    consumer.subscribe([topic])
    found: list[Any] = []

    def enough() -> bool:
        records = [m for m in consumer.consume(500, 0.5) if not m.error() and m.key() == payment.encode()]
        found.extend(codec.decode(record.value()) for record in records)
        return len(found) >= count

    until(enough, f"{count} records of {payment} on {topic}")
    consumer.close()
    return found


def test_from_http_to_public_events(system: System) -> None:
    calls = Calls(system)
    payment = calls.create()
    assert calls.client.get(f"/intents/{payment}").status_code == 200, "what was accepted can be read at once"
    assert calls.post(f"/intents/{payment}/authorize", {}, 200, **WAIT)["status"] == "authorized"
    assert calls.post(f"/intents/{payment}/capture", {"amount": "60.00"}, 200, **WAIT)["status"] == "captured"
    facts = read(system, topics.EVENTS, payment, 5)
    assert [type(fact).__name__ for fact in facts] == [
        "IntentCreated",
        "AttemptStarted",
        "PaymentAuthorized",
        "CaptureRequested",
        "PaymentCaptured",
    ]
    assert [fact.sequence for fact in facts] == [1, 2, 3, 4, 5]
    assert all(isinstance(fact, Fact) for fact in facts)
    journal = read(system, topics.JOURNAL, payment, 5)
    assert all(isinstance(record, JournalRecord) for record in journal)
    assert [record.entry for record in journal] == [entry_of(fact) for fact in facts]
    for topic in (topics.PublicTopic.CREATED, topics.PublicTopic.AUTHORIZED, topics.PublicTopic.CAPTURED):
        (event,) = read(system, topic, payment, 1)
        assert isinstance(event, PaymentEvent)
        assert event.type == topic
    assert event.amount == 6_000
    assert event.payment.status == "captured"


def test_an_answer_and_its_webhooks_post_once(system: System) -> None:
    calls = Calls(system)
    payment = calls.create()
    calls.post(f"/intents/{payment}/authorize", {}, 200, **WAIT)
    calls.post(f"/intents/{payment}/capture", {}, 200, **WAIT)
    with system.simulator() as simulator:
        until(lambda: simulator.get("/_sim/stats").json()["webhooks_waiting"] == 0, "every webhook was taken")
        assert simulator.post("/_sim/webhooks/resend", params={"payment_id": payment}).json()["sent"] >= 2
        until(lambda: simulator.get("/_sim/stats").json()["webhooks_waiting"] == 0, "every webhook was taken again")
    reports = read(system, topics.INTAKE, payment, 7)
    assert sum(getattr(r, "source", None) == "webhook" for r in reports) >= 2, "webhooks come in as reports"
    marker = calls.create("1.00")
    calls.post(f"/intents/{marker}/void", {}, 200, **WAIT)
    entries = system.query("SELECT description FROM ledger.entries WHERE payment_id = %s", payment)
    assert sorted(entry for (entry,) in entries) == ["PaymentAuthorized", "PaymentCaptured"]


def test_a_lost_answer_is_looked_up_never_repeated_blindly(system: System) -> None:
    calls = Calls(system)
    payment = calls.create()
    fault = {"kind": "reset_after", "operation": "authorize", "payment_id": payment, "count": 1}
    with system.simulator() as simulator:
        assert simulator.post("/_sim/faults", json=fault).is_success
    calls.post(f"/intents/{payment}/authorize", {}, 202)
    until(lambda: calls.client.get(f"/intents/{payment}").json()["status"] == "authorized", "it is authorized")
    assert len(system.book([payment])) == 1


def test_a_soft_decline_is_rescued_by_a_retry(system: System) -> None:
    calls = Calls(system)
    payment = calls.create(token="pm_sim_declineTimes1_insufficient_funds")
    problem = calls.post(f"/intents/{payment}/authorize", {}, 402, **WAIT)
    assert problem["decline"]["code"] == "insufficient_funds"
    until(lambda: calls.client.get(f"/intents/{payment}").json()["status"] == "authorized", "the retry rescued it")
    attempts = calls.client.get(f"/intents/{payment}").json()["attempts"]
    assert [attempt["state"] for attempt in attempts] == ["declined", "succeeded"]


def test_commands_through_kafka_have_the_same_checks(system: System) -> None:
    """A good one makes a payment; a bad one is a dead letter with its reason and place; neither stops the other."""
    codec = Codec(Registry(system.settings.registry_url))
    producer = Producer(producer_config(system.settings, "test"))
    payment = "0b8f1d6e-7f53-5d6e-9d0e-2f6a1c1d3a55"
    who: dict[str, Any] = {"merchant_id": "acme", "payment_id": payment, "occurred_at": clock.now()}
    good = CreateIntent(
        command_id="good", amount=700, currency="EUR", provider="stripe", capture_method=CaptureMethod.MANUAL, **who
    )
    bad = Capture(command_id="bad", amount=-5, **who)
    for value in (b"not avro", codec.encode(bad), codec.encode(good), codec.encode(good)):
        producer.produce(topics.COMMANDS, key=payment, value=value, headers=headers_of(good, "test"))
    producer.flush(30)
    letters = read(system, topics.dlq(topics.COMMANDS), payment, 2)
    assert all(isinstance(letter, DeadLetter) and letter.topic == topics.COMMANDS for letter in letters)
    assert letters[0].reason == "undecodable"
    until(lambda: system.query("SELECT status FROM payments.payments WHERE payment_id = %s", payment), "it is there")
    facts = system.query("SELECT type FROM payments.facts WHERE payment_id = %s", payment)
    assert facts == [("IntentCreated",)], "the same command twice is one payment"


def test_a_dispute_finds_its_payment_and_the_merchant_bears_the_loss(system: System) -> None:
    """Stripe's dispute names its own payment intent only: the routing stage knows whose that is."""
    calls = Calls(system)
    payment = calls.create(token="pm_card_createDispute")
    calls.post(f"/intents/{payment}/authorize", {}, 200, **WAIT)
    calls.post(f"/intents/{payment}/capture", {}, 200, **WAIT)

    def dispute() -> dict[str, Any]:
        found: list[dict[str, Any]] = calls.client.get(f"/intents/{payment}").json()["disputes"]
        return found[0] if found else {"withdrawn": None, "status": None}

    until(lambda: dispute()["withdrawn"] == "100.00", "the disputed money is withdrawn")
    with system.simulator() as simulator:
        reference = dispute()["dispute_reference"]
        headers = {"Authorization": f"Bearer {system.settings.reveal('stripe_api_key')}"}
        assert simulator.post(f"/v1/disputes/{reference}/close", headers=headers).is_success
    until(lambda: dispute()["status"] == "lost", "it is lost")
    events = [event.dispute.status for event in read(system, "payments.disputed", payment, 2)]
    assert events == ["open", "lost"]
    legs = system.query(
        "SELECT split_part(account, ':', 1), sum(CASE side WHEN 'debit' THEN amount ELSE -amount END)::bigint "
        "FROM ledger.postings JOIN ledger.entries USING (entry_id) WHERE payment_id = %s GROUP BY 1",
        payment,
    )
    balances = {account: balance for account, balance in legs if balance}
    assert balances == {"provider_receivable": -1_500, "dispute_fees": 1_500}
