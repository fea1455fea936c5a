"""Kafka Connect, distributed mode with one worker, Debezium as its only plugin, exactly-once sources."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from pipeline.stack import java
from pipeline.stack.jars import classpath
from pipeline.stack.process import Service

HEAP_MIB: Final = 384


@dataclass(frozen=True, slots=True)
class Connect:
    """The worker's files, port and process."""

    service: Service
    home: Path
    jars: list[Path]
    plugin_jars: list[Path]
    bootstrap: str
    port: int

    @property
    def url(self) -> str:
        """Its REST API."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it with the plugin folder laid out as Connect expects it."""
        self._lay_out_plugin()
        properties = self.home / "worker.properties"
        properties.write_text("".join(f"{name}={value}\n" for name, value in self._settings().items()))
        log4j = self.home.parent / "kafka" / "log4j2.yaml"
        flags = (f"-Dlog4j2.configurationFile={log4j}", "-cp", classpath(self.jars))
        main = "org.apache.kafka.connect.cli.ConnectDistributed"
        self.service.start([*java.command(HEAP_MIB, *flags), main, str(properties)])

    def wait(self) -> None:
        """Wait until it knows the Debezium plugin."""
        self.service.wait(self._knows_debezium, 90)

    def stop(self) -> None:
        """Stop it."""
        self.service.stop(20)

    def _knows_debezium(self) -> bool:
        try:
            plugins = httpx.get(f"{self.url}/connector-plugins", timeout=5)
        except httpx.HTTPError:
            return False
        return plugins.is_success and "PostgresConnector" in plugins.text

    def _lay_out_plugin(self) -> None:
        """Links, not copies: the jars stay in the cache."""
        folder = self.home / "plugins" / "debezium"
        folder.mkdir(parents=True, exist_ok=True)
        for jar in self.plugin_jars:
            link = folder / jar.name
            if not link.exists():
                link.unlink(missing_ok=True)
                os.symlink(jar, link)

    def _settings(self) -> dict[str, str]:
        converter = "org.apache.kafka.connect.converters.ByteArrayConverter"
        return {
            "bootstrap.servers": self.bootstrap,
            "group.id": "connect",
            "listeners": self.url.replace("http", "HTTP", 1),
            "plugin.path": str(self.home / "plugins"),
            "plugin.discovery": "service_load",
            "key.converter": converter,
            "value.converter": converter,
            "exactly.once.source.support": "enabled",
            "config.storage.topic": "connect.configs",
            "offset.storage.topic": "connect.offsets",
            "status.storage.topic": "connect.status",
            "config.storage.replication.factor": "1",
            "offset.storage.replication.factor": "1",
            "status.storage.replication.factor": "1",
            "offset.storage.partitions": "1",
            "status.storage.partitions": "1",
            "offset.flush.interval.ms": "5000",
            "scheduled.rebalance.max.delay.ms": "0",
        }
