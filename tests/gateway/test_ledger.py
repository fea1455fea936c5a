"""A merchant's own books over HTTP."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from jsonschema import Draft202012Validator

from gateway.keys import Scope
from tests.gateway.chain import APPROVED, Chain
from tests.gateway.conftest import Client, MakeClient, Running
from tests.gateway.test_intents import WAIT, path

pytestmark = pytest.mark.stack
RECEIVABLE = "provider_receivable:stripe:USD"


def paid(client: Client, amount: str = "10.50", **changes: Any) -> str:
    """A payment that was captured whole, then refunded by 1.00."""
    made = client.create(APPROVED, amount=amount, **changes)
    assert client.post(path(made, "authorize"), **WAIT).status_code == 200
    assert client.post(path(made, "capture"), **WAIT).status_code == 200
    assert client.post(path(made, "refund"), {"amount": "1" if amount == "500" else "1.00"}, **WAIT).status_code == 200
    payment: str = made["payment_id"]
    return payment


def balances(client: Client) -> dict[str, str]:
    answer = client.get("/api/v1/accounts")
    assert answer.status_code == 200, answer.text
    return {account["account_id"]: account["balance"] for account in answer.json()["data"]}


def test_accounts_are_the_merchants_own_part(make_client: MakeClient, chain: Chain) -> None:
    """Also of an account that holds several merchants' money."""
    mine, theirs = make_client(), make_client()
    paid(mine)
    paid(theirs, "70.00")
    paid(mine, "500", currency="JPY")
    assert balances(mine) == {
        f"holds_commitment:{mine.merchant}:stripe:USD": "0.00",
        f"holds_receivable:{mine.merchant}:stripe:USD": "0.00",
        f"holds_commitment:{mine.merchant}:stripe:JPY": "0",
        f"holds_receivable:{mine.merchant}:stripe:JPY": "0",
        f"merchant_payable:{mine.merchant}:USD": "-9.50",
        f"merchant_payable:{mine.merchant}:JPY": "-499",
        RECEIVABLE: "9.50",
        "provider_receivable:stripe:JPY": "499",
        "refunds_pending:stripe:USD": "0.00",
        "refunds_pending:stripe:JPY": "0",
    }
    assert balances(theirs)[RECEIVABLE] == "69.00"
    assert not any(mine.merchant in account for account in balances(theirs))
    assert balances(make_client()) == {}


def test_a_balance_at_a_time(client: Client, chain: Chain) -> None:
    before = datetime.now(UTC) - timedelta(hours=1)
    paid(client)
    where = f"/api/v1/accounts/merchant_payable:{client.merchant}:USD/balance"
    now = client.get(where).json()
    assert (now["debit"], now["credit"], now["balance"]) == ("1.00", "10.50", "-9.50")
    assert (now["kind"], now["class"], now["normal_side"]) == ("merchant_payable", "liability", "credit")
    then = client.get(where, at=before.isoformat()).json()
    assert (then["debit"], then["credit"], then["balance"]) == ("0.00", "0.00", "0.00")
    listed = client.get(where.replace("balance", "entries")).json()["data"]
    captured = next(entry for entry in listed if entry["description"] == "PaymentCaptured")
    at = client.get(where, at=captured["occurred_at"]).json()
    assert at["at"] == captured["occurred_at"]
    assert at["credit"] == "10.50", "what occurred at that very time counts"
    just_before = datetime.fromisoformat(captured["occurred_at"]) - timedelta(milliseconds=1)
    assert client.get(where, at=just_before.isoformat()).json()["balance"] == "0.00"


def test_an_accounts_entries_page_by_page(client: Client, chain: Chain) -> None:
    payments = [paid(client) for _ in range(3)]
    where = f"/api/v1/accounts/{RECEIVABLE}/entries"
    whole = client.get(where).json()
    assert whole["next_cursor"] is None
    assert {entry["payment_id"] for entry in whole["data"]} == set(payments)
    assert sorted(entry["description"] for entry in whole["data"]) == ["PaymentCaptured"] * 3 + ["PaymentRefunded"] * 3
    times = [entry["occurred_at"] for entry in whole["data"]]
    assert times == sorted(times, reverse=True)
    seen, cursor = [], ""
    while True:
        page = client.get(where, limit="4", **({"cursor": cursor} if cursor else {})).json()
        seen += page["data"]
        if not (cursor := page["next_cursor"]):
            break
    assert seen == whole["data"]
    for entry in seen:
        assert client.get(f"/api/v1/journal/{entry['entry_id']}").json() == entry
    capture = next(entry for entry in seen if entry["description"] == "PaymentCaptured")
    assert capture["postings"] == [
        {"account_id": account, "side": side, "amount": "10.50", "currency": "USD"}
        for account, side in (
            (f"holds_commitment:{client.merchant}:stripe:USD", "debit"),
            (f"holds_receivable:{client.merchant}:stripe:USD", "credit"),
            (RECEIVABLE, "debit"),
            (f"merchant_payable:{client.merchant}:USD", "credit"),
        )
    ]
    assert capture["record"]["topic"] == "ledger.journal"


def test_the_trial_balance_of_a_day(client: Client, chain: Chain) -> None:
    paid(client)
    paid(client, "500", currency="JPY")
    found = client.get("/api/v1/trial-balance").json()
    today = datetime.now(UTC).date()
    assert found["date"] in (today.isoformat(), (today - timedelta(days=1)).isoformat())
    assert {line["account_id"]: line["balance"] for line in found["lines"]} == balances(client)
    assert found["totals"] == [
        {"currency": "JPY", "debit": "1502", "credit": "1502", "balance": "0"},
        {"currency": "USD", "debit": "33.50", "credit": "33.50", "balance": "0.00"},
    ]
    yesterday = client.get("/api/v1/trial-balance", date=(today - timedelta(days=2)).isoformat()).json()
    assert (yesterday["lines"], yesterday["totals"]) == ([], [])


