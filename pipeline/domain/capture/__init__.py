"""The capture stage's decisions: from the hold to the money, and back.

It is the last writer before the system of record, so it numbers every fact of a payment, its own and those it passes
on. `TABLE` is the state machine of the hold: a row a phase, a column a kind of input. Captures, voids and refunds are
moves, each with its own linear states; one capture or void is under way at a time, refunds may be several.
"""

from pipeline.domain.capture.kinds import Kind, kind_of
from pipeline.domain.capture.state import CaptureState, Move, MoveStatus, Phase
from pipeline.domain.capture.table import TABLE, Row, decide

__all__ = ["TABLE", "CaptureState", "Kind", "Move", "MoveStatus", "Phase", "Row", "decide", "kind_of"]
