"""A stage without a broker: its real topology, codec and RocksDB state; only the Kafka clients are replaced.

`send` runs one record through and returns what the stage wrote, in order. `commit` and `crash` end the checkpoint as
the broker's transaction would: state written, or forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from quixstreams.context import set_message_context
from quixstreams.models import MessageContext, TopicConfig, TopicManager

from pipeline import admin
from pipeline.codec import Codec, LocalIds
from pipeline.headers import Headers, key_of
from pipeline.messages import Record
from pipeline.topics import Catalogue
from topologies.application import StageApplication
from topologies.stage import Stage

NOW: Final = 1_750_000_000_000


class CatalogueAdmin:
    """Answers for the broker: every topic of the catalogue exists, with one partition, and no other does."""

    def inspect_topics(self, names: list[str], timeout: float = 0) -> dict[str, TopicConfig | None]:
        there = TopicConfig(num_partitions=1, replication_factor=1, extra_config={"retention.ms": "-1"})
        known = Catalogue(1).topics
        return {name: there if name in known else None for name in names}


@dataclass(frozen=True, slots=True)
class Written:
    """A record that a stage wrote."""

    topic: str
    key: bytes | None
    value: bytes
    headers: Headers
    record: Any


class Driver:
    """One stage, one partition."""

    def __init__(self, name: str, topology: Callable[[Stage], None], state_dir: Path) -> None:
        self.codec = Codec(LocalIds())
        self.written: list[Written] = []
        self.app = StageApplication(
            name,
            broker_address="localhost:1",
            consumer_group=admin.group(name),
            topic_manager=TopicManager(CatalogueAdmin(), admin.group(name), auto_create_topics=False),  # type: ignore[arg-type]
            use_changelog_topics=False,
            processing_guarantee="at-least-once",
            state_dir=state_dir,
            loglevel=None,
        )
        self.app._producer.produce = self._produce  # type: ignore[method-assign,assignment]
        topology(Stage(name, self.codec, self.app, now=lambda: NOW))
        self.sources = [topic.name for topic in self.app._dataframe_registry.consumer_topics]
        self._run = self.app._dataframe_registry.compose_all()
        self._offset = 0
        self.app._state_manager.init()
        for stream in self.app._state_manager.stores:
            self.app._state_manager.on_partition_assign(stream, 0, {})
        self.app._processing_context.init_checkpoint()  # type: ignore[no-untyped-call]

    @property
    def source(self) -> str:
        """Where it reads from: the topic it has state for, if it has two."""
        return self.sources[-1]

    def send(
        self, record: Record, at: int = NOW, headers: Headers | None = None, source: str | None = None
    ) -> list[Written]:
        """Deliver a record as a trusted writer would."""
        return self.send_raw(self.codec.encode(record), key_of(record), at, headers, source)

    def send_raw(
        self,
        value: bytes | None,
        key: bytes | None,
        at: int = NOW,
        headers: Headers | None = None,
        source: str | None = None,
    ) -> list[Written]:
        """Deliver any bytes."""
        already, source = len(self.written), source or self.source
        set_message_context(MessageContext(source, 0, self._offset, len(value or b"")))
        self._run[source](value, key, at, headers)
        self.app._processing_context.store_offset(source, 0, self._offset)
        self._offset += 1
        return self.written[already:]

    def commit(self) -> None:
        """Write the state, as after a committed transaction."""
        for transaction in self.app._processing_context.checkpoint._store_transactions.values():
            transaction.prepare()
            transaction.flush()
        self.app._processing_context.init_checkpoint()  # type: ignore[no-untyped-call]

    def crash(self) -> None:
        """Forget what was not committed, as after an aborted transaction."""
        self.app._processing_context.init_checkpoint()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Release the state."""
        self.app._state_manager.close()

    def _produce(self, topic: str, value: bytes, key: bytes | None, headers: Headers, **_: Any) -> None:
        self.written.append(Written(topic, key, value, headers, self.codec.decode(value)))
