"""quixstreams with the settings that money needs (each reason is in docs/decisions), and one change of behaviour: a
stage commits as soon as its poll is drained, so that latency follows load, not a fixed interval.
"""

from __future__ import annotations

import dataclasses
import logging
from time import monotonic
from typing import Any, Final

from quixstreams import Application
from quixstreams.context import set_message_context
from quixstreams.models import Row
from quixstreams.processing import ProcessingContext
from quixstreams.state.rocksdb import RocksDBOptions

from pipeline import admin, metrics
from pipeline.settings import Settings
from topologies.transport import TransportWatch

MIB: Final = 1024 * 1024
IDLE_POLL: Final = 0.5
"""Seconds that an idle stage blocks in the consumer. A record ends the wait at once; a signal is seen after it."""

GATHER: Final = 2.0
"""A stage spends at most a third of its time in commits."""


@dataclasses.dataclass
class DrainedContext(ProcessingContext):
    """Commits when the poll is drained and `GATHER` times as much time has passed as the last commit took, at latest
    `commit_interval` (or that time, if it is longer) after the first uncommitted record. So one record alone is
    committed at once, and a machine under load, whose commits take longer, gathers more records in each.
    """

    stage: str = ""
    drained: bool = False
    watch: TransportWatch = dataclasses.field(default_factory=TransportWatch)
    _deadline: float = dataclasses.field(init=False, default=0.0)
    _earliest: float = dataclasses.field(init=False, default=0.0)

    @property
    def patience(self) -> float:
        """How many seconds the next poll may wait."""
        if self.checkpoint.empty():
            return IDLE_POLL
        return max(0.0, min(self._earliest, self._deadline) - monotonic())

    def store_offset(self, topic: str, partition: int, offset: int) -> None:
        if not self.watch.touched:
            self.watch.touched = True
            self._deadline = max(monotonic() + self.commit_interval, self._earliest)
        super().store_offset(topic, partition, offset)

    def commit_checkpoint(self, force: bool = False, revoking: bool = False) -> None:
        if force:
            super().commit_checkpoint(force=True, revoking=revoking)
        elif not self.checkpoint.empty() and self._due():
            self._commit()

    def _due(self) -> bool:
        time = monotonic()
        return time >= self._deadline or (self.drained and time >= self._earliest)

    def _commit(self) -> None:
        start = monotonic()
        super().commit_checkpoint(force=True)
        end = monotonic()
        self._earliest = end + GATHER * (end - start)
        metrics.COMMIT_SECONDS.labels(self.stage).observe(end - start)


class StageApplication(Application):
    """An Application whose poll adapts: no wait while work is uncommitted, a long one when idle."""

    def __init__(self, stage: str, **options: Any) -> None:
        super().__init__(**options)
        shared = {
            field.name: getattr(self._processing_context, field.name)
            for field in dataclasses.fields(ProcessingContext)
            if field.init
        }
        self._processing_context = DrainedContext(**shared, stage=stage)
        self._producer._producer._user_error_cb = self._processing_context.watch

    def _process_message(self, dataframe_composed: Any) -> None:
        """One turn of the poll loop. As upstream's, without a context copy a record and without suppressed errors."""
        context = self._processing_context
        assert isinstance(context, DrainedContext)
        self._producer.poll(0)
        if context.checkpoint.empty():
            context.watch.touched = False
        row = self._consumer.poll_row(timeout=context.patience)
        context.drained = row is None
        self._run_tracker.set_message_consumed(row is not None)
        if row is None:
            return
        assert isinstance(row, Row)
        set_message_context(row.context)
        dataframe_composed[row.topic](row.value, row.key, row.timestamp, row.headers)
        context.store_offset(row.topic, row.partition, row.offset)
        self._producer._broker_available()  # type: ignore[no-untyped-call]
        self._consumer._broker_available()  # type: ignore[no-untyped-call]


def application(stage: str, settings: Settings) -> StageApplication:
    """The Application of a stage's instance. Talks to no broker yet."""
    logging.getLogger("quixstreams").setLevel(logging.WARNING)
    return StageApplication(
        stage,
        broker_address=settings.kafka_bootstrap,
        consumer_group=admin.group(stage),
        processing_guarantee="exactly-once",
        auto_offset_reset="earliest",
        auto_create_topics=False,
        auto_recover_from_source_offset_out_of_range=False,
        commit_interval=settings.commit_interval,
        consumer_extra_config=_consumer_config(stage, settings),
        producer_extra_config=_producer_config(stage, settings),
        state_dir=settings.state_dir / stage / settings.slot,
        rocksdb_options=_rocksdb_options(),
        loglevel=None,
    )


def _consumer_config(stage: str, settings: Settings) -> dict[str, Any]:
    return {
        "client.id": f"{stage}-{settings.slot}",
        # A static member that restarts gets its partitions back without a rebalance: no 45 s wait after a crash.
        "group.instance.id": f"{stage}-{settings.slot}",
        "session.timeout.ms": 45_000,
        "fetch.wait.max.ms": 500,
        "queued.min.messages": 2_000,
        "queued.max.messages.kbytes": 8_192,
    }


def _producer_config(stage: str, settings: Settings) -> dict[str, Any]:
    return {
        "client.id": f"{stage}-{settings.slot}",
        # Fixed, so that a restarted stage fences what its predecessor left open; random ids stall readers for 60 s.
        "transactional.id": f"{stage}-{settings.slot}",
        "transaction.timeout.ms": 10_000,
        "partitioner": "murmur2",
        "linger.ms": 2,
        "retry.backoff.ms": 10,
        "retry.backoff.max.ms": 500,
        "compression.type": settings.compression,
    }


def _rocksdb_options() -> RocksDBOptions:
    """Small on purpose: a dozen partitions in one process share 150 MiB with everything else."""
    return RocksDBOptions(
        block_cache_size=8 * MIB,
        write_buffer_size=2 * MIB,
        target_file_size_base=8 * MIB,
        max_write_buffer_number=2,
        max_total_wal_size=32 * MIB,
        open_retry_backoff=0.5,
    )
