"""The process on the real Kafka and Postgres, killed between the receiver's answer and its own note of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random

import pytest
from aiohttp import web
from standardwebhooks.webhooks import Webhook

from pipeline.settings import Settings
from tests.connectors.journal import public_events
from tests.connectors.webhooks.conftest import Merchants, captured_now
from tests.connectors.webhooks.receivers import Receiver, receiver
from tests.connectors.webhooks.test_deliverer import settled, until
from tests.connectors.webhooks.test_fan_out import in_the_books
from tests.fixtures.stack import Stack
from tests.topologies.processes import Processes, Writer

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


@pytest.fixture
def processes(stack: Stack, settings: Settings, topics_there: Settings, tmp_path: Path) -> Iterator[Processes]:
    """The process, on books of the test's own."""
    env = {
        **stack.env,
        "PAYMENTS_HOME": str(tmp_path),
        "PAYMENTS_POSTGRES_WEBHOOKS_URL": topics_there.reveal("postgres_webhooks_url"),
        "PAYMENTS_WEBHOOK_SECRET_KEYS": settings.reveal("webhook_secret_keys"),
        "PAYMENTS_WEBHOOK_ALLOW_HTTP": "true",
        "PAYMENTS_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
        "PAYMENTS_WEBHOOK_TIMEOUT": "2",
        "PAYMENTS_WEBHOOK_RETRY_SCALE": "0.01",
    }
    running = Processes(topics_there, env, tmp_path)
    yield running
    running.stop()


@pytest.fixture
async def there() -> AsyncIterator[Receiver]:
    async with receiver() as made:
        yield made


async def test_kill_9_between_delivery_and_record_delivers_again_under_the_same_id(
    settings: Settings, merchants: Merchants, processes: Processes, there: Receiver
) -> None:
    """The receiver takes the webhook, and the process dies before it knows."""

    async def kill_first(_request: web.BaseRequest) -> web.StreamResponse:
        if len(there.got) == 1:
            await asyncio.to_thread(processes["webhooks"].kill)
        return web.Response()

    there.answers["/hook"] = kill_first
    place = await merchants.endpoint(there.url(), "payments.captured")
    facts = captured_now()
    in_the_books(settings, facts)
    processes.start("webhooks")
    writer = Writer(settings)
    for event in public_events(facts):
        writer.send(event, event.type)
    writer.flush()
    await until(lambda: not processes["webhooks"].alive)
    [shown] = await merchants.deliveries(place)
    assert (shown["status"], [a["state"] for a in shown["attempts"]]) == ("pending", ["under_way"])
    processes["webhooks"].start()
    [shown] = await settled(merchants, place, "delivered")
    assert [attempt["state"] for attempt in shown["attempts"]] == ["interrupted", "succeeded"]
    assert [got.headers["webhook-id"] for got in there.got] == [public_events(facts)[-1].event_id] * 2
    assert there.got[0].body == there.got[1].body
    for got in there.got:
        Webhook(merchants.secrets[place.endpoint_id][0]).verify(got.body, got.headers)
    assert await asyncio.to_thread(processes["webhooks"].stop) == 0


async def test_kill_9_at_any_moment_loses_no_webhook(
    settings: Settings, merchants: Merchants, processes: Processes, there: Receiver
) -> None:
    """Some arrive twice, under one id; none is missing, and in Postgres none is there twice."""
    random = Random(11)
    place = await merchants.endpoint(there.url())
    payments = [captured_now() for _ in range(150)]
    in_the_books(settings, *payments)
    events = [event for facts in payments for event in public_events(facts)]
    writer = Writer(settings)
    processes.start("webhooks")
    killed = 0
    for start in range(0, len(events), 50):
        for event in events[start : start + 50]:
            writer.send(event, event.type)
        writer.flush()
        seen = len(there.got)
        await until(lambda seen=seen: len(there.got) > seen)  # type: ignore[misc]
        await asyncio.sleep(random.random() * 0.2)
        await asyncio.to_thread(processes["webhooks"].kill)
        processes["webhooks"].start()
        killed += 1
    wanted = {event.event_id for event in events}
    await until(lambda: {got.headers["webhook-id"] for got in there.got} >= wanted, 120)
    shown = await settled(merchants, place, "delivered")
    assert killed == 9
    assert Counter(delivery["event_id"] for delivery in shown) == Counter(wanted)
    assert {got.headers["webhook-id"] for got in there.got} == wanted
    assert await asyncio.to_thread(processes["webhooks"].stop) == 0
