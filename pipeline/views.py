"""From what is stored to what the API shows: decimals for minor units, RFC 3339 for milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from pipeline import money
from pipeline.domain.projection import PaymentStatus, PaymentView, RetryView
from pipeline.messages.clearing import LedgerAlert
from pipeline.messages.commands import CreateIntent

Json = dict[str, Any]

_AMOUNTS: Final = ("amount", "amount_captured", "amount_refunded")
_TIMES: Final = ("created_at", "updated_at")
_MOVES: Final = ("captures", "voids", "refunds")
_OURS: Final = frozenset({"merchant_id", "reviews", "before_review"})
"""What is between us and our operators."""


def intent(view: Json) -> Json:
    """The API's intent from the stored projection (PaymentView as JSON)."""
    currency = view["currency"]
    shown = {name: value for name, value in view.items() if name not in _OURS}
    _shape(shown, currency, _AMOUNTS, _TIMES)
    for name in _MOVES:
        shown[name] = [_shaped(move, currency, ("amount",), ("requested_at",)) for move in view[name]]
    shown["attempts"] = [_shaped(attempt, currency, (), ("started_at",)) for attempt in view["attempts"]]
    shown["rejections"] = [_shaped(rejection, currency, (), ("occurred_at",)) for rejection in view["rejections"]]
    shown["disputes"] = [_dispute(dispute, currency) for dispute in view.get("disputes", ())]
    if view["hold"]:
        shown["hold"] = _shaped(view["hold"], currency, ("amount", "remaining"), ("expires_at",))
    if view["retry"]:
        shown["retry"] = _retry(view["retry"])
    return shown


def _retry(retry: Json) -> Json:
    """A view that was folded before a field existed has its default."""
    whole = msgspec.to_builtins(msgspec.convert(retry, RetryView))
    return _shaped(whole, "", (), ("due_at", "scheduled_at"))


def accepted(command: CreateIntent) -> Json:
    """The intent that a create command makes, before anything else is known of it."""
    status = PaymentStatus.REQUIRES_AUTHORIZATION if command.payment_method else PaymentStatus.REQUIRES_METHOD
    view = PaymentView(
        payment_id=command.payment_id,
        merchant_id=command.merchant_id,
        status=status,
        amount=command.amount,
        currency=command.currency,
        provider=command.provider,
        capture_method=command.capture_method,
        customer_id=command.customer_id,
        merchant_reference=command.merchant_reference,
        order_id=command.order_id,
        payment_method=command.payment_method,
        metadata=command.metadata,
        return_url=command.return_url,
        created_at=command.occurred_at,
        updated_at=command.occurred_at,
        sequence=0,
    )
    return intent(msgspec.to_builtins(view))


def time(millis: int) -> str:
    """RFC 3339, UTC, milliseconds."""
    return datetime.fromtimestamp(millis / 1000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def alert(found: LedgerAlert) -> Json:
    """An alert of the clearing monitor, with the entries that the oldest open items are made of."""

    def amount(minor: int) -> str:
        return money.decimal(minor, found.currency)

    return {
        "alert_id": found.alert_id,
        "account_id": found.account,
        "currency": found.currency,
        "state": found.state.value,
        "balance": amount(found.balance),
        "overdue": amount(found.overdue),
        "overdue_items": found.overdue_items,
        "oldest_at": None if found.oldest_at is None else time(found.oldest_at),
        "limit_amount": amount(found.limit_amount),
        "limit_seconds": found.limit_age // 1000,
        "raised_at": time(found.raised_at),
        "entries": [
            {
                "entry_id": entry.entry_id,
                "item": entry.item,
                "description": entry.description,
                "amount": amount(entry.amount),
                "occurred_at": time(entry.occurred_at),
            }
            for entry in found.entries
        ],
    }


def _dispute(dispute: Json, currency: str) -> Json:
    times = ("opened_at", "evidence_due_at") if dispute["evidence_due_at"] else ("opened_at",)
    return _shaped(dispute, currency, ("amount", "withdrawn"), times)


def _shaped(item: Json, currency: str, amounts: tuple[str, ...], times: tuple[str, ...]) -> Json:
    shown = dict(item)
    _shape(shown, currency, amounts, times)
    return shown


def _shape(shown: Json, currency: str, amounts: tuple[str, ...], times: tuple[str, ...]) -> None:
    for name in amounts:
        shown[name] = money.decimal(shown[name], currency)
    for name in times:
        shown[name] = time(shown[name])
