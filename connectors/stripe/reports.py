"""A payout of Stripe as settlement lines, from its API. Sources: docs.stripe.com/payouts/reconciliation,
docs.stripe.com/api/balance_transactions/list, docs.stripe.com/api/payouts/object.

An automatic payout's transactions are listed by its id; a manual one has none of its own, since Stripe does not say
which it took. Each transaction is the line that Stripe's CSV reports have under the same id, with the same figures:
what is posted from one is known when the other comes. Amounts are integers in Stripe's minor units.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any, Final, TextIO

import msgspec

from connectors.settlement.fetching import Client, decoded, parsed
from connectors.settlement.report import Origin, Reader, ReportError, our_payment
from connectors.stripe.amounts import from_stripe
from connectors.stripe.settlement import KINDS, NAME, arrival_id
from pipeline import ids
from pipeline.messages.reports import ReportRequest
from pipeline.messages.settlement import LineKind, SettlementLine
from pipeline.settings import Settings

_PAGE: Final = 100
_VERSION: Final = "2025-09-30.clover"


class _Source(msgspec.Struct):
    """What a transaction is about: a charge, a refund, a dispute, a payout."""

    id: str
    object: str = ""
    amount: int = 0
    amount_captured: int = 0
    currency: str = ""
    charge: str | None = None
    payment_intent: str | None = None
    metadata: dict[str, str] = {}


class _Transaction(msgspec.Struct):
    id: str
    amount: int
    fee: int
    net: int
    currency: str
    created: int
    reporting_category: str
    source: _Source | str | None = None


class _Payout(msgspec.Struct):
    id: str
    amount: int
    currency: str
    status: str
    arrival_date: int
    automatic: bool
    balance_transaction: _Transaction | None = None
    failure_balance_transaction: _Transaction | None = None


class _Page(msgspec.Struct):
    data: list[msgspec.Raw]
    has_more: bool = False


class _Identified(msgspec.Struct):
    id: str


class StripeReports:
    """One account's payouts."""

    def __init__(self, api_url: str, api_key: str) -> None:
        self._base = f"{api_url.rstrip('/')}/v1"
        self._client = Client({"Authorization": f"Bearer {api_key}", "Stripe-Version": _VERSION})

    @property
    def read(self) -> Reader:
        """A payout, and under it a transaction a line."""
        return read

    def fetch(self, request: ReportRequest, into: IO[bytes]) -> None:
        """The payout on the first line, its transactions on the others. Raises FetchError."""
        expand = ["balance_transaction", "failure_balance_transaction"]
        body = self._client.json(f"{self._base}/payouts/{request.reference}", {"expand[]": expand})
        into.write(_line_of(body))
        if decoded(body, _Payout).automatic:
            for transaction in self._transactions(request.reference):
                into.write(_line_of(transaction))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _transactions(self, payout: str) -> Iterator[bytes]:
        asked: dict[str, Any] = {"payout": payout, "limit": _PAGE, "expand[]": "data.source"}
        while True:
            page = decoded(self._client.json(f"{self._base}/balance_transactions", asked), _Page)
            yield from (bytes(one) for one in page.data)
            if not page.has_more or not page.data:
                return
            asked["starting_after"] = decoded(bytes(page.data[-1]), _Identified).id


def source(settings: Settings) -> StripeReports:
    """With the credentials in the settings."""
    return StripeReports(settings.stripe_api_url, settings.reveal("stripe_api_key"))


def read(text: TextIO, origin: Origin) -> Iterator[SettlementLine]:
    """The lines of a payout that was fetched; its own movements last. Raises ReportError."""
    payout = parsed(text.readline(), _Payout, 1)
    own = (payout.balance_transaction, payout.failure_balance_transaction)
    last = {one.id for one in own if one}
    number = 1
    for number, written in enumerate(text, 2):
        transaction = parsed(written, _Transaction, number)
        if transaction.id not in last:
            yield _line(transaction, payout.id, number, origin)
    yield from (_line(one, payout.id, number, origin) for one in own if one)
    if payout.status == "paid":
        yield _arrival(payout, number, origin)


def _line(it: _Transaction, payout: str, number: int, origin: Origin) -> SettlementLine:
    about = it.source if isinstance(it.source, _Source) else None
    return SettlementLine(
        line_id=ids.line_id(NAME, it.id),
        provider=NAME,
        account=origin.account,
        report_id=origin.report_id,
        line_number=number,
        occurred_at=it.created * 1000,
        kind=KINDS.get(it.reporting_category, LineKind.ADJUSTMENT),
        provider_kind=it.reporting_category,
        provider_line=it.id,
        payout_id=payout,
        payment_id=our_payment(about.metadata.get("payment_id")) if about else None,
        payment_reference=about.payment_intent if about else None,
        operation_reference=_operation(it),
        **_amounts(it, number),
        **_paid_in(it, about),
    )


def _operation(it: _Transaction) -> str | None:
    """The charge, as in the CSV reports; else what the transaction is about, unless that is the payout itself."""
    if KINDS.get(it.reporting_category) in (LineKind.PAYOUT, LineKind.PAYOUT_FAILED):
        return None
    if not isinstance(it.source, _Source):
        return it.source
    return it.source.charge or it.source.id


def _amounts(it: _Transaction, number: int) -> dict[str, Any]:
    if it.net != it.amount - it.fee:
        raise ReportError(number, "net is not amount less fee")
    currency = it.currency.upper()
    amounts = {"gross": it.amount, "fee": it.fee, "net": it.net}
    return {"currency": currency, **{name: _minor(amount, currency) for name, amount in amounts.items()}}


def _paid_in(it: _Transaction, about: _Source | None) -> dict[str, Any]:
    """What the customer paid, where that is in another currency: the source's own amount, never a converted one."""
    if about is None or about.currency in ("", it.currency):
        return {}
    match it.reporting_category:
        case "charge" | "refund_failure":
            amount = about.amount
        case "partial_capture_reversal":
            amount = about.amount_captured - about.amount
        case "refund" | "charge_failure":
            amount = -about.amount
        case _:
            return {}
    currency = about.currency.upper()
    return {"payment_amount": _minor(amount, currency), "payment_currency": currency}


def _arrival(payout: _Payout, number: int, origin: Origin) -> SettlementLine:
    """The payout's money is at the bank: its status says so, no transaction does."""
    currency = payout.currency.upper()
    arrived = _minor(payout.amount, currency)
    return SettlementLine(
        line_id=ids.line_id(NAME, arrival_id(payout.id)),
        provider=NAME,
        account=origin.account,
        report_id=origin.report_id,
        line_number=number,
        occurred_at=payout.arrival_date * 1000,
        kind=LineKind.PAYOUT_ARRIVED,
        provider_kind="paid",
        provider_line=arrival_id(payout.id),
        payout_id=payout.id,
        gross=arrived,
        fee=0,
        net=arrived,
        currency=currency,
    )


def _minor(amount: int, currency: str) -> int:
    return from_stripe(amount, currency) if amount >= 0 else -from_stripe(-amount, currency)


def _line_of(body: bytes) -> bytes:
    """JSON on one line: within its strings a line break is escaped."""
    return body.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n"
