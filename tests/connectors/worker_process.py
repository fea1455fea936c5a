"""A worker as a process of its own: `python -m tests.connectors.worker_process NAME URL`, for tests that kill it.

It is Stripe's edge under a name, topic and consumer group of the test's own.
"""

from __future__ import annotations

import sys

import uvloop

from connectors.stripe.client import StripeProvider
from connectors.worker import serve
from pipeline.logging import configure
from pipeline.settings import Settings
from tests.connectors.simulators import KEY


async def main(name: str, url: str) -> None:
    settings = Settings(_env_file=None)
    provider = StripeProvider(url, KEY, connections=settings.provider_concurrency)
    provider.name = name
    await serve(settings, provider)


if __name__ == "__main__":
    configure("worker-under-test")
    uvloop.run(main(sys.argv[1], sys.argv[2]))
