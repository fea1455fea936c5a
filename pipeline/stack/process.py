"""One service of the stack as a detached process: started, found again, watched, stopped."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Final

import psutil

from pipeline.stack.errors import StackError

TAIL_LINES: Final = 12


@dataclass(frozen=True, slots=True)
class Service:
    """A process known by `<run>/<name>.json` (pid and start time: a reused pid is never taken for it)."""

    name: str
    run: Path
    logs: Path

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.logs / f"{self.name}.log"

    def process(self) -> psutil.Process | None:
        """The running process, or None."""
        try:
            known = json.loads(self._file.read_text())
            process = psutil.Process(known["pid"])
            same = abs(process.create_time() - known["created"]) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except (OSError, ValueError, KeyError, psutil.Error):
            return None
        return process if same else None

    def start(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None, user: int | None = None
    ) -> None:
        """Start it in a session of its own, so that it outlives the command line. Raises StackError."""
        self.run.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        try:
            with self.log.open("ab") as log:
                started = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **(environment or {})},
                    start_new_session=True,
                    cwd="/",
                    user=user,
                    group=user,
                    extra_groups=None if user is None else [],
                )
        except OSError as error:
            raise StackError(f"{self.name} cannot be started: {error.strerror} ({command[0]})") from error
        self.adopt(started.pid)

    def adopt(self, pid: int) -> None:
        """Remember a process as this service."""
        self.run.mkdir(parents=True, exist_ok=True)
        created = psutil.Process(pid).create_time()
        self._file.write_text(json.dumps({"pid": pid, "created": created}))

    def wait(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until it is ready. Raises StackError with the end of its log when it dies or takes too long."""
        deadline = monotonic() + seconds
        while not ready():
            if self.process() is None:
                raise StackError(f"{self.name} ended while starting:\n{self.tail()}\nthe whole log: {self.log}")
            if monotonic() > deadline:
                raise StackError(f"{self.name} is not ready after {seconds:.0f} s:\n{self.tail()}\nthe log: {self.log}")
            sleep(0.05)

    def stop(self, seconds: float, how: signal.Signals = signal.SIGTERM) -> None:
        """Ask it to stop; kill it, and what it started, when it does not."""
        process = self.process()
        if process is not None:
            family = [process, *process.children(recursive=True)]
            process.send_signal(how)
            _, alive = psutil.wait_procs(family, timeout=seconds)
            for survivor in alive:
                survivor.kill()
            psutil.wait_procs(alive, timeout=5)
        self._file.unlink(missing_ok=True)

    def tail(self) -> str:
        """The last lines of its log."""
        if not self.log.exists():
            return "(no log)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:])

    @property
    def _file(self) -> Path:
        return self.run / f"{self.name}.json"


def listens(port: int) -> bool:
    """Whether something accepts connections on a local port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_ports(count: int) -> list[int]:
    """Ports that are free now; all are held until the last is found, so that none is given twice."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for held in sockets:
            held.bind(("127.0.0.1", 0))
        return [int(held.getsockname()[1]) for held in sockets]
    finally:
        for held in sockets:
            held.close()
