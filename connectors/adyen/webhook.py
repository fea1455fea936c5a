"""Adyen's standard webhooks: whether they are genuine, and what they say.

Sources: docs.adyen.com/development-resources/webhooks (acknowledgement, order, repeats), /verify-hmac-signatures, and
Webhooks-v1 of github.com/Adyen/adyen-openapi.

A delivery is a batch of items, each signed by itself over eight of its fields; one bad item refuses all, so that Adyen
delivers all again. Neither order nor uniqueness is guaranteed: an item's identity is its event code, `pspReference`
and `success`. What is not signed is used where nothing but a text depends on it: `reason`, and `additionalData` for
why a card was refused and for whether a reversal was a cancel or a refund.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from connectors import references
from connectors.adyen import answers, refusals
from connectors.adyen.amounts import AmountError, from_adyen
from connectors.adyen.objects import EventAmount, Item, Notification, parse
from connectors.provider import Announced, Refusal, Translated, Unrouted, UnroutedReason, WebhookRefused
from pipeline import ids
from pipeline.messages.inputs import DisputeReport, ProviderReport
from pipeline.messages.values import Decline, DisputeStep, Operation, Outcome, ReportSource
from pipeline.settings import Settings, listed

ACKNOWLEDGEMENT: Final = b"[accepted]"
REPORT: Final = "REPORT_AVAILABLE"
SETTLEMENT: Final = "settlement_detail_report"
"""How the names of the reports begin that are read by themselves; pspReference is the name, reason the URL."""
_TRUTH: Final = {"true": True, "false": False}
_GENERIC_REFUSAL: Final = "2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """How the endpoint is set up at Adyen. `keys` are HMAC keys in hex, every one active; without `username`, no basic
    authentication is asked for.
    """

    keys: Sequence[bytes]
    username: str = ""
    password: str = ""
    live: bool = False


class AdyenWebhooks:
    """The deliveries to one endpoint."""

    acknowledgement: bytes | None = ACKNOWLEDGEMENT

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def verify(self, raw: bytes, headers: Mapping[str, str], now: int) -> None:
        """See `verify`."""
        verify(raw, headers, self._endpoint)

    def translate(self, raw: bytes, now: int, payment_id: str | None = None) -> list[Translated]:
        """See `translate` and `routed`."""
        return translate(raw, now) if payment_id is None else routed(raw, now, payment_id)

    async def close(self) -> None:
        """Nothing is open."""


def webhooks(settings: Settings) -> AdyenWebhooks:
    """As the settings have it. Raises ValueError for an HMAC key that is not hexadecimal."""
    keys = [bytes.fromhex(key) for key in listed(settings.reveal("adyen_webhook_hmac_keys"))]
    return AdyenWebhooks(
        Endpoint(
            keys=keys,
            username=settings.adyen_webhook_username,
            password=settings.reveal("adyen_webhook_password"),
            live=settings.adyen_live,
        )
    )


# Verification


def verify(raw: bytes, headers: Mapping[str, str], endpoint: Endpoint) -> None:
    """Raise WebhookRefused unless every item of the delivery is signed with one of the keys, for this environment."""
    if not endpoint.keys:
        raise WebhookRefused(Refusal.NOT_CONFIGURED, status=503)
    _check_credentials(headers.get("authorization"), endpoint)
    notification, items = _read(raw)
    # Every signature is checked before anything is said: how long it takes tells nothing about which item was bad.
    findings = [_finding(item, endpoint.keys) for item in items]
    for finding in findings:
        if finding is not None:
            raise WebhookRefused(finding)
    if _TRUTH.get(notification.live) is not endpoint.live:
        raise WebhookRefused(Refusal.WRONG_ENVIRONMENT)


def signed_text(item: Item) -> str:
    """What is signed of an item: eight fields, as they came, empty where absent."""
    amount = item.amount or EventAmount()
    fields = (
        item.psp_reference,
        item.original_reference,
        item.merchant_account_code,
        item.merchant_reference,
        amount.value,
        amount.currency,
        item.event_code,
        item.success,
    )
    return ":".join("" if field is None else str(field) for field in fields)


def signature(key: bytes, item: Item) -> bytes:
    """An item's HMAC-SHA256."""
    return hmac.digest(key, signed_text(item).encode(), "sha256")


def _check_credentials(authorization: str | None, endpoint: Endpoint) -> None:
    """Basic authentication (RFC 7617), where it is set up. Compared as one text, in constant time."""
    if not endpoint.username:
        return
    scheme, _, given = (authorization or "").partition(" ")
    expected = base64.b64encode(f"{endpoint.username}:{endpoint.password}".encode())
    same = hmac.compare_digest(given.strip().encode(), expected)
    if scheme.lower() != "basic" or not same:
        raise WebhookRefused(Refusal.WRONG_CREDENTIALS, status=401)


