"""The payment as people see it: a pure fold of its facts. The sink keeps it in Postgres, replay and `verify`
recompute it.
"""

from pipeline.domain.projection.fold import apply
from pipeline.domain.projection.operations import (
    OperationState,
    OperationUpdate,
    OperationView,
    operation_after,
    operation_update,
)
from pipeline.domain.projection.public import public_event
from pipeline.domain.projection.views import DisputeStatus, MoveState, PaymentStatus, PaymentView, RetryView, ReviewView

__all__ = [
    "DisputeStatus",
    "MoveState",
    "OperationState",
    "OperationUpdate",
    "OperationView",
    "PaymentStatus",
    "PaymentView",
    "RetryView",
    "ReviewView",
    "apply",
    "operation_after",
    "operation_update",
    "public_event",
]
