"""PayPal's webhooks: whether they are genuine, and what they say.

Sources: developer.paypal.com/api/rest/webhooks/rest (signature; repeats: up to 25 over 3 days), /event-names.

A delivery is one event, signed over its transmission's id and time, the webhook's id and the CRC32 of the body.
Neither order nor uniqueness is guaranteed: an event's identity is its `id`.

Money is what captures and refunds say. A dispute's own events move none: what PayPal takes back it reports as
`PAYMENT.CAPTURE.REVERSED`, which names the capture and no dispute. So a dispute is known here by its capture's id, and
its number at PayPal is in `detail`.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from connectors import references
from connectors.paypal import answers
from connectors.paypal.amounts import AmountError, from_paypal
from connectors.paypal.api import Api
from connectors.paypal.certificates import Certificates
from connectors.paypal.objects import Dispute, Event, Money, Movement, Order, Verification, parse
from connectors.provider import Ignored, Refusal, Translated, Unrouted, UnroutedReason, WebhookRefused
from connectors.references import Reference
from connectors.transport import Connections, Timeouts
from pipeline import ids
from pipeline.messages.inputs import DisputeReport, ProviderReport
from pipeline.messages.values import DisputeStep, Operation, Outcome, ReportSource
from pipeline.settings import Settings, listed

ALGORITHM: Final = "SHA256withRSA"
OLDEST: Final = 4 * 24 * 60 * 60 * 1000
"""PayPal repeats for 3 days."""
AHEAD: Final = 5 * 60 * 1000
_FETCHING: Final = Timeouts(connect=3.0, read=5.0, total=6.0)
_CONNECTIONS: Final = 8


class Transmission(msgspec.Struct, frozen=True):
    """The headers of a delivery; `time` is as it was sent, for that is what is signed."""

    id: str
    time: str
    certificate_url: str
    signature: bytes

    def signed_text(self, webhook_id: str, raw: bytes) -> bytes:
        """What is signed: transmission id, time, webhook id, and the body's CRC32 in decimal."""
        return f"{self.id}|{self.time}|{webhook_id}|{zlib.crc32(raw)}".encode()


class ByCertificate:
    """Verifies a delivery here, by the certificate it names."""

    def __init__(self, certificates: Certificates, webhook_ids: tuple[str, ...], connections: Connections) -> None:
        self._certificates = certificates
        self._webhook_ids = webhook_ids
        self._connections = connections

    async def check(self, raw: bytes, transmission: Transmission, now: int) -> None:
        """Raise WebhookRefused unless PayPal signed it. Every webhook id is tried: several are active in a rotation."""
        key = await self._certificates.key(transmission.certificate_url, now)
        texts = [transmission.signed_text(webhook_id, raw) for webhook_id in self._webhook_ids]
        if not any(_is_signed(key, transmission.signature, text) for text in texts):
            raise WebhookRefused(Refusal.WRONG_SIGNATURE)

    async def close(self) -> None:
        """Close the connections."""
        await self._connections.close()


class ByCall:
    """Has PayPal verify a delivery."""

    def __init__(self, api: Api, webhook_ids: tuple[str, ...]) -> None:
        self._api = api
        self._webhook_ids = webhook_ids

    async def check(self, raw: bytes, transmission: Transmission, now: int) -> None:
        """Raise WebhookRefused unless PayPal says that it signed it."""
        for webhook_id in self._webhook_ids:
            if await self._is_genuine(raw, transmission, webhook_id):
                return
        raise WebhookRefused(Refusal.WRONG_SIGNATURE)

    async def _is_genuine(self, raw: bytes, transmission: Transmission, webhook_id: str) -> bool:
        question = {
            "auth_algo": ALGORITHM,
            "cert_url": transmission.certificate_url,
            "transmission_id": transmission.id,
            "transmission_sig": base64.b64encode(transmission.signature).decode(),
            "transmission_time": transmission.time,
            "webhook_id": webhook_id,
            "webhook_event": msgspec.Raw(raw),
        }
        reply = await self._api.post("/v1/notifications/verify-webhook-signature", question, transmission.id)
        if reply.status == 400:
            return False
        if not reply.ok:
            raise WebhookRefused(Refusal.UNAVAILABLE, status=503)
        return parse(reply.body, Verification).verification_status == "SUCCESS"

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()


