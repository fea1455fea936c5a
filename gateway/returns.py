"""Where a customer's browser comes back to from a provider's page.

Anybody may call it: the browser has no key, and what it brings is the provider's to judge. So it can do one thing, have
the provider asked about a payment that waits for its customer; a payment that does not, or that is none, gets the same
page. It shows nothing of a payment.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final

import structlog
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from gateway import metrics, problems
from gateway.edge import client_of
from gateway.problems import Problem
from gateway.query import UUID_TEXT
from gateway.services import Services, services_of, trace_of
from pipeline import clock, ids, topics
from pipeline.domain.commands import problems as violations
from pipeline.domain.projection import PaymentStatus
from pipeline.headers import headers_of
from pipeline.messages.commands import CompleteAction

log = structlog.get_logger()

_RESULTS: Final = {"adyen": "redirectResult"}
"""What a provider adds to the URL for us to hand back. From the others the browser brings nothing."""
_PAGE: Final = (
    "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Thank you</title></head>"
    "<body><p>Thank you. You can close this page and go back to the shop.</p></body></html>"
)


async def receive(request: Request) -> Response:
    """GET /return/{provider}/{payment_id}"""
    services = services_of(request)
    provider, payment_id = request.path_params["provider"], request.path_params["payment_id"]
    if provider not in topics.PROVIDERS or not UUID_TEXT.fullmatch(payment_id):
        raise Problem(problems.NOT_FOUND)
    services.returns.take(client_of(request.scope))
    view = await services.payments.returning(payment_id)
    if view is None or view["provider"] != provider:
        return HTMLResponse(_PAGE)
    structlog.contextvars.bind_contextvars(payment_id=payment_id)
    if view["status"] == PaymentStatus.REQUIRES_ACTION:
        services.returns.take(payment_id)
        await _complete(services, request, _command(view, _result(request, provider)))
    where = view.get("return_url")
    return RedirectResponse(where, 303) if where else HTMLResponse(_PAGE)


def _result(request: Request, provider: str) -> str | None:
    name = _RESULTS.get(provider)
    return request.query_params.get(name) or None if name else None


def _command(view: dict[str, Any], result: str | None) -> CompleteAction:
    """The same return, to a payment that nothing has happened to since, is the same command."""
    what = sha256((result or "").encode()).hexdigest()
    command = CompleteAction(
        payment_id=view["payment_id"],
        occurred_at=clock.now(),
        command_id=ids.derive("return", view["payment_id"], view["sequence"], what),
        merchant_id=view["merchant_id"],
        result=result,
    )
    if violations(command):
        raise Problem(problems.INVALID_QUERY, "the result is none")
    return command


async def _complete(services: Services, request: Request, command: CompleteAction) -> None:
    span = sha256(command.command_id.encode()).hexdigest()[:16]
    headers = headers_of(command, "gateway", trace_of(request, span))
    await services.producer.send(topics.INTAKE, command.payment_id, services.codec.encode(command), headers)
    metrics.PRODUCED.labels(topics.INTAKE).inc()
    log.info("a customer is back", payment_id=command.payment_id, command_id=command.command_id)
