"""One Kafka broker in KRaft mode, its own controller."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

from pipeline.stack import java
from pipeline.stack.errors import StackError
from pipeline.stack.jars import classpath
from pipeline.stack.process import Service, listens

HEAP_MIB: Final = 768


@dataclass(frozen=True, slots=True)
class Kafka:
    """The broker's files, ports and process."""

    service: Service
    home: Path
    jars: list[Path]
    port: int
    controller_port: int

    @property
    def bootstrap(self) -> str:
        """Where clients find it."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, formatting its storage the first time."""
        self._write_properties()
        if not (self.home / "data" / "meta.properties").exists():
            self._format()
        self.service.start(self._java("kafka.Kafka", str(self._properties)))

    def wait(self) -> None:
        """Wait until it accepts connections."""
        self.service.wait(lambda: listens(self.port), 60)

    def stop(self) -> None:
        """A controlled stop."""
        self.service.stop(30)

    @property
    def _properties(self) -> Path:
        return self.home / "server.properties"

    def _java(self, main: str, *arguments: str) -> list[str]:
        flags = (f"-Dlog4j2.configurationFile={_log4j(self.home)}", "-cp", classpath(self.jars), main)
        return [*java.command(HEAP_MIB, *flags), *arguments]

    def _format(self) -> None:
        format_storage = self._java(
            "kafka.tools.StorageTool",
            *("format", "--cluster-id", uuid4().hex[:22], "--config", str(self._properties), "--standalone"),
        )
        done = subprocess.run(format_storage, capture_output=True, text=True, check=False)
        if done.returncode:
            raise StackError(f"Kafka's storage at {self.home} cannot be formatted:\n{done.stdout}{done.stderr}")

    def _write_properties(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        controller = f"127.0.0.1:{self.controller_port}"
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.bootstrap.servers": controller,
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{controller}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self.home / "data"),
            # Topics are created by the catalogue alone: a misspelt one must fail, not appear.
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "num.network.threads": "2",
            "num.io.threads": "4",
            "log.retention.check.interval.ms": "300000",
        }
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))


def _log4j(home: Path) -> Path:
    """Warnings and worse to standard output, which is the service's log."""
    path = home / "log4j2.yaml"
    path.write_text(
        "Configuration:\n"
        "  Appenders:\n"
        "    Console:\n"
        "      name: out\n"
        "      PatternLayout:\n"
        "        pattern: '[%d] %p %m (%c)%n'\n"
        "  Loggers:\n"
        "    Root:\n"
        "      level: WARN\n"
        "      AppenderRef:\n"
        "        ref: out\n"
    )
    return path
