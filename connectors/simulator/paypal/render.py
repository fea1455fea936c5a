"""The JSON of orders, authorizations, captures, refunds and disputes. Source: PayPal's OpenAPI.

`minimal` is what `Prefer: return=minimal` (the default) leaves: id, status and links.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from connectors.simulator.paypal.methods import APPROVED
from connectors.simulator.paypal.money import WHOLE, shown
from connectors.simulator.paypal.records import (
    Authorization,
    AuthorizationStatus,
    Capture,
    CaptureStatus,
    Dispute,
    DisputeOutcome,
    DisputeStatus,
    Order,
    OrderStatus,
    Refund,
    RefundStatus,
    SourceKind,
)

Fields = dict[str, Any]

MERCHANT: Final = "SMRCHNTPAYPAL"
_PAYEE: Final = {"email_address": "merchant@simulator.example", "merchant_id": MERCHANT}
PAYER_ID: Final = "PAYERPAYERPAY"
_PAYER: Final = {"email_address": "payer@simulator.example", "payer_id": PAYER_ID}
_PROTECTION: Final = {"status": "ELIGIBLE", "dispute_categories": ["ITEM_NOT_RECEIVED", "UNAUTHORIZED_TRANSACTION"]}
_FEE: Final = 349
_FEE_OF: Final = 10_000
_FIXED_FEE: Final = 49
_FIXED_FEE_WHOLE: Final = 40
_MINIMAL: Final = ("id", "status", "links")


def minimal(fields: Fields) -> Fields:
    """What is left of a resource without `Prefer: return=representation`."""
    return {name: fields[name] for name in _MINIMAL if name in fields}


def time(seconds: int) -> str:
    """As PayPal writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def fee(capture: Capture) -> int:
    """What PayPal keeps of a capture."""
    fixed = _FIXED_FEE_WHOLE if capture.order.currency in WHOLE else _FIXED_FEE
    return min(capture.value, round(capture.value * _FEE / _FEE_OF) + fixed)


# Orders


def order(it: Order, base: str) -> Fields:
    """order"""
    return {
        "id": it.id,
        "intent": it.intent.value,
        "status": it.status.value,
        **({"payment_source": _source(it)} if it.source else {}),
        "purchase_units": [_purchase_unit(it, base)],
        **({"payer": _PAYER} if _is_approved(it) and it.source is not SourceKind.CARD else {}),
        "create_time": time(it.created),
        "links": _order_links(it, base),
    }


def paid_order(it: Order, base: str) -> Fields:
    """What remains of an order's authorize and capture without `return=representation`: the payments stay."""
    full = order(it, base)
    unit = full["purchase_units"][0]
    kept = {name: unit[name] for name in ("reference_id", "payments") if name in unit}
    rest: Fields = {name: full[name] for name in ("payment_source", "payer") if name in full}
    return {**minimal(full), **rest, "purchase_units": [kept]}


def _is_approved(it: Order) -> bool:
    return it.status in {OrderStatus.APPROVED, OrderStatus.COMPLETED}


def _source(it: Order) -> Fields:
    if it.source is SourceKind.CARD:
        return {"card": {"last_digits": "1111", "brand": "VISA", "type": "CREDIT", "expiry": "2030-03"}}
    return {"paypal": {"email_address": _PAYER["email_address"], "account_id": _PAYER["payer_id"]}}


def _purchase_unit(it: Order, base: str) -> Fields:
    payments = {
        "authorizations": [_authorization_of_order(each, base) for each in it.authorizations],
        "captures": [_of_order(capture(each, base)) for each in it.captures],
        "refunds": [_of_order(refund(each, base)) for each in it.refunds],
    }
    made = {name: each for name, each in payments.items() if each}
    return {
        "reference_id": it.reference_id,
        "amount": shown(it.value, it.currency),
        "payee": _PAYEE,
        **_given(custom_id=it.custom_id, invoice_id=it.invoice_id, description=it.description),
        **({"payments": made} if made else {}),
    }


def _authorization_of_order(it: Authorization, base: str) -> Fields:
    """authorization_with_additional_data: only here is what the processor said."""
    return {**_of_order(authorization(it, base)), **_processor_response(it.order, it.response, it.advice)}


def _of_order(fields: Fields) -> Fields:
    """Within an order, what only names the order is left out."""
    return {name: value for name, value in fields.items() if name not in {"supplementary_data", "payee"}}


def _order_links(it: Order, base: str) -> list[Fields]:
    own = f"{base}/v2/checkout/orders/{it.id}"
    links = [_link(own, "self", "GET")]
    match it.status:
        case OrderStatus.CREATED:
            links.append(_link(approval_url(it, base), "approve", "GET"))
        case OrderStatus.PAYER_ACTION_REQUIRED:
            links.append(_link(approval_url(it, base), "payer-action", "GET"))
    if it.status in {OrderStatus.CREATED, OrderStatus.APPROVED}:
        action = it.intent.value.lower()
        links.append(_link(f"{own}/{action}", action, "POST"))
    return links


def approval_url(it: Order, base: str) -> str:
    """Where the payer approves."""
    return f"{base}/checkoutnow?token={it.id}"


# Payments


