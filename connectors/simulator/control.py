"""The API under /_sim/, for tests, demo and benchmark. JSON in, JSON out; it is no part of any provider.

GET    /_sim/health                     {"status": "ok"}
POST   /_sim/reset                      forget everything: objects, keys, faults, book, statistics, deliveries
GET    /_sim/book                       a page for each payment intent; ?payment_id= &reference=
GET    /_sim/book/sums                  ?by=payment_id | reference | idempotency_key, and the filters of entries
GET    /_sim/book/entries               each movement; ?payment_id= &reference= &idempotency_key= &provider=
GET    /_sim/stats                      calls, `seconds` of its own work, seconds asked for, webhooks, CPU, memory
POST   /_sim/stats/reset                count anew
POST   /_sim/faults                     a Fault (faults.py) -> {"id"}
GET    /_sim/faults                     the rules, and how often each happened
DELETE /_sim/faults, /_sim/faults/{id}  take them out of force
POST   /_sim/clock                      {"advance_seconds"}: let time pass
GET    /_sim/webhooks                   counts and latest attempts
POST   /_sim/webhooks/drain             {"seconds"}: wait until nothing is on its way
POST   /_sim/webhooks/resend            ?payment_id= &event= &type= &payment_intent= -> {"sent"}
DELETE /_sim/keys                       forget idempotency keys; ?older_than_seconds= (default 0: all)
POST   /_sim/refunds/{id}               ?outcome=success|fail: a refund ends
POST   /_sim/payment_intents/{id}/expire  the hold's seven days are over
POST   /_sim/charges/{id}/dispute       {"reason"?, "inquiry"?}: the cardholder disputes it
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any, TypeVar

import msgspec
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from connectors.simulator.book import By, Query
from connectors.simulator.faults import Fault
from connectors.simulator.parts import Parts
from connectors.simulator.stripe.errors import StripeError
from connectors.simulator.stripe.service import StripeService


class Advance(msgspec.Struct, forbid_unknown_fields=True):
    """Let time pass."""

    advance_seconds: int


class Drain(msgspec.Struct, forbid_unknown_fields=True):
    """Wait for deliveries."""

    seconds: float = 10.0


class Resend(msgspec.Struct, forbid_unknown_fields=True):
    """Which events to send again; None is any."""

    event: str | None = None
    type: str | None = None
    payment_intent: str | None = None
    payment_id: str | None = None


class Outcome(StrEnum):
    """How a refund ends."""

    SUCCESS = "success"
    FAIL = "fail"


class Disputed(msgspec.Struct, forbid_unknown_fields=True):
    """Why a charge is disputed."""

    reason: str = "fraudulent"
    inquiry: bool = False


Asked = TypeVar("Asked")
Handler = Callable[[Request], Awaitable[Response]]


class Control:
    """The handlers."""

    def __init__(self, parts: Parts, stripe: StripeService) -> None:
        self._parts = parts
        self._stripe = stripe

    def routes(self) -> list[BaseRoute]:
        """All of them."""
        table: list[tuple[str, str, Handler]] = [
            ("GET", "/_sim/health", self.health),
            ("POST", "/_sim/reset", self.reset),
            ("GET", "/_sim/book", self.book),
            ("GET", "/_sim/book/sums", self.sums),
            ("GET", "/_sim/book/entries", self.entries),
            ("GET", "/_sim/stats", self.stats),
            ("POST", "/_sim/stats/reset", self.reset_stats),
            ("POST", "/_sim/faults", self.add_fault),
            ("GET", "/_sim/faults", self.list_faults),
            ("DELETE", "/_sim/faults", self.clear_faults),
            ("DELETE", "/_sim/faults/{id}", self.remove_fault),
            ("POST", "/_sim/clock", self.advance),
            ("GET", "/_sim/webhooks", self.deliveries),
            ("POST", "/_sim/webhooks/drain", self.drain),
            ("POST", "/_sim/webhooks/resend", self.resend),
            ("DELETE", "/_sim/keys", self.forget_keys),
            ("POST", "/_sim/refunds/{id}", self.settle_refund),
            ("POST", "/_sim/payment_intents/{id}/expire", self.expire),
            ("POST", "/_sim/charges/{id}/dispute", self.dispute),
        ]
        return [Route(path, _guarded(handler), methods=[method]) for method, path, handler in table]

    async def health(self, _request: Request) -> Response:
        """It runs."""
        return _json({"status": "ok"})

    async def reset(self, _request: Request) -> Response:
        """As at the start."""
        parts = self._parts
        parts.deliverer.reset()
        parts.faults.clear()
        parts.book.reset()
        parts.stats.reset()
        parts.clock.reset()
        self._stripe.reset()
        return _json({})

    async def book(self, request: Request) -> Response:
        """What was really done, by payment intent."""
        return _json(self._stripe.pages(_query(request)))

    async def sums(self, request: Request) -> Response:
        """What was really done, by payment, reference or idempotency key."""
        asked = dict(request.query_params)
        by = msgspec.convert(asked.pop("by", By.PAYMENT_ID.value), By)
        return _json(self._parts.book.sums(msgspec.convert(asked, Query), by))

    async def entries(self, request: Request) -> Response:
        """What was really done, one by one."""
        return _json([msgspec.structs.asdict(entry) for entry in self._parts.book.entries(_query(request))])

    async def stats(self, _request: Request) -> Response:
        """How it went."""
        parts = self._parts
        return _json({**parts.stats.report(), **parts.deliverer.counts(), "stripe": self._stripe.counts()})

    async def reset_stats(self, _request: Request) -> Response:
        """Count anew."""
        self._parts.stats.reset()
        return _json({})

    async def add_fault(self, request: Request) -> Response:
        """Something will go wrong."""
        return _json({"id": self._parts.faults.add(await _read(request, Fault))}, 201)

    async def list_faults(self, _request: Request) -> Response:
        """What goes wrong."""
        return _json({"faults": self._parts.faults.report()})

    async def clear_faults(self, _request: Request) -> Response:
        """Nothing goes wrong any more."""
        self._parts.faults.clear()
        return _json({})

    async def remove_fault(self, request: Request) -> Response:
        """One thing less goes wrong."""
        found = self._parts.faults.remove(request.path_params["id"])
        return _json({}, 200 if found else 404)

    async def advance(self, request: Request) -> Response:
        """Time passes."""
        self._parts.clock.advance((await _read(request, Advance)).advance_seconds)
        return _json({"now": self._parts.clock.now()})

    async def deliveries(self, _request: Request) -> Response:
        """How the webhooks fare."""
        return _json(self._parts.deliverer.report())

    async def drain(self, request: Request) -> Response:
        """Wait until no webhook is on its way."""
        done = await self._parts.deliverer.drain((await _read(request, Drain)).seconds)
        return _json({"drained": done})

    async def resend(self, request: Request) -> Response:
        """Send events again."""
        asked = msgspec.convert(dict(request.query_params), Resend)
        return _json({"sent": self._stripe.resend(asked.event, asked.type, asked.payment_intent, asked.payment_id)})

    async def forget_keys(self, request: Request) -> Response:
        """Forget idempotency keys."""
        age = msgspec.convert(request.query_params.get("older_than_seconds", "0"), int, strict=False)
        return _json({"pruned": self._stripe.keys.prune(self._parts.clock.now(), age)})

    async def expire(self, request: Request) -> Response:
        """A hold runs out."""
        call = self._stripe.call()
        intent = self._stripe.account.intents.expire(request.path_params["id"], call)
        self._stripe.outbox.publish(call.events)
        return _json({"id": intent.id, "status": intent.status})

    async def settle_refund(self, request: Request) -> Response:
        """A refund ends."""
        outcome = msgspec.convert(request.query_params.get("outcome"), Outcome)
        succeeded = outcome is Outcome.SUCCESS
        refund = self._stripe.account.refunds.settle(request.path_params["id"], succeeded=succeeded)
        return _json({"id": refund.id, "status": refund.status}) if refund else _json({}, 404)

    async def dispute(self, request: Request) -> Response:
        """A cardholder disputes a charge."""
        asked = await _read(request, Disputed)
        dispute = self._stripe.account.disputes.open(request.path_params["id"], asked.reason, inquiry=asked.inquiry)
        return _json({"id": dispute.id, "status": dispute.status})


def _query(request: Request) -> Query:
    return msgspec.convert(dict(request.query_params), Query)


async def _read(request: Request, kind: type[Asked]) -> Asked:
    return msgspec.json.decode(await request.body() or b"{}", type=kind)


def _guarded(handler: Handler) -> Handler:
    """What does not fit is a 400 with the reason."""

    async def guarded(request: Request) -> Response:
        try:
            return await handler(request)
        except msgspec.MsgspecError as error:
            return _json({"error": str(error)}, 400)
        except StripeError as error:
            return _json({"error": error.message}, error.status)

    return guarded


def _json(body: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")