Check = ByCertificate | ByCall


class PayPalWebhooks:
    """The deliveries to one webhook. `opened` opens what checks them, at the first delivery: who only translates needs
    no connections, nor an event loop. None is a webhook that is not set up.
    """

    acknowledgement: bytes | None = None

    def __init__(self, opened: Callable[[], Check] | None) -> None:
        self._opened = opened
        self._check: Check | None = None

    async def verify(self, raw: bytes, headers: Mapping[str, str], now: int) -> None:
        """Raise WebhookRefused unless the delivery is PayPal's own and not of long ago."""
        if self._opened is None:
            raise WebhookRefused(Refusal.NOT_CONFIGURED, status=503)
        transmission = transmission_of(headers, now)
        event_of(raw)
        self._check = self._check or self._opened()
        await self._check.check(raw, transmission, now)

    def translate(self, raw: bytes, now: int, payment_id: str | None = None) -> list[Translated]:
        """See `translate` and `routed`."""
        return translate(raw, now) if payment_id is None else routed(raw, now, payment_id)

    async def close(self) -> None:
        """Close the connections."""
        if self._check is not None:
            await self._check.close()


def webhooks(settings: Settings) -> PayPalWebhooks:
    """As the settings have it."""
    webhook_ids = listed(settings.paypal_webhook_ids)
    if not webhook_ids:
        return PayPalWebhooks(None)
    opened = _by_call if settings.paypal_webhook_check == "call" else _by_certificate
    return PayPalWebhooks(partial(opened, settings, webhook_ids))


def _by_call(settings: Settings, webhook_ids: tuple[str, ...]) -> ByCall:
    credentials = (settings.paypal_client_id, settings.reveal("paypal_client_secret"))
    connections = Connections(_CONNECTIONS, _FETCHING, {"Content-Type": "application/json"})
    return ByCall(Api(settings.paypal_api_url, credentials, connections), webhook_ids)


def _by_certificate(settings: Settings, webhook_ids: tuple[str, ...]) -> ByCertificate:
    connections = Connections(_CONNECTIONS, _FETCHING, {})
    origins, names = listed(settings.paypal_certificate_origins), listed(settings.paypal_certificate_names)
    certificates = Certificates(connections, origins, names, settings.paypal_certificate_roots)
    return ByCertificate(certificates, webhook_ids, connections)


# Verification


def transmission_of(headers: Mapping[str, str], now: int) -> Transmission:
    """What the headers (names in lower case) say of the transmission. Raises WebhookRefused."""
    named = [headers.get(f"paypal-{name}") for name in ("transmission-id", "transmission-time", "cert-url")]
    signature = headers.get("paypal-transmission-sig")
    if not signature or not all(named):
        raise WebhookRefused(Refusal.MISSING_SIGNATURE)
    if headers.get("paypal-auth-algo") != ALGORITHM:
        raise WebhookRefused(Refusal.MALFORMED_SIGNATURE)
    transmission_id, time, url = (text or "" for text in named)
    sent_at = answers.millis(time)
    if sent_at is None or "|" in transmission_id:
        raise WebhookRefused(Refusal.MALFORMED_SIGNATURE)
    if not now - OLDEST <= sent_at <= now + AHEAD:
        raise WebhookRefused(Refusal.STALE)
    return Transmission(transmission_id, time, url, _decoded(signature))


def _decoded(signature: str) -> bytes:
    """Base64 in its one canonical form (RFC 4648, 3.5): no two texts are the same signature."""
    try:
        decoded = base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError) as error:
        raise WebhookRefused(Refusal.MALFORMED_SIGNATURE) from error
    if base64.b64encode(decoded).decode() != signature:
        raise WebhookRefused(Refusal.MALFORMED_SIGNATURE)
    return decoded


def _is_signed(key: RSAPublicKey, signature: bytes, text: bytes) -> bool:
    try:
        key.verify(signature, text, PKCS1v15(), SHA256())
    except InvalidSignature:
        return False
    return True


