"""Webhook endpoints and deliveries in Postgres, as their merchant sees them.

Every statement names the merchant; another merchant's endpoint is not found. Every statement may be repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from gateway.database import Database, Row
from gateway.endpoint_schemas import DeliveryAttemptState
from pipeline import ids, views
from pipeline.domain.deliveries import EVENT_TYPES, DeliveryStatus, Outcome, wants
from pipeline.sealing import Sealed

Json = dict[str, Any]
MAX_ENDPOINTS: Final = 20
MAX_SECRETS: Final = 5
SHOWN_ATTEMPTS: Final = 20
REPLAY_PART: Final = 5_000
"""Events that one replay looks at."""


@dataclass(frozen=True, slots=True)
class Place:
    """An endpoint, asked for by a merchant."""

    merchant_id: str
    endpoint_id: str


@dataclass(frozen=True, slots=True)
class Secret:
    """A signing secret's row to be."""

    secret_id: str
    sealed: Sealed


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which deliveries a page shows. `after` is the last row of the page before."""

    limit: int
    status: str | None = None
    event_type: str | None = None
    after: tuple[datetime, str] | None = None


class Endpoints:
    """Reads and writes. Methods raise Problem `unavailable` when Postgres does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, place: Place, url: str, event_types: Sequence[str], secret: Secret) -> bool:
        """Make an endpoint with its secret, or find it made. False if the merchant has as many as it may, or has
        deleted this one.
        """
        await self._database.fetch(
            _CREATE,
            {**_named(place), "url": url, "event_types": list(event_types), "most": MAX_ENDPOINTS, **_row(secret)},
        )
        return await self.endpoint(place) is not None

    async def is_deleted(self, place: Place) -> bool:
        """Whether the merchant had this endpoint and deleted it."""
        rows = await self._database.fetch(_IS_DELETED, _named(place))
        return bool(rows)

    async def endpoint(self, place: Place) -> Json | None:
        """The API's endpoint, or None."""
        rows = await self._database.fetch(_READ, _named(place))
        return _endpoint(rows[0]) if rows else None

    async def endpoints(self, merchant_id: str) -> list[Json]:
        """All of a merchant's, oldest first."""
        rows = await self._database.fetch(_READ, {"merchant": merchant_id, "endpoint": None})
        return [_endpoint(row) for row in rows]

    async def update(
        self, place: Place, url: str | None, event_types: Sequence[str] | None, enabled: bool | None
    ) -> Json | None:
        """Change what is given; the endpoint afterwards, or None."""
        changes = {
            "url": url,
            "event_types": list(event_types) if event_types else None,
            "enable": enabled is True,
            "disable": enabled is False,
        }
        await self._database.fetch(_UPDATE, {**_named(place), **changes})
        return await self.endpoint(place)

    async def delete(self, place: Place) -> bool:
        """Send nothing more; whether there was such an endpoint. Its secrets and deliveries go later."""
        return bool(await self._database.fetch(_DELETE, _named(place)))

    async def rotate(self, place: Place, secret: Secret) -> bool:
        """Add a newer secret, or find it added. False if there are as many in use as there may be."""
        parameters = {**_named(place), "most": MAX_SECRETS, **_row(secret)}
        await self._database.fetch(_ROTATE, parameters)
        return await self.secret(place, secret.secret_id) is not None

    async def secret(self, place: Place, secret_id: str) -> Sealed | None:
        """A secret of the endpoint that is in use, or None."""
        rows = await self._database.fetch(_SECRET, {**_named(place), "secret": secret_id})
        return Sealed(rows[0][0], bytes(rows[0][1])) if rows else None

    async def ping(self, place: Place, event_id: str, event_type: str, body: bytes) -> str | None:
        """Make an event for this endpoint alone; its delivery's id, or None if the endpoint is disabled."""
        delivery = ids.delivery_id(place.endpoint_id, event_id)
        event = {"event": event_id, "delivery": delivery, "type": event_type, "body": body}
        rows = await self._database.fetch(_PING, {**_named(place), **event})
        return delivery if rows else None

    async def replay(self, place: Place, delivery_id: str) -> bool:
        """Begin a delivery's schedule anew; whether there is such a delivery."""
        return bool(await self._database.fetch(_REPLAY, {**_named(place), "delivery": delivery_id}))

    async def replay_since(
        self, place: Place, event_types: Sequence[str], since: datetime
    ) -> tuple[int, datetime | None]:
        """Deliver again what happened since then, also what never was delivered here; how many, and where to go on."""
        chosen = [event_type for event_type in EVENT_TYPES if wants(event_types, event_type)]
        parameters = {"merchant": place.merchant_id, "since": since, "types": chosen, "limit": REPLAY_PART + 1}
        found = await self._database.fetch(_EVENTS_SINCE, parameters)
        part = [str(event_id) for event_id, _ in found[:REPLAY_PART]]
        deliveries = [ids.delivery_id(place.endpoint_id, event_id) for event_id in part]
        again = await self._database.fetch(_REPLAY_EVENTS, {**_named(place), "deliveries": deliveries, "events": part})
        return len(again), found[REPLAY_PART][1] if len(found) > REPLAY_PART else None

    async def delivery(self, place: Place, delivery_id: str) -> Json | None:
        """The API's delivery, or None."""
        nothing = {"status": None, "type": None, "after_at": None, "after_id": None, "limit": 1}
        rows = await self._database.fetch(_DELIVERIES, {**_named(place), "delivery": delivery_id, **nothing})
        return _delivery(rows[0]) if rows else None

    async def deliveries(self, place: Place, wanted: DeliveryFilter) -> list[tuple[datetime, Json]]:
        """Deliveries, newest first, each with its key for the cursor; one more than `limit` if there are more."""
        after_at, after_id = wanted.after or (None, None)
        rows = await self._database.fetch(
            _DELIVERIES,
            {
                **_named(place),
                "delivery": None,
                "status": wanted.status,
                "type": wanted.event_type,
                "after_at": after_at,
                "after_id": after_id,
                "limit": wanted.limit + 1,
            },
        )
        return [(row[7], _delivery(row)) for row in rows]


