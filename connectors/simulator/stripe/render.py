"""Stripe's JSON shapes. Source: the objects of docs.stripe.com/api and of the official SDK."""

from __future__ import annotations

from typing import Any, Final

import orjson

from connectors.simulator.stripe.errors import failure_fields
from connectors.simulator.stripe.objects import (
    BalanceTransaction,
    Charge,
    ChargeStatus,
    Dispute,
    DisputeStatus,
    Event,
    Failure,
    Intent,
    IntentStatus,
    Payout,
    PayoutStatus,
    Refund,
    RefundStatus,
    StripeObject,
    TransactionType,
)

Json = dict[str, Any]

_NO_ADDRESS: Final = {
    "city": None,
    "country": None,
    "line1": None,
    "line2": None,
    "postal_code": None,
    "state": None,
}
_NO_BILLING: Final = {"address": _NO_ADDRESS, "email": None, "name": None, "phone": None, "tax_id": None}
_INQUIRIES: Final = frozenset(
    {DisputeStatus.WARNING_NEEDS_RESPONSE, DisputeStatus.WARNING_UNDER_REVIEW, DisputeStatus.WARNING_CLOSED}
)


def compact(body: Json) -> bytes:
    """As an answer."""
    return orjson.dumps(body)


def pretty(body: Json) -> bytes:
    """As a webhook: Stripe sends its events indented, and signs them so."""
    return orjson.dumps(body, option=orjson.OPT_INDENT_2)


def shape(thing: StripeObject) -> Json:
    """Any object, nothing expanded."""
    if isinstance(thing, Intent):
        return intent(thing)
    if isinstance(thing, Charge):
        return charge(thing)
    if isinstance(thing, Refund):
        return refund(thing)
    if isinstance(thing, Dispute):
        return dispute(thing)
    if isinstance(thing, Payout):
        return payout(thing)
    return transaction(thing)


def intent(it: Intent) -> Json:
    """A payment intent."""
    return {
        "id": it.id,
        "object": "payment_intent",
        "amount": it.amount,
        "amount_capturable": it.amount_capturable,
        "amount_details": {"tip": {}},
        "amount_received": it.amount_received,
        "application": None,
        "application_fee_amount": None,
        "automatic_payment_methods": _automatic(it),
        "canceled_at": it.canceled_at,
        "cancellation_reason": it.cancellation_reason,
        "capture_method": it.capture_method,
        "client_secret": client_secret(it.id),
        "confirmation_method": it.confirmation_method,
        "created": it.created,
        "currency": it.currency,
        "customer": it.customer,
        "description": it.description,
        "last_payment_error": None if it.last_payment_error is None else _last_error(it.last_payment_error),
        "latest_charge": it.latest_charge,
        "livemode": False,
        "metadata": it.metadata,
        "next_action": _next_action(it),
        "on_behalf_of": None,
        "payment_method": it.payment_method,
        "payment_method_configuration_details": None,
        "payment_method_options": {"card": _card_options(it)},
        "payment_method_types": it.payment_method_types,
        "processing": None,
        "receipt_email": it.receipt_email,
        "review": None,
        "setup_future_usage": it.setup_future_usage,
        "shipping": None,
        "source": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": it.statement_descriptor_suffix,
        "status": it.status,
        "transfer_data": None,
        "transfer_group": it.transfer_group,
    }


def charge(it: Charge) -> Json:
    """A charge."""
    failure = it.failure
    return {
        "id": it.id,
        "object": "charge",
        "amount": it.amount,
        "amount_captured": it.amount_captured,
        "amount_refunded": it.amount_refunded,
        "application": None,
        "application_fee": None,
        "application_fee_amount": None,
        "balance_transaction": it.balance_transaction,
        "billing_details": _NO_BILLING,
        "calculated_statement_descriptor": "SIMULATOR",
        "captured": it.captured,
        "created": it.created,
        "currency": it.currency,
        "customer": it.customer,
        "description": it.description,
        "destination": None,
        "dispute": None,
        "disputed": it.disputed,
        "failure_balance_transaction": None,
        "failure_code": failure and failure.code,
        "failure_message": failure and failure.message,
        "fraud_details": {},
        "livemode": False,
        "metadata": it.metadata,
        "on_behalf_of": None,
        "order": None,
        "outcome": _outcome(failure),
        "paid": it.status is ChargeStatus.SUCCEEDED,
        "payment_intent": it.payment_intent,
        "payment_method": it.payment_method,
        "payment_method_details": {"card": _card_details(it), "type": "card"},
        "radar_options": {},
        "receipt_email": None,
        "receipt_number": None,
        "receipt_url": None,
        "refunded": it.refunded,
        "review": None,
        "shipping": None,
        "source": None,
        "source_transfer": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": None,
        "status": it.status,
        "transfer_data": None,
        "transfer_group": None,
    }


