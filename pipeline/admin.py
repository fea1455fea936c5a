"""Topics and schemas as code: what the catalogue and `avro/` say is what the broker and the registry hold.

Processes create nothing: they call `require_topics` at start and fail in clear words. The stages' changelog topics
belong to the catalogue's picture too, and are made here under the names that quixstreams looks for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic, sleep
from typing import Any, Final

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from pipeline import contracts, topics
from pipeline.messages import RECORDS, Record
from pipeline.settings import Settings

COMPATIBILITY: Final = "FULL_TRANSITIVE"
_TIMEOUT: Final = 30.0
_REGISTRY_THREADS: Final = 4

STATEFUL: Final = {
    "authorization": topics.INTAKE,
    "capture": topics.AUTHORIZATIONS,
    "retry": topics.EVENTS,
    "routing": topics.UNROUTED,
    "settlement": topics.SETTLEMENT_LINES,
    "reports": topics.REPORTS,
}
"""The stages that keep state, and the topic each keeps it for."""


class AdminError(RuntimeError):
    """The broker or the registry does not hold what it must; the message says what to do."""


class Kind(StrEnum):
    """In what way a topic differs from the catalogue."""

    MISSING = "missing"
    PARTITIONS = "partitions"
    CONFIG = "config"


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which the broker differs from the catalogue; `setting` is the configuration's name, or the kind."""

    topic: str
    kind: Kind
    setting: str
    expected: str
    actual: str

    def __str__(self) -> str:
        if self.kind is Kind.MISSING:
            return f"{self.topic}: missing"
        return f"{self.topic}: {self.setting} is {self.actual}, must be {self.expected}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A topic as it must stand at the broker."""

    name: str
    partitions: int
    config: dict[str, str]


def group(stage: str) -> str:
    """The consumer group of a stage. Frozen: offsets and changelog names hang on it."""
    return f"payments.{stage}"


def changelog(stage: str) -> str:
    """The topic that backs a stage's state, named as quixstreams 3.28 names it (TopicManager._internal_name)."""
    return f"changelog__{group(stage)}--{STATEFUL[stage]}--default"


def wanted_topics(settings: Settings) -> dict[str, Wanted]:
    """Every topic of the system: the catalogue's and the changelogs."""
    catalogue = topics.Catalogue(settings.partitions)
    durable = {"min.insync.replicas": "2"} if settings.replication > 2 else {}
    wanted = {
        topic.name: Wanted(topic.name, catalogue.partitions_of(topic.name), {**topic.config, **durable})
        for topic in catalogue.topics.values()
    }
    for stage, source in STATEFUL.items():
        # A changelog has its source's partitions (quixstreams refuses another count) and keeps the newest state.
        config = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.2", **durable}
        wanted[changelog(stage)] = Wanted(changelog(stage), catalogue.partitions_of(source), config)
    return wanted


def apply_topics(settings: Settings) -> list[str]:
    """Create what is missing and correct what differs; returns what was done, in words.

    Partition counts are frozen at creation: raises AdminError when one differs, and changes nothing then.
    """
    admin = _client(settings)
    differences = _differences(admin, wanted_topics(settings))
    frozen = [str(difference) for difference in differences if difference.kind is Kind.PARTITIONS]
    if frozen:
        raise AdminError("partition counts are frozen, state follows them: " + "; ".join(frozen))
    done = [*_create(admin, settings, differences), *_correct(admin, differences)]
    if done:
        _wait_until_seen(admin, settings)
    return done


def _wait_until_seen(admin: AdminClient, settings: Settings) -> None:
    """The controller has it at once; that a broker shows it, and leads each partition, follows a moment later."""
    deadline = monotonic() + _TIMEOUT
    wanted = wanted_topics(settings)
    while waits := [*map(str, _differences(admin, wanted)), *_leaderless(admin, wanted.values())]:
        if monotonic() > deadline:
            raise AdminError("the broker does not show what was applied: " + "; ".join(waits))
        sleep(0.05)


def _leaderless(admin: AdminClient, wanted: Iterable[Wanted]) -> list[str]:
    """The partitions that no broker serves yet."""
    places = {TopicPartition(t.name, number): OffsetSpec.latest() for t in wanted for number in range(t.partitions)}
    answers = admin.list_offsets(places, request_timeout=_TIMEOUT)
    return [f"{place.topic}[{place.partition}] has no leader" for place, it in answers.items() if it.exception()]


def diff_topics(settings: Settings) -> list[Difference]:
    """How the broker differs from the catalogue; empty when it does not."""
    return _differences(_client(settings), wanted_topics(settings))


def require_topics(settings: Settings, names: Iterable[str]) -> None:
    """Raise AdminError unless every named topic exists."""
    present = _client(settings).list_topics(timeout=_TIMEOUT).topics
    missing = sorted(set(names) - set(present))
    if missing:
        raise AdminError(f"missing topics: {', '.join(missing)}; run `payments topics apply`")


def register_schemas(settings: Settings) -> list[str]:
    """Register every contract under its own subject at FULL_TRANSITIVE; returns the subjects that were new or changed.

    Raises AdminError for a contract that is incompatible with an earlier version.
    """
    client = _registry(settings)
    client.set_compatibility(level=COMPATIBILITY)
    return _each_contract(lambda record: _register(client, record))