def _named(place: Place) -> Json:
    return {"merchant": place.merchant_id, "endpoint": place.endpoint_id}


def _row(secret: Secret) -> Json:
    return {"secret": secret.secret_id, "key": secret.sealed.key_id, "sealed": secret.sealed.data}


def _endpoint(row: Row) -> Json:
    endpoint_id, url, event_types, reason, disabled, failing, expires, created, updated = row
    return {
        "endpoint_id": str(endpoint_id),
        "url": url,
        "event_types": event_types,
        "enabled": reason is None,
        "disabled_reason": reason,
        "disabled_at": _time(disabled),
        "failing_since": _time(failing),
        "old_secret_expires_at": _time(expires),
        "created_at": _time(created),
        "updated_at": _time(updated),
    }


def _delivery(row: Row) -> Json:
    delivery_id, event_id, event_type, payment_id, occurred, status, following, created, count, attempts = row
    under_way = count if status == DeliveryStatus.PENDING else None
    return {
        "delivery_id": str(delivery_id),
        "event_id": str(event_id),
        "event_type": event_type,
        "payment_id": str(payment_id) if payment_id else None,
        "occurred_at": _time(occurred),
        "status": status,
        "next_attempt_at": _time(following),
        "created_at": _time(created),
        "attempt_count": count,
        "attempts": [_attempt(attempt, under_way) for attempt in attempts or ()],
    }


def _attempt(attempt: Json, under_way: int | None) -> Json:
    ended = attempt["ended_at"]
    return {
        "number": attempt["number"],
        "state": _state(attempt, under_way),
        "started_at": views.time(attempt["started_at"]),
        "ended_at": views.time(ended) if ended is not None else None,
        "http_status": attempt["http_status"],
        "error": attempt["error"],
    }


