"""payments.events → [ledger] → ledger.journal"""

from __future__ import annotations

from typing import Final

from pipeline import topics
from pipeline.domain.postings import journal_record
from pipeline.messages.facts import Fact
from pipeline.messages.journal import JournalRecord
from pipeline.settings import Settings
from topologies.stage import Delivered, Stage, run_stage

STAGE: Final = "ledger"


def topology(stage: Stage) -> None:
    """Each fact, untouched, and the balanced entry it posts, in one record: a torn transaction cannot part them."""
    stage.maps(source=topics.EVENTS, accepts=(Fact,), step=journal, to=topics.JOURNAL)


def journal(delivered: Delivered) -> list[JournalRecord]:
    """The journal record of a fact."""
    fact: Fact = delivered.record
    return [journal_record(fact, delivered.value)]


def run(settings: Settings) -> None:
    """Run the stage until it is told to stop."""
    run_stage(STAGE, settings, topology, writes=(JournalRecord,))
