"""Deliveries from the real Postgres to real receivers: signed, retried, replayed, disabled, and never lost."""

from __future__ import annotations

import asyncio
import io
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from connectors.webhooks.addresses import Guard
from connectors.webhooks.deliverer import Deliverer
from connectors.webhooks.sender import Sender
from connectors.webhooks.store import Backlog, Claim, Store
from gateway.endpoint_store import Place
from pipeline.domain.deliveries import PAUSES, AttemptError, Outcome, judge
from pipeline.sealing import Sealer, SealError, new_key
from pipeline.settings import Settings
from tests.connectors.webhooks.conftest import Merchants
from tests.connectors.webhooks.receivers import Receiver, receiver, status

pytestmark = pytest.mark.stack


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    async with opened(settings) as made:
        yield made


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Store]:
    store = Store(settings.reveal("postgres_webhooks_url"), "test-webhooks")
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def there() -> AsyncIterator[Receiver]:
    async with receiver() as made:
        yield made


@asynccontextmanager
async def delivering(settings: Settings, store: Store) -> AsyncIterator[Deliverer]:
    """A deliverer at work; it ends in good order."""
    sender = Sender(Guard.of(settings), settings.webhook_timeout)
    made = Deliverer(settings, store, sender, Sealer(settings.reveal("webhook_secret_keys")))
    running = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        made.stop()
        await running
        await sender.close()


