"""Idempotency-Key (IETF draft-ietf-httpapi-idempotency-key-header, and as Stripe keeps it).

A key belongs to a merchant and mode. Its first request takes the row in `gateway.requests`, with the command it stands
for; the answer is written into the same row. A repeat gets that answer. A gateway that dies in between leaves a lease
that runs out: the next same request takes the row over and produces the *stored* command again, under the same
command id, so that the repeat changes nothing further down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response

from gateway import problems
from gateway.batching import Batcher
from gateway.body import refuse_card_text
from gateway.database import Database
from gateway.problems import Problem
from pipeline import ids

log = structlog.get_logger()

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotent-Replayed"
MAX_LENGTH: Final = 255
LEASE_SECONDS: Final = 15
"""How long a request may take from its row to its answer, besides what it waits by its own wish."""
KEEP_DAYS: Final = 7
PRUNE_PART: Final = 1_000


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Whose key it is, and the key."""

    merchant_id: str
    mode: str
    text: str

    @property
    def command_id(self) -> str:
        """The id of what the request asks for: the same for a repeat."""
        return ids.command_id(self.merchant_id, f"{self.mode}:{self.text}")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for a key's row: what it is the key of, the command it stands for, and for how long it is leased."""

    key: Key
    fingerprint: bytes
    payment_id: str
    command_id: str
    command: bytes
    lease: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request was answered: kept as it went out."""

    status: int
    headers: dict[str, str]
    body: bytes

    def response(self, *, replayed: bool = False) -> Response:
        """The HTTP answer; `replayed`: it is given again."""
        headers = {"Content-Type": "application/json", **self.headers}
        if replayed:
            headers[REPLAYED] = "true"
        return Response(self.body, self.status, headers)


@dataclass(frozen=True, slots=True)
class Mine:
    """The row is this request's: carry out `command` (its Avro bytes)."""

    command: bytes
    taken_over: bool


def key_of(request: Request, merchant_id: str, mode: str) -> Key:
    """The request's key. Raises Problem `idempotency_key_missing`, `idempotency_key_invalid`, `card_data`."""
    given = request.headers.getlist(HEADER)
    if not given:
        raise Problem(problems.IDEMPOTENCY_KEY_MISSING)
    text = _unquoted(given[0].strip())
    if len(given) > 1 or not 0 < len(text) <= MAX_LENGTH or not (text.isascii() and text.isprintable()):
        raise Problem(problems.IDEMPOTENCY_KEY_INVALID)
    refuse_card_text(text)
    return Key(merchant_id, mode, text)


def _unquoted(text: str) -> str:
    """The draft has a structured-field string ("…"), practice the bare text: both name the same key."""
    quoted = len(text) >= 2 and text[0] == text[-1] == '"'
    return text[1:-1].replace('\\"', '"').replace("\\\\", "\\") if quoted else text


def fingerprint(method: str, path: str, canonical_body: bytes) -> bytes:
    """SHA-256 of what a key stands for."""
    return sha256(b"\n".join((method.encode(), path.encode(), canonical_body))).digest()


