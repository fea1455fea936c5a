"""Apicurio Registry, which speaks the Confluent registry's API. It keeps its schemas in our Postgres."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from pipeline.stack import java
from pipeline.stack.errors import StackError
from pipeline.stack.process import Service

HEAP_MIB: Final = 256
COMPATIBILITY: Final = "FULL_TRANSITIVE"


@dataclass(frozen=True, slots=True)
class Registry:
    """The registry's ports, database and process."""

    service: Service
    home: Path
    port: int
    management_port: int
    database_url: str

    @property
    def url(self) -> str:
        """Its Confluent-compatible API."""
        return f"http://127.0.0.1:{self.port}/apis/ccompat/v7"

    def start(self) -> None:
        """Start it."""
        flags = ("-XX:TieredStopAtLevel=1", "-jar", str(self.home / "quarkus-run.jar"))
        self.service.start(java.command(HEAP_MIB, *flags), self._environment())

    def wait(self) -> None:
        """Wait until it answers, and make its default compatibility ours (it is NONE)."""
        self.service.wait(self._answers, 90)
        done = httpx.put(f"{self.url}/config", json={"compatibility": COMPATIBILITY}, timeout=20)
        if done.is_error:
            raise StackError(f"the registry refuses {COMPATIBILITY}: {done.text}")

    def stop(self) -> None:
        """Stop it; its schemas are in Postgres."""
        self.service.stop(15)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/subjects", timeout=5).is_success
        except httpx.HTTPError:
            return False

    def _environment(self) -> dict[str, str]:
        url = urlsplit(self.database_url)
        return {
            "QUARKUS_HTTP_HOST": "127.0.0.1",
            "QUARKUS_HTTP_PORT": str(self.port),
            "QUARKUS_MANAGEMENT_HOST": "127.0.0.1",
            "QUARKUS_MANAGEMENT_PORT": str(self.management_port),
            "QUARKUS_LOG_LEVEL": "WARN",
            "APICURIO_STORAGE_KIND": "sql",
            "APICURIO_STORAGE_SQL_KIND": "postgresql",
            "APICURIO_DATASOURCE_URL": f"jdbc:postgresql://{url.hostname}:{url.port}{url.path}",
            "APICURIO_DATASOURCE_USERNAME": url.username or "",
            "APICURIO_DATASOURCE_PASSWORD": url.password or "",
        }