def _read(raw: bytes) -> tuple[Notification, list[Item]]:
    """The delivery and its items. Raises WebhookRefused for what is none."""
    try:
        notification = parse(raw, Notification)
        items = [parse(envelope.item, Item) for envelope in notification.notification_items]
    except msgspec.MsgspecError as error:
        raise WebhookRefused(Refusal.MALFORMED_BODY) from error
    if not items or not all(map(_is_plain, items)):
        raise WebhookRefused(Refusal.MALFORMED_BODY)
    return notification, items


def _is_plain(item: Item) -> bool:
    """Whether the item's signature can mean this item only: the fields are signed as one text with colons between them,
    so a colon may stand in no field but our own reference, or a forger could move what is signed from field to field.
    """
    amount = item.amount or EventAmount()
    fields = (item.psp_reference, item.original_reference, item.merchant_account_code, amount.currency, item.event_code)
    return item.success in _TRUTH and not any(":" in field for field in fields if field)


def _finding(item: Item, keys: Sequence[bytes]) -> Refusal | None:
    """What is wrong with an item's signature. Every key is compared: several are active during a rotation."""
    given = item.additional_data.get("hmacSignature")
    if not given:
        return Refusal.MISSING_SIGNATURE
    try:
        decoded = base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError):
        return Refusal.MALFORMED_SIGNATURE
    matches = [hmac.compare_digest(signature(key, item), decoded) for key in keys]
    return None if any(matches) else Refusal.WRONG_SIGNATURE


# Translation


def translate(raw: bytes, now: int) -> list[Translated]:
    """What a verified delivery says, item by item; `now` (milliseconds) is when it was received, and the reports' time.

    Raises WebhookRefused for a body that is no notification.
    """
    notification, items = _read(raw)
    return [
        _translated(item, bytes(envelope.item), now)
        for item, envelope in zip(items, notification.notification_items, strict=True)
    ]


def routed(raw: bytes, now: int, payment_id: str) -> list[Translated]:
    """What one kept item says of the payment that its reference was found to belong to. Raises WebhookRefused."""
    try:
        item = parse(raw, Item)
        step = _DISPUTES.get(item.event_code)
        if step is not None:
            return [_dispute(item, step, now, payment_id)]
        reader = _READERS.get(item.event_code)
        said = reader(item, _TRUTH[item.success]) if reader else None
        return [_report(item, said, now, payment_id, None)] if said else []
    except (msgspec.MsgspecError, KeyError, AmountError) as error:
        raise WebhookRefused(Refusal.MALFORMED_BODY) from error


_DISPUTES: Final = {
    "NOTIFICATION_OF_CHARGEBACK": DisputeStep.OPENED,
    "REQUEST_FOR_INFORMATION": DisputeStep.OPENED,
    "CHARGEBACK": DisputeStep.FUNDS_WITHDRAWN,
    "CHARGEBACK_REVERSED": DisputeStep.FUNDS_REINSTATED,
    "SECOND_CHARGEBACK": DisputeStep.FUNDS_WITHDRAWN,
    "PREARBITRATION_WON": DisputeStep.WON,
    "PREARBITRATION_LOST": DisputeStep.LOST,
}
"""Adyen's dispute flow. Every event of a dispute has its PSP reference, and the payment's as the original one."""


def _dispute(item: Item, step: DisputeStep, now: int, payment_id: str) -> DisputeReport:
    amount = item.amount or EventAmount()
    currency = amount.currency or ""
    return DisputeReport(
        payment_id=payment_id,
        occurred_at=now,
        report_id=event_id(item),
        provider=answers.NAME,
        step=step,
        dispute_reference=item.psp_reference,
        amount=from_adyen(amount.value or 0, currency),
        currency=currency,
        reason=item.reason,
        detail=item.event_code,
    )


class Said(msgspec.Struct, frozen=True):
    """What an event means: the operation it speaks of, its outcome, and whether it brings the operation's amount."""

    operation: Operation
    outcome: Outcome
    decline: Decline | None = None
    amount: bool = True
    after_success: bool = False


Reader = Callable[[Item, bool], Said | None]


def _authorisation(item: Item, success: bool) -> Said | None:
    if success:
        return Said(Operation.AUTHORIZE, Outcome.APPROVED)
    code = item.additional_data.get("refusalReasonCode") or refusals.code_of(item.reason or "")
    decline = answers.refused(code or item.reason or _GENERIC_REFUSAL, item.additional_data)
    return Said(Operation.AUTHORIZE, Outcome.DECLINED, decline, amount=False)


def _decided(operation: Operation) -> Reader:
    """`success` says whether it was done."""

    def reader(item: Item, success: bool) -> Said | None:
        if success:
            return Said(operation, Outcome.APPROVED, amount=operation is not Operation.VOID)
        return _failed(operation, after_success=False)(item, success)

    return reader


