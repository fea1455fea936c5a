"""Errors as problem details (RFC 9457). Each has a stable type, which is also a page that explains it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from starlette.responses import Response

from pipeline.messages.values import RejectionReason

MEDIA_TYPE: Final = "application/problem+json"
BASE: Final = "/problems/"


@dataclass(frozen=True, slots=True)
class Kind:
    """One type of problem: what it is called, the status it comes with, and what to do about it."""

    code: str
    status: int
    title: str
    advice: str

    @property
    def type(self) -> str:
        """The stable URI reference, relative to the API's origin; a page under it explains the problem."""
        return BASE + self.code


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field. `field` is its path in the body, e.g. payment_method.token; never its value."""

    field: str
    code: str
    detail: str

    def as_json(self) -> dict[str, str]:
        """The member of `errors`."""
        return {"field": self.field, "code": self.code, "detail": self.detail}


@dataclass(slots=True)
class Problem(Exception):  # noqa: N818 - RFC 9457's own name
    """An answer that is an error. `more` are extension members."""

    kind: Kind
    detail: str = ""
    errors: Sequence[FieldError] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.kind.code

    def body(self) -> bytes:
        """The problem document."""
        document: dict[str, Any] = {"type": self.kind.type, "title": self.kind.title, "status": self.kind.status}
        if self.detail:
            document["detail"] = self.detail
        if self.errors:
            document["errors"] = [error.as_json() for error in self.errors]
        return orjson.dumps({**document, **self.more})

    def response(self) -> Response:
        """The HTTP answer."""
        return Response(self.body(), self.kind.status, dict(self.headers), MEDIA_TYPE)


_KINDS: Final[dict[str, Kind]] = {}


def _kind(status: int, code: str, title: str, advice: str) -> Kind:
    made = Kind(code, status, title, advice)
    _KINDS[code] = made
    return made


# Before the request is understood
MALFORMED_HTTP: Final = _kind(400, "malformed_http", "The request is no valid HTTP/1.1", "See RFC 9112.")
HEADERS_TOO_SLOW: Final = _kind(
    408, "headers_too_slow", "The headers did not arrive in time", "Send them within 10 seconds."
)
HEADERS_TOO_LARGE: Final = _kind(431, "headers_too_large", "The headers are too large", "At most 32 KiB in all.")
MALFORMED_JSON: Final = _kind(400, "malformed_json", "The body is not JSON", "Send one JSON object, UTF-8.")
NOT_AN_OBJECT: Final = _kind(400, "not_an_object", "The body is not a JSON object", "Send one JSON object.")
DUPLICATE_KEY: Final = _kind(
    400, "duplicate_key", "A JSON object has the same key twice", "Name each member once (RFC 8259, section 4)."
)
NUMBER_OUT_OF_RANGE: Final = _kind(
    400, "number_out_of_range", "A number is beyond 2^53", "Amounts are decimal strings; no field needs such a number."
)
INVALID_TEXT: Final = _kind(
    422,
    "invalid_text",
    "A string holds no valid text",
    "Send Unicode without control characters or lone surrogates.",
)
BODY_TOO_LARGE: Final = _kind(413, "body_too_large", "The body is too large", "64 KiB (API), 1 MiB (webhooks).")
BODY_TOO_SLOW: Final = _kind(408, "body_too_slow", "The body did not arrive in time", "Send it within 10 seconds.")
UNSUPPORTED_ENCODING: Final = _kind(
    415, "unsupported_content_encoding", "Compressed bodies are not taken", "Send the body without Content-Encoding."
)
UNSUPPORTED_TYPE: Final = _kind(
    415, "unsupported_media_type", "The body is not application/json", "Send Content-Type: application/json."
)
INVALID_HEADER: Final = _kind(400, "invalid_header", "A header is malformed", "See the detail.")
INVALID_QUERY: Final = _kind(400, "invalid_query", "The query is malformed", "See `errors` for each parameter.")
NOT_FOUND: Final = _kind(
    404,
    "not_found",
    "There is no such resource",
    "Check the id and the path. Another merchant's do not exist.",
)
METHOD_NOT_ALLOWED: Final = _kind(405, "method_not_allowed", "The resource does not do that", "See the Allow header.")
CARD_DATA: Final = _kind(
    422,
    "card_data",
    "The request holds what looks like card data",
    "Card numbers and security codes are taken nowhere. Send the provider's token for the method. Nothing was kept.",
)

# Who asks
UNAUTHENTICATED: Final = _kind(
    401, "unauthenticated", "No valid API key", "Send Authorization: Bearer sk_... with a key that is active."
)
FORBIDDEN: Final = _kind(403, "forbidden", "The API key lacks a scope", "Use a key with the scope that `detail` names.")
WRONG_MODE: Final = _kind(
    403, "wrong_mode", "The API key is for the other mode", "Test keys move no real money, live keys no other."
)
RATE_LIMITED: Final = _kind(429, "rate_limited", "Too many requests", "Wait as long as Retry-After says.")

# Idempotency (IETF draft-ietf-httpapi-idempotency-key-header)
IDEMPOTENCY_KEY_MISSING: Final = _kind(
    400, "idempotency_key_missing", "Idempotency-Key is missing", "Send one; a UUID per operation does well."
)
IDEMPOTENCY_KEY_INVALID: Final = _kind(
    400, "idempotency_key_invalid", "Idempotency-Key is malformed", "1 to 255 printable ASCII characters, once."
)
IDEMPOTENCY_KEY_REUSED: Final = _kind(
    422,
    "idempotency_key_reused",
    "Idempotency-Key was used for another request",
    "A key stands for one method, path and body. Use a new key for a new request.",
)
IDEMPOTENCY_IN_PROGRESS: Final = _kind(
    409,
    "idempotency_in_progress",
    "A request with this Idempotency-Key is still running",
    "Repeat it after Retry-After to get the answer of the first.",
)

# The body's content
INVALID_REQUEST: Final = _kind(422, "invalid_request", "Several fields are invalid", "See `errors` for each field.")
UNKNOWN_FIELD: Final = _kind(422, "unknown_field", "A field is unknown", "Remove it, or correct its name.")
REQUIRED: Final = _kind(422, "required", "A field is missing or empty", "Add it.")
TOO_LONG: Final = _kind(422, "too_long", "A text is too long", "See `errors` for how long it may be.")
TOO_MANY: Final = _kind(422, "too_many", "There are too many of something", "See `errors` for how many there may be.")
INVALID_MERCHANT: Final = _kind(
    422, "invalid_merchant", "The key's merchant has no valid name", "Letters, digits, '_', '.' and '-', at most 64."
)
WRONG_TYPE: Final = _kind(422, "wrong_type", "A field has the wrong type", "Amounts are strings; see /openapi.json.")
INVALID_VALUE: Final = _kind(422, "invalid_value", "A field's value is not allowed", "See `errors` for what is.")
INVALID_AMOUNT: Final = _kind(
    422, "invalid_amount", "An amount is no plain decimal", 'Send a plain decimal string such as "10.50".'
)
TOO_MANY_DECIMALS: Final = _kind(
    422,
    "too_many_decimals",
    "An amount has too many decimals",
    "ISO 4217 says how many: JPY none, KWD three.",
)
AMOUNT_NEGATIVE: Final = _kind(422, "amount_negative", "An amount is negative", "Send a positive amount.")
AMOUNT_ZERO: Final = _kind(422, "amount_zero", "An amount is zero", "Send at least one minor unit.")
AMOUNT_TOO_LARGE: Final = _kind(
    422, "amount_too_large", "An amount is absurdly large", "At most 99 999 999 999 minor units a payment."
)
AMOUNT_OUT_OF_RANGE: Final = _kind(
    422, "amount_out_of_range", "An amount is out of range", "From 1 to 99 999 999 999 minor units."
)
UNKNOWN_CURRENCY: Final = _kind(
    422, "unknown_currency", "The currency is unknown", "Send an ISO 4217 alphabetic code in upper case, e.g. USD."
)
UNKNOWN_PROVIDER: Final = _kind(422, "unknown_provider", "The provider is unknown", "See /openapi.json for the list.")

# What became of it
PAYMENT_DECLINED: Final = _kind(
    402,
    "payment_declined",
    "The payment was declined",
    "`decline` says why, `intent.status` whether a retry is scheduled. Bring another method, or wait.",
)
CAPTURE_FAILED: Final = _kind(402, "capture_failed", "The provider refused the capture", "The hold stands as before.")
VOID_FAILED: Final = _kind(402, "void_failed", "The provider refused the void", "The hold stands as before.")
REFUND_FAILED: Final = _kind(
    402, "refund_failed", "The provider could not refund", "The money is the merchant's as before."
)
OPERATION_FAILED: Final = _kind(402, "operation_failed", "The provider refused the operation", "See the intent.")

# Webhooks
UNKNOWN_WEBHOOK_PROVIDER: Final = _kind(
    404, "unknown_provider_path", "No such provider", "POST /webhooks/stripe, /webhooks/adyen or /webhooks/paypal."
)
SIGNATURE_INVALID: Final = _kind(
    400, "signature_invalid", "The signature does not verify", "Check the signing secret and the clock (300 s)."
)
WEBHOOK_UNAUTHENTICATED: Final = _kind(
    401, "webhook_unauthenticated", "Wrong credentials", "Check the user name and password of the webhook."
)
EVENT_INVALID: Final = _kind(400, "event_invalid", "The event cannot be read", "Send the provider's event as it is.")

# Webhooks to merchants
ENDPOINT_URL: Final = _kind(
    422,
    "endpoint_url",
    "The URL is none that webhooks can go to",
    "https, a name or public address, no user information or fragment. See docs/webhooks.md.",
)
ENDPOINT_DISABLED: Final = _kind(
    409, "endpoint_disabled", "The webhook endpoint is disabled", "Enable it first: PATCH with enabled true."
)
TOO_MANY_ENDPOINTS: Final = _kind(
    409, "too_many_endpoints", "The merchant has as many webhook endpoints as it may", "Delete one that is not in use."
)
TOO_MANY_SECRETS: Final = _kind(
    409,
    "too_many_secrets",
    "The endpoint has as many signing secrets in use as it may",
    "Wait: a secret that was rotated out is gone after 24 hours.",
)

# Our own fault, or our parts'
UNAVAILABLE: Final = _kind(
    503,
    "unavailable",
    "A part of the service does not answer",
    "Repeat the request with the same Idempotency-Key after Retry-After.",
)
OVERLOADED: Final = _kind(503, "overloaded", "Too many requests at once", "Repeat after Retry-After.")
INTERNAL: Final = _kind(
    500, "internal", "Something went wrong here", "Repeat with the same Idempotency-Key; it is logged under Request-Id."
)

for _reason in RejectionReason:
    _kind(
        404 if _reason is RejectionReason.PAYMENT_NOT_FOUND else 409,
        _reason.value,
        "The payment's state does not allow it: " + _reason.value.replace("_", " "),
        "Nothing happened. `intent.status` says where the payment stands.",
    )

KINDS: Final[Mapping[str, Kind]] = _KINDS
"""Every type of problem, by code."""


def invalid(errors: Sequence[FieldError]) -> Problem:
    """The problem of a body with those errors: the one error's own type, or `invalid_request` when they differ."""
    codes = {error.code for error in errors}
    kind = KINDS.get(codes.pop(), INVALID_VALUE) if len(codes) == 1 else INVALID_REQUEST
    if any(error.code == CARD_DATA.code for error in errors):
        kind = CARD_DATA
    return Problem(kind, errors[0].detail if len(errors) == 1 else "", tuple(errors))


def unavailable(part: str, retry_after: int = 1) -> Problem:
    """A part that does not answer."""
    return Problem(UNAVAILABLE, f"{part} does not answer", headers={"Retry-After": str(retry_after)})
