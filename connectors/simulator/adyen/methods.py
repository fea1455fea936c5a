"""How a payment behaves: by its stored payment method, or as Adyen's test system has it.

Adyen's own, for card details: `paymentMethod.holderName` with a word of refusals.toml, perhaps followed by what the
network says (`DECLINED : 06 : ERROR`), or `capture failed`, `refund failed`; and
`additionalData.RequestedTestAcquirerResponseCode` with a number or such a word. Everything else is authorised.

The simulator's own, as `storedPaymentMethodId`; they need no `shopperReference`, any other is unknown (803):

    adyen_ok                        authorised
    adyen_refused_<code>            refused with that refusalReasonCode; then any of
                                    _raw<code> (the network's code), _mac<code> (Mastercard's advice),
                                    _times<n> (only the first n payments of a `metadata.payment_id`)
    adyen_redirect                  redirected to the shopper's bank, then authorised or refused
    adyen_pending, adyen_received   decided later, by webhook
    adyen_capture_refused, adyen_capture_failed, adyen_cancel_refused, adyen_refund_refused, adyen_refund_failed,
    adyen_refund_reversed, adyen_chargeback     authorised; what comes after goes that way
"""

from __future__ import annotations

import re
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import msgspec

_STORED: Final = re.compile(
    r"adyen_(?P<name>[a-z_]+?)(?:_(?P<code>\d{1,2}))?(?P<more>(?:_(?:raw|mac|times)[0-9A-Z]+)*)"
)
_MORE: Final = re.compile(r"_(raw|mac|times)([0-9A-Z]+)")
_CARD_FIELDS: Final = ("encryptedCardNumber", "number")


class Result(StrEnum):
    """`resultCode` of a payment."""

    AUTHORISED = "Authorised"
    REFUSED = "Refused"
    CANCELLED = "Cancelled"
    ERROR = "Error"
    PENDING = "Pending"
    RECEIVED = "Received"
    REDIRECT = "RedirectShopper"


class Later(StrEnum):
    """What becomes of a payment's modifications, where it is not the usual."""

    CAPTURE_REFUSED = "capture_refused"
    CAPTURE_FAILED = "capture_failed"
    CANCEL_REFUSED = "cancel_refused"
    REFUND_REFUSED = "refund_refused"
    REFUND_FAILED = "refund_failed"
    REFUND_REVERSED = "refund_reversed"
    CHARGEBACK = "chargeback"


class Refusal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `refusalReasonCode`."""

    reason: str
    holder: str
    result: Result = Result.REFUSED


class Method(msgspec.Struct, frozen=True, kw_only=True):
    """How a payment behaves. `times`: only the first so many of a payment are refused."""

    name: str
    result: Result = Result.AUTHORISED
    code: str | None = None
    raw: str | None = None
    advice: str | None = None
    times: int | None = None
    later: Later | None = None

    @property
    def reason(self) -> str:
        """`refusalReason`"""
        return REFUSALS[self.code].reason if self.code else ""


REFUSALS: Final[dict[str, Refusal]] = msgspec.convert(
    tomllib.loads(Path(__file__).with_name("refusals.toml").read_text(encoding="utf-8")), dict[str, Refusal]
)
_BY_HOLDER: Final = {refusal.holder: code for code, refusal in REFUSALS.items()}
_RESULTS: Final = {
    "ok": Result.AUTHORISED,
    "redirect": Result.REDIRECT,
    "pending": Result.PENDING,
    "received": Result.RECEIVED,
}


def method_of(payment_method: dict[str, Any], requested: object = None) -> Method | None:
    """What `paymentMethod` of a request leads to, or `requested` (RequestedTestAcquirerResponseCode) does; None if no
    such method is known.
    """
    stored = payment_method.get("storedPaymentMethodId")
    if stored is not None:
        return _stored(str(stored))
    if not any(payment_method.get(field) for field in _CARD_FIELDS):
        return None
    wanted = str(requested) if requested is not None else str(payment_method.get("holderName", ""))
    return _tested(wanted)


def _stored(name: str) -> Method | None:
    match = _STORED.fullmatch(name)
    if match is None:
        return None
    kind, code, more = match["name"], match["code"], dict(_MORE.findall(match["more"]))
    if kind == "refused" and code in REFUSALS:
        times = more.get("times", "")
        return Method(
            name=name,
            result=REFUSALS[code].result,
            code=code,
            raw=more.get("raw"),
            advice=more.get("mac"),
            times=int(times) if times.isdigit() else None,
        )
    if code or more:
        return None
    if kind in _RESULTS:
        return Method(name=name, result=_RESULTS[kind])
    return Method(name=name, later=Later(kind)) if kind in set(Later) else None


def _tested(wanted: str) -> Method:
    word, _, raw = (part.strip() for part in wanted.partition(":"))
    code = word if word in REFUSALS else _BY_HOLDER.get(word)
    if code is not None:
        return Method(name=wanted, result=REFUSALS[code].result, code=code, raw=raw or None)
    later = {"capture failed": Later.CAPTURE_FAILED, "refund failed": Later.REFUND_FAILED}.get(word.lower())
    return Method(name=wanted, later=later)
