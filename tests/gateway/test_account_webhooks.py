"""Webhooks of several accounts at one provider: each vouches for its own merchants' payments only."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from gateway.app import create_app
from gateway.limits import Limits
from pipeline import ids
from pipeline.messages.inputs import ProviderReport
from pipeline.settings import Settings
from tests.gateway.chain import SILENT, Chain
from tests.gateway.conftest import Client, Running
from tests.gateway.test_intents import eventually, settle
from tests.gateway.test_webhooks import authorized, sign

pytestmark = pytest.mark.stack

OWN, FOREIGN = "whsec_of_the_first_account", "whsec_of_the_second_account"


@pytest.fixture
def gateway(gateway_settings: Settings, limits: Limits, client: Client, tmp_path: Path) -> Iterator[Running]:
    """With an account of the client's merchant, and one of somebody else's."""
    lines = []
    for name, merchant, secret in (("first", client.merchant, OWN), ("second", "somebody-else", FOREIGN)):
        (tmp_path / name).write_text(secret)
        lines.append(
            f'[[accounts]]\nname = "{name}"\nprovider = "stripe"\nmerchants = ["{merchant}"]\n'
            f'api_key = "file:{tmp_path / name}"\nwebhook_secrets = "file:{tmp_path / name}"\n'
        )
    (tmp_path / "accounts.toml").write_text("\n".join(lines))
    settings = gateway_settings.model_copy(update={"provider_accounts": tmp_path / "accounts.toml"})
    running = Running(create_app(settings, limits), settings, limits)
    yield running
    running.stop()


def deliver(gateway: Running, account: str, body: bytes, secret: str) -> httpx.Response:
    return httpx.post(f"{gateway.url}/webhooks/stripe/{account}", content=body, headers=sign(body, secret))


def begun(client: Client) -> str:
    """A payment whose authorization never answers."""
    made = str(client.create(SILENT)["payment_id"])
    client.post(f"/api/v1/intents/{made}/authorize", Prefer="wait=1")
    return made


def test_an_account_is_verified_with_its_own_secret(gateway: Running, client: Client, chain: Chain) -> None:
    made = begun(client)
    body = authorized(made)
    for secret in (FOREIGN, "whsec_of_the_gateway_tests"):
        answer = deliver(gateway, "first", body, secret)
        assert (answer.status_code, answer.json()["type"]) == (400, "/problems/signature_invalid")
    answer = deliver(gateway, "first", body, OWN)
    assert (answer.status_code, answer.json()) == (200, {"received": 1})
    eventually(lambda: client.get(f"/api/v1/intents/{made}").json()["status"] == "authorized")


def test_another_accounts_secret_does_not_vouch_for_the_payment(
    gateway: Running, client: Client, chain: Chain, logged: io.StringIO
) -> None:
    made = begun(client)
    answer = deliver(gateway, "second", authorized(made), FOREIGN)
    assert (answer.status_code, answer.json()) == (200, {"received": 0})
    settle(client, chain)
    assert not [item for item in chain.of(made) if isinstance(item, ProviderReport)]
    assert client.get(f"/api/v1/intents/{made}").json()["status"] == "authorizing"
    shown = logged.getvalue()
    assert '"route":"/webhooks/{provider}/{account}"' in shown
    assert OWN not in shown
    assert FOREIGN not in shown


def test_a_payment_that_is_not_here_yet_is_told_of_again(gateway: Running) -> None:
    answer = deliver(gateway, "first", authorized(ids.payment_id("acme", str(uuid4()))), OWN)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


@pytest.mark.parametrize("path", ["stripe/nobody", "adyen/first", "nobody/first"])
def test_no_such_account(gateway: Running, path: str) -> None:
    answer = httpx.post(f"{gateway.url}/webhooks/{path}", content=b"{}")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/unknown_provider_path")
