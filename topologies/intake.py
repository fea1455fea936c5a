"""payments.commands → [intake] → payments.intake; what is no valid command → payments.commands.dlq"""

from __future__ import annotations

from functools import partial
from typing import Final

from msgspec.structs import replace

from pipeline import topics
from pipeline.dead_letters import Unusable
from pipeline.domain.commands import Code, problems
from pipeline.domain.provider_choice import Rules, parse
from pipeline.messages.commands import COMMANDS, Command
from pipeline.settings import Settings
from topologies.stage import Delivered, Stage, run_stage

STAGE: Final = "intake"
MAX_COMMAND: Final = 64 * 1024
"""Bytes of a command, as at the API."""


def topology(stage: Stage, rules: Rules) -> None:
    """The door for producers without the API: the same checks as at the gateway, then the one inbound topic."""
    step = partial(admit, rules=rules)
    stage.maps(source=topics.COMMANDS, accepts=(Command,), step=step, to=topics.INTAKE, max_bytes=MAX_COMMAND)


def admit(delivered: Delivered, rules: Rules) -> list[Command]:
    """The command, dated by the broker: a producer's clock must not date a decision, and a replay has the same date.
    AUTO is resolved here.

    Raises Unusable with the first problem's code and all problems' words.
    """
    command = rules.resolve(delivered.record)
    found = problems(command)
    if found:
        detail = "; ".join(f"{violation.field}: {violation.detail}" for violation in found)
        raise Unusable(found[0].code, detail, secret=found[0].code == Code.CARD_DATA)
    return [replace(command, occurred_at=delivered.timestamp)]


def run(settings: Settings) -> None:
    """Run the stage until it is told to stop. Raises RulesError when the rules cannot be followed."""
    rules = parse(settings.provider_rules.read_text())
    run_stage(STAGE, settings, partial(topology, rules=rules), writes=COMMANDS)
