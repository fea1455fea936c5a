"""Deliveries in Postgres: claimed under a lease, so that a process that dies leaves them due again.

A claim is one statement: it takes what is due, a few of each endpoint, skipping what another process has locked;
notes the attempt; and moves the delivery's next attempt to when this one counts as lost.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from pipeline.domain.deliveries import DisabledReason, Outcome, Verdict
from pipeline.sealing import Sealed, Sealer

POOL_SIZE: Final = 4
PRUNE_PART: Final = 1_000
_OPTIONS: Final = "-c statement_timeout=30000 -c idle_in_transaction_session_timeout=30000"


@dataclass(frozen=True, slots=True)
class Claim:
    """An attempt that is this process's to make: the delivery's `number`-th in all, the `tries`-th of its schedule.
    `failing_for`: seconds that the endpoint has taken nothing, None if its last attempt succeeded.
    """

    delivery_id: str
    endpoint_id: str
    event_id: str
    number: int
    tries: int
    url: str
    body: bytes
    failing_for: float | None
    secrets: tuple[Sealed, ...]


@dataclass(frozen=True, slots=True)
class Backlog:
    """Deliveries to enabled endpoints that are to be attempted, and how long the oldest due one has been waiting."""

    pending: int
    oldest_due: float


class Store:
    """The rows. Methods raise psycopg.Error."""

    def __init__(self, dsn: str, client: str) -> None:
        self._pool: AsyncConnectionPool[AsyncConnection[tuple[Any, ...]]] = AsyncConnectionPool(
            dsn,
            min_size=1,
            max_size=POOL_SIZE,
            open=False,
            kwargs={"autocommit": True, "application_name": client, "options": _OPTIONS, "connect_timeout": 5},
        )

    async def open(self) -> None:
        """Connect."""
        await self._pool.open(wait=True, timeout=30)

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close(timeout=5)

    async def claim(self, free: int, each: int, lease: float, busy: Collection[str]) -> list[Claim]:
        """At most `free` due deliveries, the oldest first, at most `each` of an endpoint and none of a `busy` one. Who
        says nothing for `lease` seconds loses them again.
        """
        parameters = {"free": free, "each": each, "lease": lease, "busy": list(busy)}
        return [_claim(row) for row in await self._fetch(_CLAIM, parameters)]

    async def record(self, claim: Claim, outcome: Outcome, verdict: Verdict) -> DisabledReason | None:
        """What came of an attempt, and what follows, in one transaction; why the endpoint was disabled, if it was now.

        An attempt that lost its lease moves its delivery only if it succeeded, and one that a replay overtook likewise.
        """
        rows = await self._fetch(
            _RECORD,
            {
                "delivery": claim.delivery_id,
                "endpoint": claim.endpoint_id,
                "number": claim.number,
                "tries": claim.tries,
                "url": claim.url,
                "http_status": outcome.status,
                "error": outcome.error,
                "delivered": outcome.delivered,
                "status": verdict.status,
                "pause": verdict.pause,
                "disable": verdict.disable,
                "gone": verdict.disable is DisabledReason.GONE,
            },
        )
        return DisabledReason(rows[0][0]) if rows and rows[0][0] else None

    async def backlog(self) -> Backlog:
        """What is waiting."""
        pending, oldest = (await self._fetch(_BACKLOG))[0]
        return Backlog(pending, max(0.0, oldest or 0.0))

    async def prune(self, days: int) -> int:
        """Delete what is older than `days` and what belongs to deleted endpoints; how many rows. A part at a time."""
        deleted = 0
        for statement in _PRUNE:
            part = PRUNE_PART
            while part == PRUNE_PART:
                part = len(await self._fetch(statement, {"days": days, "part": PRUNE_PART}))
                deleted += part
        return deleted

    async def reseal(self, sealer: Sealer) -> int:
        """Seal every secret under the newest key; how many were not. Raises SealError for one that does not open."""
        rows = await self._fetch(_SEALED_OTHERWISE, {"key": sealer.key_id}) if sealer.key_id else []
        for secret_id, endpoint_id, key_id, data in rows:
            owner = str(endpoint_id)
            again = sealer.seal(sealer.open(Sealed(key_id, bytes(data)), owner), owner)
            await self._fetch(_RESEAL, {"secret": secret_id, "key": again.key_id, "sealed": again.data})
        return len(rows)

    async def _fetch(self, statement: str, parameters: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(statement.encode(), parameters, prepare=True)
            return await cursor.fetchall() if cursor.description else []


def _claim(row: tuple[Any, ...]) -> Claim:
    delivery_id, endpoint_id, event_id, number, tries, url, body, failing, keys, sealed = row
    named = (str(delivery_id), str(endpoint_id), str(event_id))
    failing_for = float(failing) if failing is not None else None
    return Claim(*named, number, tries, url, bytes(body), failing_for, tuple(_secrets(keys, sealed)))


def _secrets(keys: Iterable[str], sealed: Iterable[bytes]) -> Iterable[Sealed]:
    return (Sealed(key_id, bytes(data)) for key_id, data in zip(keys, sealed, strict=True))


_CLAIM: Final = """
WITH RECURSIVE waiting AS (
    (SELECT endpoint_id FROM webhooks.deliveries WHERE status = 'pending' ORDER BY endpoint_id LIMIT 1)
    UNION ALL
    SELECT (SELECT d.endpoint_id FROM webhooks.deliveries AS d
             WHERE d.status = 'pending' AND d.endpoint_id > w.endpoint_id ORDER BY d.endpoint_id LIMIT 1)
      FROM waiting AS w WHERE w.endpoint_id IS NOT NULL
), due AS (
    SELECT d.delivery_id
      FROM waiting AS w JOIN webhooks.endpoints AS e USING (endpoint_id)
     CROSS JOIN LATERAL (
           SELECT p.delivery_id, p.next_attempt_at FROM webhooks.deliveries AS p
            WHERE p.endpoint_id = e.endpoint_id AND p.status = 'pending' AND p.next_attempt_at <= now()
            ORDER BY p.next_attempt_at LIMIT %(each)s FOR UPDATE SKIP LOCKED) AS d
     WHERE e.disabled_reason IS NULL AND e.deleted_at IS NULL AND e.endpoint_id <> ALL (%(busy)s::uuid[])
     ORDER BY d.next_attempt_at LIMIT %(free)s
), claimed AS (
    UPDATE webhooks.deliveries AS d
       SET attempts = attempts + 1, tries = tries + 1, next_attempt_at = now() + %(lease)s * interval '1 second'
      FROM due WHERE d.delivery_id = due.delivery_id
    RETURNING d.delivery_id, d.endpoint_id, d.event_id, d.attempts, d.tries
), noted AS (
    INSERT INTO webhooks.attempts (delivery_id, number) SELECT delivery_id, attempts FROM claimed
)
SELECT c.delivery_id, c.endpoint_id, c.event_id, c.attempts, c.tries, e.url, v.body,
       extract(epoch FROM now() - e.failing_since),
       ARRAY(SELECT s.key_id FROM webhooks.active_secrets AS s WHERE s.endpoint_id = c.endpoint_id
              ORDER BY s.created_at DESC, s.secret_id DESC),
       ARRAY(SELECT s.sealed FROM webhooks.active_secrets AS s WHERE s.endpoint_id = c.endpoint_id
              ORDER BY s.created_at DESC, s.secret_id DESC)
  FROM claimed AS c JOIN webhooks.endpoints AS e USING (endpoint_id) JOIN webhooks.events AS v USING (event_id)
