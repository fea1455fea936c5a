"""The whole system, as `payments up` leaves it running, under a home of the test run's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import psutil
import psycopg
import pytest

from gateway.keys import create_key
from pipeline.settings import PROJECT, Settings

MERCHANT = "acme"


@dataclass(frozen=True)
class System:
    """A running system and ways to look at it."""

    home: Path
    settings: Settings
    key: str

    @property
    def base(self) -> str:
        """The API's address."""
        return f"http://{self.settings.gateway_host}:{self.settings.gateway_port}/api/v1"

    def client(self, **options: Any) -> httpx.Client:
        """A merchant's client."""
        return httpx.Client(base_url=self.base, headers={"Authorization": f"Bearer {self.key}"}, timeout=40, **options)

    def query(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Rows, as the reader role sees them."""
        with psycopg.connect(self.settings.reveal("postgres_reader_url")) as connection:
            return connection.execute(statement.encode(), parameters).fetchall()

    def book(self, payments: list[str]) -> list[dict[str, Any]]:
        """The provider's own pages on these payments."""
        pages = httpx.get(f"{self.settings.stripe_api_url}/_sim/book", timeout=20).json()
        return [page for page in pages if page["payment_id"] in payments]

    def simulator(self) -> httpx.Client:
        """The provider simulator's controls."""
        return httpx.Client(base_url=self.settings.stripe_api_url, timeout=20)

    def process(self, name: str) -> psutil.Process:
        """A process of the system by its name. Raises LookupError."""
        for process in psutil.process_iter(["cmdline", "environ"]):
            command, environment = process.info["cmdline"] or [], process.info["environ"] or {}
            if environment.get("PAYMENTS_HOME") == str(self.home) and command[-2:] == ["pipeline.run", name]:
                return process
        raise LookupError(name)

    def service(self, name: str) -> psutil.Process:
        """A service of the stack by its name."""
        return psutil.Process(json.loads((self.home / "run" / f"{name}.json").read_text())["pid"])

    def command(self, *arguments: str) -> str:
        """What `payments ...` says; it must succeed."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"payments {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `payments ...`."""
        environment = {**os.environ, "PAYMENTS_HOME": str(self.home), "COLUMNS": "200"}
        return subprocess.run(
            [sys.executable, "-m", "pipeline.cli", *arguments],
            cwd=PROJECT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )


@pytest.fixture(scope="package")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The system, up; gone afterwards, with every process and all data."""
    with running(tmp_path_factory.mktemp("system")) as made:
        yield made


@contextmanager
def running(home: Path) -> Iterator[System]:
    """A system under that home. Tests that count all there is in the books need one of their own."""
    bare = System(home, Settings(_env_file=None), "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAYMENTS_PARTITIONS", "3")
        try:
            bare.command("up")
            settings = Settings(_env_file=(home / "stack.env", home / "local.env"))
            yield System(home, settings, create_key(settings.reveal("postgres_gateway_url"), MERCHANT))
        finally:
            bare.command("down", "--wipe")


def until(true: Any, what: str, seconds: float = 60) -> None:
    """Wait for something to be so."""
    deadline = monotonic() + seconds
    while not true():
        assert monotonic() < deadline, f"not so after {seconds:.0f} s: {what}"
        sleep(0.1)
