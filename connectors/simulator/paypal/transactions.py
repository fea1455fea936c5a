"""The account's transactions, as its reports and the Transaction Search API know them.

Sources: reporting_transactions_v1 of PayPal's OpenAPI, developer.paypal.com/docs/reports/reference/tcodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import msgspec

from connectors.simulator.paypal import errors, render
from connectors.simulator.paypal.account import Account
from connectors.simulator.paypal.money import Money, shown
from connectors.simulator.paypal.records import (
    Authorization,
    Capture,
    CaptureStatus,
    Dispute,
    DisputeOutcome,
    Refund,
    RefundStatus,
)

_LONGEST_RANGE: Final = timedelta(days=31)
_MOST: Final = 500
_USUAL: Final = 100


class Code(StrEnum):
    """transaction_event_code"""

    PAYMENT = "T0006"
    REFUND = "T1107"
    DISPUTED = "T1201"
    DISPUTE_WON = "T1202"
    AUTHORIZATION = "T1300"


class Status(StrEnum):
    """transaction_status"""

    SUCCESS = "S"
    PENDING = "P"
    DENIED = "D"
    REVERSED = "V"


_CAPTURED: Final = {
    CaptureStatus.PENDING: Status.PENDING,
    CaptureStatus.DECLINED: Status.DENIED,
    CaptureStatus.REFUNDED: Status.REVERSED,
}
_REFUNDED: Final = {RefundStatus.PENDING: Status.PENDING, RefundStatus.FAILED: Status.DENIED}


class Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """One of them: the money is negative where it leaves the account. `reference` is what it belongs to."""

    id: str
    code: Code
    status: Status
    money: Money
    made: int
    updated: int
    fee: int = 0
    reference: str | None = None
    invoice_id: str | None = None
    custom_field: str | None = None

    @property
    def moves_money(self) -> bool:
        """Whether it changed the balance."""
        return self.code is not Code.AUTHORIZATION and self.status in {Status.SUCCESS, Status.REVERSED}


def transactions(account: Account) -> Iterator[Transaction]:
    """All of them, kind by kind, in the order of their making."""
    yield from map(_authorization, account.authorizations.values())
    yield from map(_capture, account.captures.values())
    yield from map(_refund, account.refunds.values())
    for dispute in account.disputes.values():
        yield from _dispute(dispute)


def search(account: Account, asked: Mapping[str, str], before: int) -> dict[str, Any]:
    """`GET /v1/reporting/transactions`, of what was made until `before`: search lags. Raises PayPalError."""
    start, end = _time(asked, "start_date"), _time(asked, "end_date")
    if end - start > _LONGEST_RANGE:
        raise errors.invalid("INVALID_PARAMETER_VALUE", "end_date", asked["end_date"])
    size, page = _number(asked, "page_size", _USUAL), _number(asked, "page", 1)
    if size > _MOST:
        raise errors.invalid("INVALID_PARAMETER_VALUE", "page_size", str(size))
    within = (one for one in transactions(account) if start.timestamp() <= one.made <= end.timestamp())
    found = [one for one in within if one.made <= before and _is_asked(one, asked)]
    return {
        "transaction_details": [{"transaction_info": _shown(one)} for one in found[(page - 1) * size : page * size]],
        "account_number": render.MERCHANT,
        "start_date": asked["start_date"],
        "end_date": asked["end_date"],
        "last_refreshed_datetime": render.time(before),
        "page": page,
        "total_items": len(found),
        "total_pages": -(-len(found) // size),
    }


def _is_asked(one: Transaction, asked: Mapping[str, str]) -> bool:
    exact = (
        ("transaction_id", one.id),
        ("transaction_type", one.code.value),
        ("transaction_status", one.status.value),
        ("transaction_currency", one.money.currency),
    )
    if asked.get("balance_affecting_records_only", "Y") == "Y" and not one.moves_money:
        return False
    return all(asked.get(name) in (None, value) for name, value in exact)


def _shown(one: Transaction) -> dict[str, Any]:
    texts = {"invoice_id": one.invoice_id, "custom_field": one.custom_field}
    reference = {"paypal_reference_id": one.reference, "paypal_reference_id_type": "TXN"} if one.reference else {}
    return {
        "transaction_id": one.id,
        **reference,
        "transaction_event_code": one.code.value,
        "transaction_initiation_date": render.time(one.made),
        "transaction_updated_date": render.time(one.updated),
        "transaction_amount": shown(one.money.value, one.money.currency),
        **({"fee_amount": shown(-one.fee, one.money.currency)} if one.fee else {}),
        "transaction_status": one.status.value,
        **{name: value for name, value in texts.items() if value is not None},
    }


def _authorization(it: Authorization) -> Transaction:
    closed = Status.DENIED if it.denied else Status.REVERSED if it.voided else Status.SUCCESS
    return Transaction(
        id=it.id,
        code=Code.AUTHORIZATION,
        status=Status.PENDING if it.pending else closed,
        money=Money(it.value, it.order.currency),
        made=it.created,
        updated=it.updated,
        invoice_id=it.order.invoice_id,
        custom_field=it.order.custom_id,
    )


def _capture(it: Capture) -> Transaction:
    status = _CAPTURED.get(it.status, Status.SUCCESS)
    return Transaction(
        id=it.id,
        code=Code.PAYMENT,
        status=status,
        money=Money(it.value, it.order.currency),
        made=it.created,
        updated=it.updated,
        fee=render.fee(it) if status in {Status.SUCCESS, Status.REVERSED} else 0,
        reference=it.authorization.id if it.authorization else None,
        invoice_id=it.invoice_id,
        custom_field=it.order.custom_id,
    )


def _refund(it: Refund) -> Transaction:
    return Transaction(
        id=it.id,
        code=Code.REFUND,
        status=_REFUNDED.get(it.status, Status.SUCCESS),
        money=Money(-it.value, it.order.currency),
        made=it.created,
        updated=it.updated,
        reference=it.capture.id,
        invoice_id=it.invoice_id,
        custom_field=it.custom_id,
    )


def _dispute(it: Dispute) -> Iterator[Transaction]:
    """What was taken, and what came back: transactions of their own, about the capture, with nothing of ours."""
    yield _of_dispute(it, Code.DISPUTED, -it.value, it.created)
    if it.outcome is DisputeOutcome.WON:
        yield _of_dispute(it, Code.DISPUTE_WON, it.value, it.updated)


def _of_dispute(it: Dispute, code: Code, value: int, at: int) -> Transaction:
    return Transaction(
        id=it.transactions[code is Code.DISPUTE_WON],
        code=code,
        status=Status.SUCCESS,
        money=Money(value, it.order.currency),
        made=at,
        updated=at,
        reference=it.capture.id,
    )


def _time(asked: Mapping[str, str], name: str) -> datetime:
    if name not in asked:
        raise errors.missing(name)
    try:
        found = datetime.fromisoformat(asked[name])
    except ValueError as error:
        raise errors.invalid("INVALID_PARAMETER_SYNTAX", name, asked[name]) from error
    if found.tzinfo is None:
        raise errors.invalid("INVALID_PARAMETER_SYNTAX", name, asked[name])
    return found


def _number(asked: Mapping[str, str], name: str, default: int) -> int:
    value = asked.get(name, str(default))
    if not value.isdecimal() or int(value) < 1:
        raise errors.invalid("INVALID_PARAMETER_VALUE", name, value)
    return int(value)
