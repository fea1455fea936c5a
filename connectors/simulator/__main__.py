"""`python -m connectors.simulator --port 0 --webhook-url URL`; keys and secrets come from the environment."""

from __future__ import annotations

import argparse
import os
import socket

import uvicorn

from connectors.simulator.app import SimulatorSettings, create_app


def main() -> None:
    """Serve until SIGTERM or SIGINT. Port 0 chooses a free one; the address is printed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--webhook-url", help="where events go; none are sent without it")
    parser.add_argument("--events", help="comma-separated event types to send; default all")
    arguments = parser.parse_args()
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((arguments.host, arguments.port))
    url = f"http://{arguments.host}:{listener.getsockname()[1]}"
    print(f"listening on {url}", flush=True)
    app = create_app(
        SimulatorSettings(
            url=url,
            stripe_key=os.environ.get("PAYMENTS_STRIPE_API_KEY", "sk_test_sim"),
            stripe_webhook_secret=os.environ.get("PAYMENTS_STRIPE_WEBHOOK_SECRETS", "whsec_sim").split(",")[0],
            webhook_url=arguments.webhook_url,
            events=frozenset(arguments.events.split(",")) if arguments.events else None,
        )
    )
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
