"""What a stage tells Prometheus. Served when `PAYMENTS_METRICS_PORT` is set."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from pipeline.settings import Settings

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


def serve(settings: Settings) -> None:
    """Serve this process's metrics on the loopback address, if a port is set."""
    if settings.metrics_port is not None:
        start_http_server(settings.metrics_port, addr="127.0.0.1")
