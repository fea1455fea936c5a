"""`kill -9` of each process in the middle of payments: one charge at the provider, balanced books, nothing lost."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from time import sleep, time
from typing import Any

import httpx
import pytest

from pipeline.run import PROCESSES
from tests.system.conftest import System, until

pytestmark = [pytest.mark.stack, pytest.mark.faults, pytest.mark.timeout(400)]

PAYMENTS = 12


@dataclass
class Merchant(threading.Thread):
    """A backend that makes payments and, as it should, repeats what was not answered, under the same key."""

    system: System
    name_: str
    payments: list[str] = field(default_factory=list)
    error: BaseException | None = None

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self.client = self.system.client(transport=httpx.HTTPTransport(retries=0))

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        try:
            for number in range(PAYMENTS):
                self._pay(f"{self.name_}-{number}")
        except BaseException as error:  # for the test to raise
            self.error = error

    def _pay(self, key: str) -> None:
        body = {"amount": "10.00", "currency": "USD", "provider": "stripe", "payment_method": {"token": "pm_card_visa"}}
        payment = self._call("/intents", f"{key}-create", body)["payment_id"]
        self.payments.append(payment)
        self._call(f"/intents/{payment}/authorize", f"{key}-authorize", {})
        until(lambda: self._status(payment) == "authorized", f"{payment} is authorized", 120)
        self._call(f"/intents/{payment}/capture", f"{key}-capture", {})

    def _call(self, path: str, key: str, body: dict[str, Any]) -> Any:
        """Until it is taken: connection errors, 409 while the first try runs, 429 and 5xx are tried again."""
        for _ in range(600):
            try:
                answer = self.client.post(path, json=body, headers={"Idempotency-Key": key})
            except httpx.HTTPError:
                sleep(0.2)
                continue
            if answer.status_code in {200, 201, 202}:
                return answer.json()
            assert answer.status_code in {409, 429, 500, 502, 503}, answer.text
            sleep(0.2)
        raise AssertionError(f"{path} was never taken")

    def _status(self, payment: str) -> str | None:
        try:
            found: str | None = self.client.get(f"/intents/{payment}").json().get("status")
        except (httpx.HTTPError, ValueError):
            return None
        return found


def pay_while(system: System, what: str, disturb: Any) -> list[str]:
    """Make payments, disturb the system in the middle of them, and wait until all are captured."""
    merchant = Merchant(system, f"{what}-{int(time() * 1000)}")
    merchant.start()
    until(lambda: len(merchant.payments) >= PAYMENTS // 4, "payments are under way")
    disturb()
    merchant.join(300)
    assert not merchant.is_alive(), "the merchant never got through"
    if merchant.error:
        raise merchant.error
    until(lambda: captured(system, merchant.payments) == PAYMENTS, "every payment is captured", 120)
    return merchant.payments


def captured(system: System, payments: list[str]) -> int:
    query = "SELECT count(*) FROM payments.payments WHERE status = 'captured' AND payment_id = ANY (%s::uuid[])"
    return int(system.query(query, payments)[0][0])


def check_books(system: System, payments: list[str]) -> None:
    """One charge each at the provider, two entries each in the ledger, both saying the same; nothing parked."""
    pages = system.book(payments)
    assert Counter(page["payment_id"] for page in pages) == dict.fromkeys(payments, 1), "charged once each"
    assert all((page["authorized"], page["captured"], page["refunded"]) == (1000, 1000, 0) for page in pages)
    entries = system.query(
        "SELECT description, count(*) FROM ledger.entries WHERE payment_id = ANY (%s::uuid[]) GROUP BY 1", payments
    )
    assert dict(entries) == {"PaymentAuthorized": len(payments), "PaymentCaptured": len(payments)}
    assert all(total == 0 for _, total in system.query("SELECT currency, sum(balance) FROM ledger.balances GROUP BY 1"))
    gaps = system.query(
        "SELECT payment_id FROM payments.facts WHERE payment_id = ANY (%s::uuid[]) "
        "GROUP BY 1 HAVING count(*) <> max(sequence)",
        payments,
    )
    assert gaps == []
    assert system.query("SELECT count(*) FROM payments.parked") == [(0,)]


@pytest.mark.parametrize("name", [name for name in PROCESSES if name != "reconciler"])
def test_killing_a_process_in_the_middle_of_payments(system: System, name: str) -> None:
    payments = pay_while(system, name, lambda: system.process(name).kill())
    check_books(system, payments)


@pytest.mark.parametrize("service", ["connect", "postgres", "kafka"])
def test_killing_a_service_in_the_middle_of_payments(system: System, service: str) -> None:
    def kill_and_bring_back() -> None:
        process = system.service(service)
        for part in [process, *process.children(recursive=True)]:
            part.kill()
        sleep(1)
        system.command("stack", "up")

    payments = pay_while(system, service, kill_and_bring_back)
    check_books(system, payments)
