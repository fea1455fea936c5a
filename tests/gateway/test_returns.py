"""A customer's browser that comes back from a provider's page. Anybody may be behind it."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest

from gateway.app import create_app
from gateway.limits import Limits
from pipeline.messages.commands import CompleteAction
from pipeline.settings import Settings
from tests.gateway.chain import ACTION, APPROVED, Chain
from tests.gateway.conftest import Client, Running

pytestmark = pytest.mark.stack

WAIT = {"Prefer": "wait=10"}
SHOP = "https://shop.example/orders/7?paid=perhaps"


def waiting(client: Client, **fields: str) -> str:
    """A payment whose customer was sent to act."""
    made = client.create(ACTION, **fields)
    answer = client.post(f"/api/v1/intents/{made['payment_id']}/authorize", **WAIT)
    assert answer.json()["status"] == "requires_action"
    return str(made["payment_id"])


def back(running: Running, payment_id: str, provider: str = "stripe", **query: str) -> httpx.Response:
    return httpx.get(f"{running.url}/return/{provider}/{payment_id}", params=query)


def completions(chain: Chain, payment_id: str) -> list[CompleteAction]:
    return [item for item in chain.of(payment_id) if isinstance(item, CompleteAction)]


def status_of(client: Client, payment_id: str) -> str:
    return str(client.get(f"/api/v1/intents/{payment_id}").json()["status"])


def test_the_provider_is_asked_and_the_customer_goes_on_to_the_shop(
    client: Client, chain: Chain, running: Running
) -> None:
    payment_id = waiting(client, return_url=SHOP)
    answer = back(running, payment_id)
    assert (answer.status_code, answer.headers["location"]) == (303, SHOP)
    settled = client.post(f"/api/v1/intents/{payment_id}/capture", **WAIT)
    assert settled.json()["status"] == "captured"
    assert len(completions(chain, payment_id)) == 1
    again = back(running, payment_id)
    assert (again.status_code, again.headers["location"]) == (303, SHOP)
    settled = client.post(f"/api/v1/intents/{payment_id}/refund", **WAIT)
    assert settled.json()["status"] == "refunded"
    assert len(completions(chain, payment_id)) == 1, "late: nothing to ask"


def test_without_a_shop_to_go_to_there_is_a_page(client: Client, chain: Chain, running: Running) -> None:
    payment_id = waiting(client)
    answer = back(running, payment_id)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    client.post(f"/api/v1/intents/{payment_id}/capture", **WAIT)
    assert len(completions(chain, payment_id)) == 1


def test_every_other_payment_looks_like_none(client: Client, chain: Chain, running: Running) -> None:
    """The page says nothing of a payment, not even that there is one."""
    page = back(running, str(uuid4())).content
    created = client.create(APPROVED)["payment_id"]
    elsewhere = waiting(client)
    for answer in (back(running, created), back(running, elsewhere, "adyen", redirectResult="x")):
        assert (answer.status_code, answer.content) == (200, page)
    assert status_of(client, elsewhere) == "requires_action"
    assert completions(chain, created) + completions(chain, elsewhere) == []


@pytest.mark.parametrize(
    "path", ["nobody/7b2f8f52-5b5f-5b55-9b3e-0b8a8a1f2f10", "adyen/x", "adyen/00000000", "adyen/%00", "adyen"]
)
def test_nonsense_is_a_problem(running: Running, path: str) -> None:
    answer = httpx.get(f"{running.url}/return/{path}")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not_found")
    assert answer.headers["content-type"] == "application/problem+json"


def test_only_get(running: Running) -> None:
    assert httpx.post(f"{running.url}/return/adyen/{uuid4()}").status_code == 405


@pytest.fixture
def strict(gateway_settings: Settings) -> Iterator[Running]:
    limits = Limits(return_rate=0.001, return_burst=2)
    gateway = Running(create_app(gateway_settings, limits), gateway_settings, limits)
    yield gateway
    gateway.stop()


def test_an_address_comes_back_only_so_often(strict: Running) -> None:
    answers = [back(strict, str(uuid4())).status_code for _ in range(3)]
    assert answers == [200, 200, 429]
