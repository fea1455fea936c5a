"""Webhooks' events. Sources: `event` of notifications_webhooks_v1,
developer.paypal.com/api/rest/webhooks/event-names.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

import msgspec

from connectors.simulator.paypal import render
from connectors.simulator.paypal.records import Authorization, Capture, Dispute, Order, Refund

About = Order | Authorization | Capture | Refund | Dispute


class EventType(StrEnum):
    """event_type"""

    ORDER_APPROVED = "CHECKOUT.ORDER.APPROVED"
    ORDER_COMPLETED = "CHECKOUT.ORDER.COMPLETED"
    AUTHORIZATION_CREATED = "PAYMENT.AUTHORIZATION.CREATED"
    AUTHORIZATION_VOIDED = "PAYMENT.AUTHORIZATION.VOIDED"
    """Also when it expires."""
    CAPTURE_COMPLETED = "PAYMENT.CAPTURE.COMPLETED"
    CAPTURE_PENDING = "PAYMENT.CAPTURE.PENDING"
    CAPTURE_DECLINED = "PAYMENT.CAPTURE.DECLINED"
    """Declined at once."""
    CAPTURE_DENIED = "PAYMENT.CAPTURE.DENIED"
    """Denied after it was pending."""
    CAPTURE_REFUNDED = "PAYMENT.CAPTURE.REFUNDED"
    """About the refund."""
    CAPTURE_REVERSED = "PAYMENT.CAPTURE.REVERSED"
    """About the refund that PayPal made."""
    REFUND_PENDING = "PAYMENT.REFUND.PENDING"
    REFUND_FAILED = "PAYMENT.REFUND.FAILED"
    DISPUTE_CREATED = "CUSTOMER.DISPUTE.CREATED"
    DISPUTE_UPDATED = "CUSTOMER.DISPUTE.UPDATED"
    DISPUTE_RESOLVED = "CUSTOMER.DISPUTE.RESOLVED"


_SUMMARIES: Final = {
    EventType.ORDER_APPROVED: "An order has been approved by buyer",
    EventType.ORDER_COMPLETED: "Checkout Order Completed",
    EventType.AUTHORIZATION_CREATED: "A payment authorization was created",
    EventType.AUTHORIZATION_VOIDED: "A payment authorization was voided",
    EventType.CAPTURE_COMPLETED: "Payment completed",
    EventType.CAPTURE_PENDING: "Payment pending",
    EventType.CAPTURE_DECLINED: "Payment declined",
    EventType.CAPTURE_DENIED: "Payment denied",
    EventType.CAPTURE_REFUNDED: "A payment capture was refunded",
    EventType.CAPTURE_REVERSED: "A payment capture was reversed",
    EventType.REFUND_PENDING: "A refund is pending",
    EventType.REFUND_FAILED: "A refund failed",
    EventType.DISPUTE_CREATED: "A new dispute opened",
    EventType.DISPUTE_UPDATED: "A dispute was updated",
    EventType.DISPUTE_RESOLVED: "A dispute was resolved",
}


class Event(msgspec.Struct, frozen=True):
    """An event as it happened, and what it is about. `body` is what is sent."""

    id: str
    type: EventType
    order: str
    ours: str | None
    base_url: str
    body: dict[str, Any]


def of(kind: EventType, about: About, name: str, now: int, base: str) -> Event:
    """An event about a resource as it is now; `name` is the event's own id."""
    order, resource_type, resource = _resource(about, base)
    own = f"{base}/v1/notifications/webhooks-events/WH-{name}"
    body = {
        "id": f"WH-{name}",
        "event_version": "1.0",
        "create_time": render.time(now).replace("Z", ".000Z"),
        "resource_type": resource_type,
        "resource_version": "2.0",
        "event_type": kind.value,
        "summary": _SUMMARIES[kind],
        "resource": resource,
        "links": [
            {"href": own, "rel": "self", "method": "GET"},
            {"href": f"{own}/resend", "rel": "resend", "method": "POST"},
        ],
    }
    if isinstance(about, Dispute):
        del body["resource_version"]
    return Event(f"WH-{name}", kind, order.id, order.ours, base, body)


def _resource(about: About, base: str) -> tuple[Order, str, dict[str, Any]]:
    match about:
        case Order():
            return about, "checkout-order", render.order(about, base)
        case Authorization():
            return about.order, "authorization", render.authorization(about, base)
        case Capture():
            return about.order, "capture", render.capture(about, base)
        case Refund():
            return about.capture.order, "refund", render.refund(about, base)
        case Dispute():
            return about.capture.order, "dispute", render.dispute(about, base)