def authorization(it: Authorization, base: str) -> Fields:
    """authorization-2"""
    own = f"{base}/v2/payments/authorizations/{it.id}"
    actions = ("capture", "void") if it.is_open and it.status is not AuthorizationStatus.CAPTURED else ()
    reason = {"status_details": {"reason": "PENDING_REVIEW"}} if it.pending else {}
    return {
        "id": it.id,
        "status": it.status.value,
        **reason,
        "amount": shown(it.value, it.order.currency),
        **_given(custom_id=it.order.custom_id, invoice_id=it.order.invoice_id),
        "seller_protection": _PROTECTION,
        "expiration_time": time(it.expires),
        "payee": _PAYEE,
        "supplementary_data": _related(order_id=it.order.id),
        "create_time": time(it.created),
        "update_time": time(it.updated),
        "links": _links(own, actions, _order_url(it.order, base)),
    }


def capture(it: Capture, base: str) -> Fields:
    """capture-2"""
    own = f"{base}/v2/payments/captures/{it.id}"
    held = it.authorization
    up = f"{base}/v2/payments/authorizations/{held.id}" if held else _order_url(it.order, base)
    refundable = not it.declined and it.status is not CaptureStatus.REFUNDED
    return {
        "id": it.id,
        "status": it.status.value,
        **({"status_details": {"reason": it.reason.value}} if it.reason else {}),
        "amount": shown(it.value, it.order.currency),
        **_given(custom_id=it.order.custom_id, invoice_id=it.invoice_id),
        "final_capture": it.final,
        "seller_protection": _PROTECTION,
        **({} if it.reason or it.declined else {"seller_receivable_breakdown": _receivable(it)}),
        **_processor_response(it.order, it.response, it.advice),
        "disbursement_mode": "INSTANT",
        "payee": _PAYEE,
        "supplementary_data": _related(order_id=it.order.id, authorization_id=held.id if held else None),
        "create_time": time(it.created),
        "update_time": time(it.updated),
        "links": _links(own, ("refund",) if refundable else (), up),
    }


def refund(it: Refund, base: str) -> Fields:
    """refund"""
    own, currency = f"{base}/v2/payments/refunds/{it.id}", it.capture.order.currency
    echeck = it.status is not RefundStatus.COMPLETED
    return {
        "id": it.id,
        "status": it.status.value,
        **({"status_details": {"reason": "ECHECK"}} if echeck else {}),
        "amount": shown(it.value, currency),
        **_given(custom_id=it.custom_id, invoice_id=it.invoice_id, note_to_payer=it.note),
        "seller_payable_breakdown": {
            "gross_amount": shown(it.value, currency),
            "paypal_fee": shown(0, currency),
            "net_amount": shown(it.value, currency),
            "total_refunded_amount": shown(it.total, currency),
        },
        "create_time": time(it.created),
        "update_time": time(it.updated),
        "links": _links(own, (), f"{base}/v2/payments/captures/{it.capture.id}"),
    }


def _receivable(it: Capture) -> Fields:
    currency, kept = it.order.currency, fee(it)
    return {
        "gross_amount": shown(it.value, currency),
        "paypal_fee": shown(kept, currency),
        "net_amount": shown(it.value - kept, currency),
    }


def _processor_response(it: Order, response: str | None, advice: str | None) -> Fields:
    """Only cards have one, and what a processor declined."""
    if response is None or (response == APPROVED and it.source is not SourceKind.CARD):
        return {}
    codes = {"avs_code": "Y", "cvv_code": "M", "response_code": response}
    return {"processor_response": {**codes, **_given(payment_advice_code=advice)}}


# Disputes


def dispute(it: Dispute, base: str) -> Fields:
    """dispute: it names the capture and nothing of ours."""
    currency = it.capture.order.currency
    transaction = {
        "seller_transaction_id": it.capture.id,
        "create_time": time(it.capture.created),
        "transaction_status": "COMPLETED",
        "gross_amount": shown(it.capture.value, currency),
        "seller": {"email": _PAYEE["email_address"], "merchant_id": MERCHANT},
    }
    state = {
        DisputeStatus.OPEN: "REQUIRED_ACTION",
        DisputeStatus.UNDER_REVIEW: "UNDER_PAYPAL_REVIEW",
        DisputeStatus.RESOLVED: "RESOLVED",
    }[it.status]
    return {
        "dispute_id": it.id,
        "create_time": time(it.created),
        "update_time": time(it.updated),
        "disputed_transactions": [transaction],
        "reason": "UNAUTHORISED",
        "status": it.status.value,
        "dispute_state": state,
        "dispute_amount": shown(it.value, currency),
        "dispute_life_cycle_stage": "CHARGEBACK",
        "dispute_channel": "INTERNAL",
        **({"dispute_outcome": _outcome(it)} if it.outcome else {}),
        "links": [_link(f"{base}/v1/customer/disputes/{it.id}", "self", "GET")],
    }


def _outcome(it: Dispute) -> Fields:
    assert it.outcome is not None
    refunded = it.value if it.outcome is DisputeOutcome.LOST else 0
    return {"outcome_code": it.outcome.value, "amount_refunded": shown(refunded, it.capture.order.currency)}


# Parts


def _order_url(it: Order, base: str) -> str:
    return f"{base}/v2/checkout/orders/{it.id}"


def _related(**names: str | None) -> Fields:
    return {"related_ids": _given(**names)}


def _given(**fields: str | None) -> Fields:
    return {name: value for name, value in fields.items() if value is not None}


def _links(own: str, actions: Iterable[str], up: str) -> list[Fields]:
    return [
        _link(own, "self", "GET"),
        *(_link(f"{own}/{action}", action, "POST") for action in actions),
        _link(up, "up", "GET"),
    ]


def _link(href: str, rel: str, method: str) -> Fields:
    return {"href": href, "rel": rel, "method": method}
