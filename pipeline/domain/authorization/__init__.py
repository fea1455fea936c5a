"""The authorization stage's decisions: from the intent to a hold, or to a final no.

`TABLE` is the whole state machine: a row a status, a column a kind of input. A cell either acts, refuses a command
with a recorded reason, ignores what no longer applies, or forwards what the capture stage owns.
"""

from pipeline.domain.authorization.kinds import Kind, kind_of
from pipeline.domain.authorization.state import Attempt, AttemptStatus, AuthorizationState, Status
from pipeline.domain.authorization.table import TABLE, Row, decide

__all__ = ["TABLE", "Attempt", "AttemptStatus", "AuthorizationState", "Kind", "Row", "Status", "decide", "kind_of"]
