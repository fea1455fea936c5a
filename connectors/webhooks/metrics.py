"""What the sender of webhooks tells Prometheus."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

EVENTS: Final = Counter("webhooks_events_total", "Public events read", ["type"])
QUEUED: Final = Counter("webhooks_deliveries_total", "Deliveries made from events", ["type"])
EXPIRED: Final = Counter("webhooks_expired_total", "Events that were too old to be delivered when they were read")
DEAD_LETTERS: Final = Counter("webhooks_dead_letters_total", "Records that could not be used", ["reason"])
LAG: Final = Gauge("webhooks_lag_records", "Offsets behind the end of the public topics")
ATTEMPTS: Final = Counter(
    "webhooks_attempts_total", "Attempts by result: a class of HTTP statuses such as 2xx, or an error", ["result"]
)
ATTEMPT_SECONDS: Final = Histogram(
    "webhooks_attempt_seconds", "Time an attempt took", buckets=(0.01, 0.03, 0.1, 0.3, 1, 2, 3, 4, 5, 6)
)
IN_FLIGHT: Final = Gauge("webhooks_in_flight", "Attempts under way")
PENDING: Final = Gauge("webhooks_pending", "Deliveries that are to be attempted, later ones too")
OLDEST_DUE: Final = Gauge("webhooks_oldest_due_seconds", "How long the oldest due delivery has been waiting")
DISABLED: Final = Counter("webhooks_endpoints_disabled_total", "Endpoints that were disabled", ["reason"])
UNREADABLE: Final = Counter("webhooks_secrets_unreadable_total", "Signing secrets that no key in the settings opens")