class Requests:
    """The rows of `gateway.requests`. All methods raise Problem `unavailable` when Postgres does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._running: dict[Key, bytes] = {}
        self._taking: Batcher[Asked, Mine | Answer | Problem] = Batcher(self._take)
        self._writing: Batcher[tuple[Key, Answer | None], None] = Batcher(self._write)

    async def begin(self, asked: Asked) -> Mine | Answer:
        """The row for this request to carry out, or the answer that the first one got. Raises Problem
        `idempotency_in_progress`, `idempotency_key_reused`.
        """
        running = self._running.get(asked.key)
        if running is not None:
            raise _in_progress() if running == asked.fingerprint else Problem(problems.IDEMPOTENCY_KEY_REUSED)
        self._running[asked.key] = asked.fingerprint
        try:
            result = await self._taking.ask(asked)
        except BaseException:
            del self._running[asked.key]
            raise
        if not isinstance(result, Mine):
            del self._running[asked.key]
        if isinstance(result, Problem):
            raise result
        return result

    async def finish(self, key: Key, answer: Answer | None) -> None:
        """Keep the answer; or, with None, give the row back so that a repeat may carry it out at once.

        A row that cannot be written now is not lost: its lease runs out, and a repeat produces the same command.
        """
        try:
            await self._writing.ask((key, answer))
        except Exception as error:
            log.error("the answer could not be kept", error=type(error).__name__, status=answer and answer.status)
        finally:
            self._running.pop(key, None)

    async def prune(self) -> int:
        """Delete rows older than `KEEP_DAYS`; returns how many. A part at a time, so that no lock is held long."""
        deleted, part = 0, PRUNE_PART
        while part == PRUNE_PART:
            part = len(await self._database.fetch(_PRUNE, (KEEP_DAYS, PRUNE_PART)))
            deleted += part
        return deleted

    async def _take(self, batch: Sequence[Asked]) -> Sequence[Mine | Answer | Problem]:
        ordered = sorted(batch, key=lambda asked: asked.key)  # two gateways lock in one order
        rows = await self._database.fetch(
            _TAKE,
            (
                [asked.key.merchant_id for asked in ordered],
                [asked.key.mode for asked in ordered],
                [asked.key.text for asked in ordered],
                [asked.fingerprint for asked in ordered],
                [asked.payment_id for asked in ordered],
                [asked.command_id for asked in ordered],
                [asked.command for asked in ordered],
                [asked.lease for asked in ordered],
            ),
        )
        mine = {Key(*row[:3]): Mine(row[3], not row[4]) for row in rows}
        others = [asked.key for asked in ordered if asked.key not in mine]
        kept = await self._read(others) if others else {}
        return [mine.get(asked.key) or _repeat(asked, kept.get(asked.key)) for asked in batch]

    async def _read(self, keys: Sequence[Key]) -> dict[Key, tuple[Any, ...]]:
        columns = ([key.merchant_id for key in keys], [key.mode for key in keys], [key.text for key in keys])
        rows = await self._database.fetch(_READ, columns)
        return {Key(*row[:3]): row[3:] for row in rows}

    async def _write(self, batch: Sequence[tuple[Key, Answer | None]]) -> Sequence[None]:
        ordered = sorted(batch, key=lambda item: item[0])
        answers = [answer for _, answer in ordered]
        await self._database.fetch(
            _WRITE,
            (
                [key.merchant_id for key, _ in ordered],
                [key.mode for key, _ in ordered],
                [key.text for key, _ in ordered],
                [answer.status if answer else None for answer in answers],
                [orjson.dumps(answer.headers).decode() if answer else None for answer in answers],
                [answer.body if answer else None for answer in answers],
            ),
        )
        return [None] * len(batch)


def _repeat(asked: Asked, row: tuple[Any, ...] | None) -> Answer | Problem:
    """What a request gets whose key has a row that is not for it to take."""
    if row is None:  # pruned between the two statements
        return _in_progress()
    kept_fingerprint, status, headers, body = row
    if bytes(kept_fingerprint) != asked.fingerprint:
        return Problem(problems.IDEMPOTENCY_KEY_REUSED)
    return Answer(status, headers, bytes(body)) if status is not None else _in_progress()


def _in_progress() -> Problem:
    return Problem(problems.IDEMPOTENCY_IN_PROGRESS, headers={"Retry-After": "1"})


_TAKE: Final = """
INSERT INTO gateway.requests AS kept
       (merchant_id, mode, idempotency_key, fingerprint, payment_id, command_id, command, locked_until, created_at)
SELECT merchant_id, mode, idempotency_key, fingerprint, payment_id, command_id, command,
       now() + lease * interval '1 second', now()
  FROM unnest(%b::text[], %b::text[], %b::text[], %b::bytea[], %t::uuid[], %b::text[], %b::bytea[], %b::float8[])
    AS asked (merchant_id, mode, idempotency_key, fingerprint, payment_id, command_id, command, lease)
    ON CONFLICT (merchant_id, mode, idempotency_key) DO UPDATE SET locked_until = EXCLUDED.locked_until
 WHERE kept.response_status IS NULL
   AND (kept.locked_until IS NULL OR kept.locked_until <= now())
   AND kept.fingerprint = EXCLUDED.fingerprint
RETURNING merchant_id, mode, idempotency_key, command, (xmax = 0)
"""

_READ: Final = """
SELECT merchant_id, mode, idempotency_key, fingerprint, response_status, response_headers, response_body
  FROM gateway.requests
  JOIN unnest(%b::text[], %b::text[], %b::text[]) AS asked (merchant_id, mode, idempotency_key)
 USING (merchant_id, mode, idempotency_key)
"""

_WRITE: Final = """
UPDATE gateway.requests AS kept
   SET response_status = answer.status, response_headers = answer.headers::jsonb, response_body = answer.body,
       locked_until = NULL
  FROM unnest(%b::text[], %b::text[], %b::text[], %b::int[], %b::text[], %b::bytea[])
    AS answer (merchant_id, mode, idempotency_key, status, headers, body)
 WHERE kept.merchant_id = answer.merchant_id AND kept.mode = answer.mode
   AND kept.idempotency_key = answer.idempotency_key
   AND kept.response_status IS NULL
"""

_PRUNE: Final = """
DELETE FROM gateway.requests
 WHERE ctid = ANY (ARRAY(SELECT ctid FROM gateway.requests
                          WHERE created_at < now() - %s * interval '1 day' LIMIT %s))
RETURNING 1
"""
