"""Webhooks' items. Source: Webhooks-v1 of github.com/Adyen/adyen-openapi."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from connectors.simulator.adyen.payments import Modification, Payment

_BRAND = "visa"
_CARD = "1111"
_EXPIRY = "03/2030"


class Event(msgspec.Struct, frozen=True):
    """An item before it is signed, and what it is about. `id` names it in the controls."""

    id: str
    code: str
    payment: str | None
    ours: str | None
    item: dict[str, Any]


def of_payment(code: str, payment: Payment, now: int, *, success: bool = True, **fields: Any) -> Event:
    """About the payment itself."""
    data = {**_common_data(payment), **fields.pop("additionalData", {})}
    return _event(code, payment, payment.psp, now, success, additionalData=data, **fields)


def of_modification(code: str, modification: Modification, now: int, *, success: bool = True, **fields: Any) -> Event:
    """About a modification: with its own reference, if it was given one."""
    payment = modification.payment
    return _event(
        code,
        payment,
        modification.psp,
        now,
        success,
        originalReference=payment.psp,
        **{"merchantReference": modification.reference or payment.reference, "amount": modification.amount, **fields},
    )


def after_payment(code: str, payment: Payment, psp: str, now: int, **fields: Any) -> Event:
    """About the payment, made by Adyen or the cardholder's bank: a reference of its own, and the payment's."""
    return _event(code, payment, psp, now, True, originalReference=payment.psp, **fields)


def of_account(code: str, account: str, psp: str, now: int, **fields: Any) -> Event:
    """About no payment: a report."""
    item = {
        "amount": {"currency": "EUR", "value": 0},
        "eventCode": code,
        "eventDate": date(now),
        "merchantAccountCode": account,
        "merchantReference": "",
        "pspReference": psp,
        "success": "true",
        **fields,
    }
    return Event(f"{code}:{psp}", code, None, None, item)


def authorised(payment: Payment) -> dict[str, Any]:
    """`reason` and `additionalData` of a successful AUTHORISATION."""
    auth = f"{payment.created % 1_000_000:06d}"
    data = {"authCode": auth, "refusalReasonRaw": "AUTHORISED", "cardSummary": _CARD, "expiryDate": _EXPIRY}
    return {"reason": f"{auth}:{_CARD}:{_EXPIRY}", "additionalData": data, "operations": _operations(payment)}


def refused(payment: Payment) -> dict[str, Any]:
    """`reason` and `additionalData` of a refused one."""
    return {"reason": payment.method.reason, "additionalData": refusal_data(payment)}


def refusal_data(payment: Payment) -> dict[str, str]:
    """What the network said."""
    method = payment.method
    data = {"refusalReasonRaw": f"{method.raw} : {method.reason}" if method.raw else "DECLINED"}
    return {**data, "merchantAdviceCode": f"{method.advice} : advice"} if method.advice else data


def date(now: int) -> str:
    """ISO 8601."""
    return datetime.fromtimestamp(now, UTC).isoformat()


def _operations(payment: Payment) -> list[str]:
    return ["REFUND"] if payment.automatic else ["CANCEL", "CAPTURE", "REFUND"]


def _common_data(payment: Payment) -> dict[str, str]:
    data = {f"metadata.{name}": value for name, value in payment.metadata.items()}
    return {**data, "merchantOrderReference": payment.order} if payment.order else data


def _event(code: str, payment: Payment, psp: str, now: int, success: bool, **fields: Any) -> Event:
    item = {
        "amount": payment.amount,
        "eventCode": code,
        "eventDate": date(now),
        "merchantAccountCode": payment.account,
        "merchantReference": payment.reference,
        "paymentMethod": _BRAND,
        "pspReference": psp,
        "reason": "",
        "success": "true" if success else "false",
        **fields,
    }
    return Event(f"{code}:{psp}:{item['success']}", code, payment.psp, payment.ours, item)
