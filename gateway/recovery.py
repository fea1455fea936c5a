"""How far a payment's operations have come, from its facts in Postgres."""

from __future__ import annotations

from typing import Any

from gateway.payments import Target
from gateway.services import Services
from pipeline import views
from pipeline.domain.recovery import ORDER, Progress, progress
from pipeline.history import FACTS_OF, Known, known_facts

Json = dict[str, Any]


async def recovery_points(services: Services, target: Target, operation_id: str) -> Json:
    """The operation's furthest point and all it has reached, as the API shows them; nothing while it is accepted."""
    operation = progress(item.written for item in await facts_of(services, target)).get(operation_id)
    return points(operation) if operation else {}


async def facts_of(services: Services, target: Target) -> list[Known]:
    """The facts of the merchant's own payment; none of another's, and none that another's rejected commands left."""
    rows = await services.database.fetch(FACTS_OF, (target.payment_id,))
    return [item for item in known_facts(services.codec, rows) if item.fact.merchant_id == target.merchant_id]


def points(operation: Progress) -> Json:
    """An operation's furthest point, and when it reached each."""
    reached = {point.value: views.time(operation.points[point]) for point in ORDER if point in operation.points}
    return {"recovery_point": operation.point.value, "recovery_points": reached}
