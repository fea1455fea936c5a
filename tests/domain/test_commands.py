"""What a command must be, and what may never stand in it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from time import perf_counter
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from pipeline import ids, money
from pipeline.codec import Codec, LocalIds
from pipeline.domain.card_data import bytes_may_contain_card_data, contains_card_data, contains_pan
from pipeline.domain.commands import Code, problems
from pipeline.messages.commands import Capture, CreateIntent, Refund, SetMethod
from pipeline.messages.values import CaptureMethod, PaymentMethod
from tests.domain.samples import NOW, PAYMENT, commands

CREATE = CreateIntent(
    payment_id=PAYMENT,
    occurred_at=NOW,
    command_id="c-1",
    merchant_id="acme",
    amount=1_000,
    currency="USD",
    provider="stripe",
    capture_method=CaptureMethod.MANUAL,
    metadata={"order": "42"},
)

# Published test numbers of the networks and providers.
PANS = (
    "4242424242424242",
    "4000056655665556",
    "4222222222222",
    "5555555555554444",
    "2223003122003222",
    "5200828282828210",
    "378282246310005",
    "371449635398431",
    "6011111111111117",
    "6011000990139424",
    "3056930009020004",
    "36227206271667",
    "3566002020360505",
    "6200000000000005",
    "6205500000000000004",
    "6759649826438453",
)
WRITTEN = (
    "{}",
    "card {} please",
    "x{}y",
    "{} 12/34 123",
    "nr:{};",
    '{{"pan":"{}"}}',
)


offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


def grouped(pan: str, separator: str) -> str:
    return separator.join(pan[i : i + 4] for i in range(0, len(pan), 4))


@pytest.mark.parametrize("pan", PANS)
@pytest.mark.parametrize("form", WRITTEN)
@pytest.mark.parametrize("separator", ["", " ", "-", ".", "  ", " - ", "\u200b", "\u00a0"])
def test_a_card_number_is_found_however_it_is_written(pan: str, form: str, separator: str) -> None:
    assert contains_pan(form.format(grouped(pan, separator)))


@pytest.mark.parametrize("pan", PANS)
def test_a_card_number_is_found_in_other_digits(pan: str) -> None:
    assert contains_pan("".join(chr(0xFF10 + int(digit)) for digit in pan)), "full width"
    assert contains_pan("".join(chr(0x0660 + int(digit)) for digit in pan)), "Arabic-Indic"


@pytest.mark.parametrize("pan", PANS)
def test_one_wrong_digit_is_no_card_number(pan: str) -> None:
    wrong = pan[:-1] + str((int(pan[-1]) + 1) % 10)
    assert not contains_pan(wrong)


@given(st.uuids())
def test_a_uuid_is_no_card_number(value: UUID) -> None:
    assert not contains_card_data(str(value))
    assert not contains_card_data(f"payment {value} of {str(value).upper()}")


def test_a_uuid_whose_digits_satisfy_luhn_is_none_either() -> None:
    assert contains_pan("42424242-4242-4242")
    assert not contains_pan("42424242-4242-4242-8242-424242424242")


@given(st.datetimes())
def test_a_time_is_no_card_number(moment: Any) -> None:
    assert not contains_pan(moment.isoformat())


@given(st.datetimes(datetime(1970, 1, 1), datetime(2099, 12, 31), timezones=offsets), st.sampled_from("T "))  # noqa: DTZ001
def test_a_time_with_an_offset_is_none_either(moment: datetime, separator: str) -> None:
    """Nor when a query's decoding made its `+` a blank."""
    text = moment.isoformat(separator)
    assert not contains_card_data(text)
    assert not contains_card_data(text.replace("+", " "))


def test_a_card_number_beside_a_time_is_found() -> None:
    assert contains_pan("2026-11-23T15:54:00.123456+00:00 4242424242424242")
    assert contains_pan("4242-42-42T42:42:42.4242424242424242"), "no time has such a month"


@given(st.integers(1_400_000_000_000, 1_999_999_999_999))
def test_a_unix_time_is_no_card_number(millis: int) -> None:
    assert not contains_pan(str(millis))
    assert not contains_pan(str(millis * 1_000))
    assert not contains_pan(str(millis * 1_000_000))


@pytest.mark.parametrize("text", ["cvc: 123", "CVV2=1234", "cvv 123", "security code 987", "my card-code is 123"])
def test_a_verification_code_is_known_by_its_name(text: str) -> None:
    assert contains_card_data(text)


@pytest.mark.parametrize(
    "text",
    [
        "order 123",
        "cvc",
        "cvc is required",
        "scvv 123",
        "cvv: 12345",
        "room 1234",
        "DE89370400440532013000",
        "+49 170 1234567",
        "192.168.100.200",
        "invoice 2024-11-23 0001234",
        "pm_card_visa",
        "",
    ],
)
def test_ordinary_text_passes(text: str) -> None:
    assert not contains_card_data(text)


def test_every_sample_command_passes() -> None:
    assert [problems(command) for command in commands()] == [[]] * len(commands())


@dataclass(frozen=True)
class Wrong:
    """A change that makes the create command wrong, and how it is named."""

    change: dict[str, Any]
    code: str
    field: str


