"""A simulated account's events on their way out: kept, so that they can be sent again, and sent."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from connectors.simulator.faults import Fault
from connectors.simulator.webhooks import Deliverer, Delivery

Event = TypeVar("Event")


class Outbox(ABC, Generic[Event]):
    """Publishes events. What a provider's deliveries are like, its own outbox says."""

    def __init__(self, events: deque[Event], deliverer: Deliverer) -> None:
        self.events = events
        self._deliverer = deliverer

    @abstractmethod
    def _deliveries(self, events: Sequence[Event]) -> list[Delivery]:
        """The events as they are sent; none if nobody listens."""

    def publish(self, events: Sequence[Event], faults: Sequence[Fault] = ()) -> None:
        """Keep the events and send those that the endpoint has subscribed to."""
        if events:
            self._deliverer.send(self._kept(events, faults), faults)

    async def publish_before_answer(self, events: Sequence[Event], faults: Sequence[Fault]) -> None:
        """The same, and wait for those that are to come before the answer."""
        await self._deliverer.send_before_answer(self._kept(events, faults), faults)

    def resend(self, chosen: Callable[[Event], bool]) -> int:
        """Send again what is kept and chosen, whether it was sent before or not; how many."""
        deliveries = self._deliveries([event for event in self.events if chosen(event)])
        self._deliverer.send(deliveries)
        return len(deliveries)

    def reset(self) -> None:
        """Forget all."""
        self.events.clear()

    def _met(self, events: Sequence[Event], faults: Sequence[Fault]) -> Sequence[Event]:
        """The events as the faults have them."""
        return events

    def _kept(self, events: Sequence[Event], faults: Sequence[Fault]) -> list[Delivery]:
        met = self._met(events, faults)
        self.events.extend(met)
        return self._deliveries(met)