def event_of(raw: bytes) -> Event:
    """The event that a body is. Raises WebhookRefused."""
    try:
        return parse(raw, Event)
    except msgspec.MsgspecError as error:
        raise WebhookRefused(Refusal.MALFORMED_BODY) from error


# Translation

_DISPUTES: Final = {"CUSTOMER.DISPUTE.CREATED", "CUSTOMER.DISPUTE.UPDATED", "CUSTOMER.DISPUTE.RESOLVED"}
_DECIDED: Final = {
    "RESOLVED_BUYER_FAVOUR": DisputeStep.LOST,
    "ACCEPTED": DisputeStep.LOST,
    "RESOLVED_SELLER_FAVOUR": DisputeStep.WON,
    "RESOLVED_WITH_PAYOUT": DisputeStep.WON,
    "CANCELED_BY_BUYER": DisputeStep.WON,
    "DENIED": DisputeStep.WON,
}
"""`outcome_code`, for the seller. PayPal pays RESOLVED_WITH_PAYOUT out of its own pocket."""
_REVERSED: Final = "PAYMENT.CAPTURE.REVERSED"
_SAID_ELSEWHERE: Final = {"CHECKOUT.ORDER.COMPLETED", "CHECKOUT.ORDER.PROCESSED"}
"""What was authorized or captured of the order has an event of its own."""


def translate(raw: bytes, now: int) -> list[Translated]:
    """What a verified delivery says; `now` (milliseconds) is when it was received, and the reports' time.

    Raises WebhookRefused for a body that is no event.
    """
    event = event_of(raw)
    if event.event_type in _SAID_ELSEWHERE:
        return [Ignored(event_id=event_id(event), event_type=event.event_type)]
    try:
        if event.event_type in _DISPUTES:
            return list(_of_captures(event, parse(event.resource, Dispute)))
        reader = _READERS.get(event.event_type)
        return [reader(event, now) if reader else _unrouted(event, UnroutedReason.UNKNOWN_TYPE)]
    except (msgspec.MsgspecError, AmountError):
        # Genuine, but not as this version knows it: kept for one that does.
        return [_unrouted(event, UnroutedReason.UNKNOWN_TYPE)]


def routed(raw: bytes, now: int, payment_id: str) -> list[Translated]:
    """What a kept event says of the payment that its reference was found to belong to. Raises WebhookRefused."""
    event = event_of(raw)
    try:
        if event.event_type in _DISPUTES:
            return [_dispute(event, parse(event.resource, Dispute), now, payment_id)]
        movement = parse(event.resource, Movement)
        if event.event_type == _REVERSED:
            return [_withdrawn(event, movement, now, payment_id)]
        if said := _SAID.get(event.event_type):
            return [_report(event, movement, Said(payment_id, None, *said), now)]
    except (msgspec.MsgspecError, AmountError) as error:
        raise WebhookRefused(Refusal.MALFORMED_BODY) from error
    return []


Reader = Callable[[Event, int], Translated]


class Said(msgspec.Struct, frozen=True):
    """What an event speaks of; without an outcome, the movement's status is it."""

    payment_id: str
    subject_id: str | None
    operation: Operation
    outcome: Outcome | None


def _approved_by_payer(event: Event, now: int) -> Translated:
    """The payer has done their part: the order waits for us to authorize or capture it."""
    return _of_order(event, now, Outcome.PENDING)


def _approval_reversed(event: Event, now: int) -> Translated:
    """The payer never came back, or their funding fell through: PayPal gave the approval back."""
    return _of_order(event, now, Outcome.DECLINED)


def _of_order(event: Event, now: int, outcome: Outcome) -> Translated:
    order = parse(event.resource, Order)
    custom_id = order.purchase_units[0].custom_id if order.purchase_units else None
    reference = references.parse(custom_id or "")
    if reference is None:
        return _unrouted(event, UnroutedReason.UNKNOWN_PAYMENT, order.id)
    decline = answers.DECLINES.decline("approval_reversed") if outcome is Outcome.DECLINED else None
    return ProviderReport(
        payment_id=reference.payment_id,
        occurred_at=now,
        report_id=event_id(event),
        provider=answers.NAME,
        source=ReportSource.WEBHOOK,
        operation=Operation.AUTHORIZE,
        outcome=outcome,
        subject_id=reference.subject_of(Operation.AUTHORIZE),
        provider_reference=order.id,
        decline=decline,
        detail=event.event_type,
    )


