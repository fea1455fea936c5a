"""What a command must be before it may move a payment. The gateway and intake apply the same checks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pipeline import money, topics
from pipeline.domain.card_data import contains_card_data
from pipeline.messages.commands import (
    Authorize,
    Capture,
    Command,
    CompleteAction,
    CreateIntent,
    Refund,
    SetMethod,
    Void,
)
from pipeline.messages.values import PaymentMethod

MAX_ID: Final = 255
MAX_MERCHANT: Final = 64
MAX_REASON: Final = 500
MAX_URL: Final = 2_048
MAX_ACTION_RESULT: Final = 10_000
MAX_METADATA_KEYS: Final = 50
MAX_METADATA_KEY: Final = 40
MAX_METADATA_VALUE: Final = 500

_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_MERCHANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_COUNTRY: Final = re.compile(r"[A-Z]{2}")
_URL: Final = re.compile(r"https://[A-Za-z0-9.\-\[\]:]+(?:[/?#][!-~]*)?")
"""As a browser is sent to it: no user information, which could make one host look like another, nothing to escape."""
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class Code(StrEnum):
    """Why a command cannot be taken. Stable: the API's problem type, the dead letter's reason. Amounts and currencies
    have the codes of `pipeline.money.MoneyError` besides.
    """

    INVALID_PAYMENT_ID = "invalid_payment_id"
    INVALID_MERCHANT = "invalid_merchant"
    UNKNOWN_PROVIDER = "unknown_provider"
    INVALID_COUNTRY = "invalid_country"
    INVALID_URL = "invalid_url"
    REQUIRED = "required"
    TOO_LONG = "too_long"
    TOO_MANY = "too_many"
    INVALID_TEXT = "invalid_text"
    CARD_DATA = "card_data"


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong with a command: a stable code, the field, and words that never quote the value."""

    code: str
    field: str
    detail: str


def problems(command: Command) -> list[Violation]:
    """Everything that is wrong with `command`; empty when it may be taken. Card data comes first if there is any."""
    found = [*_identity(command), *_by_kind(command)]
    texts = list(_texts(command))
    found += [violation for name, text in texts for violation in _plain_text(name, text)]
    return [*_card_data(command, texts), *found]


def _identity(command: Command) -> Iterator[Violation]:
    if not _UUID.fullmatch(command.payment_id):
        yield Violation(Code.INVALID_PAYMENT_ID, "payment_id", "a payment_id is a UUID in lower case")
    yield from _length("command_id", command.command_id, MAX_ID)
    yield from _length("merchant_id", command.merchant_id, MAX_MERCHANT)
    if command.merchant_id and not _MERCHANT.fullmatch(command.merchant_id):
        # Account names are made of it, with colons between their parts.
        yield Violation(Code.INVALID_MERCHANT, "merchant_id", "a merchant_id has letters, digits, '_', '.' and '-'")


def _by_kind(command: Command) -> Iterator[Violation]:
    match command:
        case CreateIntent():
            yield from _intent(command)
        case SetMethod():
            yield from _method(command.payment_method)
        case Authorize():
            yield from _method(command.payment_method)
        case Capture() | Refund():
            yield from _part(command.amount)
        case CompleteAction():
            yield from _optional("result", command.result, MAX_ACTION_RESULT)
    if isinstance(command, Void | Refund):
        yield from _optional("reason", command.reason, MAX_REASON)


def _intent(command: CreateIntent) -> Iterator[Violation]:
    try:
        money.check(command.amount, command.currency)
    except money.MoneyError as error:
        field = "currency" if error.code == "unknown_currency" else "amount"
        yield Violation(error.code, field, _words(error.code))
    yield from _providers(command)
    if command.country is not None and not _COUNTRY.fullmatch(command.country):
        yield Violation(Code.INVALID_COUNTRY, "country", "a country is two capital letters, ISO 3166-1")
    yield from _optional("customer_id", command.customer_id, MAX_ID)
    yield from _optional("merchant_reference", command.merchant_reference, MAX_ID)
    yield from _optional("order_id", command.order_id, MAX_ID)
    yield from _method(command.payment_method)
    yield from _metadata(command.metadata)
    yield from _optional("return_url", command.return_url, MAX_URL)
    if command.return_url is not None and not _URL.fullmatch(command.return_url):
        yield Violation(Code.INVALID_URL, "return_url", "an absolute https URL without user information")