async def until(true: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something to be so."""
    async with asyncio.timeout(seconds):
        while True:
            if true():
                return
            await asyncio.sleep(0.01)


async def attempted(merchants: Merchants, place: Place) -> dict[str, Any]:
    """The endpoint's one delivery, once an attempt has ended."""
    async with asyncio.timeout(60):
        while True:
            [shown] = await merchants.deliveries(place)
            if any(attempt["ended_at"] for attempt in shown["attempts"]):
                return shown
            await asyncio.sleep(0.02)


async def settled(merchants: Merchants, place: Place, *statuses: str) -> list[dict[str, Any]]:
    """The endpoint's deliveries, once each has one of these statuses."""
    async with asyncio.timeout(60):
        while True:
            shown = await merchants.deliveries(place)
            if shown and all(delivery["status"] in statuses for delivery in shown):
                return shown
            await asyncio.sleep(0.02)


def verified(secret: str, there: Receiver, number: int = 0) -> Any:
    """The body of a request, as the Standard Webhooks library verifies it. Raises WebhookVerificationError."""
    got = there.got[number]
    return Webhook(secret).verify(got.body, got.headers)


async def test_a_delivery_arrives_verifies_and_is_told(
    settings: Settings, merchants: Merchants, store: Store, there: Receiver
) -> None:
    place = await merchants.endpoint(there.url())
    [delivery] = await merchants.pings(place, 1)
    async with delivering(settings, store):
        [shown] = await settled(merchants, place, "delivered")
    [secret] = merchants.secrets[place.endpoint_id]
    assert verified(secret, there) == {"event": shown["event_id"]}
    assert there.got[0].headers["webhook-id"] == shown["event_id"]
    assert there.got[0].headers["content-type"] == "application/json"
    assert (shown["delivery_id"], shown["attempt_count"], shown["next_attempt_at"]) == (delivery, 1, None)
    [attempt] = shown["attempts"]
    assert (attempt["number"], attempt["state"], attempt["http_status"], attempt["error"]) == (
        1,
        "succeeded",
        200,
        None,
    )
    assert attempt["started_at"] <= attempt["ended_at"]
    assert len(there.got) == 1


async def test_during_a_rotation_either_secret_verifies(
    settings: Settings, merchants: Merchants, store: Store, there: Receiver
) -> None:
    place, other = await merchants.endpoint(there.url()), await merchants.endpoint(there.url())
    await merchants.rotate(place)
    await merchants.pings(place, 1)
    async with delivering(settings, store):
        await settled(merchants, place, "delivered")
        new, old = merchants.secrets[place.endpoint_id]
        assert verified(new, there) == verified(old, there)
        assert len(there.got[0].headers["webhook-signature"].split(" ")) == 2
        with pytest.raises(WebhookVerificationError):
            verified(merchants.secrets[other.endpoint_id][0], there)
        merchants.owner.execute(
            "UPDATE webhooks.signing_secrets SET created_at = created_at - interval '24 hours 1 second'"
        )
        await merchants.pings(place, 1)
        await until(lambda: len(there.got) == 2)
    verified(new, there, 1)
    with pytest.raises(WebhookVerificationError):
        verified(old, there, 1)


async def test_what_failed_is_tried_again_under_the_same_id_until_it_is_taken(
    settings: Settings, merchants: Merchants, store: Store, there: Receiver
) -> None:
    answers = [status(500), status(302, Location=there.url("/elsewhere")), status(200)]

    async def in_turn(request: web.BaseRequest) -> web.StreamResponse:
        return await answers.pop(0)(request)

    there.answers["/hook"] = in_turn
    place = await merchants.endpoint(there.url())
    await merchants.pings(place, 1)
    async with delivering(settings, store):
        [shown] = await settled(merchants, place, "delivered")
    assert [(a["number"], a["state"], a["http_status"]) for a in shown["attempts"]] == [
        (1, "failed", 500), (2, "failed", 302), (3, "succeeded", 200),
    ]  # fmt: skip
    assert [(got.path, got.headers["webhook-id"]) for got in there.got] == [("/hook", shown["event_id"])] * 3
    assert len({got.body for got in there.got}) == 1
    assert (await merchants.shown(place))["failing_since"] is None, "the last attempt succeeded"


async def test_the_next_attempt_is_planned_in_postgres(
    settings: Settings, merchants: Merchants, store: Store, there: Receiver
) -> None:
    there.answers["/hook"] = status(500)
    place = await merchants.endpoint(there.url())
    await merchants.pings(place, 1)
    async with delivering(settings.model_copy(update={"webhook_retry_scale": 100.0}), store):
        shown = await attempted(merchants, place)
    assert (shown["status"], shown["attempt_count"]) == ("pending", 1)
    planned = "SELECT extract(epoch FROM next_attempt_at - updated_at) FROM webhooks.deliveries"
    [(pause,)] = merchants.owner.execute(planned).fetchall()
    assert float(pause) == pytest.approx(100 * PAUSES[0], rel=0.1)
    assert (await merchants.shown(place))["failing_since"]


async def test_after_the_last_attempt_it_has_failed_and_a_replay_begins_anew(
    settings: Settings, merchants: Merchants, store: Store, there: Receiver
) -> None:
    hasty = settings.model_copy(update={"webhook_retry_scale": 1e-9})
    there.answers["/hook"] = status(500)
    place = await merchants.endpoint(there.url())
    [delivery] = await merchants.pings(place, 1)
    async with delivering(hasty, store) as deliverer:
        [shown] = await settled(merchants, place, "failed")
        assert shown["attempt_count"] == len(PAUSES) + 1 == len(there.got)
        there.answers.clear()
        assert await merchants.store.replay(place, delivery)
        deliverer.wake()
        [shown] = await settled(merchants, place, "delivered")
    assert shown["attempt_count"] == len(PAUSES) + 2
    assert len({got.headers["webhook-id"] for got in there.got}) == 1


async def test_gone_disables_the_endpoint_at_once_and_what_was_pending_waits_for_it(
    settings: Settings, merchants: Merchants, store: Store, there: Receiver
) -> None:
    there.answers["/hook"] = status(410)
    place, other = await merchants.endpoint(there.url()), await merchants.endpoint(there.url("/other"))
    await merchants.pings(place, 1)
    async with delivering(settings, store) as deliverer:
        await settled(merchants, place, "failed")
        shown = await merchants.shown(place)
        assert (shown["enabled"], shown["disabled_reason"]) == (False, "gone")
        assert shown["disabled_at"]
        merchants.owner.execute("UPDATE webhooks.deliveries SET status = 'pending', next_attempt_at = now(), tries = 0")
        await merchants.pings(other, 1)
        deliverer.wake()
        await settled(merchants, other, "delivered")
        assert [got.path for got in there.got] == ["/hook", "/other"], "nothing more for the disabled one"
        there.answers.clear()
        await merchants.store.update(place, None, None, True)
        deliverer.wake()
        await settled(merchants, place, "delivered")


async def test_an_endpoint_that_fails_for_five_days_is_disabled_and_that_is_visible(
    settings: Settings, merchants: Merchants, store: Store, there: Receiver
) -> None:
    there.answers["/hook"] = status(500)
    place, newer = await merchants.endpoint(there.url()), await merchants.endpoint(there.url())
    since = "UPDATE webhooks.endpoints SET failing_since = now() - %s::interval WHERE endpoint_id = %s"
    merchants.owner.execute(since, ("5 days", place.endpoint_id))
    merchants.owner.execute(since, ("4 days 23 hours", newer.endpoint_id))
    for endpoint in (place, newer):
        await merchants.pings(endpoint, 1)
    async with delivering(settings.model_copy(update={"webhook_retry_scale": 1e3}), store):
        await until(lambda: len(there.got) == 2)
    shown = await merchants.shown(place)
    assert (shown["enabled"], shown["disabled_reason"]) == (False, "failing")
    assert (await merchants.shown(newer))["enabled"]
    [delivery] = await merchants.deliveries(place)
    assert (delivery["status"], delivery["next_attempt_at"]) == ("pending", None), "it is held, not lost"


async def test_one_success_ends_the_count_of_failing_days(
    settings: Settings, merchants: Merchants, store: Store, there: Receiver
) -> None:
    place = await merchants.endpoint(there.url())
    merchants.owner.execute("UPDATE webhooks.endpoints SET failing_since = now() - interval '6 days'")
    await merchants.pings(place, 1)
    async with delivering(settings, store):
        await settled(merchants, place, "delivered")
    shown = await merchants.shown(place)
    assert (shown["enabled"], shown["failing_since"]) == (True, None)


async def test_a_slow_endpoint_delays_only_itself(
    settings: Settings, merchants: Merchants, store: Store, there: Receiver
) -> None:
    """Its receiver answers nothing until all others have everything: that ends only if they do not wait for it."""
    release, at_once, most = asyncio.Event(), Counter[str](), Counter[str]()

    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        at_once[request.path] += 1
        most[request.path] = max(most[request.path], at_once[request.path])
        await release.wait()
        at_once[request.path] -= 1
        return web.Response()

    there.answers["/slow"] = slow
    late = await merchants.endpoint(there.url("/slow"))
    await merchants.pings(late, 60)
    others = [await merchants.endpoint(there.url(f"/fast/{number}")) for number in range(3)]
    for place in others:
        await merchants.pings(place, 40)
    async with delivering(settings, store):
        for place in others:
            await settled(merchants, place, "delivered")
        assert {delivery["status"] for delivery in await merchants.deliveries(late)} == {"pending"}
        release.set()
        await settled(merchants, late, "delivered")
    assert 1 < most["/slow"] <= settings.webhook_endpoint_concurrency
    assert len(there.got) == 60 + 3 * 40


async def test_two_processes_share_the_work_and_do_none_of_it_twice(
    settings: Settings, merchants: Merchants, store: Store, there: Receiver
) -> None:
    places = [await merchants.endpoint(there.url(f"/{number}")) for number in range(4)]
    for place in places:
        await merchants.pings(place, 50)
    async with AsyncExitStack() as both:
        await both.enter_async_context(delivering(settings, store))
        await both.enter_async_context(delivering(settings, await both.enter_async_context(opened(settings))))
        for place in places:
            await settled(merchants, place, "delivered")
    assert max(Counter(got.headers["webhook-id"] for got in there.got).values()) == 1
    assert len(there.got) == 200


async def one_claim(store: Store, lease: float = 60.0) -> Claim:
    [claim] = await store.claim(10, 10, lease, [])
    return claim


async def test_a_claim_whose_process_died_is_due_again_when_its_lease_is_over(
    settings: Settings, merchants: Merchants, store: Store, there: Receiver
) -> None:
    place = await merchants.endpoint(there.url())
    await merchants.pings(place, 1)
    lost = await one_claim(store)
    assert await store.claim(10, 10, 60.0, []) == [], "it is another's while the lease lasts"
    merchants.owner.execute("UPDATE webhooks.deliveries SET next_attempt_at = now()")
    again = await one_claim(store)
    assert (again.delivery_id, again.number, again.tries) == (lost.delivery_id, 2, 2)
    late = Outcome(500)
    await store.record(lost, late, judge(lost.delivery_id, lost.tries, None, late))
    [shown] = await merchants.deliveries(place)
    assert [attempt["state"] for attempt in shown["attempts"]] == ["failed", "under_way"]
    assert (shown["status"], await store.claim(10, 10, 60.0, [])) == ("pending", []), "the newer attempt decides"
    good = Outcome(200)
    await store.record(again, good, judge(again.delivery_id, again.tries, None, good))
    assert (await merchants.deliveries(place))[0]["status"] == "delivered"


async def test_a_success_counts_even_if_the_lease_was_lost(merchants: Merchants, store: Store) -> None:
    place = await merchants.endpoint("http://127.0.0.1:1/")
    await merchants.pings(place, 1)
    first = await one_claim(store)
    merchants.owner.execute("UPDATE webhooks.deliveries SET next_attempt_at = now()")
    second = await one_claim(store)
    for claim, outcome in ((first, Outcome(200)), (second, Outcome(500))):
        await store.record(claim, outcome, judge(claim.delivery_id, claim.tries, None, outcome))
    assert (await merchants.deliveries(place))[0]["status"] == "delivered"


async def test_a_replay_is_not_undone_by_the_attempt_that_it_overtook(merchants: Merchants, store: Store) -> None:
    place = await merchants.endpoint("http://127.0.0.1:1/")
    [delivery] = await merchants.pings(place, 1)
    merchants.owner.execute("UPDATE webhooks.deliveries SET tries = 9")
    last = await one_claim(store)
    assert last.tries == len(PAUSES) + 1
    await merchants.store.replay(place, delivery)
    outcome = Outcome(500)
    await store.record(last, outcome, judge(delivery, last.tries, None, outcome))
    assert (await one_claim(store)).tries == 1


async def test_an_old_url_disables_nothing_after_it_was_changed(merchants: Merchants, store: Store) -> None:
    place = await merchants.endpoint("http://127.0.0.1:1/old")
    await merchants.pings(place, 1)
    claim = await one_claim(store)
    await merchants.store.update(place, "http://127.0.0.1:1/new", None, None)
    gone = Outcome(410)
    assert await store.record(claim, gone, judge(claim.delivery_id, claim.tries, None, gone)) is None
    assert (await merchants.shown(place))["enabled"]


async def test_a_receiver_inside_is_refused_and_that_is_told(
    settings: Settings, merchants: Merchants, store: Store, there: Receiver
) -> None:
    closed = settings.model_copy(update={"webhook_allowed_networks": "", "webhook_retry_scale": 1e3})
    place = await merchants.endpoint(there.url(host="localhost"))
    await merchants.pings(place, 1)
    async with delivering(closed, store):
        shown = await attempted(merchants, place)
    assert [attempt["error"] for attempt in shown["attempts"]] == ["address_refused"]
    assert there.got == []


async def test_a_secret_that_cannot_be_opened_sends_nothing_unsigned(
    settings: Settings, merchants: Merchants, store: Store, there: Receiver, logged: io.StringIO
) -> None:
    place = await merchants.endpoint(there.url())
    await merchants.pings(place, 1)
    other = settings.model_copy(update={"webhook_secret_keys": SecretStr(new_key("k2")), "webhook_retry_scale": 1e3})
    async with delivering(other, store):
        shown = await attempted(merchants, place)
    assert [attempt["error"] for attempt in shown["attempts"]] == [AttemptError.INTERNAL]
    assert there.got == []
    assert "k1 is not in the settings" in logged.getvalue()


async def test_secrets_are_sealed_anew_under_a_newer_key(
    settings: Settings, merchants: Merchants, store: Store, there: Receiver
) -> None:
    place = await merchants.endpoint(there.url())
    await merchants.rotate(place)
    old, new = settings.reveal("webhook_secret_keys"), new_key("k2")
    with pytest.raises(SealError):
        await store.reseal(Sealer(new))
    assert await store.reseal(Sealer(f"{new},{old}")) == 2
    assert await store.reseal(Sealer(f"{new},{old}")) == 0
    await merchants.pings(place, 1)
    async with delivering(settings.model_copy(update={"webhook_secret_keys": SecretStr(new)}), store):
        await settled(merchants, place, "delivered")
    for secret in merchants.secrets[place.endpoint_id]:
        verified(secret, there)


async def test_what_is_old_or_deleted_goes_and_nothing_else(
    settings: Settings, merchants: Merchants, store: Store
) -> None:
    kept, old, deleted = [await merchants.endpoint("http://127.0.0.1:1/") for _ in range(3)]
    for place in (kept, old, deleted):
        await merchants.pings(place, 2)
    assert await store.claim(1, 1, 60.0, []), "an attempt is under way: attempts go with their delivery"
    await merchants.rotate(kept)
    await merchants.rotate(old)
    assert await store.prune(30) == 0
    for table in ("deliveries", "events"):
        merchants.owner.execute(
            f"UPDATE webhooks.{table} SET {'updated' if table == 'deliveries' else 'created'}_at ="
            " now() - interval '31 days' WHERE event_id IN (SELECT event_id FROM webhooks.deliveries"
            " WHERE endpoint_id = %s)".encode(),
            [old.endpoint_id],
        )
    merchants.owner.execute(
        "UPDATE webhooks.signing_secrets SET created_at = created_at - interval '25 hours' WHERE endpoint_id = %s",
        [old.endpoint_id],
    )
    await merchants.store.delete(deleted)
    merchants.owner.execute(
        "UPDATE webhooks.endpoints SET deleted_at = deleted_at - interval '2 days' WHERE deleted_at IS NOT NULL"
    )
    await store.prune(30)
    assert len(await merchants.deliveries(kept)) == 2
    assert await merchants.deliveries(old) == []
    left = {
        table: merchants.owner.execute(f"SELECT count(*) FROM webhooks.{table}".encode()).fetchall()[0][0]
        for table in ("endpoints", "signing_secrets", "events")
    }
    assert left == {"endpoints": 2, "signing_secrets": 3, "events": 4}, "events outlive deleted endpoints by their age"


async def test_how_much_is_waiting(merchants: Merchants, store: Store) -> None:
    assert await store.backlog() == Backlog(0, 0.0)
    place, off = [await merchants.endpoint("http://127.0.0.1:1/") for _ in range(2)]
    await merchants.pings(place, 3)
    await merchants.pings(off, 3)
    await merchants.store.update(off, None, None, False)
    merchants.owner.execute("UPDATE webhooks.deliveries SET next_attempt_at = now() - interval '1 hour'")
    backlog = await store.backlog()
    assert backlog.pending == 3
    assert backlog.oldest_due >= 3600


async def test_no_secret_and_no_url_is_logged(
    settings: Settings, merchants: Merchants, store: Store, there: Receiver, logged: io.StringIO
) -> None:
    there.answers["/hook"] = status(410)
    place = await merchants.endpoint(there.url("/hook?token=pssst"))
    await merchants.pings(place, 1)
    async with delivering(settings, store):
        await settled(merchants, place, "failed")
    told = logged.getvalue()
    assert place.endpoint_id in told
    assert "disabled" in told
    [secret] = merchants.secrets[place.endpoint_id]
    for hidden in (secret, secret.removeprefix("whsec_"), "pssst", there.got[0].headers["webhook-signature"]):
        assert hidden not in told
    assert json.loads(there.got[0].body)
