"""Decline tables: every documented code has a meaning, an unknown one the documented one, and advice only hardens."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from connectors.declines import DeclineTableError, load
from connectors.stripe.answers import DECLINES
from pipeline.messages.values import DeclineCategory

# docs.stripe.com/declines/codes, card decline codes
DOCUMENTED = [
    "approve_with_id", "authentication_not_handled", "authentication_required", "call_issuer", "card_not_supported",
    "card_velocity_exceeded", "currency_not_supported", "do_not_honor", "do_not_try_again", "duplicate_transaction",
    "expired_card", "fraudulent", "generic_decline", "incorrect_address", "incorrect_cvc", "incorrect_number",
    "incorrect_pin", "incorrect_zip", "insufficient_funds", "invalid_account", "invalid_amount", "invalid_cvc",
    "invalid_expiry_month", "invalid_expiry_year", "invalid_number", "invalid_pin", "issuer_not_available",
    "lost_card", "merchant_blacklist", "mobile_device_authentication_required", "new_account_information_available",
    "no_action_taken", "not_permitted", "offline_pin_required", "online_or_offline_pin_required", "pickup_card",
    "pin_try_exceeded", "processing_error", "reenter_transaction", "restricted_card",
    "revocation_of_all_authorizations", "revocation_of_authorization", "security_violation", "service_not_allowed",
    "stolen_card", "stop_payment_order", "testmode_decline", "transaction_not_allowed", "try_again_later",
    "withdrawal_count_limit_exceeded",
]  # fmt: skip

FINAL = {DeclineCategory.HARD, DeclineCategory.FRAUD, DeclineCategory.NEEDS_CUSTOMER}


@pytest.mark.parametrize("code", DOCUMENTED)
def test_every_documented_code_has_a_meaning(code: str) -> None:
    decline = DECLINES.decline(code)
    assert decline.code != "unknown"
    assert decline.raw_code == code
    assert decline.message


@pytest.mark.parametrize(
    ("code", "category"),
    [
        ("insufficient_funds", DeclineCategory.SOFT),
        ("do_not_honor", DeclineCategory.SOFT),
        ("issuer_not_available", DeclineCategory.TEMPORARY),
        ("stolen_card", DeclineCategory.FRAUD),
        ("fraudulent", DeclineCategory.FRAUD),
        ("do_not_try_again", DeclineCategory.HARD),
        ("expired_card", DeclineCategory.NEEDS_CUSTOMER),
        ("authentication_required", DeclineCategory.NEEDS_CUSTOMER),
    ],
)
def test_categories(code: str, category: DeclineCategory) -> None:
    assert DECLINES.decline(code).category is category


@pytest.mark.parametrize("code", ["lost_card", "stolen_card", "fraudulent", "pickup_card", "merchant_blacklist"])
def test_the_customer_is_not_told_of_a_suspicion(code: str) -> None:
    assert DECLINES.decline(code).message == DECLINES.decline("generic_decline").message


def test_an_unknown_code_is_soft_and_counted() -> None:
    def counted() -> float:
        return REGISTRY.get_sample_value("payments_decline_codes_unknown_total", {"provider": "stripe"}) or 0.0

    before = counted()
    decline = DECLINES.decline("a_code_of_tomorrow", network_code="51")
    assert (decline.category, decline.code) == (DeclineCategory.SOFT, "unknown")
    assert (decline.raw_code, decline.network_code) == ("a_code_of_tomorrow", "51")
    assert counted() == before + 1


@pytest.mark.parametrize(
    ("hint", "category"),
    [
        ({"advice": "do_not_try_again"}, DeclineCategory.HARD),
        ({"advice": "confirm_card_data"}, DeclineCategory.NEEDS_CUSTOMER),
        ({"advice": "try_again_later"}, DeclineCategory.SOFT),
        ({"advice": "advice_of_tomorrow"}, DeclineCategory.SOFT),
        ({"network_code": "R1"}, DeclineCategory.HARD),
        ({"network_code": "51"}, DeclineCategory.SOFT),
        ({"network_advice_code": "03"}, DeclineCategory.HARD),
        ({"network_advice_code": "21"}, DeclineCategory.HARD),
        ({"network_advice_code": "01"}, DeclineCategory.NEEDS_CUSTOMER),
        ({"network_advice_code": "24"}, DeclineCategory.SOFT),
    ],
)
def test_advice(hint: dict[str, str], category: DeclineCategory) -> None:
    assert DECLINES.decline("insufficient_funds", **hint).category is category


_ADVICE = st.sampled_from([None, "do_not_try_again", "confirm_card_data", "try_again_later", "other"])
_NETWORK = st.sampled_from([None, "04", "51", "57", "R0", "R3"])
_MAC = st.sampled_from([None, "01", "02", "03", "21", "24", "30", "99"])


@given(st.sampled_from(sorted(DECLINES.codes)), _ADVICE, _NETWORK, _MAC)
def test_advice_never_allows_what_the_code_forbids(
    code: str, advice: str | None, network: str | None, mac: str | None
) -> None:
    plain = DECLINES.decline(code)
    advised = DECLINES.decline(code, advice=advice, network_code=network, network_advice_code=mac)
    assert plain.category not in FINAL or advised.category in FINAL
    assert plain.category is not DeclineCategory.FRAUD or advised.category is DeclineCategory.FRAUD
    assert (advised.code, advised.raw_code, advised.message) == (plain.code, code, plain.message)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("not toml", "table.toml"),
        ("[messages]\nunknown = 'x'", "codes"),
        ("[messages]\nunknown='x'\n[codes]\na = {category='odd', code='a', message='unknown'}", "odd"),
        ("[messages]\nunknown='x'\n[codes]\na = {category='soft', code='a', message='none'}", "none"),
        ("[messages]\nno='x'\n[codes]\na = {category='soft', code='a', message='no'}", "unknown"),
        ("[messages]\nunknown='x'\n[codes]\n[advise]\nx='hard'", "advise"),
    ],
)
def test_a_bad_table_stops_the_start(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "table.toml"
    path.write_text(text)
    with pytest.raises(DeclineTableError, match=says):
        load("stripe", path)