def _moved(operation: Operation, outcome: Outcome | None = None) -> Reader:
    """An event about an authorization, capture or refund; its status is the outcome, where none is given."""

    def reader(event: Event, now: int) -> Translated:
        movement = parse(event.resource, Movement)
        reference = _ours(movement)
        if reference is None:
            return _unrouted(event, UnroutedReason.UNKNOWN_PAYMENT, movement.of or movement.id)
        asked = _asked(movement, reference, operation)
        denied = operation is Operation.VOID and movement.status == "DENIED"
        if denied:  # what was pending never became a hold
            asked = Operation.AUTHORIZE
        said = Said(reference.payment_id, reference.subject_of(asked), asked, Outcome.DECLINED if denied else outcome)
        return _report(event, movement, said, now)

    return reader


def _reversal(event: Event, now: int) -> Translated:
    movement = parse(event.resource, Movement)
    reference = _ours(movement)
    if reference is None:
        return _unrouted(event, UnroutedReason.UNKNOWN_PAYMENT, movement.of or movement.id)
    return _withdrawn(event, movement, now, reference.payment_id)


def _ours(movement: Movement) -> Reference | None:
    """The invoice number is the movement's own, where it has one; the rest is the order's."""
    return references.parse(movement.invoice_id or "") or references.parse(movement.custom_id or "")


def _asked(movement: Movement, reference: Reference, operation: Operation) -> Operation:
    """A capture that was made for an attempt, and of no authorization, is the attempt's automatic one."""
    automatic = operation is Operation.CAPTURE and reference.operation is Operation.AUTHORIZE
    made_of_hold = movement.supplementary_data.related_ids.authorization_id is not None
    return Operation.AUTHORIZE if automatic and not made_of_hold else operation


_SAID: Final[dict[str, tuple[Operation, Outcome | None]]] = {
    "PAYMENT.AUTHORIZATION.CREATED": (Operation.AUTHORIZE, None),
    "PAYMENT.AUTHORIZATION.DENIED": (Operation.AUTHORIZE, Outcome.DECLINED),
    "PAYMENT.AUTHORIZATION.VOIDED": (Operation.VOID, Outcome.APPROVED),
    "PAYMENT.CAPTURE.COMPLETED": (Operation.CAPTURE, Outcome.APPROVED),
    "PAYMENT.CAPTURE.PENDING": (Operation.CAPTURE, Outcome.PENDING),
    "PAYMENT.CAPTURE.DENIED": (Operation.CAPTURE, Outcome.DECLINED),
    "PAYMENT.CAPTURE.DECLINED": (Operation.CAPTURE, Outcome.DECLINED),
    "PAYMENT.CAPTURE.REFUNDED": (Operation.REFUND, None),
    "PAYMENT.REFUND.PENDING": (Operation.REFUND, Outcome.PENDING),
    "PAYMENT.REFUND.FAILED": (Operation.REFUND, Outcome.DECLINED),
}
_READERS: Final[dict[str, Reader]] = {
    "CHECKOUT.ORDER.APPROVED": _approved_by_payer,
    "CHECKOUT.PAYMENT-APPROVAL.REVERSED": _approval_reversed,
    _REVERSED: _reversal,
    **{name: _moved(operation, outcome) for name, (operation, outcome) in _SAID.items()},
}
"""Every other event is kept: subscriptions, invoices, payouts, vault, reports."""


