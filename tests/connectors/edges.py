"""A provider's edge over its simulator, as the contract asks for it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from connectors.provider import Answer, Provider
from connectors.transport import Timeouts
from pipeline.messages.requests import ProviderRequest
from pipeline.messages.values import Operation, Outcome
from tests.connectors import requests
from tests.connectors.contract import AMOUNT, Books, Method, Trouble
from tests.connectors.simulators import Simulator

FAST = Timeouts(connect=1.0, read=0.7, total=1.5)
LOST = (Trouble.TIMEOUT_AFTER, Trouble.RESET_AFTER, Trouble.TIMEOUT_BEFORE, Trouble.DOWN)
"""What loses a call, or the answer to it."""


class Switch:
    """A provider, and the same behind a port where nobody listens."""

    def __init__(self, up: Provider, down: Provider) -> None:
        self.name = up.name
        self.up, self.down, self.is_down = up, down, False

    async def call(self, request: ProviderRequest) -> Answer:
        return await (self.down if self.is_down else self.up).call(request)

    async def close(self) -> None:
        await self.up.close()
        await self.down.close()


class SimulatedEdge:
    """One provider under test. `settle`: let what was only accepted be decided."""

    def __init__(
        self,
        provider: Switch,
        simulator: Simulator,
        tokens: Mapping[Method, str],
        later: frozenset[Operation] = frozenset(),
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        self.provider = provider
        self.simulator = simulator
        self.later = later
        self._tokens = tokens
        self._settle = settle

    def token(self, method: Method) -> str:
        return self._tokens[method]

    def trouble(self, trouble: Trouble, operation: Operation) -> None:
        self.provider.is_down = trouble is Trouble.DOWN
        if trouble is Trouble.NONE:
            self.simulator.heal()
        elif trouble is not Trouble.DOWN:
            self.simulator.fault(trouble.value, operation.value, seconds=1.0)

    def books(self, payment_id: str) -> Books:
        self._settle()
        pages = self.simulator.book(payment_id)
        return Books(
            sum(page["authorized"] for page in pages),
            sum(page["captured"] for page in pages),
            sum(page["refunded"] for page in pages),
        )


@asynccontextmanager
async def switch(at: Callable[[str], Provider], sim: Simulator) -> AsyncIterator[Switch]:
    """The provider `at` the simulator's URL, and at a port where nobody listens; the simulator is healed after it."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        made = Switch(at(sim.url), at(f"http://127.0.0.1:{nobody.getsockname()[1]}"))
        yield made
        await made.close()
    sim.heal()


async def patiently(edge: SimulatedEdge, request: ProviderRequest) -> Answer:
    """As the worker does: again, while the provider says that the first call is still under way."""
    for _ in range(20):
        answer = await edge.provider.call(request)
        if not answer.repeat:
            return answer
        await asyncio.sleep(0.1)
    raise AssertionError("still under way")


async def check_a_repeat(edge: SimulatedEdge, trouble: Trouble) -> None:
    """What a crash or a look-up that found nothing does: the same request again, under the same key, charges once."""
    request = requests.authorize(edge.token(Method.GOOD), AMOUNT, manual=False, provider=edge.provider.name)
    edge.trouble(trouble, Operation.AUTHORIZE)
    first = await edge.provider.call(request)
    edge.trouble(Trouble.NONE, Operation.AUTHORIZE)
    again = [await patiently(edge, request) for _ in range(3)]
    assert first.outcome in {Outcome.UNKNOWN, Outcome.TEMPORARY_FAILURE}
    assert {answer.outcome for answer in again} == {Outcome.APPROVED}
    assert len({answer.provider_reference for answer in again}) == 1
    assert edge.books(request.payment_id) == Books(AMOUNT, AMOUNT)
    assert len(edge.simulator.book(request.payment_id)) == 1


async def check_an_early_repeat(edge: SimulatedEdge) -> None:
    """One that comes while the first call is under way waits for its answer."""
    request = requests.authorize(edge.token(Method.GOOD), provider=edge.provider.name)
    edge.simulator.fault("latency", "authorize", seconds=0.4)
    first = asyncio.create_task(edge.provider.call(request))
    await asyncio.sleep(0.1)
    second = await edge.provider.call(request)
    assert (second.outcome, second.repeat) == (Outcome.UNKNOWN, True)
    assert (await first).outcome is Outcome.APPROVED
    assert (await edge.provider.call(request)).outcome is Outcome.APPROVED
    assert len(edge.simulator.book(request.payment_id)) == 1
