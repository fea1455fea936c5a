"""Stripe's published test methods. The expectations are its documentation's tables, not the simulator's file."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from connectors.simulator.stripe.cards import Cards
from tests.connectors.simulator.test_payment_intents import make
from tests.connectors.simulator.world import World

DECLINED = {
    "pm_card_visa_chargeDeclined": ("card_declined", "generic_decline"),
    "pm_card_visa_chargeDeclinedInsufficientFunds": ("card_declined", "insufficient_funds"),
    "pm_card_visa_chargeDeclinedLostCard": ("card_declined", "lost_card"),
    "pm_card_visa_chargeDeclinedStolenCard": ("card_declined", "stolen_card"),
    "pm_card_chargeDeclinedExpiredCard": ("expired_card", None),
    "pm_card_chargeDeclinedIncorrectCvc": ("incorrect_cvc", None),
    "pm_card_chargeDeclinedProcessingError": ("processing_error", None),
    "pm_card_visa_chargeDeclinedVelocityLimitExceeded": ("card_declined", "card_velocity_exceeded"),
    "pm_card_visa_chargeDeclinedFraudulent": ("card_declined", "fraudulent"),
    "pm_card_chargeDeclinedFraudulent": ("card_declined", "fraudulent"),
    "pm_card_radarBlock": ("card_declined", "fraudulent"),
    "pm_card_chargeCustomerFail": ("card_declined", "generic_decline"),
    "pm_card_threeDSecureRequiredProcessingError": ("card_declined", "generic_decline"),
}
APPROVED = {
    "pm_card_visa": ("visa", "4242"),
    "pm_card_visa_debit": ("visa", "5556"),
    "pm_card_mastercard": ("mastercard", "4444"),
    "pm_card_mastercard_debit": ("mastercard", "8210"),
    "pm_card_mastercard_prepaid": ("mastercard", "5100"),
    "pm_card_amex": ("amex", "8431"),
    "pm_card_discover": ("discover", "1117"),
    "pm_card_diners": ("diners", "0004"),
    "pm_card_jcb": ("jcb", "0505"),
    "pm_card_unionpay": ("unionpay", "0005"),
    "pm_card_us": ("visa", "4242"),
    "pm_card_de": ("visa", "4242"),
    "pm_card_riskLevelElevated": ("visa", "9235"),
    "pm_card_bypassPending": ("visa", "0077"),
    "pm_card_threeDSecureOptional": ("visa", "3055"),
    "pm_card_amex_threeDSecureNotSupported": ("amex", "0005"),
    "pm_card_avsFail": ("visa", "0010"),
}
ASKING = (
    "pm_card_authenticationRequired",
    "pm_card_authenticationRequiredOnSetup",
    "pm_card_authenticationRequiredSetupForOffSession",
    "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds",
    "pm_card_threeDSecure2Required",
    "pm_card_threeDSecureRequired",
    "pm_card_threeDSecureRequiredChargeDeclined",
)


def declined(sdk: stripe.StripeClient, method: str, **params: Any) -> dict[str, Any]:
    with pytest.raises(stripe.CardError) as caught:
        make(sdk, payment_method=method, **params)
    assert caught.value.http_status == 402
    error: dict[str, Any] = caught.value.json_body["error"]  # type: ignore[index]
    return error


@pytest.mark.parametrize(("method", "codes"), DECLINED.items())
def test_declines(sim: World, sdk: stripe.StripeClient, method: str, codes: tuple[str, str | None]) -> None:
    error = declined(sdk, method)
    assert (error["code"], error.get("decline_code")) == codes
    assert error["type"] == "card_error"
    intent = error["payment_intent"]
    assert (intent["status"], intent["latest_charge"]) == ("requires_payment_method", error["charge"])
    charge = sdk.v1.charges.retrieve(error["charge"])
    assert (charge.status, charge.paid, charge.captured, charge.failure_code) == ("failed", False, False, codes[0])
    sim.drain()
    assert sorted(sim.receiver.types()) == ["charge.failed", "payment_intent.created", "payment_intent.payment_failed"]
    sums = sim.sums("pay_1")
    assert (sums["declined_count"], sums["authorized"], sums["captured"]) == (1, 0, 0)


@pytest.mark.parametrize(("method", "shown"), APPROVED.items())
def test_approvals(sdk: stripe.StripeClient, method: str, shown: tuple[str, str]) -> None:
    charge: Any = make(sdk, payment_method=method, expand=["latest_charge"]).latest_charge
    card = charge.payment_method_details.card
    assert (charge.status, card.brand, card.last4) == ("succeeded", *shown)


@pytest.mark.parametrize("method", ASKING)
def test_authentication(sdk: stripe.StripeClient, method: str) -> None:
    assert make(sdk, payment_method=method).status == "requires_action"


def test_a_network_code_and_advice_come_along(sdk: stripe.StripeClient) -> None:
    error = declined(sdk, "pm_card_visa_chargeDeclinedLostCard")
    assert (error["network_decline_code"], error["advice_code"]) == ("41", "do_not_try_again")
    outcome: Any = sdk.v1.charges.retrieve(error["charge"]).outcome
    assert (outcome.network_decline_code, outcome.advice_code) == ("41", "do_not_try_again")
    assert (outcome.type, outcome.reason) == ("issuer_declined", "lost_card")


def test_a_blocked_payment_never_reached_the_network(sdk: stripe.StripeClient) -> None:
    outcome: Any = sdk.v1.charges.retrieve(declined(sdk, "pm_card_radarBlock")["charge"]).outcome
    assert (outcome.type, outcome.network_status) == ("blocked", "not_sent_to_network")


@pytest.mark.parametrize("spelling", ["insufficient_funds", "insufficientFunds"])
def test_declined_twice_then_approved(sdk: stripe.StripeClient, spelling: str) -> None:
    method = f"pm_sim_declineTimes2_{spelling}"
    for _ in range(2):
        assert declined(sdk, method)["decline_code"] == "insufficient_funds"
    assert declined(sdk, method, metadata={"payment_id": "pay_2"})["decline_code"] == "insufficient_funds"
    assert make(sdk, payment_method=method).status == "requires_capture"
    assert make(sdk, payment_method=method).status == "requires_capture"


def test_a_decline_made_to_measure(sdk: stripe.StripeClient) -> None:
    error = declined(sdk, "pm_sim_decline_doNotHonor_net14_mac03_adviceDoNotTryAgain")
    assert error["code"] == "card_declined"
    assert error["decline_code"] == "do_not_honor"
    assert error["network_decline_code"] == "14"
    assert error["network_advice_code"] == "03"
    assert error["advice_code"] == "do_not_try_again"


def test_every_published_method_is_tested() -> None:
    """Or it would stand in the file without anybody's word for it."""
    later = {method for method in Cards().published if "create" in method or "efund" in method}
    others = {
        "pm_card_chargeDeclined",
        "pm_card_chargeDeclinedInsufficientFunds",
        "pm_card_visa_chargeDeclinedExpiredCard",
        "pm_card_visa_chargeDeclinedIncorrectCvc",
        "pm_card_visa_chargeDeclinedProcessingError",
        "pm_card_riskLevelHighest",
        "pm_card_cvcCheckFail",
        "pm_card_avsZipFail",
        "pm_card_cvcCheckFailElevatedRisk",
        "pm_card_avsZipFailElevatedRisk",
        "pm_card_avsLine1Fail",
        "pm_card_avsUnchecked",
        "pm_card_bypassPendingInternational",
        "pm_card_threeDSecureOptionalProcessingError",
    }
    assert Cards().published - later - others == (set(DECLINED) | set(APPROVED) | set(ASKING)) & Cards().published
    assert others <= Cards().published
