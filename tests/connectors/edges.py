"""A provider's edge over its simulator, as the contract asks for it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from connectors.provider import Answer, Provider
from connectors.transport import Timeouts
from pipeline.messages.requests import ProviderRequest
from pipeline.messages.values import Operation
from tests.connectors.contract import Books, Method, Trouble
from tests.connectors.simulators import Simulator

FAST = Timeouts(connect=1.0, read=0.7, total=1.5)


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
