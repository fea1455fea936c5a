"""outbox → [Debezium] → payments.created, payments.authorized, ...

The connector reads the outbox's inserts from Postgres' write-ahead log and writes each payload, untouched, to the topic
that the row names, exactly once (KIP-618). Its configuration is code; applying it again changes nothing.
"""

from __future__ import annotations

from time import monotonic, sleep
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import httpx

from pipeline import topics
from pipeline.settings import Settings

NAME: Final = "payments-outbox"
PREFIX: Final = "payments"
HEARTBEAT_PREFIX: Final = "payments-heartbeat"
_HEADERS: Final = {"event_id": "ce_id", "ce_type": "ce_type", "ce_source": "ce_source", "payment_id": "ce_subject"}


class ConnectorError(RuntimeError):
    """Connect refused the connector, or one of its tasks failed. The message carries Connect's own words."""


def configuration(settings: Settings) -> dict[str, str]:
    """The connector's configuration. The password is a secret of Connect's store: never log this."""
    return {**_source(settings), **_delivery(), **_routing()}


def apply(settings: Settings, seconds: float = 60) -> None:
    """Create or update the connector and wait until it runs. Raises ConnectorError."""
    answer = httpx.put(f"{settings.connect_url}/connectors/{NAME}/config", json=configuration(settings), timeout=60)
    if answer.is_error:
        raise ConnectorError(f"Connect refuses the connector: {answer.text}")
    wait_running(settings, seconds)


def status(settings: Settings) -> dict[str, Any]:
    """What Connect says of the connector and its task. RUNNING alone proves nothing: see the slot's lag, too."""
    answer = httpx.get(f"{settings.connect_url}/connectors/{NAME}/status", timeout=10)
    if answer.status_code == httpx.codes.NOT_FOUND:
        return {"connector": {"state": "ABSENT"}, "tasks": []}
    found: dict[str, Any] = answer.raise_for_status().json()
    return found


def wait_running(settings: Settings, seconds: float = 60) -> None:
    """Wait until connector and task run. Raises ConnectorError with the task's trace when it fails."""
    deadline = monotonic() + seconds
    while True:
        found = status(settings)
        states = [found["connector"]["state"], *(task["state"] for task in found["tasks"])]
        if len(states) > 1 and all(state == "RUNNING" for state in states):
            return
        failed = [task.get("trace", "") for task in found["tasks"] if task["state"] == "FAILED"]
        if failed or monotonic() > deadline:
            raise ConnectorError(f"the outbox relay does not run: {states} {''.join(failed)[:2000]}")
        sleep(0.2)


def _source(settings: Settings) -> dict[str, str]:
    url = urlsplit(settings.reveal("postgres_debezium_url"))
    return {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": "1",
        "database.hostname": url.hostname or "",
        "database.port": str(url.port or 5432),
        "database.user": unquote(url.username or ""),
        "database.password": unquote(url.password or ""),
        "database.dbname": url.path.removeprefix("/"),
        "topic.prefix": PREFIX,
        "plugin.name": "pgoutput",
        "slot.name": "payments_outbox",
        "publication.name": "payments_outbox",
        "publication.autocreate.mode": "disabled",
        "table.include.list": "outbox.events",
        # The outbox is always empty: there is nothing to take a snapshot of.
        "snapshot.mode": "no_data",
        "skipped.operations": "u,d,t",
        "tombstones.on.delete": "false",
        "binary.handling.mode": "bytes",
        "heartbeat.interval.ms": "10000",
        # The slot moves only with what it decodes. Without a word of its own, an idle outbox would keep every byte of
        # log that others write, until the disk is full.
        "heartbeat.action.query": f"SELECT pg_logical_emit_message(true, '{HEARTBEAT_PREFIX}', '')",
        "message.prefix.exclude.list": HEARTBEAT_PREFIX,
    }


def _delivery() -> dict[str, str]:
    return {
        "exactly.once.support": "required",
        "transaction.boundary": "poll",
        "poll.interval.ms": "50",
        "producer.override.linger.ms": "2",
        "producer.override.compression.type": "lz4",
        "errors.tolerance": "none",
    }


def _routing() -> dict[str, str]:
    """The row names its topic; the payload passes as the bytes it is; the other columns become CloudEvents headers."""
    converter = "org.apache.kafka.connect.storage.StringConverter"
    placed = ",".join(f"{column}:header:{header}" for column, header in _HEADERS.items())
    return {
        "key.converter": converter,
        "value.converter": "io.debezium.converters.BinaryDataConverter",
        "value.converter.delegate.converter.type": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.delegate.converter.type.schemas.enable": "false",
        "header.converter": converter,
        "predicates": "outbox",
        "predicates.outbox.type": "org.apache.kafka.connect.transforms.predicates.TopicNameMatches",
        "predicates.outbox.pattern": f"{PREFIX}\\.outbox\\.events",
        "transforms": "route",
        "transforms.route.type": "io.debezium.transforms.outbox.EventRouter",
        "transforms.route.predicate": "outbox",
        "transforms.route.route.by.field": "topic",
        "transforms.route.route.topic.replacement": "${routedByValue}",
        "transforms.route.table.field.event.id": "event_id",
        "transforms.route.table.field.event.key": "payment_id",
        "transforms.route.table.field.event.payload": "payload",
        "transforms.route.table.fields.additional.placement": (
            f"{placed},ce_time:header:ce_time,traceparent:header:traceparent"
        ),
    }


def topics_written() -> list[str]:
    """Every topic the connector writes. One that is missing blocks the relay while its status says RUNNING."""
    return [*(topic.value for topic in topics.PublicTopic), topics.HEARTBEAT]
