"""The application: routes behind the edge, and the parts they share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from gateway import problems
from gateway.edge import Edge
from gateway.health import Readiness
from gateway.limits import Limits
from gateway.problems import Problem
from gateway.routes import starlette_routes
from gateway.services import Services
from pipeline.settings import Settings


def create_app(settings: Settings, limits: Limits | None = None) -> Starlette:
    """The gateway. It connects when its lifespan begins, and raises UnregisteredContractError then if the registry
    lacks a contract.
    """
    limits = limits or Limits()
    app = Starlette(
        routes=starlette_routes(),
        middleware=[Middleware(Edge, limits=limits)],
        exception_handlers={HTTPException: _http_error, Problem: _problem},
        lifespan=_lifespan,
    )
    app.state.gateway = Services(settings, limits)
    app.state.readiness = Readiness(app.state.gateway)
    app.router.redirect_slashes = False
    return app


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    services: Services = app.state.gateway
    await services.start()
    try:
        yield
    finally:
        await services.stop()


def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    request.scope["gateway.problem"] = error.kind.code
    return error.response()


def _http_error(request: Request, error: Exception) -> Response:
    """The router's own errors: no such route, or not that method."""
    assert isinstance(error, HTTPException)
    kind = {404: problems.NOT_FOUND, 405: problems.METHOD_NOT_ALLOWED}.get(error.status_code, problems.INTERNAL)
    return _problem(request, Problem(kind, headers=error.headers or {}))
