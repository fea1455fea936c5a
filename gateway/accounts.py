"""GET /api/v1/accounts, /journal, /trial-balance: a merchant's own books (gateway/ledger.py says what that is)."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from gateway import problems, query
from gateway.intents import JSON
from gateway.keys import Scope
from gateway.ledger import Balance, Page
from gateway.problems import Problem
from gateway.services import authenticated, services_of
from pipeline import clock, money, views
from pipeline.domain.accounts import CHART, kind_name

CSV: Final = "text/csv"
TOTAL: Final = "total"
_ACCOUNT: Final = re.compile(r"[A-Za-z0-9_.-]+(?::[A-Za-z0-9_.-]+){1,3}", re.ASCII)
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


async def accounts(request: Request) -> Response:
    """GET /api/v1/accounts"""
    key = await authenticated(request, Scope.PAYMENTS_READ)
    query.values_of(request, {})
    found = await services_of(request).ledger.balances(key.merchant_id)
    return _json({"data": [balance.as_json() for balance in found]})


async def balance(request: Request) -> Response:
    """GET /api/v1/accounts/{account_id}/balance"""
    key = await authenticated(request, Scope.PAYMENTS_READ)
    account = await _account(request, key.merchant_id)
    asked = query.values_of(request, {"at": query.time})
    at: datetime = asked.get("at") or datetime.fromtimestamp(clock.now() / 1000, UTC)
    found = await services_of(request).ledger.balances(
        key.merchant_id, before=at + datetime.resolution, account=account
    )
    shown = found[0] if found else Balance(account, account.rsplit(":", 1)[1], 0, 0)
    return _json({**shown.as_json(), "at": views.time(int(at.timestamp() * 1000))})


async def entries(request: Request) -> Response:
    """GET /api/v1/accounts/{account_id}/entries"""
    key = await authenticated(request, Scope.PAYMENTS_READ)
    account = await _account(request, key.merchant_id)
    asked = query.values_of(request, {"cursor": query.position, "limit": query.limit})
    wanted = Page(key.merchant_id, account, asked.get("limit", query.DEFAULT_LIMIT), asked.get("cursor"))
    rows = await services_of(request).ledger.page(wanted)
    return _json(query.as_page(rows, wanted.limit, "entry_id"))


async def entry(request: Request) -> Response:
    """GET /api/v1/journal/{entry_id}"""
    key = await authenticated(request, Scope.PAYMENTS_READ)
    entry_id = request.path_params["entry_id"]
    found = (
        await services_of(request).ledger.entry(key.merchant_id, entry_id)
        if query.UUID_TEXT.fullmatch(entry_id)
        else None
    )
    if found is None:
        raise Problem(problems.NOT_FOUND)
    return _json(found)


async def trial_balance(request: Request) -> Response:
    """GET /api/v1/trial-balance"""
    key = await authenticated(request, Scope.PAYMENTS_READ)
    asked = query.values_of(request, {"date": _date, "format": _format})
    day: date = asked.get("date") or datetime.fromtimestamp(clock.now() / 1000, UTC).date()
    end = datetime.combine(day, time(), UTC) + timedelta(days=1)
    found = await services_of(request).ledger.balances(key.merchant_id, before=end)
    lines = [line.as_json() for line in found]
    if asked.get("format", _preferred(request)) == CSV:
        return _csv(day, lines, _totals(found))
    return _json({"date": day.isoformat(), "lines": lines, "totals": _totals(found)}, Vary="Accept")


async def _account(request: Request, merchant_id: str) -> str:
    """The account that the path names. Raises Problem `not_found` unless the merchant has it."""
    account: str = request.path_params["account_id"]
    known = len(account) <= 255 and _ACCOUNT.fullmatch(account) and kind_name(account) in CHART
    if not known or not await services_of(request).ledger.has_account(merchant_id, account):
        raise Problem(problems.NOT_FOUND)
    return account


def _date(text: str) -> date:
    if not _DATE.fullmatch(text):
        raise ValueError("a date such as 2026-01-31")
    try:
        found = date.fromisoformat(text)
    except ValueError:
        raise ValueError("no such date") from None
    if not 1970 <= found.year < 9999:
        raise ValueError("a date from 1970 on")
    return found


def _format(text: str) -> str:
    known = {"json": JSON, "csv": CSV}
    if text not in known:
        raise ValueError("one of: " + ", ".join(known))
    return known[text]


def _preferred(request: Request) -> str:
    """CSV if it is asked for by name, before JSON (RFC 9110, section 12.5.1, without weights: there are two)."""
    asked = [part.partition(";")[0].strip().lower() for part in request.headers.get("accept", "").split(",")]
    named = [media for media in asked if media in (JSON, CSV)]
    return named[0] if named else JSON


def _totals(found: Iterable[Balance]) -> list[dict[str, str]]:
    """The sums of each currency; a balance other than zero would be wrong books."""
    sums: dict[str, tuple[int, int]] = {}
    for line in found:
        debit, credit = sums.get(line.currency, (0, 0))
        sums[line.currency] = (debit + line.debit, credit + line.credit)
    return [
        {
            "currency": currency,
            "debit": money.decimal(debit, currency),
            "credit": money.decimal(credit, currency),
            "balance": money.decimal(debit - credit, currency),
        }
        for currency, (debit, credit) in sums.items()
    ]


_COLUMNS: Final = ("date", "account_id", "kind", "class", "currency", "debit", "credit", "balance")


def _csv(day: date, lines: Iterable[Mapping[str, str]], totals: Iterable[Mapping[str, str]]) -> Response:
    """RFC 4180, with a line of sums for each currency at the end."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, extrasaction="ignore", lineterminator="\r\n")
    writer.writeheader()
    for line in (*lines, *({**total, "account_id": TOTAL, "kind": TOTAL, "class": TOTAL} for total in totals)):
        writer.writerow({**line, "date": day.isoformat()})
    name = f'attachment; filename="trial-balance-{day.isoformat()}.csv"'
    return Response(text.getvalue(), headers={"Vary": "Accept", "Content-Disposition": name}, media_type=CSV)


def _json(value: Any, **headers: str) -> Response:
    return Response(orjson.dumps(value), headers=headers, media_type=JSON)
