"""The local stack's promises: idempotent, pinned by checksum, clear words, nothing left behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import psycopg
import pytest
import yaml
from confluent_kafka.admin import AdminClient

from pipeline.settings import PROJECT
from pipeline.stack import jars
from pipeline.stack.errors import StackError
from pipeline.stack.jars import Jar
from pipeline.stack.local import LocalStack
from pipeline.stack.process import Service, free_ports, listens
from tests.fixtures.stack import Stack


def test_every_jar_is_pinned_by_its_sum() -> None:
    for name, count in {"kafka": 91, "debezium": 22, "apicurio": 1}.items():
        found = jars.locked(name)
        assert len(found) == count
        assert all(len(jar.sha256) == 64 for jar in found)
        assert all(len(jar.coordinate.split(":")) in {3, 5} for jar in found)


def test_a_jar_with_another_sum_is_not_used() -> None:
    jar = Jar("org.slf4j:slf4j-api:1.7.36", "0" * 64)
    with pytest.raises(StackError, match="SHA-256"):
        jars._download(jar)


def test_a_service_that_dies_says_why(tmp_path: Path) -> None:
    service = Service("crooked", tmp_path / "run", tmp_path / "logs")
    service.start([sys.executable, "-c", "print('no room at the inn'); raise SystemExit(3)"])
    with pytest.raises(StackError, match="no room at the inn"):
        service.wait(lambda: False, 20)


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    service = Service("absent", tmp_path / "run", tmp_path / "logs")
    with pytest.raises(StackError, match="/no/such/java"):
        service.start(["/no/such/java"])


def test_a_reused_pid_is_not_taken_for_the_service(tmp_path: Path) -> None:
    service = Service("mine", tmp_path / "run", tmp_path / "logs")
    service.adopt(os.getpid())
    assert service.process() is not None
    record = tmp_path / "run" / "mine.json"
    record.write_text(record.read_text().replace('"created": 1', '"created": 2'))
    assert service.process() is None
    service.stop(1)
    assert os.getpid(), "the process that only had the same number lives"


def test_a_service_outlives_its_starter_and_stops_when_asked(tmp_path: Path) -> None:
    service = Service("sleeper", tmp_path / "run", tmp_path / "logs")
    service.start([sys.executable, "-c", "import time; time.sleep(60)"])
    again = Service("sleeper", tmp_path / "run", tmp_path / "logs")
    process = again.process()
    assert process is not None
    again.stop(5)
    assert not process.is_running()
    assert again.process() is None


def test_free_ports_are_free_and_different() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert not any(map(listens, ports))


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    stack = LocalStack(tmp_path)
    stack._remember()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", stack._port("postgres")))
        taken.listen()
        with pytest.raises(StackError, match=f"port {stack._port('postgres')} of postgres is taken"):
            stack._check_port(stack.postgres())


def test_compose_has_the_same_services_each_with_a_health_check() -> None:
    compose = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())
    assert set(compose["services"]) == {"kafka", "postgres", "registry", "connect"}
    assert all("healthcheck" in service for service in compose["services"].values())
    assert all(port.startswith("127.0.0.1:") for s in compose["services"].values() for port in s["ports"])


@pytest.mark.stack
def test_a_second_up_finds_the_first(stack: Stack) -> None:
    if not (stack.home / "stack.json").exists():
        pytest.skip("the stack is not a local one of this test run")
    local = LocalStack(stack.home)
    before = [state.pid for state in local.status()]
    local.up()
    assert [state.pid for state in LocalStack(stack.home).status()] == before
    assert all(before)


@pytest.mark.stack
def test_the_services_are_as_the_design_wants_them(stack: Stack) -> None:
    settings = stack.settings
    assert AdminClient({"bootstrap.servers": settings.kafka_bootstrap}).list_topics(timeout=10).brokers
    config = httpx.get(f"{settings.registry_url}/config", timeout=20).json()
    assert config["compatibilityLevel"] == "FULL_TRANSITIVE"
    plugins = httpx.get(f"{settings.connect_url}/connector-plugins", timeout=20).text
    assert "io.debezium.connector.postgresql.PostgresConnector" in plugins
    for role in ("owner", "sink", "gateway", "reader", "debezium"):
        with psycopg.connect(settings.reveal(f"postgres_{role}_url")) as connection:
            assert connection.execute("SHOW wal_level").fetchone() == ("logical",)


@pytest.mark.stack
def test_secrets_are_for_their_owner_only(stack: Stack) -> None:
    for name in ("stack.json", "stack.env"):
        path = stack.home / name
        if path.exists():
            assert path.stat().st_mode & 0o077 == 0


def test_the_command_line_explains_itself() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "stack", "up", "--help"], capture_output=True, text=True, check=True
    )
    assert "Bring the stack up" in done.stdout