def check_schemas(settings: Settings) -> list[str]:
    """What keeps the registry from holding `avro/` as it stands: one line a contract, empty when all is well."""
    client = _registry(settings)
    level = client.get_compatibility()
    wrong = [] if level == COMPATIBILITY else [f"compatibility is {level}, must be {COMPATIBILITY}"]
    return wrong + _each_contract(lambda record: _check(client, record))


def _client(settings: Settings) -> AdminClient:
    return AdminClient({"bootstrap.servers": settings.kafka_bootstrap})


def _differences(admin: AdminClient, wanted: dict[str, Wanted]) -> list[Difference]:
    present = admin.list_topics(timeout=_TIMEOUT).topics
    configs = _configs(admin, [name for name in wanted if name in present])
    found: list[Difference] = []
    for name, topic in wanted.items():
        if name not in present:
            found.append(Difference(name, Kind.MISSING, Kind.MISSING, "there", "missing"))
            continue
        partitions = len(present[name].partitions)
        if partitions != topic.partitions:
            found.append(
                Difference(name, Kind.PARTITIONS, Kind.PARTITIONS, str(topic.partitions), str(partitions)),
            )
        found.extend(_config_differences(topic, configs[name]))
    return found


def _config_differences(topic: Wanted, actual: dict[str, str]) -> Iterator[Difference]:
    for setting, expected in topic.config.items():
        if actual.get(setting) != expected:
            yield Difference(topic.name, Kind.CONFIG, setting, expected, str(actual.get(setting)))


def _configs(admin: AdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    answers: dict[Any, Future[dict[str, Any]]] = admin.describe_configs(resources, request_timeout=_TIMEOUT)
    return {
        resource.name: {entry.name: str(entry.value) for entry in answer.result().values()}
        for resource, answer in answers.items()
    }


def _create(admin: AdminClient, settings: Settings, differences: list[Difference]) -> list[str]:
    wanted = wanted_topics(settings)
    missing = [wanted[difference.topic] for difference in differences if difference.kind is Kind.MISSING]
    if not missing:
        return []
    new = [
        NewTopic(topic.name, topic.partitions, replication_factor=settings.replication, config=topic.config)
        for topic in missing
    ]
    _settle(admin.create_topics(new, operation_timeout=_TIMEOUT, request_timeout=_TIMEOUT))
    return [f"created {topic.name} ({topic.partitions} partitions)" for topic in missing]


def _correct(admin: AdminClient, differences: list[Difference]) -> list[str]:
    wrong = [difference for difference in differences if difference.kind is Kind.CONFIG]
    changes: dict[str, list[ConfigEntry]] = {}
    for difference in wrong:
        entry = ConfigEntry(difference.setting, difference.expected, incremental_operation=AlterConfigOpType.SET)
        changes.setdefault(difference.topic, []).append(entry)
    if changes:
        resources = [
            ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries) for name, entries in changes.items()
        ]
        _settle(admin.incremental_alter_configs(resources, request_timeout=_TIMEOUT))
    return [f"{d.topic}: {d.setting} {d.actual} -> {d.expected}" for d in wrong]


def _settle(answers: dict[Any, Future[Any]]) -> None:
    """Wait for every answer; somebody else having created a topic meanwhile is as good."""
    problems = []
    for subject, answer in answers.items():
        try:
            answer.result()
        except KafkaException as error:
            if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
                problems.append(f"{getattr(subject, 'name', subject)}: {error.args[0].str()}")
    if problems:
        raise AdminError("; ".join(problems))


def _registry(settings: Settings) -> Any:
    from confluent_kafka.schema_registry import SchemaRegistryClient  # noqa: PLC0415 - slow, and only needed here

    return SchemaRegistryClient({"url": settings.registry_url})


def _each_contract(work: Any) -> list[str]:
    with ThreadPoolExecutor(_REGISTRY_THREADS) as pool:
        return [answer for answer in pool.map(work, RECORDS) if answer is not None]


def _schema(record: type[Record]) -> Any:
    from confluent_kafka.schema_registry import Schema  # noqa: PLC0415

    return Schema(json.dumps(contracts.contract(record)), "AVRO")


def _registered(client: Any, subject: str, schema: Any) -> bool:
    from confluent_kafka.schema_registry import SchemaRegistryError  # noqa: PLC0415

    try:
        client.lookup_schema(subject, schema)
    except SchemaRegistryError as error:
        if error.http_status_code == 404:
            return False
        raise AdminError(f"{subject}: {error}") from error
    return True


def _register(client: Any, record: type[Record]) -> str | None:
    from confluent_kafka.schema_registry import SchemaRegistryError  # noqa: PLC0415

    subject, schema = contracts.subject(record), _schema(record)
    if _registered(client, subject, schema):
        return None
    try:
        client.register_schema(subject, schema)
    except SchemaRegistryError as error:
        raise AdminError(f"{subject} cannot be registered: {error}") from error
    return subject


def _check(client: Any, record: type[Record]) -> str | None:
    subject, schema = contracts.subject(record), _schema(record)
    if _registered(client, subject, schema):
        return None
    compatible = client.test_compatibility_all_versions(subject, schema)
    return f"{subject}: {'not registered as it stands in avro/' if compatible else 'incompatible'}"
