"""Providers' webhooks: verified over the raw bytes before anything is parsed, answered 2xx only once every in-sync
replica has what they say. Duplicates and disorder are the state machine's to absorb: reports carry derived ids.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response

from connectors.provider import Ignored, Refusal, Translated, Unrouted, WebhookRefused, Webhooks
from gateway import body, metrics, problems
from gateway.problems import Problem
from gateway.services import Services, services_of, trace_of
from pipeline import clock, topics
from pipeline.domain.card_data import contains_card_data
from pipeline.domain.routing import key_of
from pipeline.headers import headers_of, traceparent
from pipeline.logging import redact
from pipeline.messages.inputs import DisputeReport, ProviderReport
from pipeline.messages.routing import UnroutedEvent

log = structlog.get_logger()


async def receive(request: Request) -> Response:
    """POST /webhooks/{provider}"""
    services, provider = services_of(request), request.path_params["provider"]
    webhooks = services.webhooks.get(provider)
    if webhooks is None:
        raise Problem(problems.UNKNOWN_WEBHOOK_PROVIDER)
    raw = await body.read(request, body.WEBHOOK_LIMIT, services.limits.body_seconds)
    try:
        said = await _understood(webhooks, raw, request)
    except WebhookRefused as refused:
        metrics.WEBHOOKS.labels(provider, refused.reason.value).inc()
        log.warning("webhook refused", provider=provider, reason=refused.reason.value)
        raise _problem(refused) from None
    passed_on = await _pass_on(services, request, provider, raw, said)
    metrics.WEBHOOKS.labels(provider, "received").inc()
    return _acknowledged(webhooks, passed_on)


def _acknowledged(webhooks: Webhooks, passed_on: int) -> Response:
    if webhooks.acknowledgement is not None:
        return Response(webhooks.acknowledgement, 200, media_type="text/plain")
    return Response(orjson.dumps({"received": passed_on}), 200, media_type="application/json")


async def _understood(webhooks: Webhooks, raw: bytes, request: Request) -> Sequence[Translated]:
    """What the delivery says. Raises WebhookRefused."""
    # Whoever signs does so by the machine's time.
    await webhooks.verify(raw, dict(request.headers), clock.real())
    return webhooks.translate(_without_card_data(raw), clock.now())


def _without_card_data(raw: bytes) -> bytes:
    """The event as it may be kept: a provider's event holds no card number, but it may hold what others wrote."""
    text = raw.decode("utf-8", errors="replace")
    return redact(text).encode() if contains_card_data(text) else raw


def _problem(refused: WebhookRefused) -> Problem:
    if refused.reason is Refusal.NOT_CONFIGURED:
        return problems.unavailable("the signing secret", retry_after=60)
    if refused.reason is Refusal.UNAVAILABLE:
        return problems.unavailable("the provider's certificate", retry_after=60)
    if refused.reason is Refusal.WRONG_CREDENTIALS:
        return Problem(problems.WEBHOOK_UNAUTHENTICATED, headers={"WWW-Authenticate": 'Basic realm="webhooks"'})
    kind = problems.EVENT_INVALID if refused.reason is Refusal.MALFORMED_BODY else problems.SIGNATURE_INVALID
    return Problem(kind, refused.reason.value.replace("_", " "))


async def _pass_on(services: Services, request: Request, provider: str, raw: bytes, said: Sequence[Translated]) -> int:
    sent = []
    for item in said:
        match item:
            case ProviderReport() | DisputeReport():
                sent.append(_send_report(services, request, item))
            case Unrouted():
                sent.append(_send_unrouted(services, provider, raw, item))
            case Ignored():
                metrics.WEBHOOKS.labels(provider, "ignored").inc()
                log.info(
                    "webhook without effect", provider=provider, event_id=item.event_id, event_type=item.event_type
                )
    await asyncio.gather(*sent)
    return len(sent)


async def _send_report(services: Services, request: Request, report: ProviderReport | DisputeReport) -> None:
    span = traceparent(report.payment_id, report.input_id).split("-")[2]
    headers = headers_of(report, "gateway", trace_of(request, span))
    await services.producer.send(topics.INTAKE, report.payment_id, services.codec.encode(report), headers)
    metrics.PRODUCED.labels(topics.INTAKE).inc()
    log.info(
        "webhook report",
        payment_id=report.payment_id,
        report_id=report.report_id,
        of=report.operation if isinstance(report, ProviderReport) else "dispute",
        says=report.outcome if isinstance(report, ProviderReport) else report.step,
    )


async def _send_unrouted(services: Services, provider: str, raw: bytes, event: Unrouted) -> None:
    """The event as it came, for the routing stage and for later versions."""
    record = UnroutedEvent(
        reference=key_of(provider, event.reference),
        provider=provider,
        event_id=event.event_id,
        event_type=event.event_type,
        reason=event.reason,
        received_at=clock.now(),
        body=_without_card_data(event.raw or raw),
    )
    await services.producer.send(
        topics.UNROUTED, record.reference, services.codec.encode(record), headers_of(record, "gateway")
    )
    metrics.PRODUCED.labels(topics.UNROUTED).inc()
    metrics.WEBHOOKS.labels(provider, event.reason.value).inc()
    log.info("webhook unrouted", provider=provider, event_id=event.event_id, event_type=event.event_type)