def refund(it: Refund) -> Json:
    """A refund."""
    shaped = {
        "id": it.id,
        "object": "refund",
        "amount": it.amount,
        "balance_transaction": it.balance_transaction,
        "charge": it.charge,
        "created": it.created,
        "currency": it.currency,
        "destination_details": {
            "card": {"reference_status": "pending", "reference_type": "acquirer_reference_number", "type": "refund"},
            "type": "card",
        },
        "metadata": it.metadata,
        "payment_intent": it.payment_intent,
        "reason": it.reason,
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": it.status,
        "transfer_reversal": None,
    }
    if it.status is RefundStatus.PENDING:
        shaped["pending_reason"] = "processing"
    if it.status is RefundStatus.FAILED:
        shaped["failure_reason"] = it.failure_reason
        shaped["failure_balance_transaction"] = it.failure_balance_transaction
    return shaped


def dispute(it: Dispute) -> Json:
    """A dispute."""
    return {
        "id": it.id,
        "object": "dispute",
        "amount": it.amount,
        "balance_transactions": [transaction(each) for each in it.balance_transactions],
        "charge": it.charge,
        "created": it.created,
        "currency": it.currency,
        "enhanced_eligibility_types": [],
        "evidence": it.evidence,
        "evidence_details": {
            "due_by": it.due_by,
            "has_evidence": bool(it.evidence),
            "past_due": False,
            "submission_count": int(bool(it.evidence)),
        },
        "is_charge_refundable": it.status in _INQUIRIES,
        "livemode": False,
        "metadata": it.metadata,
        "payment_intent": it.payment_intent,
        "payment_method_details": {"card": {"brand": "visa", "case_type": "chargeback"}, "type": "card"},
        "reason": it.reason,
        "status": it.status,
    }


def transaction(it: BalanceTransaction) -> Json:
    """A balance transaction."""
    fee = {"amount": it.fee, "application": None, "currency": it.currency, "type": "stripe_fee"}
    return {
        "id": it.id,
        "object": "balance_transaction",
        "amount": it.amount,
        "available_on": it.available_on,
        "balance_type": "payments",
        "created": it.created,
        "currency": it.currency,
        "description": None,
        "exchange_rate": None,
        "fee": it.fee,
        "fee_details": [{**fee, "description": "Stripe processing fees"}] if it.fee else [],
        "net": it.net,
        "reporting_category": category(it),
        "source": it.source,
        "status": "pending",
        "type": it.type,
    }


def category(it: BalanceTransaction) -> str:
    """The finer word: an adjustment is a dispute here, or what came back of it."""
    if it.type is TransactionType.ADJUSTMENT:
        return "dispute" if it.amount < 0 else "dispute_reversal"
    return "payout_reversal" if it.type is TransactionType.PAYOUT_FAILURE else it.type.value


def payout(it: Payout) -> Json:
    """A payout, made by the account's schedule."""
    return {
        "id": it.id,
        "object": "payout",
        "amount": it.amount,
        "arrival_date": it.arrival_date,
        "automatic": True,
        "balance_transaction": it.balance_transaction,
        "created": it.created,
        "currency": it.currency,
        "description": "STRIPE PAYOUT",
        "destination": "ba_simulated",
        "failure_balance_transaction": it.failure_balance_transaction,
        "failure_code": "account_closed" if it.status is PayoutStatus.FAILED else None,
        "livemode": False,
        "metadata": {},
        "method": "standard",
        "original_payout": None,
        "reconciliation_status": "completed",
        "reversed_by": None,
        "source_type": "card",
        "statement_descriptor": None,
        "status": it.status,
        "type": "bank_account",
    }


