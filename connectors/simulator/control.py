"""The API under /_sim/, for tests, demo and benchmark. JSON in, JSON out; it is no part of any provider.

GET    /_sim/health                     {"status": "ok"}
POST   /_sim/reset                      forget everything: objects, keys, faults, book, statistics, deliveries
GET    /_sim/book                       a page for each payment at a provider; ?provider= &payment_id= &reference=
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
POST   /_sim/webhooks/resend            ?provider= &payment_id= &event= &type= &reference= -> {"sent"}
DELETE /_sim/keys                       forget idempotency keys; ?older_than_seconds= (default 0: all)

What only one provider has stands in its own package (stripe/control.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from connectors.simulator.answering import Handler, answer, guarded, read
from connectors.simulator.book import By, Query
from connectors.simulator.faults import Fault
from connectors.simulator.parts import Parts
from connectors.simulator.service import Resend, Service


class Advance(msgspec.Struct, forbid_unknown_fields=True):
    """Let time pass."""

    advance_seconds: int


class Drain(msgspec.Struct, forbid_unknown_fields=True):
    """Wait for deliveries."""

    seconds: float = 10.0


class Control:
    """The handlers."""

    def __init__(self, parts: Parts, services: Sequence[Service]) -> None:
        self._parts = parts
        self._services = services

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
        ]
        return [Route(path, guarded(handler), methods=[method]) for method, path, handler in table]

    async def health(self, _request: Request) -> Response:
        """It runs."""
        return answer({"status": "ok"})

    async def reset(self, _request: Request) -> Response:
        """As at the start."""
        parts = self._parts
        parts.deliverer.reset()
        parts.faults.clear()
        parts.book.reset()
        parts.stats.reset()
        parts.clock.reset()
        for service in self._services:
            service.reset()
        return answer({})

    async def book(self, request: Request) -> Response:
        """What was really done, by payment at a provider."""
        query = _query(request)
        return answer([page for service in self._chosen(query.provider) for page in service.pages(query)])

    async def sums(self, request: Request) -> Response:
        """What was really done, by payment, reference or idempotency key."""
        asked = dict(request.query_params)
        by = msgspec.convert(asked.pop("by", By.PAYMENT_ID.value), By)
        return answer(self._parts.book.sums(msgspec.convert(asked, Query), by))

    async def entries(self, request: Request) -> Response:
        """What was really done, one by one."""
        return answer([msgspec.structs.asdict(entry) for entry in self._parts.book.entries(_query(request))])

    async def stats(self, _request: Request) -> Response:
        """How it went."""
        parts = self._parts
        return answer(
            {**parts.stats.report(), **parts.deliverer.counts(), **{s.name: s.counts() for s in self._services}}
        )

    async def reset_stats(self, _request: Request) -> Response:
        """Count anew."""
        self._parts.stats.reset()
        return answer({})

    async def add_fault(self, request: Request) -> Response:
        """Something will go wrong."""
        return answer({"id": self._parts.faults.add(await read(request, Fault))}, 201)

    async def list_faults(self, _request: Request) -> Response:
        """What goes wrong."""
        return answer({"faults": self._parts.faults.report()})

    async def clear_faults(self, _request: Request) -> Response:
        """Nothing goes wrong any more."""
        self._parts.faults.clear()
        return answer({})

    async def remove_fault(self, request: Request) -> Response:
        """One thing less goes wrong."""
        found = self._parts.faults.remove(request.path_params["id"])
        return answer({}, 200 if found else 404)

    async def advance(self, request: Request) -> Response:
        """Time passes."""
        self._parts.clock.advance((await read(request, Advance)).advance_seconds)
        return answer({"now": self._parts.clock.now()})

    async def deliveries(self, _request: Request) -> Response:
        """How the webhooks fare."""
        return answer(self._parts.deliverer.report())

    async def drain(self, request: Request) -> Response:
        """Wait until no webhook is on its way."""
        done = await self._parts.deliverer.drain((await read(request, Drain)).seconds)
        return answer({"drained": done})

    async def resend(self, request: Request) -> Response:
        """Send events again."""
        asked = msgspec.convert(dict(request.query_params), Resend)
        return answer({"sent": sum(service.resend(asked) for service in self._chosen(asked.provider))})

    async def forget_keys(self, request: Request) -> Response:
        """Forget idempotency keys."""
        age = msgspec.convert(request.query_params.get("older_than_seconds", "0"), int, strict=False)
        return answer({"pruned": sum(service.forget_keys(age) for service in self._services)})

    def _chosen(self, provider: str | None) -> Iterator[Service]:
        return (service for service in self._services if provider in (None, service.name))


def _query(request: Request) -> Query:
    return msgspec.convert(dict(request.query_params), Query)
