"""Client configuration that every process shares. See the transaction and partitioner traps in docs/decisions/."""

from __future__ import annotations

from typing import Any

from pipeline.settings import Settings


def producer_config(settings: Settings, client_id: str, transactional_id: str | None = None) -> dict[str, Any]:
    """A producer that loses nothing: idempotent, acks=all, and on the partition that Java and quixstreams would
    choose.
    """
    config: dict[str, Any] = {
        "bootstrap.servers": settings.kafka_bootstrap,
        "client.id": client_id,
        "enable.idempotence": True,
        "acks": "all",
        "partitioner": "murmur2_random",
        "linger.ms": 2,
        "retry.backoff.ms": 10,
        "retry.backoff.max.ms": 500,
        "compression.type": settings.compression,
    }
    if transactional_id is None:
        return config
    # A fixed id fences the dead predecessor at once; the timeout stays below the session timeout (FACTS).
    return {**config, "transactional.id": transactional_id, "transaction.timeout.ms": 10_000}


def consumer_config(settings: Settings, group: str, client_id: str) -> dict[str, Any]:
    """A consumer that reads committed records only, commits nothing by itself, and is loud about lost retention."""
    return {
        "bootstrap.servers": settings.kafka_bootstrap,
        "client.id": client_id,
        "group.id": group,
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        # The broker answers as soon as there is something; a short wait only makes idle consumers ask in vain.
        "fetch.wait.max.ms": 500,
        "session.timeout.ms": 45_000,
        "partition.assignment.strategy": "cooperative-sticky",
    }
