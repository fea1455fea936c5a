"""What the simulator takes is what the official SDK can send, no more and no less; and it reads it as it was meant."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from urllib.parse import quote_plus, urlencode

import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st
from stripe import params as sdk
from stripe._encode import _api_encode

from connectors.simulator.settings import API_VERSION
from connectors.simulator.stripe import money, parameters
from connectors.simulator.stripe.forms import decode
from tests.connectors.simulator.test_payment_intents import make, refusal
from tests.connectors.simulator.world import World, world

OPTIONS = {
    "api_key",
    "content_type",
    "headers",
    "idempotency_key",
    "max_network_retries",
    "stripe_account",
    "stripe_context",
    "stripe_version",
}
REMOVED = {"payment_method_types"}
"""From API version 2026-09-30.endive on."""


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (parameters.CREATE_INTENT - REMOVED, sdk.PaymentIntentCreateParams),
        (parameters.UPDATE_INTENT - REMOVED, sdk.PaymentIntentModifyParams),
        (parameters.CONFIRM_INTENT - REMOVED, sdk.PaymentIntentConfirmParams),
        (parameters.CAPTURE_INTENT, sdk.PaymentIntentCaptureParams),
        (parameters.CANCEL_INTENT, sdk.PaymentIntentCancelParams),
        (parameters.CREATE_REFUND, sdk.RefundCreateParams),
    ],
)
def test_the_same_parameters_as_the_sdk(ours: frozenset[str], theirs: type) -> None:
    assert ours == set(theirs.__annotations__) - OPTIONS


def test_a_removed_parameter() -> None:
    """docs.stripe.com/changelog/endive/2026-09-30: refused from that version on, taken before."""
    given = {"payment_method_types": ["card"]}
    with world("--refuse-removed") as strict:
        error = refusal(make, strict.sdk(), **given)
        assert (error.http_status, error.code) == (400, "payment_method_types_no_longer_supported")
        assert make(strict.sdk(stripe_version="2026-08-26.dahlia"), **given).status == "requires_capture"
        assert make(strict.sdk(), allowed_payment_method_types=["card"]).payment_method_types == ["card"]


def test_a_removed_parameter_is_let_pass_by_default(sim: World) -> None:
    assert make(sim.sdk(), payment_method_types=["card"]).status == "requires_capture"


NAMES = st.text("abcdefghijklmnopqrstuvwxyz_0123456789", min_size=1, max_size=8)
TEXTS = st.text(max_size=20)
TREES = st.recursive(TEXTS, lambda inner: st.dictionaries(NAMES, inner, min_size=1, max_size=4), max_leaves=12)


@given(st.dictionaries(NAMES, TREES, max_size=5))
def test_what_the_sdk_encodes_is_read_back(values: dict[str, Any]) -> None:
    form = urlencode(list(_api_encode(values))).encode()
    assert decode(form) == values


@given(st.lists(TEXTS, min_size=1, max_size=5))
def test_lists_are_read_in_both_spellings(items: list[str]) -> None:
    indexed = urlencode(list(_api_encode({"expand": items}))).encode()
    plain = "&".join(f"expand[]={quote_plus(item)}" for item in items).encode()
    assert list(decode(indexed)["expand"].values()) == list(decode(plain)["expand"].values()) == items


@given(st.binary(max_size=200))
def test_no_body_breaks_the_reader(body: bytes) -> None:
    decode(body)


@given(st.integers(min_value=1, max_value=99_999_999))
def test_the_fee_by_another_way(amount: int) -> None:
    exact = Decimal(amount) * Decimal("0.029")
    assert money.fee(amount) == int(exact.quantize(Decimal(1), ROUND_HALF_UP)) + 30


@pytest.mark.parametrize("body", [b"a[b=1", b"[x]=1", b"=1", b"a[b][c]=1&a=2&a[d]=3", b"%ff=%fe", b"metadata=1"])
def test_odd_forms_get_an_answer(sim: World, body: bytes) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    auth = ("sk_test_simulator_tests", "")
    answer = sim.control.post("/v1/payment_intents", content=body, headers=headers, auth=auth)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_the_default_version_is_the_sdks() -> None:
    """The account's own version, which its events have, moves with the SDK."""
    assert stripe.api_version == API_VERSION
