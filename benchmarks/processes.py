"""What each process of the system used: CPU seconds and resident memory, by name."""

from __future__ import annotations

from dataclasses import dataclass

import psutil

_JAVA = {"kafka.Kafka": "kafka (java)", "ConnectDistributed": "connect (java)", "quarkus-run.jar": "registry (java)"}


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds since the process began, and resident memory in MiB."""

    cpu: float
    memory: float


def usage(home: str) -> dict[str, Usage]:
    """The processes of the system that runs under `home`, Postgres' together."""
    found: dict[str, Usage] = {}
    for process in psutil.process_iter(["cmdline", "environ", "memory_info", "cpu_times", "name"]):
        name = _name(process.info, home)
        if name is None:
            continue
        times, before = process.info["cpu_times"], found.get(name, Usage(0.0, 0.0))
        memory = process.info["memory_info"].rss / 2**20
        found[name] = Usage(before.cpu + times.user + times.system, max(before.memory, memory))
    return found


def _name(info: dict[str, object], home: str) -> str | None:
    command, environment = info["cmdline"] or [], info["environ"] or {}
    line = " ".join(command) if isinstance(command, list) else ""
    if isinstance(environment, dict) and environment.get("PAYMENTS_HOME") == home and isinstance(command, list):
        if "pipeline.run" in command:
            return str(command[-1])
        if "connectors.simulator" in command:
            return "simulator"
    if info["name"] == "postgres":
        return "postgres"
    if home in line or (isinstance(environment, dict) and environment.get("PAYMENTS_HOME") == home):
        return next((name for main, name in _JAVA.items() if main in line), None)
    return None
