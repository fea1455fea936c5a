"""What happens without an API request, and what happens later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from connectors.simulator.stripe.objects import Event


class Schedule:
    """Runs things later, and publishes the events of what nobody's call has caused."""

    def __init__(self, publish: Callable[[Sequence[Event]], None]) -> None:
        self.publish = publish

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        """Do it when the time has come. What it is about may be gone by then: after a reset."""
        asyncio.get_running_loop().call_later(seconds, what)
