"""A day of PayPal's transactions as settlement lines, from its Transaction Search. Sources: reporting_transactions_v1
of PayPal's OpenAPI, developer.paypal.com/docs/transaction-search, developer.paypal.com/docs/reports/reference/tcodes.

PayPal announces no report, so a day is asked for when it is six hours over: a transaction may take three hours to be
found. What was made before and changed on that day (a pending capture that completed) is looked for in the thirty days
before. Each transaction is the line that the Settlement Report (STL) has under the same ids, with the same figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import IO, Any, Final, TextIO

import msgspec

from connectors.paypal.settlement import NAME, kind_of, line_id
from connectors.settlement.fetching import Client, FetchError, decoded, parsed
from connectors.settlement.report import Origin, Reader, ReportError, digits_of, minor_of, our_payment
from pipeline.messages.reports import ReadOutcome, ReportRequest
from pipeline.messages.settlement import LineKind, SettlementLine
from pipeline.money import MoneyError
from pipeline.settings import Settings

OVER_AFTER: Final = timedelta(hours=6)
_BACK: Final = timedelta(days=30)
_DAY: Final = timedelta(days=1)
_PAGE: Final = 500
_MOVED: Final = frozenset({"S", "V"})
"""Transaction status: success, and success that was reversed or refunded later. Pending and denied moved nothing."""


class _Amount(msgspec.Struct):
    value: str
    currency_code: str


class _Transaction(msgspec.Struct):
    transaction_id: str
    transaction_event_code: str
    transaction_initiation_date: str
    transaction_updated_date: str
    transaction_status: str
    transaction_amount: _Amount
    fee_amount: _Amount | None = None
    paypal_reference_id: str | None = None
    custom_field: str | None = None


class _Detail(msgspec.Struct):
    transaction_info: _Transaction


class _Page(msgspec.Struct):
    account_number: str
    transaction_details: list[_Detail] = []
    total_pages: int = 0


class _Head(msgspec.Struct):
    account_number: str


class _Token(msgspec.Struct):
    access_token: str


class PayPalReports:
    """The transactions of one account."""

    def __init__(self, api_url: str, client_id: str, client_secret: str) -> None:
        self._base = api_url.rstrip("/")
        self._credentials = (client_id, client_secret)
        self._client = Client({})

    @property
    def read(self) -> Reader:
        """The account, and under it a transaction a line."""
        return read

    def fetch(self, request: ReportRequest, into: IO[bytes]) -> None:
        """What was made on the day, and what was made earlier and changed since. Raises FetchError."""
        day = _day(request.reference)
        headers = {"Authorization": f"Bearer {self._token()}"}
        account = None
        for made in (day - _BACK + number * _DAY for number in range(_BACK.days + 1)):
            for page in self._pages(made, headers):
                if account is None:
                    account = page.account_number
                    into.write(msgspec.json.encode(_Head(account)) + b"\n")
                for transaction in (detail.transaction_info for detail in page.transaction_details):
                    if _counts(transaction, made, day):
                        into.write(msgspec.json.encode(transaction) + b"\n")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _token(self) -> str:
        url, form = f"{self._base}/v1/oauth2/token", {"grant_type": "client_credentials"}
        return decoded(self._client.json(url, method="POST", data=form, auth=self._credentials), _Token).access_token

    def _pages(self, made: date, headers: dict[str, str]) -> Iterator[_Page]:
        asked: dict[str, Any] = {
            "start_date": f"{made}T00:00:00Z",
            "end_date": f"{made}T23:59:59Z",
            "fields": "transaction_info",
            "page_size": _PAGE,
            "page": 1,
        }
        while True:
            url = f"{self._base}/v1/reporting/transactions"
            page = decoded(self._client.json(url, asked, headers=headers), _Page)
            yield page
            if asked["page"] >= page.total_pages:
                return
            asked["page"] += 1


def source(settings: Settings) -> PayPalReports:
    """With the credentials in the settings."""
    secret = settings.reveal("paypal_client_secret")
    return PayPalReports(settings.paypal_api_url, settings.paypal_client_id, secret)


def days_over(now: int, back: int) -> list[str]:
    """The last so many days that are over at `now` (milliseconds), oldest first, as their reports are called."""
    last = (datetime.fromtimestamp(now / 1000, UTC) - OVER_AFTER).date() - _DAY
    return [str(last - number * _DAY) for number in reversed(range(back))]


def read(text: TextIO, origin: Origin) -> Iterator[SettlementLine]:
    """The lines of a day that was fetched. Raises ReportError."""
    account = parsed(text.readline(), _Head, 1).account_number
    for number, written in enumerate(text, 2):
        yield _line(parsed(written, _Transaction, number), account, number, origin)


def _line(it: _Transaction, account: str, number: int, origin: Origin) -> SettlementLine:
    amounts = _amounts(it, number)
    kind = kind_of(it.transaction_event_code, amounts["gross"], number)
    return SettlementLine(
        line_id=line_id(account, it.transaction_id, it.transaction_event_code, amounts["currency"]),
        provider=NAME,
        account=account,
        report_id=origin.report_id,
        line_number=number,
        occurred_at=_millis(it.transaction_updated_date, number),
        kind=kind,
        provider_kind=it.transaction_event_code,
        provider_line=it.transaction_id,
        payout_id=it.transaction_id if kind in (LineKind.PAYOUT, LineKind.PAYOUT_FAILED) else None,
        payment_id=our_payment(it.custom_field),
        payment_reference=it.paypal_reference_id,
        operation_reference=it.transaction_id,
        **amounts,
    )


def _amounts(it: _Transaction, number: int) -> dict[str, Any]:
    currency = it.transaction_amount.currency_code
    if it.fee_amount is not None and it.fee_amount.currency_code != currency:
        raise ReportError(number, "the fee is in another currency than the transaction")
    try:
        digits_of(currency)
        gross = minor_of(it.transaction_amount.value, currency)
        fee = -minor_of(it.fee_amount.value, currency) if it.fee_amount else 0
    except (MoneyError, ValueError) as error:
        raise ReportError(number, str(error)) from error
    return {"gross": gross, "fee": fee, "net": gross - fee, "currency": currency}


def _counts(it: _Transaction, made: date, day: date) -> bool:
    """Whether it moved money, on the day or, if it is older, by a change since."""
    changed = datetime.fromisoformat(it.transaction_updated_date).astimezone(UTC).date()
    return it.transaction_status in _MOVED and (made == day or changed >= day)


def _day(reference: str) -> date:
    try:
        return date.fromisoformat(reference)
    except ValueError as error:
        raise FetchError(ReadOutcome.REFUSED, f"{reference[:40]!r} is no day, such as 2026-01-31") from error


def _millis(text: str, number: int) -> int:
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1000)
    except ValueError as error:
        raise ReportError(number, f"{text[:40]!r} is no time") from error
