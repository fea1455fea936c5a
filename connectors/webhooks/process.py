"""The process `webhooks`: public events in, requests to merchants' endpoints out, with Postgres between."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import psycopg
import structlog
import uvloop
from confluent_kafka import Consumer, Producer

from connectors.webhooks import metrics
from connectors.webhooks.addresses import Guard
from connectors.webhooks.deliverer import Deliverer
from connectors.webhooks.fan_out import SOURCES, STAGE, FanOut
from connectors.webhooks.sender import Sender
from connectors.webhooks.store import Store
from pipeline import admin, topics
from pipeline.codec import Codec, Registry
from pipeline.kafka import consumer_config, producer_config
from pipeline.messages.clearing import LedgerAlert
from pipeline.messages.deadletters import DeadLetter
from pipeline.messages.public import PaymentEvent
from pipeline.metrics import serve
from pipeline.sealing import Sealer, SealError
from pipeline.settings import Settings

log = structlog.get_logger()

REPORT_SECONDS: Final = 15.0
PRUNE_SECONDS: Final = 600.0


def run(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    admin.require_topics(settings, [name for topic in SOURCES for name in (topic, topics.dlq(topic))])
    serve(settings)
    uvloop.run(_run(settings))


async def _run(settings: Settings) -> None:
    client = f"{STAGE}-{settings.slot}"
    sealer = Sealer(settings.reveal("webhook_secret_keys"))
    if sealer.key_id is None:
        log.warning("no key is set to keep signing secrets under: merchants cannot make endpoints")
    store = Store(settings.reveal("postgres_webhooks_url"), client)
    await store.open()
    sender = Sender(Guard.of(settings), settings.webhook_timeout)
    deliverer = Deliverer(settings, store, sender, sealer)
    consumer = _consumer(settings, client)
    dsn = settings.reveal("postgres_webhooks_url")
    try:
        await _reseal(store, sealer)
        with psycopg.connect(dsn, autocommit=True, application_name=f"{client}-fan-out") as connection:
            fan_out = FanOut(
                consumer,
                connection,
                Codec(Registry(settings.registry_url)).require(PaymentEvent, LedgerAlert, DeadLetter),
                Producer(producer_config(settings, client)),
                _waker(deliverer),
                settings.webhook_keep_days,
            )
            await _serve(settings, fan_out, deliverer, store)
    finally:
        consumer.close()
        await sender.close()
        await store.close()


async def _serve(settings: Settings, fan_out: FanOut, deliverer: Deliverer, store: Store) -> None:
    """Until a signal, or until a part fails: then the others end too, and the failure is raised."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    parts = [
        asyncio.create_task(asyncio.to_thread(fan_out.run), name="fan-out"),
        asyncio.create_task(deliverer.run(), name="deliverer"),
        asyncio.create_task(_keep_up(settings, store), name="upkeep"),
    ]
    waiting = asyncio.create_task(stopped.wait())
    log.info("webhooks started")
    try:
        await asyncio.wait([*parts, waiting], return_when=asyncio.FIRST_COMPLETED)
    finally:
        fan_out.stop()
        deliverer.stop()
        parts[-1].cancel()
        waiting.cancel()
        results = await asyncio.gather(*parts, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
            raise result


async def _keep_up(settings: Settings, store: Store) -> None:
    """Say how much is waiting, and delete what is old."""
    loop = asyncio.get_running_loop()
    prune_at = loop.time() + PRUNE_SECONDS / 10
    while True:
        backlog = await store.backlog()
        metrics.PENDING.set(backlog.pending)
        metrics.OLDEST_DUE.set(backlog.oldest_due)
        if loop.time() >= prune_at:
            prune_at = loop.time() + PRUNE_SECONDS
            await store.prune(settings.webhook_keep_days)
        await asyncio.sleep(REPORT_SECONDS)


async def _reseal(store: Store, sealer: Sealer) -> None:
    """After a new key was put in front of the setting."""
    try:
        count = await store.reseal(sealer)
    except SealError as error:
        log.error("a signing secret cannot be opened", reason=str(error))
        return
    if count:
        log.info("signing secrets sealed under the newest key", count=count, key_id=sealer.key_id)


def _consumer(settings: Settings, client: str) -> Consumer:
    """No committed offset is ever used; a lost one must be loud, not a jump."""
    config = consumer_config(settings, admin.group(STAGE), client)
    return Consumer(config | {"auto.offset.reset": "error", "group.instance.id": client})


def _waker(deliverer: Deliverer) -> Callable[[], None]:
    """For the consumer's thread; the loop may have ended by then."""
    loop = asyncio.get_running_loop()

    def wake() -> None:
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(deliverer.wake)

    return wake
