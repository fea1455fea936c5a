"""Several accounts at a provider: a file that names credentials and holds none, refused with words that show none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from connectors.accounts import Account, AccountsError, ByMerchant, load, open_account_webhooks, open_accounts
from connectors.adyen.client import AdyenProvider
from connectors.provider import Answer, WebhookRefused
from pipeline.messages.requests import ProviderRequest
from pipeline.messages.values import DeclineCategory, Outcome
from pipeline.settings import Settings
from tests.connectors import requests
from tests.connectors.adyen.items import delivery, item, signed

SECRET = "AQE-this-is-never-shown"
GOOD = """
[[accounts]]
name = "acme-adyen"
provider = "adyen"
merchants = ["acme", "acme-eu"]
api_key = "env:ACME_ADYEN_KEY"
merchant_account = "AcmeCOM"
live = true
webhook_hmac_keys = "file:{hmac}"

[[accounts]]
name = "others"
provider = "adyen"
merchants = ["*"]
api_key = "env:OTHERS_KEY"
merchant_account = "env:OTHERS_ACCOUNT"
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("ACME_ADYEN_KEY", SECRET)
    monkeypatch.setenv("OTHERS_KEY", f"{SECRET}-2")
    monkeypatch.setenv("OTHERS_ACCOUNT", "OthersCOM")
    monkeypatch.setenv("EMPTY", " ")
    (tmp_path / "hmac").write_text("ab" * 32 + "\n")
    file = tmp_path / "accounts.toml"
    file.write_text(GOOD.format(hmac=tmp_path / "hmac"))
    return Settings(
        provider_accounts=file,
        adyen_api_url="http://127.0.0.1:9",
        adyen_webhook_hmac_keys=SecretStr("cd" * 32),
        adyen_merchant_account="Default",
    )


def written(settings: Settings, text: str) -> Settings:
    assert settings.provider_accounts is not None
    settings.provider_accounts.write_text(text)
    return settings


def test_each_account_has_its_own_credentials_and_the_settings_rest(settings: Settings) -> None:
    acme, others = load(settings)
    assert (acme.settings.reveal("adyen_api_key"), acme.settings.adyen_merchant_account) == (SECRET, "AcmeCOM")
    assert acme.settings.reveal("adyen_webhook_hmac_keys") == "ab" * 32
    assert acme.settings.adyen_live
    assert (others.settings.adyen_merchant_account, others.settings.adyen_live) == ("OthersCOM", False)
    assert {one.settings.adyen_api_url for one in (acme, others)} == {"http://127.0.0.1:9"}


def test_no_secret_of_the_default_account_becomes_anothers(settings: Settings) -> None:
    """Or whoever knows the default's would sign for all of them."""
    _, others = load(settings)
    assert others.settings.reveal("adyen_webhook_hmac_keys") == ""


def test_without_a_file_there_is_one_account(settings: Settings) -> None:
    assert load(Settings()) == []


def test_no_secret_is_shown(settings: Settings) -> None:
    assert SECRET not in repr(load(settings)) + str(load(settings))


ACCOUNT = '[[accounts]]\nname = "a"\nprovider = "adyen"\nmerchants = ["acme"]\n'
FULL = ACCOUNT + 'api_key = "env:ACME_ADYEN_KEY"\nmerchant_account = "AcmeCOM"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"api_key = {SECRET}", "not TOML"),
        ("", "[[accounts]]"),
        ("accounts = 1", "[[accounts]]"),
        (FULL + "[more]\n", "nothing else"),
        (FULL.replace('"a"', '"A b"'), "account 1: name"),
        (FULL.replace('"adyen"', '"nobody"'), "provider is one of"),
        (FULL.replace('["acme"]', "[]"), "merchants"),
        (FULL.replace('["acme"]', '"acme"'), "merchants"),
        (FULL.replace("env:ACME_ADYEN_KEY", SECRET), "api_key is a secret: write env:NAME or file:/path"),
        (FULL.replace('"env:ACME_ADYEN_KEY"', "17"), "api_key is a secret"),
        (FULL.replace("ACME_ADYEN_KEY", "NOT_THERE"), "no environment variable NOT_THERE"),
        (FULL.replace("ACME_ADYEN_KEY", "EMPTY"), "env:EMPTY is empty"),
        (FULL.replace("env:ACME_ADYEN_KEY", "file:/not/there"), "/not/there: No such file"),
        (FULL.replace("env:ACME_ADYEN_KEY", "file:relative"), "no absolute path"),
        (ACCOUNT + 'api_key = "env:ACME_ADYEN_KEY"\n', "merchant_account is missing"),
        (FULL + 'colour = "red"\n', "colour is no setting of adyen"),
        (FULL + 'live = "perhaps"\n', "live has a value that cannot be"),
        (FULL + FULL, "account a is there twice"),
        (FULL + FULL.replace('"a"', '"b"'), "merchant acme has two accounts at adyen: a, b"),
    ],
)
def test_a_file_that_cannot_be_is_refused_in_words_that_show_no_secret(
    settings: Settings, text: str, words: str
) -> None:
    with pytest.raises(AccountsError, match=re.escape(words)) as caught:
        load(written(settings, text))
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AccountsError, match="No such file"):
        load(Settings(provider_accounts=tmp_path / "none.toml"))


