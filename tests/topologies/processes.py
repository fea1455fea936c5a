"""Stages as real processes on the real stack, and eyes on what they write."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any
from uuid import uuid4

from confluent_kafka import Consumer, Producer, TopicPartition

from pipeline import topics
from pipeline.codec import Codec, CodecError, Registry
from pipeline.kafka import consumer_config, producer_config
from pipeline.messages import Record
from pipeline.settings import PROJECT, Settings

SLOT = "test"
"""One slot for all tests: a static member that comes back gets its partitions at once."""


@dataclass
class Process:
    """One stage. `kill` is kill -9."""

    name: str
    env: dict[str, str]
    log: Path
    _running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "pipeline.run", self.name]
            self._running = subprocess.Popen(command, cwd=PROJECT, env=self.env, stdout=log, stderr=log)

    def kill(self) -> None:
        assert self._running is not None
        self._running.kill()
        self._running.wait()

    def stop(self) -> int:
        """Stop it politely; returns its exit code."""
        assert self._running is not None
        self._running.terminate()
        return self._running.wait(30)

    def wait(self, seconds: float) -> int:
        """Its exit code, once it ends by itself."""
        assert self._running is not None
        return self._running.wait(seconds)

    @property
    def alive(self) -> bool:
        return self._running is not None and self._running.poll() is None


@dataclass
class Processes:
    """Stages of one cluster, stopped at the end."""

    settings: Settings
    env: dict[str, str]
    folder: Path
    known: dict[str, Process] = field(default_factory=dict)

    def start(self, *names: str, **extra: str) -> None:
        for name in names:
            env = {**os.environ, **self.env, "PAYMENTS_SLOT": SLOT, "PAYMENTS_STATE_DIR": str(self.state), **extra}
            self.known[name] = Process(name, env, self.folder / f"{name}.log")
            self.known[name].start()

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def __getitem__(self, name: str) -> Process:
        return self.known[name]

    def wipe_state(self, name: str) -> None:
        shutil.rmtree(self.state / name)

    def stop(self) -> None:
        for process in self.known.values():
            if process.alive:
                process.stop()


@dataclass(frozen=True)
class Seen:
    """A committed record, and when this test saw it (seconds)."""

    topic: str
    key: bytes | None
    value: bytes
    timestamp: int
    at: float
    record: Any


class Eyes:
    """Reads topics from their present end on, committed records only, in a thread."""

    def __init__(self, settings: Settings, *names: str) -> None:
        self._codec = Codec(Registry(settings.registry_url))
        self._consumer = Consumer(
            {
                **consumer_config(settings, f"test-{uuid4()}", "eyes"),
                "partition.assignment.strategy": "range",
                "fetch.wait.max.ms": 5,
            }
        )
        self._consumer.assign([place for name in names for place in self._ends(name)])
        self.seen: dict[str, list[Seen]] = defaultdict(list)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def wait(self, topic: str, count: int, keys: set[bytes] | None = None, seconds: float = 120) -> list[Seen]:
        """The records of a topic, under `keys` if given, once there are `count`; whatever there is after `seconds`."""
        deadline = monotonic() + seconds
        while monotonic() < deadline and len(self.of(topic, keys)) < count:
            sleep(0.05)
        return self.of(topic, keys)

    def of(self, topic: str, keys: set[bytes] | None = None) -> list[Seen]:
        return [seen for seen in list(self.seen[topic]) if keys is None or seen.key in keys]

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._consumer.close()

    def _ends(self, name: str) -> list[TopicPartition]:
        partitions = self._consumer.list_topics(name, timeout=30).topics[name].partitions
        places = [TopicPartition(name, number) for number in partitions]
        return [
            TopicPartition(name, place.partition, self._consumer.get_watermark_offsets(place, timeout=30)[1])
            for place in places
        ]

    def _watch(self) -> None:
        while not self._stop.is_set():
            message = self._consumer.poll(0.05)
            if message is None:
                continue
            assert message.error() is None, message.error()
            value = message.value()
            self.seen[message.topic()].append(
                Seen(message.topic(), message.key(), value, message.timestamp()[1], time(), self._decoded(value))
            )

    def _decoded(self, value: bytes) -> Record | None:
        """None for the junk that some tests write."""
        try:
            return self._codec.decode(value)
        except CodecError:
            return None


@contextmanager
def eyes_on(settings: Settings, *names: str) -> Iterator[Eyes]:
    eyes = Eyes(settings, *names)
    try:
        yield eyes
    finally:
        eyes.close()


class Writer:
    """Writes as a trusted writer does."""

    def __init__(self, settings: Settings) -> None:
        self.codec = Codec(Registry(settings.registry_url))
        self._producer = Producer(producer_config(settings, "test-writer"))

    def send(self, record: Record, topic: str = topics.INTAKE) -> None:
        keyed: Any = record
        self.send_raw(topic, self.codec.encode(record), keyed.payment_id.encode())

    def send_raw(self, topic: str, value: bytes | None, key: bytes | None) -> None:
        self._producer.produce(topic, value, key)
        self._producer.poll(0)

    def flush(self) -> None:
        assert self._producer.flush(30) == 0