def _report(event: Event, movement: Movement, said: Said, now: int) -> ProviderReport:
    status = _status_of(event, said.operation)
    outcome = said.outcome or answers.outcome_of(movement, status)
    voids = said.operation is Operation.VOID
    amount = movement.amount if outcome is Outcome.APPROVED and not voids else None
    return ProviderReport(
        payment_id=said.payment_id,
        occurred_at=now,
        report_id=event_id(event),
        provider=answers.NAME,
        source=ReportSource.WEBHOOK,
        operation=said.operation,
        outcome=outcome,
        subject_id=said.subject_id,
        provider_reference=movement.supplementary_data.related_ids.order_id,
        operation_reference=None if voids else movement.id,
        amount=_minor(amount),
        currency=amount.currency_code if amount else None,
        decline=answers.decline_of(movement, status, said.operation) if outcome is Outcome.DECLINED else None,
        hold_expires_at=answers.millis(movement.expiration_time) if status is Operation.AUTHORIZE else None,
        detail=" ".join(filter(None, (event.event_type, movement.status, movement.status_details.reason))),
    )


def _status_of(event: Event, operation: Operation) -> Operation:
    """Whose statuses the movement has: an automatic capture is an authorization to us, and a capture to PayPal."""
    captured = event.event_type.startswith("PAYMENT.CAPTURE.") and operation is not Operation.REFUND
    return Operation.CAPTURE if captured else operation


def _minor(amount: Money | None) -> int | None:
    return from_paypal(amount.value, amount.currency_code) if amount else None


def _of_captures(event: Event, dispute: Dispute) -> list[Unrouted]:
    """A dispute names captures only: each finds its payment by itself, with the dispute reduced to it."""
    captures = [t.seller_transaction_id for t in dispute.disputed_transactions if t.seller_transaction_id]
    if not captures:
        return [_unrouted(event, UnroutedReason.UNKNOWN_PAYMENT, dispute.dispute_id)]
    return [
        Unrouted(
            reason=UnroutedReason.UNKNOWN_PAYMENT,
            event_id=ids.derive("paypal-event", event.id, capture),
            event_type=event.event_type,
            provider_reference=capture,
            raw=_reduced(event, capture),
        )
        for capture in captures
    ]


def _reduced(event: Event, capture: str) -> bytes:
    """The event with one of its transactions."""
    resource = msgspec.json.decode(event.resource)
    resource["disputed_transactions"] = [{"seller_transaction_id": capture}]
    return msgspec.json.encode({"id": event.id, "event_type": event.event_type, "resource": resource})


def _dispute(event: Event, dispute: Dispute, now: int, payment_id: str) -> DisputeReport:
    decided = _DECIDED.get(dispute.dispute_outcome.outcome_code) if event.event_type.endswith("RESOLVED") else None
    capture = dispute.disputed_transactions[0].seller_transaction_id if dispute.disputed_transactions else None
    amount = dispute.dispute_amount
    return DisputeReport(
        payment_id=payment_id,
        occurred_at=now,
        report_id=ids.derive("paypal-event", event.id, capture or ""),
        provider=answers.NAME,
        step=decided or DisputeStep.OPENED,
        dispute_reference=capture or dispute.dispute_id,
        amount=_minor(amount) or 0,
        currency=amount.currency_code if amount else "",
        reason=dispute.reason,
        evidence_due_at=answers.millis(dispute.seller_response_due_date),
        detail=" ".join(filter(None, (event.event_type, dispute.dispute_id, dispute.dispute_outcome.outcome_code))),
    )


def _withdrawn(event: Event, movement: Movement, now: int, payment_id: str) -> DisputeReport:
    """PayPal took a capture's money back: after a dispute, or because the payer's bank did."""
    if movement.amount is None:
        raise AmountError("a reversal without an amount")
    return DisputeReport(
        payment_id=payment_id,
        occurred_at=now,
        report_id=event_id(event),
        provider=answers.NAME,
        step=DisputeStep.FUNDS_WITHDRAWN,
        dispute_reference=movement.of or movement.id,
        amount=abs(_minor(movement.amount) or 0),
        currency=movement.amount.currency_code,
        reason=movement.status_details.reason,
        detail=event.event_type,
    )


def event_id(event: Event) -> str:
    """The same for every delivery of the same event."""
    return ids.derive("paypal-event", event.id)


def _unrouted(event: Event, reason: UnroutedReason, reference: str | None = None) -> Unrouted:
    return Unrouted(reason=reason, event_id=event_id(event), event_type=event.event_type, provider_reference=reference)