def _state(attempt: Json, under_way: int | None) -> DeliveryAttemptState:
    if attempt["ended_at"] is not None:
        delivered = Outcome(attempt["http_status"]).delivered
        return DeliveryAttemptState.SUCCEEDED if delivered else DeliveryAttemptState.FAILED
    newest = attempt["number"] == under_way
    return DeliveryAttemptState.UNDER_WAY if newest else DeliveryAttemptState.INTERRUPTED


def _time(at: datetime | None) -> str | None:
    return views.time(round(at.timestamp() * 1000)) if at is not None else None


_MINE: Final = "e.endpoint_id = %(endpoint)s AND e.merchant_id = %(merchant)s AND e.deleted_at IS NULL"

_CREATE: Final = """
WITH made AS (
    INSERT INTO webhooks.endpoints (endpoint_id, merchant_id, url, event_types)
    SELECT %(endpoint)s, %(merchant)s, %(url)s, %(event_types)s
     WHERE (SELECT count(*) FROM webhooks.endpoints WHERE merchant_id = %(merchant)s AND deleted_at IS NULL) < %(most)s
        ON CONFLICT DO NOTHING RETURNING endpoint_id)
INSERT INTO webhooks.signing_secrets (secret_id, endpoint_id, key_id, sealed)
SELECT %(secret)s, endpoint_id, %(key)s, %(sealed)s FROM made
"""

_READ: Final = """
SELECT e.endpoint_id, e.url, e.event_types, e.disabled_reason, e.disabled_at, e.failing_since,
       (SELECT max(s.expires_at) FROM webhooks.active_secrets AS s WHERE s.endpoint_id = e.endpoint_id),
       e.created_at, e.updated_at
  FROM webhooks.endpoints AS e
 WHERE e.merchant_id = %(merchant)s AND e.deleted_at IS NULL
   AND (%(endpoint)s::uuid IS NULL OR e.endpoint_id = %(endpoint)s)
 ORDER BY e.created_at, e.endpoint_id
"""

_IS_DELETED: Final = """
SELECT 1 FROM webhooks.endpoints
 WHERE endpoint_id = %(endpoint)s AND merchant_id = %(merchant)s AND deleted_at IS NOT NULL
"""

_UPDATE: Final = f"""
UPDATE webhooks.endpoints AS e
   SET url = coalesce(%(url)s, url), event_types = coalesce(%(event_types)s, event_types),
       disabled_reason = CASE WHEN %(enable)s THEN NULL WHEN %(disable)s THEN coalesce(disabled_reason, 'merchant')
                         ELSE disabled_reason END,
       disabled_at = CASE WHEN %(enable)s THEN NULL WHEN %(disable)s THEN coalesce(disabled_at, now())
                     ELSE disabled_at END,
       failing_since = CASE WHEN %(enable)s OR %(url)s <> url THEN NULL ELSE failing_since END,
       updated_at = now()
 WHERE {_MINE}
"""  # noqa: S608 - our own text

_DELETE: Final = f"""
UPDATE webhooks.endpoints AS e SET deleted_at = now(), updated_at = now() WHERE {_MINE} RETURNING 1
"""  # noqa: S608 - our own text

_ROTATE: Final = f"""
INSERT INTO webhooks.signing_secrets (secret_id, endpoint_id, key_id, sealed)
SELECT %(secret)s, e.endpoint_id, %(key)s, %(sealed)s FROM webhooks.endpoints AS e
 WHERE {_MINE}
   AND (SELECT count(*) FROM webhooks.active_secrets AS s WHERE s.endpoint_id = e.endpoint_id) < %(most)s
    ON CONFLICT DO NOTHING
"""  # noqa: S608 - our own text

