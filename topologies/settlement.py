"""settlement.lines → [settlement] → ledger.journal"""

from __future__ import annotations

from typing import Final

from pipeline import topics
from pipeline.dead_letters import Unusable
from pipeline.domain.settlement import LineDecision, LineError, LineState, decide
from pipeline.messages.settlement import SettlementJournalRecord, SettlementLine
from pipeline.settings import Settings
from topologies.stage import Decider, Stage, run_stage

STAGE: Final = "settlement"


def topology(stage: Stage) -> None:
    """Each line of a provider's report once, with the balanced entry it posts, in one record."""
    stage.decides(
        source=topics.SETTLEMENT_LINES,
        accepts=(SettlementLine,),
        decider=Decider(LineState, decided),
        to=topics.JOURNAL,
    )


def decided(state: LineState | None, line: SettlementLine) -> LineDecision:
    """What the line brings about. Raises Unusable for one that contradicts what it said before."""
    try:
        return decide(state, line)
    except LineError as error:
        raise Unusable(error.code, str(error)) from error


def run(settings: Settings) -> None:
    """Run the stage until it is told to stop."""
    run_stage(STAGE, settings, topology, writes=(SettlementJournalRecord,))
