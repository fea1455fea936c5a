"""Strict bodies: what is no plain JSON object, no text, or card data never gets further."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import body, problems
from gateway.problems import Kind, Problem

JSON = "application/json"
FULL_WIDTH = {ord("0") + digit: 0xFF10 + digit for digit in range(10)}


def refusal(raw: bytes, content_type: str | None = JSON) -> Kind:
    with pytest.raises(Problem) as caught:
        body.parse(raw, content_type)
    return caught.value.kind


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"{", problems.MALFORMED_JSON),
        (b"{'a': 1}", problems.MALFORMED_JSON),
        (b'{"a": NaN}', problems.MALFORMED_JSON),
        (b'{"a": Infinity}', problems.MALFORMED_JSON),
        (b'{"a": -Infinity}', problems.MALFORMED_JSON),
        (b'{"a": 1} x', problems.MALFORMED_JSON),
        (b'\xef\xbb\xbf{"a": 1}', problems.MALFORMED_JSON),
        (b'{"a": "\xff"}', problems.MALFORMED_JSON),
        (b"[" * 50_000, problems.MALFORMED_JSON),
        (b"[]", problems.NOT_AN_OBJECT),
        (b"null", problems.NOT_AN_OBJECT),
        (b'"text"', problems.NOT_AN_OBJECT),
        (b'{"a": 1, "a": 1}', problems.DUPLICATE_KEY),
        (b'{"a": {"b": 1, "\\u0062": 2}}', problems.DUPLICATE_KEY),
        (b'{"a": 9007199254740993}', problems.NUMBER_OUT_OF_RANGE),
        (b'{"a": -9007199254740993}', problems.NUMBER_OUT_OF_RANGE),
        (b'{"a": 1e400}', problems.NUMBER_OUT_OF_RANGE),
        (b'{"a": 1e20}', problems.NUMBER_OUT_OF_RANGE),
        (b'{"a": ' + b"9" * 5_000 + b"}", problems.NUMBER_OUT_OF_RANGE),
        (b'{"a": "\\u0000"}', problems.INVALID_TEXT),
        (b'{"a": "\\ud800"}', problems.INVALID_TEXT),
        (b'{"\\u0007": 1}', problems.INVALID_TEXT),
        (b'{"a": "\x7f"}', problems.INVALID_TEXT),
        (b'{"a": "\x07"}', problems.MALFORMED_JSON),
    ],
)
def test_what_is_no_strict_json_has_its_own_problem(raw: bytes, kind: Kind) -> None:
    assert refusal(raw) is kind


@pytest.mark.parametrize("content_type", [None, "", "text/plain", "application/x-www-form-urlencoded", "text/json"])
def test_only_json_is_taken(content_type: str | None) -> None:
    assert refusal(b"{}", content_type) is problems.UNSUPPORTED_TYPE


@pytest.mark.parametrize("content_type", [JSON, "Application/JSON; charset=utf-8"])
def test_json_is_taken(content_type: str) -> None:
    assert body.parse('{"a": "é", "b": [9007199254740992]}'.encode(), content_type) == {"a": "é", "b": [2**53]}


def test_no_body_is_an_empty_object_of_no_type() -> None:
    assert body.parse(b"", None) == {}


@pytest.mark.parametrize(
    "value",
    [
        "4242424242424242",
        "4242 4242 4242 4242",
        "4242-4242-4242-4242",
        "order 5555.5555.5555.4444 paid",
        "378282246310005",
        "4242424242424242".translate(FULL_WIDTH),
        "٤٢٤٢٤٢٤٢٤٢٤٢٤٢٤٢",
        "4242\u200b4242\u200b4242\u200b4242",
        4242424242424242,
        4242424242424242.0,
        "cvc: 123",
        "CVV 4321",
    ],
)
def test_card_data_is_refused_wherever_it_stands(value: str | float) -> None:
    for made in ({"metadata": {"note": value}}, {"a": [{"b": value}]}, {"metadata": {str(value): "x"}}):
        for escaped in (True, False):
            assert refusal(json.dumps(made, ensure_ascii=escaped).encode()) is problems.CARD_DATA


def test_card_data_written_with_escapes_is_refused() -> None:
    escaped = "".join(f"\\u{ord(digit):04x}" for digit in "4242424242424242")
    assert refusal(f'{{"a": "{escaped}"}}'.encode()) is problems.CARD_DATA


@pytest.mark.parametrize(
    "name", ["cvv", "CVC", "cvv2", "card_number", "cardNumber", "cardnumber", "pan", "security_code"]
)
def test_a_field_named_like_card_data_is_refused(name: str) -> None:
    assert refusal(json.dumps({"metadata": {name: "x"}}).encode()) is problems.CARD_DATA


@given(st.uuids())
def test_a_uuid_is_no_card_number(value: UUID) -> None:
    text = json.dumps({"order_id": str(value), "metadata": {"a": str(value)}}).encode()
    assert body.parse(text, JSON)["order_id"] == str(value)


def parsed_or_refused(raw: bytes) -> dict[str, Any] | None:
    """The object, or None if it was refused; any other exception is a bug."""
    try:
        return body.parse(raw, JSON)
    except Problem as problem:
        if problem.kind.status not in (400, 415, 422):
            raise
        return None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_any_json_is_an_object_or_a_problem(value: Any) -> None:
    parsed = parsed_or_refused(json.dumps(value).encode())
    assert parsed is None or parsed == value


@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_or_a_problem(raw: bytes) -> None:
    parsed_or_refused(raw)


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(
    st.dictionaries(NAMES, st.integers(-(2**53), 2**53), max_size=6),
    st.randoms(),
)
def test_the_canonical_body_does_not_depend_on_the_order_of_members(made: dict[str, int], random: Any) -> None:
    items = list(made.items())
    random.shuffle(items)
    assert body.canonical(dict(items)) == body.canonical(made)
