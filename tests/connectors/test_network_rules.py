"""The card networks' rules hold for every provider's declines: from its own answer to the retry policy's word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

import pipeline.policies
from connectors.adyen.answers import refused
from connectors.paypal import answers as paypal
from connectors.paypal.objects import Movement, ProcessorResponse
from connectors.stripe.answers import decline_of
from connectors.stripe.objects import PaymentError
from pipeline.domain.retry import parse, plan
from pipeline.messages.facts import AttemptDeclined
from pipeline.messages.inputs import RetryAbandoned, RetryPlanned
from pipeline.messages.values import Decline, DeclineCategory, Operation
from pipeline.policies import NETWORKS

POLICY: Final = parse((Path(pipeline.policies.__file__).parent / "retry.toml").read_text())
NOW: Final = 1_700_000_000_000
FINAL: Final = {DeclineCategory.HARD, DeclineCategory.FRAUD, DeclineCategory.NEEDS_CUSTOMER}


def by_stripe(network: str | None = None, advice: str | None = None) -> Decline:
    error = PaymentError(decline_code="insufficient_funds", network_decline_code=network, network_advice_code=advice)
    return decline_of(error)


def by_adyen(network: str | None = None, advice: str | None = None) -> Decline:
    said = {"refusalReasonRaw": network and f"{network} : what the issuer said", "merchantAdviceCode": advice}
    return refused("12", said)  # not enough balance


def by_paypal(_: str | None = None, advice: str | None = None) -> Decline:
    """PayPal has response codes of its own instead of the networks'."""
    said = ProcessorResponse(response_code="5120", payment_advice_code=advice)
    return paypal.decline_of(Movement("1", status="DENIED", processor_response=said), Operation.AUTHORIZE)


PROVIDERS: Final = [by_stripe, by_adyen, by_paypal]
NEVER: Final = sorted(code for rule in NETWORKS.never for code in rule.network_codes)
NEVER_ADVICE: Final = sorted(code for rule in NETWORKS.never for code in rule.advice_codes)
Provider = Callable[[str | None, str | None], Decline]


def word_on(decline: Decline) -> RetryPlanned | RetryAbandoned | None:
    fact = AttemptDeclined(
        fact_id="f", payment_id="p", merchant_id="acme", occurred_at=NOW, cause_id="c", operation_id="a",
        attempt_id="a", number=1, provider="stripe", amount=1_000, currency="USD", decline=decline,
    )  # fmt: skip
    return plan(POLICY, fact, (NOW,))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_without_the_networks_word_it_is_tried_again(provider: Provider) -> None:
    assert isinstance(word_on(provider(None, None)), RetryPlanned)


@pytest.mark.parametrize("provider", [by_stripe, by_adyen])
@pytest.mark.parametrize("code", NEVER)
def test_what_visa_forbids_is_never_tried_again(provider: Provider, code: str) -> None:
    decline = provider(code, None)
    assert decline.network_code == code
    assert NETWORKS.bar(decline) == "visa_do_not_retry"
    assert not isinstance(word_on(decline), RetryPlanned)


@pytest.mark.parametrize("code", ["0R00", "0580", "1335", "5150", "5180", "1330", "1312", "5700"])
def test_what_visa_forbids_in_paypals_codes_is_never_tried_again(code: str) -> None:
    said = Movement("1", status="DENIED", processor_response=ProcessorResponse(response_code=code))
    decline = paypal.decline_of(said, Operation.AUTHORIZE)
    assert decline.category in FINAL
    assert word_on(decline) is None


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("code", NEVER_ADVICE)
def test_what_mastercard_forbids_is_never_tried_again(provider: Provider, code: str) -> None:
    decline = provider(None, code)
    assert NETWORKS.bar(decline) == "mastercard_do_not_retry"
    assert not isinstance(word_on(decline), RetryPlanned)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("code", sorted(NETWORKS.earliest))
def test_mastercards_waits_are_kept(provider: Provider, code: str) -> None:
    word = word_on(provider(None, code))
    assert isinstance(word, RetryPlanned)
    assert word.due_at >= NOW + NETWORKS.earliest[code]
