"""A worker as a process of its own: `python -m tests.connectors.worker_process NAME URL [SECONDS]`.

It is Stripe's edge under a name, topic and consumer group of the test's own, for tests that kill it. SECONDS is its
patience with a provider that is down.
"""

from __future__ import annotations

import sys

import uvloop

from connectors.stripe.client import StripeProvider
from connectors.worker import Pace, serve
from pipeline.logging import configure
from pipeline.settings import Settings
from tests.connectors.simulators import KEY


async def main(name: str, url: str, pace: Pace) -> None:
    settings = Settings(_env_file=None)
    provider = StripeProvider(url, KEY, connections=settings.provider_concurrency)
    provider.name = name
    await serve(settings, provider, pace)


if __name__ == "__main__":
    configure("worker-under-test")
    patience = float(sys.argv[3]) if len(sys.argv) > 3 else 20.0
    uvloop.run(main(sys.argv[1], sys.argv[2], Pace(patience=patience)))
