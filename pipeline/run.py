"""`python -m pipeline.run <process>`: one process of the system. Each imports only what it needs, to stay small."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Final

from pipeline import clock
from pipeline.settings import Settings, settings
from pipeline.topics import PROVIDERS

PROCESSES: Final[dict[str, str]] = {
    "intake": "topologies.intake:run",
    "authorization": "topologies.authorization:run",
    "capture": "topologies.capture:run",
    "retry": "topologies.retry:run",
    "routing": "topologies.routing:run",
    "ledger": "topologies.ledger:run",
    "settlement": "topologies.settlement:run",
    "reports": "topologies.reports:run",
    "fetcher": "connectors.settlement.fetcher:run",
    "clearing": "topologies.clearing:run",
    "relay": "topologies.timer_relay:run",
    **{f"worker-{provider}": "connectors.worker:run" for provider in PROVIDERS},
    "sink": "connectors.postgres.sink:run",
    "reconciler": "connectors.postgres.reconciler:run",
    "webhooks": "connectors.webhooks.process:run",
    "gateway": "gateway.server:run",
}
"""Every process by name, and what runs it."""


def load(name: str) -> Callable[[Settings], None]:
    """The function that runs a process until it is told to stop. Raises KeyError for a name that is not in
    PROCESSES.
    """
    module, function = PROCESSES[name].split(":")
    run: Callable[..., None] = getattr(import_module(module), function)
    if name.startswith("worker-"):
        return partial(run, provider=name.removeprefix("worker-"))
    return run


def main() -> None:
    """Run the process that the command line names."""
    if len(sys.argv) != 2 or sys.argv[1] not in PROCESSES:
        sys.exit(f"usage: python -m pipeline.run {{{','.join(PROCESSES)}}}")
    name = sys.argv[1]
    from pipeline.logging import configure  # noqa: PLC0415 - after the usage check

    configure(name)
    clock.follow(settings().clock_file, loud=True)
    load(name)(settings())


if __name__ == "__main__":
    main()
