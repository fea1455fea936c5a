"""Providers' webhooks: verified over the raw bytes before anything is parsed, answered 2xx only once every in-sync
replica has what they say. Duplicates and disorder are the state machine's to absorb: reports carry derived ids.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response

from connectors.accounts import Account
from connectors.provider import Announced, Ignored, Refusal, Translated, Unrouted, WebhookRefused, Webhooks
from gateway import body, metrics, problems
from gateway.problems import Problem
from gateway.services import Services, services_of, trace_of
from pipeline import clock, topics
from pipeline.domain.card_data import contains_card_data
from pipeline.domain.reports import key_of as report_key
from pipeline.domain.routing import key_of
from pipeline.headers import headers_of, traceparent
from pipeline.logging import redact
from pipeline.messages.inputs import DisputeReport, ProviderReport
from pipeline.messages.reports import ReportAnnounced
from pipeline.messages.routing import UnroutedEvent

log = structlog.get_logger()


async def receive(request: Request) -> Response:
    """POST /webhooks/{provider}"""
    services, provider = services_of(request), request.path_params["provider"]
    webhooks = services.webhooks.get(provider)
    if webhooks is None:
        raise Problem(problems.UNKNOWN_WEBHOOK_PROVIDER)
    return await _receive(request, provider, webhooks, None)


async def receive_for_account(request: Request) -> Response:
    """POST /webhooks/{provider}/{account}: verified with the secrets of that account."""
    provider, name = request.path_params["provider"], request.path_params["account"]
    known = services_of(request).account_webhooks.get((provider, name))
    if known is None:
        raise Problem(problems.UNKNOWN_WEBHOOK_PROVIDER)
    account, webhooks = known
    return await _receive(request, provider, webhooks, account)


async def _receive(request: Request, provider: str, webhooks: Webhooks, account: Account | None) -> Response:
    services = services_of(request)
    raw = await body.read(request, body.WEBHOOK_LIMIT, services.limits.body_seconds)
    try:
        said = await _understood(webhooks, raw, request)
    except WebhookRefused as refused:
        metrics.WEBHOOKS.labels(provider, refused.reason.value).inc()
        log.warning("webhook refused", provider=provider, reason=refused.reason.value)
        raise _problem(refused) from None
    if account is not None:
        said = [item for item in said if await _is_of(services, account, item)]
    arrived = Arrived(provider, account.name if account else None, raw)
    passed_on = await _pass_on(services, request, arrived, said)
    metrics.WEBHOOKS.labels(provider, "received").inc()
    return _acknowledged(webhooks, passed_on)


async def _is_of(services: Services, account: Account, item: Translated) -> bool:
    """Whether an event may speak of the payment that it names: one account's secret must not vouch for the payments of
    another account's merchants. Raises Problem `unavailable` for a payment that is not in the tables, so that the
    provider tells of it again: it is so for moments only, as a rule.
    """
    if not isinstance(item, ProviderReport | DisputeReport):
        return True
    view = await services.payments.returning(item.payment_id)
    if view is None:
        raise problems.unavailable("the payment that the event names", retry_after=5)
    if account.serves(view["merchant_id"]):
        return True
    metrics.WEBHOOKS.labels(account.provider, "other_merchant").inc()
    log.warning("webhook of another merchant's payment", account=account.name, payment_id=item.payment_id)
    return False


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


@dataclass(frozen=True, slots=True)
class Arrived:
    """A delivery, at the endpoint of a provider or of one account there."""

    provider: str
    account: str | None
    raw: bytes


async def _pass_on(services: Services, request: Request, arrived: Arrived, said: Sequence[Translated]) -> int:
    sent, provider = [], arrived.provider
    for item in said:
        match item:
            case ProviderReport() | DisputeReport():
                sent.append(_send_report(services, request, item))
            case Unrouted():
                sent.append(_send_unrouted(services, provider, arrived.raw, item))
            case Announced():
                sent.append(_send_announced(services, arrived, item))
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


async def _send_announced(services: Services, arrived: Arrived, item: Announced) -> None:
    """A settlement report can be fetched."""
    record = ReportAnnounced(
        report=report_key(arrived.provider, arrived.account, item.reference),
        provider=arrived.provider,
        account=arrived.account,
        reference=item.reference,
        url=item.url,
        event_id=item.event_id,
        announced_at=clock.now(),
    )
    headers = headers_of(record, "gateway")
    await services.producer.send(topics.REPORTS, record.report, services.codec.encode(record), headers)
    metrics.PRODUCED.labels(topics.REPORTS).inc()
    log.info("webhook report announced", report=record.report, event_id=item.event_id, event_type=item.event_type)


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
