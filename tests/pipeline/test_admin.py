"""The broker and the registry hold what the catalogue and `avro/` say."""

from __future__ import annotations

import os
import subprocess
import sys
from time import monotonic, sleep
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from pipeline import admin, contracts, topics
from pipeline.admin import Difference, Kind
from pipeline.messages import RECORDS
from pipeline.messages.timers import Timer
from pipeline.settings import PROJECT, Settings
from tests.fixtures.stack import Stack


def test_changelogs_are_named_as_quixstreams_looks_for_them() -> None:
    from quixstreams.models import TopicManager

    for stage, source in admin.STATEFUL.items():
        manager = TopicManager(None, admin.group(stage), auto_create_topics=False)  # type: ignore[arg-type]
        assert manager._internal_name("changelog", source, "default") == admin.changelog(stage)


def test_every_topic_is_wanted_with_explicit_partitions() -> None:
    wanted = admin.wanted_topics(Settings(_env_file=None, partitions=7))
    assert wanted.keys() == topics.Catalogue(7).topics.keys() | {admin.changelog(stage) for stage in admin.STATEFUL}
    assert wanted[topics.INTAKE].partitions == wanted[admin.changelog("authorization")].partitions == 7
    assert wanted[topics.dlq(topics.INTAKE)].partitions == 1
    assert wanted[admin.changelog("capture")].config["cleanup.policy"] == "compact"


def test_replicas_must_agree_where_there_are_three() -> None:
    wanted = admin.wanted_topics(Settings(_env_file=None, replication=3))
    assert {topic.config.get("min.insync.replicas") for topic in wanted.values()} == {"2"}


@pytest.fixture(scope="module")
def settings(stack: Stack) -> Settings:
    """A cluster that `apply` has brought to the catalogue's state."""
    there = AdminClient({"bootstrap.servers": stack.settings.kafka_bootstrap}).list_topics(timeout=30).topics
    partitions = len(there[topics.INTAKE].partitions) if topics.INTAKE in there else 3
    settings = stack.settings.model_copy(update={"partitions": partitions})
    admin.apply_topics(settings)
    return settings


@pytest.mark.stack
def test_a_second_apply_finds_nothing_to_do(settings: Settings) -> None:
    assert admin.apply_topics(settings) == []
    assert admin.diff_topics(settings) == []


@pytest.mark.stack
def test_a_wrong_setting_is_shown_and_corrected(settings: Settings) -> None:
    name = topics.tier("6h")
    _set(settings, name, "retention.ms", "1000")
    keep = str(topics.Catalogue(1).topics[name].retention * 1000)
    _until_seen(settings, Difference(name, Kind.CONFIG, "retention.ms", keep, "1000"))
    assert admin.apply_topics(settings) == [f"{name}: retention.ms 1000 -> {keep}"]
    assert admin.diff_topics(settings) == []


@pytest.mark.stack
def test_a_missing_topic_is_shown_required_and_created(settings: Settings) -> None:
    name = topics.dlq(topics.tier("6h"))
    client = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
    client.delete_topics([name])[name].result(30)
    _until_seen(settings, Difference(name, Kind.MISSING, Kind.MISSING, "there", "missing"))
    with pytest.raises(admin.AdminError, match="payments topics apply") as caught:
        admin.require_topics(settings, [name, topics.INTAKE])
    assert topics.INTAKE not in str(caught.value)
    assert admin.apply_topics(settings) == [f"created {name} (1 partitions)"]
    admin.require_topics(settings, [name])


@pytest.mark.stack
def test_partition_counts_are_frozen(settings: Settings) -> None:
    more = settings.model_copy(update={"partitions": settings.partitions + 1})
    kinds = {difference.kind for difference in admin.diff_topics(more)}
    assert kinds == {Kind.PARTITIONS}
    with pytest.raises(admin.AdminError, match="frozen"):
        admin.apply_topics(more)
    assert admin.diff_topics(settings) == []


@pytest.mark.stack
def test_contracts_are_registered_once_at_full_transitive(settings: Settings) -> None:
    admin.register_schemas(settings)
    assert admin.register_schemas(settings) == []
    assert admin.check_schemas(settings) == []
    client = admin._registry(settings)
    assert client.get_compatibility() == "FULL_TRANSITIVE"
    assert {contracts.subject(record) for record in RECORDS} <= set(client.get_subjects())


@pytest.mark.stack
def test_an_incompatible_contract_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    admin.register_schemas(settings)
    original = contracts.contract

    def changed(record: Any) -> dict[str, Any]:
        schema = original(record)
        if record is Timer:
            schema["fields"].append({"name": "required_from_now_on", "type": "string"})
        return schema

    monkeypatch.setattr(contracts, "contract", changed)
    assert admin.check_schemas(settings) == ["payments.v1.Timer: incompatible"]
    with pytest.raises(admin.AdminError, match=r"payments\.v1\.Timer cannot be registered"):
        admin.register_schemas(settings)


@pytest.mark.stack
def test_the_command_line_shows_no_difference(stack: Stack, settings: Settings) -> None:
    env = {**os.environ, **stack.env, "PAYMENTS_PARTITIONS": str(settings.partitions)}
    shown = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "topics", "diff"],
        cwd=PROJECT, env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (shown.returncode, shown.stdout.strip()) == (0, "no difference")


def _until_seen(settings: Settings, difference: Difference) -> None:
    """A broker shows a change a moment after the controller has made it."""
    deadline = monotonic() + 30
    while (found := admin.diff_topics(settings)) != [difference]:
        assert monotonic() < deadline, found
        sleep(0.05)


def _set(settings: Settings, topic: str, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    client = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
    client.incremental_alter_configs([resource])[resource].result(30)
