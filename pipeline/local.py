"""The whole system on one machine: the local stack, everything that must stand on it, and every process.

What a first start chooses (ports, secrets) is written to `<home>/local.env` with mode 0600 and used again by later
starts.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from time import monotonic, sleep
from typing import Final

import httpx
import psutil

from pipeline.run import PROCESSES
from pipeline.sealing import new_key
from pipeline.settings import PROJECT, Settings, home
from pipeline.stack.local import LocalStack
from pipeline.stack.process import free_ports
from pipeline.supervisor import Child, Supervisor, child

READY_SECONDS: Final = 90
ALL_SCOPES: Final = ("payments:read", "payments:write", "payments:refund", "webhooks:manage", "ops:replay")


class NotReadyError(RuntimeError):
    """The system did not come up. The message says what to look at."""


def environment() -> dict[str, str]:
    """What the processes see: this process's environment, and over it what the local home has chosen."""
    return {**os.environ, "PAYMENTS_HOME": str(home()), **_read(home() / "stack.env"), **_read(home() / "local.env")}


def choose() -> dict[str, str]:
    """Ports and secrets of the local system: those of earlier starts, and new ones for what they did not know yet."""
    path = home() / "local.env"
    known = _read(path)
    chosen = known or _first_choice()
    chosen = {**_adyen(chosen), **_paypal(chosen), **_to_merchants(), **_clock(chosen), **chosen}
    if chosen != known:  # also where an earlier version chose
        _write(path, chosen)
    return chosen


def _to_merchants() -> dict[str, str]:
    """Webhooks to merchants: a key of this home's own, and receivers on this machine."""
    return {
        "PAYMENTS_WEBHOOK_SECRET_KEYS": new_key(),
        "PAYMENTS_WEBHOOK_ALLOW_HTTP": "true",
        "PAYMENTS_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8,::1/128",
    }


def _clock(chosen: dict[str, str]) -> dict[str, str]:
    """A clock of this home's own, that can be put forward; none where a provider is real."""
    urls = [value for name, value in chosen.items() if name.endswith("_API_URL")]
    simulated = all(url.startswith("http://127.0.0.1:") for url in urls)
    return {"PAYMENTS_CLOCK_FILE": str(home() / "clock")} if simulated else {}


def _first_choice() -> dict[str, str]:
    gateway, simulator = free_ports(2)
    return {
        "PAYMENTS_GATEWAY_PORT": str(gateway),
        "PAYMENTS_STRIPE_API_URL": f"http://127.0.0.1:{simulator}",
        "PAYMENTS_STRIPE_API_KEY": f"sk_test_{secrets.token_hex(16)}",
        "PAYMENTS_STRIPE_RETURN_URL": f"http://127.0.0.1:{gateway}/docs",
        "PAYMENTS_RETRY_POLICY": str(PROJECT / "pipeline" / "policies" / "local.toml"),
        "PAYMENTS_STRIPE_WEBHOOK_SECRETS": f"whsec_{secrets.token_hex(24)}",
    }


def _adyen(chosen: dict[str, str]) -> dict[str, str]:
    """Adyen's part of the same simulator."""
    gateway = f"http://127.0.0.1:{chosen['PAYMENTS_GATEWAY_PORT']}"
    return {
        "PAYMENTS_ADYEN_API_URL": f"{chosen['PAYMENTS_STRIPE_API_URL']}/checkout",
        "PAYMENTS_ADYEN_API_KEY": f"adyen_{secrets.token_hex(16)}",
        "PAYMENTS_ADYEN_MERCHANT_ACCOUNT": "LocalMerchant",
        "PAYMENTS_ADYEN_REPORT_URL": f"{chosen['PAYMENTS_STRIPE_API_URL']}/reports/download",
        "PAYMENTS_ADYEN_RETURN_URL": f"{gateway}/return/adyen/{{payment_id}}",
        "PAYMENTS_ADYEN_WEBHOOK_HMAC_KEYS": secrets.token_hex(32),
        "PAYMENTS_ADYEN_WEBHOOK_USERNAME": "adyen",
        "PAYMENTS_ADYEN_WEBHOOK_PASSWORD": secrets.token_hex(16),
    }


def _paypal(chosen: dict[str, str]) -> dict[str, str]:
    """PayPal's part of the same simulator: its webhooks are signed by an authority of this home's own."""
    simulator = chosen["PAYMENTS_STRIPE_API_URL"]
    gateway = f"http://127.0.0.1:{chosen['PAYMENTS_GATEWAY_PORT']}"
    return {
        "PAYMENTS_PAYPAL_API_URL": simulator,
        "PAYMENTS_PAYPAL_CLIENT_ID": f"A{secrets.token_hex(16)}",
        "PAYMENTS_PAYPAL_CLIENT_SECRET": f"E{secrets.token_hex(24)}",
        "PAYMENTS_PAYPAL_REPORT_DAYS": "0",
        "PAYMENTS_PAYPAL_RETURN_URL": f"{gateway}/return/paypal/{{payment_id}}",
        "PAYMENTS_PAYPAL_WEBHOOK_IDS": secrets.token_hex(8).upper(),
        "PAYMENTS_PAYPAL_CERTIFICATE_ORIGINS": simulator,
        "PAYMENTS_PAYPAL_CERTIFICATE_ROOTS": str(home() / "paypal-root.pem"),
    }


