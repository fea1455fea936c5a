"""Decline tables: every documented code has a meaning, an unknown one the documented one, and advice only hardens."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from connectors import declines
from connectors.declines import DeclineTableError, load
from connectors.stripe.answers import DECLINES
from pipeline.messages.values import DeclineCategory
from pipeline.policies import NETWORKS

CONNECTORS = Path(declines.__file__).parent
TABLES = {path.parent.name: path for path in sorted(CONNECTORS.glob("*/declines.toml"))}
"""Every provider's table there is: a new provider's is checked as soon as it exists."""
LISTS = Path(__file__).with_name("documented")
"""The codes that a provider documents, one file a provider, one code a line."""
NETWORKS_TABLE = tomllib.loads(declines.NETWORKS.read_text())
ISO_8583 = [
    "01", "02", "03", "04", "05", "06", "07", "12", "13", "14", "15", "19", "21", "25", "28", "30", "34", "39",
    "41", "43", "46", "51", "52", "53", "54", "55", "57", "58", "59", "61", "62", "63", "64", "65", "68", "70",
    "74", "75", "76", "77", "78", "79", "80", "81", "82", "83", "85", "86", "91", "92", "93", "94", "96", "1A",
    "5C", "6P", "9G", "B1", "N0", "N3", "N4", "N7", "N8", "P5", "P6", "Q1", "R0", "R1", "R2", "R3", "Z3", "Z5",
]  # fmt: skip
ADVICE_CODES = [
    "01", "02", "03", "04", "21", "22", "24", "25", "26", "27", "28", "29", "30", "40", "41", "42", "43", "99",
]  # fmt: skip

FINAL = {DeclineCategory.HARD, DeclineCategory.FRAUD, DeclineCategory.NEEDS_CUSTOMER}


def documented(provider: str) -> list[str]:
    lines = (LISTS / f"{provider}.txt").read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and line[0] != "#"]


@pytest.mark.parametrize("provider", TABLES)
def test_every_documented_code_has_a_meaning(provider: str) -> None:
    table = load(provider, TABLES[provider])
    missing = [code for code in documented(provider) if not table.knows(code)]
    assert missing == []


@pytest.mark.parametrize("provider", TABLES)
def test_every_meaning_is_whole(provider: str) -> None:
    table = load(provider, TABLES[provider])
    for code in table.codes:
        decline = table.decline(code)
        assert (decline.raw_code, bool(decline.code), bool(decline.message)) == (code, True, True)
        assert decline.code != declines.UNKNOWN


@pytest.mark.parametrize("provider", TABLES)
@pytest.mark.parametrize("code", ISO_8583)
def test_every_response_code_of_the_networks_has_a_meaning(provider: str, code: str) -> None:
    assert code in NETWORKS_TABLE["codes"]
    decline = load(provider, TABLES[provider]).decline("a_code_of_tomorrow", network_code=code)
    assert decline.code == NETWORKS_TABLE["codes"][code]["code"]


@pytest.mark.parametrize("provider", TABLES)
def test_what_the_networks_forbid_is_final_with_every_provider(provider: str) -> None:
    table = load(provider, TABLES[provider])
    for rule in NETWORKS.never:
        for code in rule.network_codes:
            assert table.decline("tomorrow", network_code=code).category in {
                DeclineCategory.HARD,
                DeclineCategory.FRAUD,
            }
        for code in rule.advice_codes:
            assert table.decline("tomorrow", network_advice_code=code).category is DeclineCategory.HARD


def test_every_advice_code_has_a_meaning() -> None:
    assert set(ADVICE_CODES) <= set(NETWORKS_TABLE["mac"])
    assert set(NETWORKS.earliest) <= set(NETWORKS_TABLE["mac"])


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
    decline = DECLINES.decline("a_code_of_tomorrow", network_code="??")
    assert (decline.category, decline.code) == (DeclineCategory.SOFT, "unknown")
    assert (decline.raw_code, decline.network_code) == ("a_code_of_tomorrow", "??")
    assert counted() == before + 1


def test_an_unknown_code_means_what_the_network_says() -> None:
    decline = DECLINES.decline("a_code_of_tomorrow", network_code="51")
    assert (decline.category, decline.code) == (DeclineCategory.SOFT, "insufficient_funds")
    assert decline.message == "Your card has insufficient funds."
    assert DECLINES.decline("a_code_of_tomorrow", network_code="43").category is DeclineCategory.FRAUD


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
