"""What a stage tells Prometheus. Served when `PAYMENTS_METRICS_PORT` is set."""

from __future__ import annotations

import os
from typing import Final

from prometheus_client import Counter, Gauge, Histogram, start_http_server

RECORDS_IN: Final = Counter("payments_stage_records_in", "Records a stage read", ["stage"])
RECORDS_OUT: Final = Counter("payments_stage_records_out", "Records a stage wrote", ["stage", "topic"])
DEAD_LETTERS: Final = Counter("payments_stage_dead_letters", "Records a stage could not use", ["stage", "reason"])
COMMIT_SECONDS: Final = Histogram(
    "payments_stage_commit_seconds",
    "Time a transaction took to commit",
    ["stage"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
TIMERS_PENDING: Final = Gauge("payments_timers_pending", "Records waiting in a tier, hops included", ["tier"])
TIMER_OLDEST_OVERDUE: Final = Gauge(
    "payments_timers_oldest_overdue_seconds", "How long the oldest due record of a tier has been waiting", ["tier"]
)
TIMER_NEXT_READY: Final = Gauge(
    "payments_timers_next_ready_timestamp_seconds", "When the next record of a tier is to be looked at", ["tier"]
)


def serve() -> None:
    """Serve this process's metrics on 127.0.0.1 if a port is given."""
    port = os.environ.get("PAYMENTS_METRICS_PORT")
    if port:
        start_http_server(int(port), addr=os.environ.get("PAYMENTS_METRICS_HOST", "127.0.0.1"))
