"""`Prefer: wait=N` (RFC 7240, section 4.3): requests that wait for the outcome of their command.

One connection listens to the sink's notifications; each wake-up asks for the outcomes of all waiting requests in one
statement. A missed notification costs at most a second.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final

import psycopg
import structlog
from starlette.requests import Request

from gateway.database import Database
from gateway.payments import Outcome, Payments, Target
from gateway.problems import Problem
from pipeline.messages.commands import SetMethod

log = structlog.get_logger()

CHANNEL: Final = "payments_sink"
MAX_SECONDS: Final = 30
_POLL_SECONDS: Final = 1.0
_GATHER_SECONDS: Final = 0.005
_RETRY_SECONDS: Final = 1.0
_WAIT: Final = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?([0-9]{1,9})\"?\s*(?=$|[,;])", re.IGNORECASE | re.ASCII)

Wanted = tuple[Target, str]


def preferred_wait(request: Request) -> int:
    """Seconds that the client would wait, at most `MAX_SECONDS`; 0 without the preference. A preference that is not
    understood is ignored, as RFC 7240 wants.
    """
    match = _WAIT.search(",".join(request.headers.getlist("prefer")))
    return min(int(match[1]), MAX_SECONDS) if match else 0


class Expectation:
    """One request's wait for the outcome of its command: entered before the command is produced, so that no
    notification is missed.
    """

    def __init__(self, waits: Waits, target: Target, operation_id: str, kind: str) -> None:
        self.wanted: Wanted = (target, operation_id)
        self._waits = waits
        self._kind = kind
        self._latest: Outcome | None = None
        self._done = asyncio.Event()

    def __enter__(self) -> Expectation:
        self._waits.enter(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._waits.leave(self)

    async def outcome(self, seconds: float) -> Outcome | None:
        """The outcome, as soon as it is settled; after `seconds` (or when the gateway ends) what is known by then."""
        try:
            async with asyncio.timeout(seconds):
                await self._done.wait()
        except TimeoutError:
            pass
        return self._latest

    def tell(self, outcome: Outcome) -> None:
        """Take news of the operation. An authorization that brings a method first sets it, under its own id: that is
        not its outcome.
        """
        if outcome.operation.kind == SetMethod.__name__ != self._kind:
            return
        self._latest = outcome
        if outcome.settled:
            self._done.set()

    def give_up(self) -> None:
        """Wait no longer."""
        self._done.set()


class Waits:
    """The requests that wait, by operation."""

    def __init__(self, database: Database, payments: Payments) -> None:
        self._database = database
        self._payments = payments
        self._waiting: dict[Wanted, Expectation] = {}
        self._task: asyncio.Task[None] | None = None
        self._draining = False

    def start(self) -> None:
        """Begin listening."""
        self._task = asyncio.get_running_loop().create_task(self._listen_for_ever())

    def drain(self) -> None:
        """Let everybody go with what is known: the process is about to end."""
        self._draining = True
        for expectation in self._waiting.values():
            expectation.give_up()

    async def stop(self) -> None:
        """Stop listening."""
        self.drain()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def expect(self, target: Target, operation_id: str, kind: str) -> Expectation:
        """A wait for the outcome of the command `operation_id`, whose record is named `kind`."""
        return Expectation(self, target, operation_id, kind)

    def __len__(self) -> int:
        return len(self._waiting)

    def enter(self, expectation: Expectation) -> None:
        """Count it in. A command's row lets one request at a time carry it out, so the operation is no other's."""
        self._waiting[expectation.wanted] = expectation
        if self._draining:
            expectation.give_up()

    def leave(self, expectation: Expectation) -> None:
        """Count it out."""
        self._waiting.pop(expectation.wanted, None)

    async def _listen_for_ever(self) -> None:
        while True:
            try:
                await self._listen()
            except (psycopg.Error, Problem, OSError, TimeoutError) as error:
                log.warning("waiting requests cannot be told", error=type(error).__name__)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _listen(self) -> None:
        async with self._database.listening(CHANNEL) as connection:
            while True:
                async for _ in connection.notifies(timeout=_POLL_SECONDS, stop_after=1):
                    pass
                if self._waiting:
                    await self._tell()
                    await asyncio.sleep(_GATHER_SECONDS)

    async def _tell(self) -> None:
        outcomes = await self._payments.outcomes(list(self._waiting))
        for wanted, outcome in outcomes.items():
            expectation = self._waiting.get(wanted)
            if expectation is not None:
                expectation.tell(outcome)