"""
"""The first part walks the index from endpoint to endpoint: a million deliveries that wait for one cost one step."""

_RECORD: Final = """
WITH ended AS (
    UPDATE webhooks.attempts SET ended_at = now(), http_status = %(http_status)s, error = %(error)s
     WHERE delivery_id = %(delivery)s AND number = %(number)s
), moved AS (
    UPDATE webhooks.deliveries
       SET status = %(status)s, next_attempt_at = now() + %(pause)s::float8 * interval '1 second', updated_at = now()
     WHERE delivery_id = %(delivery)s AND status = 'pending'
       AND (%(delivered)s OR (attempts = %(number)s AND tries = %(tries)s))
), before AS (
    SELECT endpoint_id, failing_since, disabled_reason FROM webhooks.endpoints
     WHERE endpoint_id = %(endpoint)s AND url = %(url)s AND deleted_at IS NULL AND disabled_reason IS NULL
), after AS (
    SELECT endpoint_id,
           CASE WHEN %(delivered)s THEN NULL ELSE coalesce(failing_since, now()) END AS failing_since,
           CASE WHEN %(gone)s OR failing_since IS NOT NULL THEN %(disable)s::text END AS disabled_reason
      FROM before
)
UPDATE webhooks.endpoints AS e
   SET failing_since = a.failing_since, disabled_reason = a.disabled_reason,
       disabled_at = CASE WHEN a.disabled_reason IS NOT NULL THEN now() END, updated_at = now()
  FROM after AS a
 WHERE e.endpoint_id = a.endpoint_id AND e.disabled_reason IS NULL
   AND (e.failing_since IS DISTINCT FROM a.failing_since OR a.disabled_reason IS NOT NULL)
