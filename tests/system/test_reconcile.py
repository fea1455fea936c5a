"""The provider's published report of what it really charged, against the books that the whole system kept."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from time import sleep
from typing import Any

import pytest

from pipeline.domain.reports import ReportState, Status
from pipeline.reports_cli import states
from pipeline.settings import PROJECT
from tests.system.conftest import System, running, until
from tests.system.test_chain import WAIT, Calls

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system whose provider and books have these tests' payments only."""
    with running(tmp_path_factory.mktemp("reconciled")) as made:
        yield made


def reconcile(system: System, report: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """`payments reconcile stripe <report> --json`: its exit code and what it says."""
    environment = {**os.environ, "PAYMENTS_HOME": str(system.home)}
    command = [sys.executable, "-m", "pipeline.cli", "reconcile", "stripe", str(report), "--json", *options]
    done = subprocess.run(
        command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout)


def fetch(system: System, name: str, to: Path) -> Path:
    """One of the simulator's reports as a file."""
    with system.simulator() as simulator:
        to.write_text(simulator.get(f"/_sim/stripe/{name}.csv").raise_for_status().text)
    return to


def reports(system: System) -> list[ReportState]:
    """How each report stands that a provider announced."""
    return list(states(system.settings).values())


def balances(system: System) -> dict[str, int]:
    query = "SELECT account, balance FROM ledger.balances WHERE currency = 'USD' AND balance <> 0"
    return {account.rsplit(":", 1)[0]: balance for account, balance in system.query(query)}


def test_a_days_payments_are_reconciled_and_paid_out(system: System, tmp_path: Path) -> None:
    calls = Calls(system)
    captured = [calls.create(), calls.create("50.00"), calls.create("20.00")]
    for payment in captured:
        calls.post(f"/intents/{payment}/authorize", {}, 200, **WAIT)
    calls.post(f"/intents/{captured[0]}/capture", {"amount": "60.00"}, 200, **WAIT)
    calls.post(f"/intents/{captured[1]}/capture", {}, 200, **WAIT)
    calls.post(f"/intents/{captured[2]}/capture", {}, 200, **WAIT)
    calls.post(f"/intents/{captured[0]}/refund", {"amount": "10.00"}, 200, **WAIT)
    with system.simulator() as simulator:
        (payout,) = simulator.post("/_sim/stripe/payouts").json()
        simulator.post(f"/_sim/stripe/payouts/{payout['id']}", params={"outcome": "paid"}).raise_for_status()

    fees = 12_000 - payout["amount"]
    cleared = {"merchant_payable:acme": -12_000, "provider_fees:stripe": fees, "bank": payout["amount"]}
    until(lambda: balances(system) == cleared, "the payout's webhooks have fetched its report: nothing is left open")
    (posted,) = reports(system)
    assert (posted.status, posted.announced.reference, posted.lines) == (Status.POSTED, payout["id"], 6)

    activity = fetch(system, "balance_report", tmp_path / "activity.csv")
    code, said = reconcile(system, activity)
    assert (code, said["agrees"], said["differences"]) == (0, True, [])
    assert (said["lines"], said["known_before"], said["absent"]) == (4, 4, 0)
    (total,) = [one for one in said["sums"] if one["verdict"] == "matched"]
    assert (total["booked"], total["reported"]) == (12_000, 12_000)

    code, said = reconcile(system, fetch(system, "payouts_report", tmp_path / "payouts.csv"))
    assert code == 0
    (paid,) = said["payouts"]
    assert paid["clears"] is True
    assert (paid["earned"], paid["arrived"]) == (payout["amount"], payout["amount"])
    assert (said["lines"], said["known_before"]) == (2, 2)
    assert balances(system) == cleared, "what was fetched is known when it comes as a file"


def owed(system: System, provider: str) -> dict[str, int]:
    """What is open with a provider, by kind of account."""
    query = "SELECT split_part(account, ':', 1), balance FROM ledger.balances WHERE balance <> 0 AND account LIKE %s"
    found = dict(system.query(query, f"%:{provider}:USD"))
    return {kind: balance for kind, balance in found.items() if kind != "provider_fees"}


def test_a_batch_of_adyens_and_a_day_of_paypals_are_fetched(system: System) -> None:
    """Adyen's webhook names the report and its URL; PayPal's day is asked for by an operator, before it is over."""
    for provider, token in (("adyen", "adyen_ok"), ("paypal", "paypal_ok")):
        calls = Calls(system, provider)
        payment = calls.create("80.00", token=token)
        calls.post(f"/intents/{payment}/authorize", {}, 200, **WAIT)
        calls.post(f"/intents/{payment}/capture", {}, 202)
        calls.becomes(payment, "captured")
        assert owed(system, provider) == {"provider_receivable": 8_000}
    with system.simulator() as simulator:
        simulator.post("/_sim/adyen/batches").raise_for_status()
    until(lambda: owed(system, "adyen") == {"payout_in_transit": 8_000 - 12 - 80}, "Adyen has paid out")
    system.command("reports", "fetch", "paypal", f"{datetime.now(UTC):%Y-%m-%d}")
    until(lambda: owed(system, "paypal") == {"provider_balance": 8_000 - 328}, "PayPal has confirmed it")
    assert "posted" in system.command("reports", "list")


def test_a_fetcher_that_is_killed_loses_nothing_and_doubles_nothing(system: System) -> None:
    calls = Calls(system)
    payment = calls.create("70.00")
    calls.post(f"/intents/{payment}/authorize", {}, 200, **WAIT)
    calls.post(f"/intents/{payment}/capture", {}, 200, **WAIT)
    before = balances(system)
    with system.simulator() as simulator:
        (payout,) = simulator.post("/_sim/stripe/payouts").json()
        for _ in range(3):
            with suppress(LookupError):  # not started again yet
                system.process("fetcher").kill()
            sleep(0.4)
        simulator.post(f"/_sim/stripe/payouts/{payout['id']}", params={"outcome": "paid"}).raise_for_status()
    arrived = before.get("bank", 0) + payout["amount"]
    until(lambda: balances(system).get("bank") == arrived, "the payout is at the bank")
    query = "SELECT kind FROM settlement.lines WHERE payout_id = %s ORDER BY kind"
    assert system.query(query, payout["id"]) == [("charge",), ("payout",), ("payout_arrived",)]
    until(lambda: all(state.status is Status.POSTED for state in reports(system)), "every report was read")


def test_planted_differences_are_each_named(system: System, tmp_path: Path) -> None:
    """A charge that we did not make, a capture that the report lacks, another amount, another fee; and a line that says
    something else the second time is not taken.
    """
    calls = Calls(system)
    payments = [calls.create() for _ in range(4)]
    for payment in payments:
        calls.post(f"/intents/{payment}/authorize", {}, 200, **WAIT)
        calls.post(f"/intents/{payment}/capture", {}, 200, **WAIT)
    known = {row[0] for row in system.query("SELECT provider_line FROM settlement.lines")}
    report = fetch(system, "balance_report", tmp_path / "activity.csv")
    rows = [
        row for row in csv.DictReader(io.StringIO(report.read_text())) if row["balance_transaction_id"] not in known
    ]
    by_payment = {row["payment_metadata[payment_id]"]: row for row in rows}
    more, missing, dearer, right = payments
    by_payment[more] |= {"gross": "101.00", "net": "97.80"}
    by_payment[dearer] |= {"fee": "3.21", "net": "96.79"}
    stranger = by_payment[right] | {
        "balance_transaction_id": "txn_stranger", "payment_metadata[payment_id]": "", "payment_intent_id": "pi_other",
        "charge_id": "ch_other", "source_id": "ch_other",
    }  # fmt: skip
    planted = [row for row in rows if row["payment_metadata[payment_id]"] != missing] + [stranger]
    with report.open("w") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(planted)

    code, said = reconcile(system, report, "--until", "2100-01-01")
    found = {one["payment_id"] or one["reference"]: one for one in said["differences"]}
    assert code == 1
    assert {name: one["verdict"] for name, one in found.items()} == {
        more: "different_amount",
        missing: "missing_there",
        dearer: "different_fee",
        "ch_other": "missing_here",
    }
    assert (found[more]["booked"], found[more]["reported"]) == (10_000, 10_100)
    assert (found[dearer]["expected_fee"], found[dearer]["fee"]) == (320, 321)
    assert balances(system)["suspense:stripe"] == -10_000
    differing = system.query("SELECT verdict FROM settlement.differences ORDER BY 1")
    assert differing == [("different_amount",), ("different_fee",), ("missing_here",), ("missing_there",)]

    contradicting = fetch(system, "balance_report", tmp_path / "true.csv")
    code, said = reconcile(system, contradicting)
    assert code == 1
    assert (said["changed"], said["absent"]) == (2, 0)
    verdicts = [one["verdict"] for one in said["differences"]]
    assert "missing_there" not in verdicts, "the true report has what was missing"
    until(lambda: system.query("SELECT count(*) FROM settlement.lines WHERE provider_line = 'txn_stranger'"), "kept")


def test_a_malformed_report_is_refused_before_anything_is_posted(system: System, tmp_path: Path) -> None:
    before = system.query("SELECT count(*) FROM settlement.lines")
    report = fetch(system, "balance_report", tmp_path / "activity.csv")
    text = report.read_text()
    report.write_text(text + text.splitlines()[-1].replace("100.00", "1oo.00").replace("txn_", "txn_x") + "\n")
    environment = {**os.environ, "PAYMENTS_HOME": str(system.home)}
    command = [sys.executable, "-m", "pipeline.cli", "reconcile", "stripe", str(report)]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"line {len(text.splitlines()) + 1}" in done.stdout
    assert system.query("SELECT count(*) FROM settlement.lines") == before