WRONG = (
    Wrong({"payment_id": "not-a-uuid"}, Code.INVALID_PAYMENT_ID, "payment_id"),
    Wrong({"payment_id": PAYMENT.upper()}, Code.INVALID_PAYMENT_ID, "payment_id"),
    Wrong({"payment_id": PAYMENT + "\n"}, Code.INVALID_PAYMENT_ID, "payment_id"),
    Wrong({"command_id": ""}, Code.REQUIRED, "command_id"),
    Wrong({"command_id": "c" * 256}, Code.TOO_LONG, "command_id"),
    Wrong({"merchant_id": ""}, Code.REQUIRED, "merchant_id"),
    Wrong({"merchant_id": "a:b"}, Code.INVALID_MERCHANT, "merchant_id"),
    Wrong({"merchant_id": "m" * 65}, Code.TOO_LONG, "merchant_id"),
    Wrong({"amount": 0}, "amount_out_of_range", "amount"),
    Wrong({"amount": -1}, "amount_out_of_range", "amount"),
    Wrong({"amount": money.MAX_MINOR + 1}, "amount_out_of_range", "amount"),
    Wrong({"currency": "XXX"}, "unknown_currency", "currency"),
    Wrong({"currency": "usd"}, "unknown_currency", "currency"),
    Wrong({"provider": "cash"}, Code.UNKNOWN_PROVIDER, "provider"),
    Wrong({"customer_id": "c" * 256}, Code.TOO_LONG, "customer_id"),
    Wrong({"merchant_reference": "r" * 256}, Code.TOO_LONG, "merchant_reference"),
    Wrong({"order_id": "o" * 256}, Code.TOO_LONG, "order_id"),
    Wrong({"payment_method": PaymentMethod(token="")}, Code.REQUIRED, "payment_method.token"),
    Wrong({"payment_method": PaymentMethod(token="t" * 256)}, Code.TOO_LONG, "payment_method.token"),
    Wrong({"metadata": {str(n): "" for n in range(51)}}, Code.TOO_MANY, "metadata"),
    Wrong({"metadata": {"": "v"}}, Code.REQUIRED, "metadata"),
    Wrong({"metadata": {"k" * 41: "v"}}, Code.TOO_LONG, "metadata"),
    Wrong({"metadata": {"k": "v" * 501}}, Code.TOO_LONG, "metadata"),
    Wrong({"metadata": {"k": "a\x00b"}}, Code.INVALID_TEXT, "metadata"),
    Wrong({"order_id": "\x1b[31m"}, Code.INVALID_TEXT, "order_id"),
)


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: f"{wrong.field}-{wrong.code}")
def test_each_mistake_has_its_own_code(wrong: Wrong) -> None:
    found = problems(replace(CREATE, **wrong.change))
    assert [(violation.code, violation.field) for violation in found] == [(wrong.code, wrong.field)]


@pytest.mark.parametrize(
    "change",
    [
        {"command_id": "4242 4242 4242 4242"},
        {"merchant_reference": "4242-4242-4242-4242"},
        {"customer_id": "378282246310005"},
        {"order_id": "o 5555555555554444"},
        {"payment_method": PaymentMethod(token="4242424242424242")},
        {"metadata": {"note": "4242424242424242"}},
        {"metadata": {"4242424242424242": "note"}},
        {"metadata": {"cvc": "123"}},
        {"metadata": {"security_code": "1234"}},
        {"metadata": {"note": "cvv 123"}},
    ],
)
def test_card_data_comes_first_and_is_never_quoted(change: dict[str, Any]) -> None:
    found = problems(replace(CREATE, amount=0, **change))
    assert found[0].code == Code.CARD_DATA
    words = " ".join(violation.detail for violation in found)
    assert not any(char.isdigit() for char in words.replace(str(money.MAX_MINOR), "").replace(" 1 ", " "))


@pytest.mark.parametrize("amount", [0, -5, money.MAX_MINOR + 1])
def test_a_part_must_be_in_range(amount: int) -> None:
    for kind in (Capture, Refund):
        command = kind(
            payment_id=PAYMENT, occurred_at=NOW, command_id="c", merchant_id="acme", amount=amount
        )  # the amount is optional, null is all that is left
        assert [violation.code for violation in problems(command)] == ["amount_out_of_range"]


def test_a_reason_is_bounded() -> None:
    refund = Refund(payment_id=PAYMENT, occurred_at=NOW, command_id="c", merchant_id="acme", reason="r" * 501)
    assert [violation.code for violation in problems(refund)] == [Code.TOO_LONG]


def test_a_method_is_looked_at_in_every_command_that_has_one() -> None:
    method = PaymentMethod(token="4242424242424242")
    command = SetMethod(payment_id=PAYMENT, occurred_at=NOW, command_id="c", merchant_id="acme", payment_method=method)
    assert problems(command)[0].code == Code.CARD_DATA


@given(st.text(max_size=300), st.text(max_size=300))
def test_no_text_breaks_the_check(command_id: str, reference: str) -> None:
    problems(replace(CREATE, command_id=command_id, merchant_reference=reference))


@given(st.text(min_size=1, max_size=20))
def test_derived_ids_always_pass(key: str) -> None:
    derived = replace(CREATE, payment_id=ids.payment_id("acme", key), command_id=ids.command_id("acme", key))
    assert problems(derived) == []


@pytest.mark.parametrize("pan", PANS)
@pytest.mark.parametrize("around", [(b"", b""), (b"8", b""), (b"", b"0"), (b"24", b"6"), (b"\x00\xff", b"\x80")])
def test_bytes_hide_no_card_number(pan: str, around: tuple[bytes, bytes]) -> None:
    assert bytes_may_contain_card_data(around[0] + pan.encode() + around[1])


def test_bytes_of_our_own_records_pass() -> None:
    codec = Codec(LocalIds())
    assert not any(bytes_may_contain_card_data(codec.encode(command)) for command in commands())


def test_a_hostile_run_of_digits_is_looked_through_in_time() -> None:
    started = perf_counter()
    assert bytes_may_contain_card_data(b"4" * 65_536)
    assert contains_card_data("4 " * 32_768)
    assert not contains_card_data("4x" * 32_768)
    bytes_may_contain_card_data((b"4" * 200 + b"x") * 326)
    assert perf_counter() - started < 5
