"""When a stage commits, and when it must not go on with its producer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError
from quixstreams.processing import ProcessingContext

from pipeline.settings import Settings
from topologies import application as module
from topologies.application import IDLE_POLL, DrainedContext, application
from topologies.transport import ProducerRenewalNeededError, TransportWatch


class Checkpoint:
    """Counts what was stored since the last commit."""

    def __init__(self) -> None:
        self.offsets = 0

    def empty(self) -> bool:
        return self.offsets == 0

    def store_offset(self, **_: Any) -> None:
        self.offsets += 1


class Clock:
    """Time that passes only when told to."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


class Trial:
    """A context whose commits take `commit_takes` seconds and are counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock, self.commits, self.commit_takes = Clock(), 0, 0.004
        monkeypatch.setattr(module, "monotonic", self.clock)
        monkeypatch.setattr(ProcessingContext, "commit_checkpoint", self._commit)
        parts: dict[str, Any] = dict.fromkeys(
            ("producer", "consumer", "state_manager", "sink_manager", "dataframe_registry")
        )
        self.context = DrainedContext(commit_interval=0.02, stage="trial", **parts)
        self.context._checkpoint = Checkpoint()  # type: ignore[assignment]

    def record(self) -> None:
        self.context.drained = False
        self.context.store_offset("topic", 0, 1)

    def nothing(self) -> None:
        self.context.drained = True

    def turn(self, passed: float = 0.0) -> int:
        self.clock.time += passed
        before = self.commits
        self.context.commit_checkpoint()
        return self.commits - before

    def _commit(self, *_: Any, **__: Any) -> None:
        self.commits += 1
        self.clock.time += self.commit_takes
        self.context._checkpoint = Checkpoint()  # type: ignore[assignment]
        self.context.watch.touched = False


@pytest.fixture
def trial(monkeypatch: pytest.MonkeyPatch) -> Trial:
    return Trial(monkeypatch)


def test_one_record_alone_is_committed_as_soon_as_the_poll_is_drained(trial: Trial) -> None:
    assert trial.context.patience == IDLE_POLL
    trial.record()
    assert trial.turn() == 0, "more may be waiting"
    assert trial.context.patience == 0
    trial.nothing()
    assert trial.turn() == 1


def test_an_idle_stage_commits_nothing_however_long(trial: Trial) -> None:
    trial.nothing()
    assert [trial.turn(1.0) for _ in range(5)] == [0] * 5
    assert trial.context.patience == IDLE_POLL


def test_under_load_the_interval_is_the_limit_from_the_first_record_on(trial: Trial) -> None:
    trial.nothing()
    trial.turn(60)
    done = []
    for _ in range(30):
        trial.record()
        done.append(trial.turn(0.001))
    assert done.index(1) == 19, "20 ms after the first, though the stage had been idle for a minute"


def test_commits_that_take_long_are_made_less_often(trial: Trial) -> None:
    trial.commit_takes = 0.010
    trial.record()
    trial.nothing()
    assert trial.turn() == 1
    trial.record()
    trial.nothing()
    assert trial.turn(0.004) == 0
    gather = module.GATHER * trial.commit_takes
    assert trial.context.patience == pytest.approx(gather - 0.004), "the next poll waits no longer than the commit must"
    assert trial.turn(gather - 0.004) == 1


def test_a_transport_error_during_a_transaction_ends_the_process(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, state_dir=tmp_path, kafka_bootstrap="localhost:1")
    app = application("trial", settings)
    context = app._processing_context
    assert isinstance(context, DrainedContext)
    lost = KafkaError(KafkaError._TRANSPORT, "connection reset")
    wired = app._producer._producer._error_cb
    wired(lost)
    context.watch.touched = True
    wired(KafkaError(KafkaError._RESOLVE, "no such host"))
    with pytest.raises(ProducerRenewalNeededError, match="connection reset"):
        wired(lost)


def test_a_transport_error_without_a_transaction_is_none_of_its_business() -> None:
    watch = TransportWatch()
    watch(KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down"))
    watch.touched = True
    with pytest.raises(ProducerRenewalNeededError):
        watch(KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down"))


def test_the_facts_about_quixstreams_are_heeded(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, state_dir=tmp_path, slot="7", kafka_bootstrap="localhost:1")
    config = application("authorization", settings).config
    assert config.exactly_once
    assert config.auto_offset_reset == "earliest"
    assert not config.auto_create_topics
    assert not config.auto_recover_from_source_offset_out_of_range
    assert config.state_dir == tmp_path / "authorization" / "7"
    assert config.producer_extra_config["transactional.id"] == "authorization-7"
    session, transaction = (
        config.consumer_extra_config["session.timeout.ms"],
        config.producer_extra_config["transaction.timeout.ms"],
    )
    assert transaction < session
    assert config.producer_extra_config["partitioner"] == "murmur2"
