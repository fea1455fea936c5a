"""Notification items and deliveries, signed as Adyen's own library signs them."""

from __future__ import annotations

import json
from typing import Any

from Adyen.util import generate_notification_sig

from connectors.adyen.webhook import Endpoint
from connectors.references import Reference
from pipeline import ids
from pipeline.messages.values import Operation

KEY = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056"
OTHER_KEY = "74F490DD33F7327BAECC88B2947C011FC02D014A473AAA33A8EC93E4DC069174"
ENDPOINT = Endpoint(keys=[bytes.fromhex(KEY)])
PAYMENT = ids.payment_id("m_test", "1")
SUBJECTS = {operation: ids.subject_id(operation, PAYMENT, "1") for operation in Operation}


def reference(operation: Operation) -> str:
    """Ours, for that operation of PAYMENT."""
    return str(Reference(PAYMENT, operation, SUBJECTS[operation]))


def item(event: str, *, success: str = "true", operation: Operation | None = None, **fields: Any) -> dict[str, Any]:
    """An item as in Webhooks-v1's examples; `operation` is whose reference it carries."""
    made = {
        "amount": {"currency": "EUR", "value": 1_000},
        "eventCode": event,
        "eventDate": "2026-01-01T01:00:00+01:00",
        "merchantAccountCode": "TestMerchant",
        "merchantReference": reference(operation) if operation else "order-17",
        "paymentMethod": "visa",
        "pspReference": "QFQTPCQ8HXSKGK82",
        "reason": "",
        "success": success,
    }
    return made | fields


def signed(made: dict[str, Any], key: str = KEY) -> dict[str, Any]:
    """The item with its signature."""
    data = {**made.get("additionalData", {}), "hmacSignature": generate_notification_sig(made, key).decode()}
    return {**made, "additionalData": data}


def delivery(*items: dict[str, Any], live: str = "false") -> bytes:
    """A webhook's body."""
    wrapped = [{"NotificationRequestItem": made} for made in items]
    return json.dumps({"live": live, "notificationItems": wrapped}).encode()