def _providers(command: CreateIntent) -> Iterator[Violation]:
    """AUTO that is still there found no rule, or no provider with a token."""
    if command.provider not in topics.PROVIDERS:
        yield Violation(Code.UNKNOWN_PROVIDER, "provider", f"a provider is one of {', '.join(topics.PROVIDERS)}")
    for name in command.fallbacks:
        if name not in topics.PROVIDERS or name == command.provider:
            yield Violation(Code.UNKNOWN_PROVIDER, "fallbacks", "other providers than the first")


def _words(code: str) -> str:
    """MoneyError's own words quote the currency, which an untrusted writer chose."""
    if code == "unknown_currency":
        return "a currency is an ISO 4217 code that can be paid in"
    return f"an amount is between 1 and {money.MAX_MINOR} minor units"


def _part(amount: int | None) -> Iterator[Violation]:
    """The currency is the payment's: only the range can be checked here."""
    if amount is not None and not 0 < amount <= money.MAX_MINOR:
        yield Violation("amount_out_of_range", "amount", _words("amount_out_of_range"))


def _method(method: PaymentMethod | None) -> Iterator[Violation]:
    if method is not None:
        yield from _length("payment_method.kind", method.kind, MAX_METADATA_KEY)
        yield from _length("payment_method.token", method.token, MAX_ID)
        for name, token in method.tokens.items():
            yield from _length("payment_method.tokens", token, MAX_ID)
            if name not in topics.PROVIDERS:
                yield Violation(Code.UNKNOWN_PROVIDER, "payment_method.tokens", "a token is of a provider")


def _metadata(metadata: dict[str, str]) -> Iterator[Violation]:
    if len(metadata) > MAX_METADATA_KEYS:
        yield Violation(Code.TOO_MANY, "metadata", f"at most {MAX_METADATA_KEYS} keys")
    for key, value in metadata.items():
        yield from _length("metadata", key, MAX_METADATA_KEY)
        yield from _optional("metadata", value, MAX_METADATA_VALUE)


def _length(field: str, text: str, longest: int) -> Iterator[Violation]:
    if not text:
        yield Violation(Code.REQUIRED, field, "must not be empty")
    yield from _optional(field, text, longest)


def _optional(field: str, text: str | None, longest: int) -> Iterator[Violation]:
    if text is not None and len(text) > longest:
        yield Violation(Code.TOO_LONG, field, f"at most {longest} characters")


def _plain_text(field: str, text: str) -> Iterator[Violation]:
    """Postgres cannot hold U+0000, and no other control character has business in an id or a note."""
    if _CONTROL.search(text):
        yield Violation(Code.INVALID_TEXT, field, "control characters are not allowed")


def _card_data(command: Command, texts: list[tuple[str, str]]) -> list[Violation]:
    """A card number or verification code, in one field or as a metadata key with its value (`cvc` = `123`)."""
    pairs = command.metadata.items() if isinstance(command, CreateIntent) else ()
    suspects = [*texts, *(("metadata", f"{key}: {value}") for key, value in pairs)]
    fields = dict.fromkeys(field for field, text in suspects if contains_card_data(text))
    return [Violation(Code.CARD_DATA, field, "looks like card data, which must not be sent here") for field in fields]


def _texts(command: Command) -> Iterator[tuple[str, str]]:
    """Every text of a command, by field."""
    for field in command.__struct_fields__:
        match getattr(command, field):
            case str() as text:
                yield field, text
            case PaymentMethod() as method:
                yield f"{field}.kind", method.kind
                yield f"{field}.token", method.token
                yield from ((f"{field}.tokens", text) for pair in method.tokens.items() for text in pair)
            case dict() as metadata:
                yield from ((field, text) for pair in metadata.items() for text in pair)