RETURNING a.disabled_reason
"""

_BACKLOG: Final = """
SELECT count(*), extract(epoch FROM now() - min(next_attempt_at))::float8
  FROM webhooks.deliveries JOIN webhooks.endpoints AS e USING (endpoint_id)
 WHERE status = 'pending' AND e.disabled_reason IS NULL AND e.deleted_at IS NULL
"""

_SEALED_OTHERWISE: Final = """
SELECT secret_id, endpoint_id, key_id, sealed FROM webhooks.signing_secrets WHERE key_id <> %(key)s
"""

_RESEAL: Final = (
    "UPDATE webhooks.signing_secrets SET key_id = %(key)s, sealed = %(sealed)s WHERE secret_id = %(secret)s"
)

_PRUNE: Final = (
    """
    DELETE FROM webhooks.deliveries WHERE delivery_id = ANY (ARRAY(
        SELECT delivery_id FROM webhooks.deliveries
         WHERE updated_at < now() - %(days)s * interval '1 day' LIMIT %(part)s)) RETURNING 1
    """,
    """
    DELETE FROM webhooks.deliveries WHERE delivery_id = ANY (ARRAY(
        SELECT d.delivery_id FROM webhooks.endpoints AS e JOIN webhooks.deliveries AS d USING (endpoint_id)
         WHERE e.deleted_at < now() - interval '1 day' LIMIT %(part)s)) RETURNING 1
    """,
    """
    DELETE FROM webhooks.events WHERE event_id = ANY (ARRAY(
        SELECT event_id FROM webhooks.events AS v
         WHERE created_at < now() - %(days)s * interval '1 day'
           AND NOT EXISTS (SELECT FROM webhooks.deliveries AS d WHERE d.event_id = v.event_id)
         LIMIT %(part)s)) RETURNING 1
    """,
    """
    DELETE FROM webhooks.signing_secrets WHERE secret_id = ANY (ARRAY(
        SELECT secret_id FROM webhooks.signing_secrets AS s
         WHERE NOT EXISTS (SELECT FROM webhooks.active_secrets AS a WHERE a.secret_id = s.secret_id)
            OR EXISTS (SELECT FROM webhooks.endpoints AS e
                        WHERE e.endpoint_id = s.endpoint_id AND e.deleted_at < now() - interval '1 day')
         LIMIT %(part)s)) RETURNING 1
    """,
    """
    DELETE FROM webhooks.endpoints WHERE endpoint_id = ANY (ARRAY(
        SELECT endpoint_id FROM webhooks.endpoints AS e
         WHERE deleted_at < now() - interval '1 day'
           AND NOT EXISTS (SELECT FROM webhooks.deliveries AS d WHERE d.endpoint_id = e.endpoint_id)
         LIMIT %(part)s)) RETURNING 1
    """,
)
