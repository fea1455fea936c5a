"""The stack as a whole: brought up, found again, taken down."""

from __future__ import annotations

import atexit
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep, time
from types import TracebackType
from typing import Any, Final

import psutil
from rich.progress import Progress

from pipeline.stack import jars
from pipeline.stack.connect import Connect
from pipeline.stack.errors import StackError
from pipeline.stack.kafka import Kafka
from pipeline.stack.postgres import REGISTRY_DATABASE, ROLES, Postgres, new_passwords
from pipeline.stack.process import Service, free_ports, listens
from pipeline.stack.registry import Registry

PORTS: Final = ("kafka", "controller", "postgres", "registry", "registry_management", "connect")
NEEDED_MIB: Final = 1024
PORT_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """What `payments stack status` says of a service."""

    name: str
    pid: int | None
    port: int
    uptime: float | None
    log: Path


@dataclass(slots=True)
class LocalStack:
    """A stack under one home folder. Ports and passwords are chosen once and remembered in `stack.json`."""

    home: Path
    say: Callable[[str], None] = lambda text: None
    _chosen: dict[str, Any] = field(default_factory=dict, init=False)

    def up(self) -> None:
        """Bring every service up; one that runs already is left alone. Raises StackError."""
        with _clear_words(self.home):
            self.home.mkdir(parents=True, exist_ok=True)
            _check_disk(self.home)
            self._remember()
            found = self._fetch()
            kafka, postgres = self.kafka(found), self.postgres()
            registry, connect = self.registry(found), self.connect(found)
            self._start(kafka, postgres)
            self._start(registry, connect)
            self._write_environment()

    def down(self, wipe: bool = False) -> None:
        """Stop every service, the ones that use others first; with `wipe`, delete their data."""
        if not self._file.exists():
            return
        self._remember()
        for name in ("connect", "registry"):
            self._service(name).stop(15)
        self._service("kafka").stop(30)
        self.postgres().stop()
        if wipe:
            self.postgres().forget()
            for name in ("kafka", "connect", "run", "logs", "state"):
                shutil.rmtree(self.home / name, ignore_errors=True)
            for name in ("stack.json", "stack.env"):
                (self.home / name).unlink(missing_ok=True)
            self._chosen = {}

    def status(self) -> list[ServiceStatus]:
        """Each service as it stands."""
        if not self._file.exists():
            return []
        self._remember()
        return [self._status(name) for name in ("kafka", "postgres", "registry", "connect")]

    def env(self) -> dict[str, str]:
        """The environment that the system's processes need, `PAYMENTS_*`."""
        self._remember()
        postgres = self.postgres()
        urls = {f"PAYMENTS_POSTGRES_{role.upper()}_URL": postgres.url(role) for role in (*ROLES, "admin")}
        return {
            "PAYMENTS_KAFKA_BOOTSTRAP": f"127.0.0.1:{self._port('kafka')}",
            "PAYMENTS_REGISTRY_URL": f"http://127.0.0.1:{self._port('registry')}/apis/ccompat/v7",
            "PAYMENTS_CONNECT_URL": f"http://127.0.0.1:{self._port('connect')}",
            **urls,
        }

    def __enter__(self) -> LocalStack:
        """A stack for as long as a block runs, gone afterwards whatever happens."""
        atexit.register(self.down, wipe=True)
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down(wipe=True)
        atexit.unregister(self.down)

    def kafka(self, found: dict[str, list[Path]]) -> Kafka:
        """The broker."""
        return Kafka(
            self._service("kafka"), self.home / "kafka", found["kafka"], self._port("kafka"), self._port("controller")
        )

    def postgres(self) -> Postgres:
        """The database server."""
        return Postgres(
            self._service("postgres"), self.home / "postgres", self._port("postgres"), self._chosen["passwords"]
        )

    def registry(self, found: dict[str, list[Path]]) -> Registry:
        """The schema registry."""
        return Registry(
            self._service("registry"),
            jars.registry_home(found["apicurio"][0]),
            self._port("registry"),
            self._port("registry_management"),
            self.postgres().url("owner", REGISTRY_DATABASE),
        )

    def connect(self, found: dict[str, list[Path]]) -> Connect:
        """The Connect worker."""
        return Connect(
            self._service("connect"),
            self.home / "connect",
            found["kafka"],
            found["debezium"],
            f"127.0.0.1:{self._port('kafka')}",
            self._port("connect"),
        )

    @property
    def _file(self) -> Path:
        return self.home / "stack.json"

    def _remember(self) -> None:
        """What was chosen at the first start, or a choice made now."""
        if self._chosen:
            return
        if self._file.exists():
            self._chosen = json.loads(self._file.read_text())
            self._complete()
            return
        ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self._chosen = {"ports": ports, "passwords": new_passwords()}
        _write_secret(self._file, json.dumps(self._chosen))

    def _complete(self) -> None:
        """A home that an earlier version made lacks the passwords of later roles."""
        known = self._chosen["passwords"]
        passwords = {**new_passwords(), **known}
        if passwords.keys() != known.keys():
            self._chosen["passwords"] = passwords
            _write_secret(self._file, json.dumps(self._chosen))

    def _fetch(self) -> dict[str, list[Path]]:
        with Progress(transient=True) as progress:
            return jars.fetch(progress)

    def _start(self, *services: Kafka | Postgres | Registry | Connect) -> None:
        """Start what does not run, then wait for all of it."""
        new = [service for service in services if service.service.process() is None]
        for service in new:
            self._check_port(service)
            self.say(f"starting {service.service.name}")
            service.start()
        with ThreadPoolExecutor(len(services)) as pool:
            list(pool.map(lambda service: service.wait(), new))

    def _check_port(self, service: Kafka | Postgres | Registry | Connect) -> None:
        """A process that was just killed takes a moment to let go of its port."""
        deadline = monotonic() + PORT_SECONDS
        while listens(service.port) and monotonic() < deadline:
            sleep(0.2)
        if listens(service.port):
            raise StackError(
                f"port {service.port} of {service.service.name} is taken by another program: "
                f"stop it, or start afresh with `payments stack down --wipe`"
            )

    def _service(self, name: str) -> Service:
        return Service(name, self.home / "run", self.home / "logs")

    def _port(self, name: str) -> int:
        return int(self._chosen["ports"][name])

    def _status(self, name: str) -> ServiceStatus:
        service = self._service(name)
        process = service.process()
        uptime = time() - process.create_time() if process else None
        return ServiceStatus(name, process.pid if process else None, self._port(name), uptime, service.log)

    def _write_environment(self) -> None:
        lines = (f"{name}={value}\n" for name, value in self.env().items())
        _write_secret(self.home / "stack.env", "".join(lines))


def _write_secret(path: Path, text: str) -> None:
    """A file that only its owner may read, from its first byte on."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


def _check_disk(home: Path) -> None:
    free = psutil.disk_usage(str(home)).free // 2**20
    if free < NEEDED_MIB:
        raise StackError(f"only {free} MiB are free at {home}; the stack needs {NEEDED_MIB} MiB: make room first")


@contextmanager
def _clear_words(home: Path) -> Iterator[None]:
    """Say what the operating system means."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise StackError(f"the disk is full at {home}: make room and run it again") from error
        raise StackError(f"{error.strerror}: {error.filename or home}") from error