def _failed(operation: Operation, *, after_success: bool) -> Reader:
    """It came to nothing; `success` is about the event. `after_success`: Adyen sends such an event only of what it had
    said was done, though perhaps before it says so here.
    """

    def reader(item: Item, success: bool) -> Said | None:
        failed = f"{operation.value}_failed"
        decline = answers.DECLINES.decline((item.reason or "").strip() or failed, otherwise=failed)
        return Said(operation, Outcome.DECLINED, decline, after_success=after_success)

    return reader


def _reversal(item: Item, success: bool) -> Said | None:
    """`modification.action` says what became of a cancel-or-refund; a failed one may not say."""
    match item.additional_data.get("modification.action"):
        case "cancel":
            return _decided(Operation.VOID)(item, success)
        case "refund":
            return _decided(Operation.REFUND)(item, success)
    return None


def _expired(item: Item, success: bool) -> Said | None:
    """The issuer let go of what was left of the hold."""
    return Said(Operation.VOID, Outcome.APPROVED, amount=False)


def _offer_closed(item: Item, success: bool) -> Said | None:
    """The shopper never came back."""
    return Said(Operation.AUTHORIZE, Outcome.DECLINED, answers.DECLINES.decline("offer_closed"), amount=False)


def _undecided(operation: Operation) -> Reader:
    def reader(item: Item, success: bool) -> Said | None:
        return Said(operation, Outcome.PENDING, amount=False)

    return reader


_READERS: Final[dict[str, Reader]] = {
    "AUTHORISATION": _authorisation,
    "PENDING": _undecided(Operation.AUTHORIZE),
    "OFFER_CLOSED": _offer_closed,
    "CAPTURE": _decided(Operation.CAPTURE),
    "CAPTURE_FAILED": _failed(Operation.CAPTURE, after_success=True),
    "CANCELLATION": _decided(Operation.VOID),
    "TECHNICAL_CANCEL": _decided(Operation.VOID),
    "CANCEL_OR_REFUND": _reversal,
    "EXPIRE": _expired,
    "REFUND": _decided(Operation.REFUND),
    "POSTPONED_REFUND": _undecided(Operation.REFUND),
    "REFUND_FAILED": _failed(Operation.REFUND, after_success=True),
    "REFUNDED_REVERSED": _failed(Operation.REFUND, after_success=True),
}
"""Every other event is kept: disputes, reports, payouts, reviews, adjusted authorizations, partial-payment orders."""


def _translated(item: Item, raw: bytes, now: int) -> Translated:
    if item.event_code == REPORT and _TRUTH[item.success] and item.psp_reference.startswith(SETTLEMENT):
        name = item.psp_reference
        return Announced(event_id=event_id(item), event_type=REPORT, reference=name, url=item.reason)
    reader = _READERS.get(item.event_code)
    said = reader(item, _TRUTH[item.success]) if reader else None
    if said is None:
        return _unrouted(item, raw, UnroutedReason.UNKNOWN_TYPE)
    reference = references.parse(item.merchant_reference or "")
    if reference is None:
        return _unrouted(item, raw, UnroutedReason.UNKNOWN_PAYMENT)
    try:
        return _report(item, said, now, reference.payment_id, reference.subject_of(said.operation))
    except AmountError:
        return _unrouted(item, raw, UnroutedReason.UNKNOWN_TYPE)


def _report(item: Item, said: Said, now: int, payment_id: str, subject_id: str | None) -> ProviderReport:
    modifies = said.operation is not Operation.AUTHORIZE
    amount = item.amount if said.amount and item.amount and item.amount.value is not None else None
    return ProviderReport(
        payment_id=payment_id,
        occurred_at=now,
        report_id=event_id(item),
        provider=answers.NAME,
        source=ReportSource.WEBHOOK,
        operation=said.operation,
        outcome=said.outcome,
        subject_id=subject_id,
        provider_reference=item.original_reference or (None if modifies else item.psp_reference),
        operation_reference=item.psp_reference if modifies else None,
        amount=from_adyen(amount.value or 0, amount.currency or "") if amount else None,
        currency=(amount.currency or None) if amount else None,
        decline=said.decline,
        detail=" ".join(filter(None, (item.event_code, item.success, item.reason))),
        after_success=said.after_success,
    )


def event_id(item: Item) -> str:
    """The same for every delivery of the same event."""
    return ids.derive("adyen-event", item.event_code, item.psp_reference, item.success)


def _unrouted(item: Item, raw: bytes, reason: UnroutedReason) -> Unrouted:
    return Unrouted(
        reason=reason,
        event_id=event_id(item),
        event_type=item.event_code,
        provider_reference=item.original_reference or item.psp_reference,
        raw=raw,
    )