def prepare(settings: Settings) -> None:
    """Put on the stack what the processes stand on: tables, contracts, topics, the outbox relay. Idempotent."""
    from connectors.kafka_connect import connector  # noqa: PLC0415 - only where the system is set up
    from connectors.postgres import migrate  # noqa: PLC0415
    from pipeline import admin  # noqa: PLC0415

    migrate.upgrade(settings)
    admin.register_schemas(settings)
    admin.apply_topics(settings)
    connector.apply(settings)


def children(names: Iterable[str] = tuple(PROCESSES), simulator: bool = True) -> list[Child]:
    """The processes to supervise, and the provider simulator where the local system has no real provider."""
    logs = home() / "logs"
    found = [child(name, logs) for name in names]
    return [_simulator(logs), *found] if simulator else found


def is_simulated() -> bool:
    """Whether the provider is the local simulator."""
    return current_settings().stripe_api_url.startswith("http://127.0.0.1:")


def supervise(names: Iterable[str] = tuple(PROCESSES), simulator: bool = True) -> None:
    """Run the processes in the foreground until SIGTERM or SIGINT."""
    _pid_file().write_text(str(os.getpid()))
    try:
        Supervisor(children(names, simulator), environment()).run()
    finally:
        _pid_file().unlink(missing_ok=True)


def up(say: Callable[[str], None]) -> Settings:
    """Bring everything up and leave it running; finds what runs already. Raises NotReadyError."""
    LocalStack(home()).up()
    choose()
    settings = current_settings()
    if running() is None:
        say("preparing tables, contracts, topics and the outbox relay")
        prepare(settings)
        say("starting the processes")
        _spawn()
    wait_ready(settings)
    return settings


def down(wipe: bool = False) -> None:
    """Stop the processes, then the stack; with `wipe`, forget all data."""
    supervisor = running()
    if supervisor is not None:
        supervisor.send_signal(signal.SIGTERM)
        psutil.wait_procs([supervisor], timeout=30)
    LocalStack(home()).down(wipe=wipe)
    if wipe:
        (home() / "local.env").unlink(missing_ok=True)
        (home() / "clock").unlink(missing_ok=True)


def running() -> psutil.Process | None:
    """The supervisor, if it runs."""
    try:
        process = psutil.Process(int(_pid_file().read_text()))
        ours = "supervise" in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, ValueError, psutil.Error):
        return None
    return process if ours else None


def current_settings() -> Settings:
    """Settings from the home as it is now."""
    return Settings(_env_file=(home() / "stack.env", home() / "local.env"))


def wait_ready(settings: Settings, seconds: float = READY_SECONDS) -> None:
    """Wait until the gateway says that all it stands on is there. Raises NotReadyError."""
    url, deadline = f"http://{settings.gateway_host}:{settings.gateway_port}/ready", monotonic() + seconds
    said = "it does not answer"
    while monotonic() < deadline:
        try:
            answer = httpx.get(url, timeout=2)
        except httpx.HTTPError:
            sleep(0.2)
            continue
        if answer.is_success:
            return
        said = answer.text
        sleep(0.2)
    raise NotReadyError(f"the gateway is not ready after {seconds:.0f} s ({said}); see {home() / 'logs'}")


def _spawn() -> None:
    """Start the supervisor detached; its word goes to logs/supervisor.log."""
    log = home() / "logs" / "supervisor.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        subprocess.Popen(
            [sys.executable, "-m", "pipeline.cli", "supervise"],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment(),
            start_new_session=True,
        )


def _simulator(logs: Path) -> Child:
    from connectors.stripe.webhook import ACTED_ON  # noqa: PLC0415 - only where the system is set up

    chosen = choose()
    port = chosen["PAYMENTS_STRIPE_API_URL"].rsplit(":", 1)[1]
    webhooks = f"http://127.0.0.1:{chosen['PAYMENTS_GATEWAY_PORT']}/webhooks"
    command = [sys.executable, "-m", "connectors.simulator", "--refuse-removed"]
    command += ["--port", port, "--webhook-url", f"{webhooks}/stripe", "--events", ",".join(sorted(ACTED_ON))]
    command += ["--adyen-webhook-url", f"{webhooks}/adyen", "--adyen-multiple-captures"]
    command += ["--paypal-webhook-url", f"{webhooks}/paypal"]
    command += ["--paypal-root-certificate", chosen["PAYMENTS_PAYPAL_CERTIFICATE_ROOTS"]]
    return Child("simulator", command, logs / "simulator.log")


def _pid_file() -> Path:
    return home() / "supervisor.pid"


def _read(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    return dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line and line[0] != "#")


def _write(path: Path, values: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.writelines(f"{name}={value}\n" for name, value in values.items())