@pytest.mark.parametrize(
    ("accept", "parameters", "is_csv"),
    [
        ("text/csv", {}, True),
        ("text/csv;q=1, application/json;q=0.5", {}, True),
        ("application/json, text/csv;q=0.5", {}, False),
        ("*/*", {}, False),
        ("*/*", {"format": "csv"}, True),
        ("text/csv", {"format": "json"}, False),
    ],
)
def test_the_trial_balance_as_csv(
    client: Client, chain: Chain, accept: str, parameters: dict[str, str], is_csv: bool
) -> None:
    paid(client)
    answer = client.http.get("/api/v1/trial-balance", params=parameters, headers={"Accept": accept})
    assert answer.headers["Content-Type"].startswith("text/csv" if is_csv else "application/json")
    if not is_csv:
        assert answer.json()["lines"]
        return
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert {row["account_id"]: row["balance"] for row in rows} == balances(client) | {"total": "0.00"}
    assert rows[-1]["debit"] == rows[-1]["credit"] == "33.50"
    assert "trial-balance-" in answer.headers["Content-Disposition"]


def test_another_merchants_entries_do_not_exist(make_client: MakeClient, chain: Chain) -> None:
    mine, theirs = make_client(), make_client()
    paid(mine)
    account = f"merchant_payable:{mine.merchant}:USD"
    entry = mine.get(f"/api/v1/accounts/{account}/entries").json()["data"][0]["entry_id"]
    for where in (
        f"/api/v1/journal/{entry}",
        f"/api/v1/accounts/{account}/balance",
        f"/api/v1/accounts/{account}/entries",
        f"/api/v1/accounts/{RECEIVABLE}/entries",
    ):
        assert mine.get(where).status_code == 200
        answer = theirs.get(where)
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not_found"), where


NOT_THERE = [
    "accounts/x/balance", "accounts/nothing:acme:USD/entries", "accounts/bank:USD/balance", "accounts/%00:a/entries",
    "accounts/merchant_payable:'%20OR%201=1:USD/balance", "journal/x", "journal/00000000-0000-0000-0000-000000000000",
]  # fmt: skip


@pytest.mark.parametrize("where", NOT_THERE)
def test_what_is_not_in_the_books_is_404(client: Client, where: str) -> None:
    assert client.http.get(f"/api/v1/{where}").status_code == 404


@pytest.mark.parametrize(
    ("where", "parameters"),
    [
        ("accounts", {"limit": "3"}),
        ("trial-balance", {"date": "2026-02-30"}),
        ("trial-balance", {"date": "today"}),
        ("trial-balance", {"date": "0001-01-01"}),
        ("trial-balance", {"date": "9999-12-31"}),
        ("trial-balance", {"format": "xml"}),
        (f"accounts/{RECEIVABLE}/balance", {"at": "2026-01-01T00:00:00"}),
        (f"accounts/{RECEIVABLE}/entries", {"cursor": "x"}),
        (f"accounts/{RECEIVABLE}/entries", {"limit": "101"}),
    ],
)
def test_an_invalid_query_is_400(client: Client, chain: Chain, where: str, parameters: dict[str, str]) -> None:
    paid(client)
    answer = client.get(f"/api/v1/{where}", **parameters)
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/invalid_query"), answer.text
    assert answer.json()["errors"][0]["field"] == next(iter(parameters))


ROUTES = ["accounts", f"accounts/{RECEIVABLE}/balance", f"accounts/{RECEIVABLE}/entries", f"journal/{uuid4()}",
          "trial-balance"]  # fmt: skip


@pytest.mark.parametrize("scope", list(Scope))
def test_each_route_wants_its_scope(make_client: MakeClient, scope: Scope) -> None:
    asks = make_client(scopes=(scope,))
    for route in ROUTES:
        answer = asks.get(f"/api/v1/{route}")
        assert (answer.status_code == 403) == (scope is not Scope.PAYMENTS_READ), route


def test_no_scope_shows_another_merchants_money(make_client: MakeClient, chain: Chain) -> None:
    paid(make_client())
    everything = make_client(scopes=tuple(Scope))
    assert balances(everything) == {}


def test_answers_are_as_described(running: Running, client: Client, chain: Chain) -> None:
    api = httpx.get(f"{running.url}/openapi.json").json()

    def conforms(name: str, value: Any) -> None:
        schema = {"$ref": f"#/components/schemas/{name}", "components": api["components"]}
        Draft202012Validator(schema).validate(value)

    paid(client)
    conforms("AccountListOut", client.get("/api/v1/accounts").json())
    conforms("BalanceOut", client.get(f"/api/v1/accounts/{RECEIVABLE}/balance").json())
    listed = client.get(f"/api/v1/accounts/{RECEIVABLE}/entries").json()
    conforms("EntryListOut", listed)
    conforms("EntryOut", client.get(f"/api/v1/journal/{listed['data'][0]['entry_id']}").json())
    conforms("TrialBalanceOut", client.get("/api/v1/trial-balance").json())
    described = api["paths"]["/api/v1/trial-balance"]["get"]["responses"]["200"]["content"]
    assert set(described) == {"application/json", "text/csv"}
