"""Group commit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from gateway import batching
from gateway.batching import Batcher, QueueFullError


async def test_what_is_asked_while_a_statement_runs_goes_into_the_next() -> None:
    batches: list[list[int]] = []
    gate = asyncio.Event()

    async def run(batch: Sequence[int]) -> Sequence[int]:
        batches.append(list(batch))
        await gate.wait()
        return [item * 10 for item in batch]

    batcher = Batcher(run)
    asked = [asyncio.create_task(batcher.ask(1))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asked += [asyncio.create_task(batcher.ask(number)) for number in range(2, 400)]
    await asyncio.sleep(0)
    gate.set()
    assert await asyncio.gather(*asked) == [number * 10 for number in range(1, 400)]
    assert [len(batch) for batch in batches] == [1, batching.MAX_BATCH, 398 - batching.MAX_BATCH]


async def test_an_error_is_every_callers_of_the_batch_and_of_no_other() -> None:
    async def run(batch: Sequence[int]) -> Sequence[int]:
        if 1 in batch:
            raise ValueError("no")
        return batch

    batcher = Batcher(run)
    results = await asyncio.gather(batcher.ask(1), batcher.ask(2), return_exceptions=True)
    assert all(isinstance(result, ValueError) for result in results)
    assert await batcher.ask(3) == 3


async def test_a_caller_that_gave_up_is_in_nobodys_way() -> None:
    async def run(batch: Sequence[int]) -> Sequence[int]:
        await asyncio.sleep(0.01)
        return batch

    batcher = Batcher(run)
    gone = asyncio.create_task(batcher.ask(1))
    stays = asyncio.create_task(batcher.ask(2))
    await asyncio.sleep(0.001)
    gone.cancel()
    assert await stays == 2


async def test_the_queue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "MAX_WAITING", 2)

    async def run(batch: Sequence[int]) -> Sequence[int]:
        await asyncio.sleep(0.05)
        return batch

    batcher = Batcher(run)
    first = [asyncio.create_task(batcher.ask(number)) for number in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFullError):
        await asyncio.gather(*(batcher.ask(number) for number in range(3)))
    await asyncio.gather(*first, return_exceptions=True)