def event(it: Event, api_version: str) -> Json:
    """An event."""
    data: Json = {"object": shape(it.object)}
    if it.previous is not None:
        data["previous_attributes"] = it.previous
    return {
        "id": it.id,
        "object": "event",
        "api_version": api_version,
        "created": it.created,
        "data": data,
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": it.request, "idempotency_key": it.idempotency_key},
        "type": it.type,
    }


def client_secret(intent_id: str) -> str:
    """The secret that lets a browser finish this payment. A simulator's: it protects nothing."""
    return f"{intent_id}_secret_{intent_id[-24:][::-1]}"


def _automatic(it: Intent) -> Json | None:
    return {"allow_redirects": "always", "enabled": True} if it.automatic_payment_methods else None


def _card_options(it: Intent) -> Json:
    options: Json = {
        "installments": None,
        "mandate_options": None,
        "network": None,
        "request_three_d_secure": "automatic",
    }
    if it.request_multicapture:
        options["request_multicapture"] = "if_available"
    return options


def _last_error(failure: Failure) -> Json:
    fields = failure_fields(failure)
    if failure.payment_method:
        fields["payment_method"] = {"id": failure.payment_method, "object": "payment_method", "type": "card"}
    return fields


def _next_action(it: Intent) -> Json | None:
    """With a return URL a redirect, without one what Stripe.js would do."""
    if it.status is not IntentStatus.REQUIRES_ACTION:
        return None
    if it.return_url:
        return {"redirect_to_url": {"return_url": it.return_url, "url": it.action_url}, "type": "redirect_to_url"}
    sdk = {"source": None, "stripe_js": it.action_url, "type": "three_d_secure_redirect"}
    return {"type": "use_stripe_sdk", "use_stripe_sdk": sdk}


def _outcome(failure: Failure | None) -> Json:
    if failure is None:
        return {
            "advice_code": None,
            "network_advice_code": None,
            "network_decline_code": None,
            "network_status": "approved_by_network",
            "reason": None,
            "risk_level": "normal",
            "risk_score": 33,
            "seller_message": "Payment complete.",
            "type": "authorized",
        }
    return {
        "advice_code": failure.advice,
        "network_advice_code": failure.network_advice,
        "network_decline_code": failure.network,
        "network_status": "not_sent_to_network" if failure.blocked else "declined_by_network",
        "reason": "highest_risk_level" if failure.blocked else failure.decline_code or failure.code,
        "risk_level": "highest" if failure.blocked else "normal",
        "risk_score": 93 if failure.blocked else 33,
        "seller_message": "Stripe blocked this payment." if failure.blocked else "The bank declined this payment.",
        "type": "blocked" if failure.blocked else "issuer_declined",
    }


def _card_details(it: Charge) -> Json:
    card = it.card
    details: Json = {
        "amount_authorized": it.amount if it.status is ChargeStatus.SUCCEEDED else None,
        "authorization_code": None,
        "brand": card.brand,
        "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
        "country": card.country,
        "exp_month": 12,
        "exp_year": 2034,
        "extended_authorization": {"status": "disabled"},
        "fingerprint": f"simulated{card.last4}",
        "funding": card.funding,
        "incremental_authorization": {"status": "unavailable"},
        "installments": None,
        "last4": card.last4,
        "mandate": None,
        "multicapture": {"status": "available" if it.multicapture else "unavailable"},
        "network": card.brand,
        "network_token": {"used": False},
        "network_transaction_id": None,
        "overcapture": {"maximum_amount_capturable": it.amount, "status": "unavailable"},
        "regulated_status": "unregulated",
        "three_d_secure": {"result": "authenticated", "version": "2.2.0"} if it.authenticated else None,
        "wallet": None,
    }
    if it.capture_before is not None:
        details["capture_before"] = it.capture_before
    return details
