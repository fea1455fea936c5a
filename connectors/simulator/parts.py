"""What all simulated providers share."""

from __future__ import annotations

from dataclasses import dataclass

from connectors.simulator.book import Book
from connectors.simulator.clock import Clock
from connectors.simulator.faults import Faults
from connectors.simulator.ids import Ids
from connectors.simulator.stats import Stats
from connectors.simulator.webhooks import Deliverer


@dataclass(frozen=True, slots=True)
class Parts:
    """One of each for the process."""

    book: Book
    faults: Faults
    stats: Stats
    clock: Clock
    ids: Ids
    deliverer: Deliverer
