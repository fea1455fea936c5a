"""Who is asked for a payment, and who next when a provider is out."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from msgspec.structs import replace

from pipeline import ids, topics
from pipeline.domain.chain import PaymentChain
from pipeline.domain.decision import Schedule
from pipeline.domain.provider_choice import AUTO, Rules, RulesError, parse
from pipeline.messages.commands import Authorize, CreateIntent
from pipeline.messages.facts import AttemptStarted, OutcomeUnresolved, PaymentAuthorized
from pipeline.messages.requests import AuthorizeRequest
from pipeline.messages.values import CaptureMethod, Operation, Outcome, PaymentMethod
from tests.domain.samples import report
from tests.domain.test_postings import balances, command

EVERYWHERE = PaymentMethod(token="first", tokens={"stripe": "pm_1", "adyen": "ad_1"})
RULES = """
[[rules]]
name = "small euros of the shop in Germany"
merchants = ["acme"]
currencies = ["EUR"]
countries = ["DE"]
at_least = "5.00"
at_most = "10.00"
providers = ["adyen", "stripe"]

[[rules]]
name = "dollars, drawn"
currencies = ["USD"]
providers = ["stripe", "adyen"]
weights = { stripe = 3, adyen = 1 }

[[rules]]
name = "yen"
currencies = ["JPY"]
providers = ["stripe"]
"""


@pytest.fixture(autouse=True)
def two_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "PROVIDERS", ("stripe", "adyen"))


def created(number: int = 0, **fields: Any) -> CreateIntent:
    return CreateIntent(
        **{
            **command("create"),
            "payment_id": ids.payment_id("acme", str(number)),
            "amount": 700,
            "currency": "EUR",
            "country": "DE",
            "provider": AUTO,
            "capture_method": CaptureMethod.MANUAL,
            "payment_method": EVERYWHERE,
            **fields,
        }
    )


def chosen(item: CreateIntent) -> tuple[str, list[str]]:
    resolved = parse(RULES).resolve(item)
    assert isinstance(resolved, CreateIntent)
    assert replace(resolved, provider=item.provider, fallbacks=item.fallbacks) == item
    return resolved.provider, resolved.fallbacks


def test_the_first_rule_that_fits_decides() -> None:
    assert chosen(created()) == ("adyen", ["stripe"])
    assert chosen(created(currency="JPY")) == ("stripe", [])


@pytest.mark.parametrize(
    "fields",
    [{"amount": 499}, {"amount": 1_001}, {"country": "FR"}, {"country": None}, {"merchant_id": "other"}],
)
def test_what_no_rule_speaks_of_is_left_for_the_check(fields: dict[str, Any]) -> None:
    assert chosen(created(**fields)) == (AUTO, [])


def test_a_provider_that_is_named_stands() -> None:
    assert chosen(created(provider="stripe")) == ("stripe", [])


def test_only_providers_with_a_token_are_asked() -> None:
    only_stripe = PaymentMethod(token="x", tokens={"stripe": "pm_1"})
    assert chosen(created(payment_method=only_stripe)) == ("stripe", [])
    nowhere = PaymentMethod(token="x", tokens={"paypal": "pp_1"})
    assert chosen(created(payment_method=nowhere)) == (AUTO, [])


def test_weights_draw_the_first_and_the_same_one_again() -> None:
    drawn = Counter(chosen(created(number, currency="USD"))[0] for number in range(2_000))
    assert drawn == Counter(chosen(created(number, currency="USD"))[0] for number in range(2_000))
    assert 1_400 < drawn["stripe"] < 1_600
    assert drawn["stripe"] + drawn["adyen"] == 2_000


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[[rules]]\nname='a'\nproviders=['cash']", "cash"),
        ("[[rules]]\nname='a'\nproviders=[]", "providers"),
        ("[[rules]]\nname='a'\nproviders=['stripe']\nat_least='1.00'", "one currency"),
        ("[[rules]]\nname='a'\nproviders=['stripe']\ncurrencies=['JPY']\nat_least='1.00'", "no amount"),
        ("[[rules]]\nname='a'\nproviders=['stripe']\nweights={adyen=1}", "own providers"),
        ("[[rules]]\nname='a'\nproviders=['stripe']\ncolour='red'", "colour"),
        ("nonsense", "no TOML"),
    ],
)
def test_rules_that_cannot_be_followed_say_where(text: str, where: str) -> None:
    with pytest.raises(RulesError, match=where):
        parse(text)


def test_the_rules_that_come_with_it_can_be_followed() -> None:
    from pipeline.settings import Settings

    assert isinstance(parse(Settings(_env_file=None).provider_rules.read_text()), Rules)


# Failing over


def started() -> tuple[PaymentChain, AuthorizeRequest]:
    chain = PaymentChain(Schedule())
    chain.feed(replace(created(), payment_id=command("x")["payment_id"], provider="adyen", fallbacks=["stripe"]))
    (request,) = chain.feed(Authorize(**command("authorize"))).requests
    assert isinstance(request, AuthorizeRequest)
    return chain, request


def test_a_provider_that_is_out_is_followed_by_the_next_with_its_own_token() -> None:
    chain, first = started()
    assert (first.provider, first.payment_method.token) == ("adyen", "ad_1")
    (second,) = chain.feed(report(Operation.AUTHORIZE, Outcome.TEMPORARY_FAILURE, first.subject_id)).requests
    assert isinstance(second, AuthorizeRequest)
    assert (second.provider, second.payment_method.token) == ("stripe", "pm_1")
    assert second.subject_id != first.subject_id
    chain.feed(report(Operation.AUTHORIZE, Outcome.APPROVED, second.subject_id))
    assert [fact.provider for fact in chain.facts if isinstance(fact, AttemptStarted)] == ["adyen", "stripe"]
    assert [fact.provider for fact in chain.facts if isinstance(fact, PaymentAuthorized)] == ["stripe"]
    assert set(balances(chain.facts)) == {"holds_receivable:acme:stripe:EUR", "holds_commitment:acme:stripe:EUR"}


def test_an_unknown_outcome_is_never_followed_by_another_provider() -> None:
    chain, first = started()
    fed = chain.feed(report(Operation.AUTHORIZE, Outcome.UNKNOWN, first.subject_id))
    assert fed.requests == ()
    assert any(isinstance(fact, OutcomeUnresolved) for fact in chain.facts)


def test_a_decline_is_no_outage() -> None:
    chain, first = started()
    assert chain.feed(report(Operation.AUTHORIZE, Outcome.DECLINED, first.subject_id)).requests == ()


def test_after_the_last_provider_the_retry_policy_has_its_say() -> None:
    chain, request = started()
    (second,) = chain.feed(report(Operation.AUTHORIZE, Outcome.TEMPORARY_FAILURE, request.subject_id)).requests
    assert chain.feed(report(Operation.AUTHORIZE, Outcome.TEMPORARY_FAILURE, second.subject_id)).requests == ()


def test_a_late_approval_goes_back_where_it_came_from() -> None:
    chain, first = started()
    (second,) = chain.feed(report(Operation.AUTHORIZE, Outcome.TEMPORARY_FAILURE, first.subject_id)).requests
    chain.feed(report(Operation.AUTHORIZE, Outcome.APPROVED, second.subject_id))
    (back,) = chain.feed(report(Operation.AUTHORIZE, Outcome.APPROVED, first.subject_id)).requests
    assert back.provider == "adyen"
