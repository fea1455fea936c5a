"""The books of the running system: proved, corrected, proved again; and what `payments verify` says when they are not
right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from dotenv import dotenv_values

from tests.system.conftest import System
from tests.system.test_chain import WAIT, Calls

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

MISTAKE = ("--reason", "captured twice by mistake", "--operator", "ann")


@contextmanager
def tampered(system: System, payment: str) -> Iterator[None]:
    """While a superuser has halved what a payment's postings moved, past every guard."""
    url = dotenv_values(system.home / "stack.env")["PAYMENTS_POSTGRES_ADMIN_URL"]
    assert url is not None
    database = system.settings.reveal("postgres_owner_url").rsplit("/", 1)[1]
    change = (
        "UPDATE ledger.postings SET amount = amount {} 2 WHERE entry_id IN"
        " (SELECT entry_id FROM ledger.entries WHERE payment_id = %s)"
    )
    with psycopg.connect(f"{url.rsplit('/', 1)[0]}/{database}", autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(change.format("/").encode(), [payment])
        yield
        connection.execute(change.format("*").encode(), [payment])


def test_the_books_are_proved_and_corrected(system: System) -> None:
    calls = Calls(system)
    payment = calls.create()
    calls.post(f"/intents/{payment}/authorize", {}, 200, **WAIT)
    calls.post(f"/intents/{payment}/capture", {"amount": "60.00"}, 200, **WAIT)
    assert "Postgres has what the log says" in system.command("verify")
    account = "/accounts/merchant_payable:acme:USD"
    before = calls.client.get(f"{account}/balance").json()
    listed = calls.client.get(f"{account}/entries").json()["data"]
    entry = next(item["entry_id"] for item in listed if item["payment_id"] == payment)

    said = system.command("ledger", "reverse", entry, *MISTAKE)
    assert said.startswith(f"{entry} is reversed by ")
    reversing = said.split()[-1]
    shown = calls.client.get(f"/journal/{reversing}").json()
    assert (shown["reverses"], shown["reason"]) == (entry, "captured twice by mistake")
    assert calls.client.get(f"/journal/{entry}").json()["reversed_by"] == reversing
    after = calls.client.get(f"{account}/balance").json()
    assert round(100 * (float(after["balance"]) - float(before["balance"]))) == 6_000
    assert calls.client.get(f"/intents/{payment}").json()["status"] == "captured"

    again = system.command("ledger", "reverse", entry, *MISTAKE)
    assert again.strip() == f"{entry} is reversed by {reversing}, as it was before"
    for other, words in ((reversing, "is itself the reversal of"), (payment, "there is no entry")):
        refused = system.run("ledger", "reverse", other, *MISTAKE)
        assert (refused.returncode, words in refused.stdout) == (1, True), refused.stdout
    refused = system.run("ledger", "reverse", entry, "--reason", "again", "--operator", "bob")
    assert refused.returncode == 1
    assert "is reversed already" in refused.stdout

    proved = system.command("verify")
    assert re.search(r"all chains: [0-9a-f]{64}", proved)
    assert "EntryReversed" in system.command("ledger", "export")
    assert "total" in system.command("verify", "--at", "2100-01-01T00:00:00Z")
    assert re.search(r"all chains: [0-9a-f]{64}", system.command("verify", "--rows"))


def test_books_that_were_changed_are_not_proved(system: System) -> None:
    calls = Calls(system)
    payment = calls.create()
    calls.post(f"/intents/{payment}/authorize", {}, 200, **WAIT)
    system.command("verify")
    with tampered(system, payment):
        for options in ((), ("--rows",)):
            found = system.run("verify", *options)
            assert found.returncode == 1
            assert f"payment {payment}" in found.stdout
    assert "50.00 USD" not in system.command("verify")