class Named:
    """A provider that only says who it is."""

    name = "adyen"

    def __init__(self, account: str) -> None:
        self._account = account
        self.closed = 0

    async def call(self, request: ProviderRequest) -> Answer:
        return Answer(outcome=Outcome.APPROVED, detail=self._account)

    async def close(self) -> None:
        self.closed += 1


async def test_the_requests_merchant_chooses_the_account() -> None:
    acme, others = Named("acme"), Named("others")
    provider = ByMerchant("adyen", {"acme": acme, "acme-eu": acme, "*": others})
    asked = {
        merchant: (await provider.call(requests.void("psp", merchant_id=merchant))).detail
        for merchant in ("acme", "acme-eu", "somebody")
    }
    assert asked == {"acme": "acme", "acme-eu": "acme", "somebody": "others"}
    await provider.close()
    assert (acme.closed, others.closed) == (1, 1)


async def test_a_merchant_without_an_account_is_declined_and_nothing_is_sent() -> None:
    provider = ByMerchant("adyen", {"acme": Named("acme")})
    answer = await provider.call(requests.authorize("adyen_ok", provider="adyen", merchant_id="somebody"))
    assert answer.outcome is Outcome.TEMPORARY_FAILURE
    assert answer.decline is not None
    assert (answer.decline.code, answer.decline.category) == ("no_provider_account", DeclineCategory.NEEDS_CUSTOMER)
    assert answer.detail == "the merchant has no account at adyen"
    assert not answer.repeat


async def test_a_provider_that_the_file_does_not_name_is_the_settings_own(settings: Settings) -> None:
    stripe, adyen = open_accounts("stripe", settings), open_accounts("adyen", settings)
    assert isinstance(adyen, ByMerchant)
    assert not isinstance(stripe, ByMerchant)
    await adyen.close()
    await stripe.close()
    alone = open_accounts("adyen", Settings(adyen_api_key=SecretStr("k"), adyen_merchant_account="m"))
    assert isinstance(alone, AdyenProvider)
    await alone.close()


async def test_an_accounts_webhooks_are_verified_with_its_own_secrets(settings: Settings) -> None:
    opened = open_account_webhooks(settings)
    account, acme = opened["adyen", "acme-adyen"]
    assert isinstance(account, Account)
    raw = delivery(signed(item("AUTHORISATION"), "ab" * 32), live="true")
    await acme.verify(raw, {}, 0)
    with pytest.raises(WebhookRefused):
        await acme.verify(delivery(signed(item("AUTHORISATION"), "cd" * 32), live="true"), {}, 0)
    _, others = opened["adyen", "others"]
    with pytest.raises(WebhookRefused) as caught:
        await others.verify(raw, {}, 0)
    assert caught.value.reason == "not_configured"


def test_paypals_webhook_id_is_not_inherited_either(settings: Settings) -> None:
    """It is what PayPal signs for: with the default's, the default's deliveries would pass for the account's."""
    text = '[[accounts]]\nname = "p"\nprovider = "paypal"\nmerchants = ["acme"]\nclient_id = "id"\n'
    default = settings.model_copy(update={"paypal_webhook_ids": "WH-default"})
    (account,) = load(written(default, text + 'client_secret = "env:ACME_ADYEN_KEY"\n'))
    assert account.settings.paypal_webhook_ids == ""
    assert (account.settings.paypal_client_id, account.settings.reveal("paypal_client_secret")) == ("id", SECRET)
