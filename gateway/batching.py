"""Many small database calls as few statements: what is asked while one statement runs goes into the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

MAX_BATCH: Final = 256
MAX_WAITING: Final = 10_000


class QueueFullError(RuntimeError):
    """More waits than can be served in time."""


class Batcher(Generic[Asked, Answer]):
    """Group commit: `run` gets up to `MAX_BATCH` items at once and returns one answer for each, in order.

    No timer: an item that finds nothing running goes at once, so that latency follows load. An exception of `run` goes
    to every caller of that batch. At most `lanes` statements run at a time.
    """

    def __init__(self, run: Callable[[Sequence[Asked]], Awaitable[Sequence[Answer]]], lanes: int = 1) -> None:
        self._run = run
        self._free = lanes
        self._waiting: list[tuple[Asked, asyncio.Future[Answer]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, item: Asked) -> Answer:
        """The answer to `item`. Raises what the statement raised, or QueueFullError."""
        if len(self._waiting) >= MAX_WAITING:
            raise QueueFullError(f"{MAX_WAITING} calls are waiting")
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._free:
            self._free -= 1
            self._start()
        return await future

    def _start(self) -> None:
        task = asyncio.get_running_loop().create_task(self._serve())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                await self._answer(batch)
        finally:
            self._free += 1

    async def _answer(self, batch: list[tuple[Asked, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._run([item for item, _ in batch])
        except Exception as error:  # whatever it is, it is the callers'
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)
