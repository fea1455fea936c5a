"""What the gateway counts, for Prometheus."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

REGISTRY: Final = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

REQUESTS: Final = Counter(
    "gateway_requests_total", "Answers by route and status", ["route", "method", "status"], registry=REGISTRY
)
SECONDS: Final = Histogram(
    "gateway_request_seconds",
    "From the headers to the answer, waiting by `Prefer` included",
    ["route"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    registry=REGISTRY,
)
IN_FLIGHT: Final = Gauge("gateway_in_flight", "Requests being answered", registry=REGISTRY)
WAITING: Final = Gauge("gateway_waiting", "Requests that wait for an outcome by `Prefer`", registry=REGISTRY)
PRODUCED: Final = Counter("gateway_produced_total", "Records delivered, by topic", ["topic"], registry=REGISTRY)
REPLAYED: Final = Counter("gateway_replayed_total", "Answers given again for an Idempotency-Key", registry=REGISTRY)
TAKEN_OVER: Final = Counter(
    "gateway_taken_over_total", "Commands produced again after a gateway died before its answer", registry=REGISTRY
)
REFUSED: Final = Counter("gateway_problems_total", "Problems answered, by code", ["code"], registry=REGISTRY)
WEBHOOKS: Final = Counter(
    "gateway_webhooks_total", "Webhook deliveries, by provider and result", ["provider", "result"], registry=REGISTRY
)
