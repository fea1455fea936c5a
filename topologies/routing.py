"""providers.unrouted, payments.events → [routing] → payments.intake, providers.unmatched, timers.<tier>

The one process with two inbound topics: the facts only teach it references, without state, into the topic that the
other half decides on. So a transaction that is open on one of them delays, and never reorders, what is decided.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Final

from connectors.provider import WebhookRefused, Webhooks, open_webhooks
from pipeline import topics
from pipeline.domain.routing import HOUR, Reference, decide, references
from pipeline.messages import Input
from pipeline.messages.facts import Fact
from pipeline.messages.inputs import DisputeReport, ProviderReport, TimerFired
from pipeline.messages.routing import ReferenceLearned, RoutingRecord, UnmatchedEvent, UnroutedEvent
from pipeline.messages.timers import Timer
from pipeline.settings import Settings
from topologies.stage import TIERS, Decider, Delivered, Stage, run_stage

STAGE: Final = "routing"


def topology(stage: Stage, webhooks: dict[str, Webhooks], patience: int) -> None:
    """Events that name no payment find theirs by the provider's reference, or wait for it."""
    stage.maps(source=topics.EVENTS, accepts=(Fact,), step=learned, to=topics.UNROUTED)
    stage.decides(
        source=topics.UNROUTED,
        accepts=(RoutingRecord, TimerFired),
        decider=Decider(Reference, partial(decide, translate=partial(translated, webhooks), patience=patience)),
        to=topics.INTAKE,
        also=(topics.UNMATCHED, *TIERS),
        routes={UnmatchedEvent: topics.UNMATCHED},
    )


def learned(delivered: Delivered) -> list[ReferenceLearned]:
    """The references in a fact."""
    return references(delivered.record)


def translated(webhooks: dict[str, Webhooks], event: UnroutedEvent, payment_id: str) -> Iterable[Input]:
    """What an event says of the payment. What this version cannot read stays in the topic for one that can."""
    reader = webhooks.get(event.provider)
    try:
        said = reader.translate(event.body, event.received_at, payment_id) if reader else []
    except WebhookRefused:
        return []
    return [item for item in said if isinstance(item, ProviderReport | DisputeReport)]


def run(settings: Settings) -> None:
    """Run the stage until it is told to stop."""
    webhooks = {name: open_webhooks(name, settings) for name in topics.PROVIDERS}
    patience = round(HOUR * settings.recovery_scale)
    built = partial(topology, webhooks=webhooks, patience=patience)
    writes = (ProviderReport, DisputeReport, ReferenceLearned, UnmatchedEvent, Timer)
    run_stage(STAGE, settings, built, writes=writes)