_SECRET: Final = f"""
SELECT s.key_id, s.sealed FROM webhooks.active_secrets AS s JOIN webhooks.endpoints AS e USING (endpoint_id)
 WHERE {_MINE} AND s.secret_id = %(secret)s
"""  # noqa: S608 - our own text

_PING: Final = f"""
WITH mine AS (SELECT e.endpoint_id, e.merchant_id FROM webhooks.endpoints AS e
               WHERE {_MINE} AND e.disabled_reason IS NULL),
     made AS (INSERT INTO webhooks.events (event_id, merchant_id, type, occurred_at, body)
              SELECT %(event)s, merchant_id, %(type)s, now(), %(body)s FROM mine ON CONFLICT DO NOTHING),
     queued AS (INSERT INTO webhooks.deliveries (delivery_id, endpoint_id, event_id)
                SELECT %(delivery)s, endpoint_id, %(event)s FROM mine ON CONFLICT DO NOTHING)
SELECT 1 FROM mine
"""  # noqa: S608 - our own text

_AGAIN: Final = "status = 'pending', tries = 0, next_attempt_at = now(), updated_at = now()"

_REPLAY: Final = f"""
UPDATE webhooks.deliveries AS d SET {_AGAIN}
  FROM webhooks.endpoints AS e
 WHERE {_MINE} AND d.endpoint_id = e.endpoint_id AND d.delivery_id = %(delivery)s
RETURNING 1
"""  # noqa: S608 - our own text

_EVENTS_SINCE: Final = """
SELECT event_id, occurred_at FROM webhooks.events
 WHERE merchant_id = %(merchant)s AND occurred_at >= %(since)s AND type = ANY (%(types)s)
 ORDER BY occurred_at, event_id LIMIT %(limit)s
"""

_REPLAY_EVENTS: Final = f"""
INSERT INTO webhooks.deliveries AS d (delivery_id, endpoint_id, event_id)
SELECT asked.delivery_id, e.endpoint_id, asked.event_id
  FROM unnest(%(deliveries)s::uuid[], %(events)s::uuid[]) AS asked (delivery_id, event_id)
  JOIN webhooks.events AS v USING (event_id) JOIN webhooks.endpoints AS e USING (merchant_id)
 WHERE {_MINE}
    ON CONFLICT (delivery_id) DO UPDATE SET {_AGAIN} WHERE d.status <> 'pending'
RETURNING 1
"""  # noqa: S608 - our own text

_DELIVERIES: Final = f"""
SELECT d.delivery_id, d.event_id, v.type, v.payment_id, v.occurred_at, d.status,
       CASE WHEN e.disabled_reason IS NULL THEN d.next_attempt_at END, d.created_at, d.attempts, a.attempts
  FROM webhooks.deliveries AS d
  JOIN webhooks.endpoints AS e USING (endpoint_id)
  JOIN webhooks.events AS v USING (event_id)
  LEFT JOIN LATERAL (
       SELECT json_agg(json_build_object(
                  'number', n.number, 'http_status', n.http_status, 'error', n.error,
                  'started_at', (extract(epoch FROM n.started_at) * 1000)::bigint,
                  'ended_at', (extract(epoch FROM n.ended_at) * 1000)::bigint) ORDER BY n.number) AS attempts
         FROM (SELECT * FROM webhooks.attempts AS t WHERE t.delivery_id = d.delivery_id
                ORDER BY t.number DESC LIMIT {SHOWN_ATTEMPTS}) AS n) AS a ON true
 WHERE {_MINE}
   AND (%(delivery)s::uuid IS NULL OR d.delivery_id = %(delivery)s)
   AND (%(status)s::text IS NULL OR d.status = %(status)s)
   AND (%(type)s::text IS NULL OR v.type = %(type)s)
   AND (%(after_at)s::timestamptz IS NULL OR (d.created_at, d.delivery_id) < (%(after_at)s, %(after_id)s::uuid))
 ORDER BY d.created_at DESC, d.delivery_id DESC LIMIT %(limit)s
"""  # noqa: S608 - our own text
