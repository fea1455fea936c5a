"""An HTTP server that answers what Stripe's documentation prints, where no simulator can be asked to."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from aiohttp import web


class Trouble(StrEnum):
    """What the network does instead of answering."""

    RESET = "reset"
    HANG = "hang"
    CUT_BODY = "cut_body"


@dataclass(frozen=True, slots=True)
class Say:
    """One answer."""

    status: int = 200
    body: dict[str, Any] | str = ""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return self.body if isinstance(self.body, str) else json.dumps(self.body)


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    params: dict[str, str]
    key: str | None
    headers: dict[str, str] = field(default_factory=dict)
    json: Any = None


@dataclass(slots=True)
class Script:
    """What will be answered, in order; the last answer stays. `seen` is what was asked."""

    url: str = ""
    answers: list[Say | Trouble] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        form = await request.post() if request.method == "POST" else request.query
        params = {name: str(value) for name, value in form.items()}
        headers = {name.lower(): value for name, value in request.headers.items()}
        sent = await request.json() if headers.get("content-type") == "application/json" else None
        self.seen.append(Seen(request.method, request.path, params, headers.get("idempotency-key"), headers, sent))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Say):
            return web.Response(
                status=answer.status, text=answer.text, headers=answer.headers, content_type="application/json"
            )
        return await self._trouble(request, answer)

    async def _trouble(self, request: web.Request, trouble: Trouble) -> web.StreamResponse:
        import asyncio

        assert request.transport is not None
        if trouble is Trouble.HANG:
            await asyncio.sleep(30)
        if trouble is Trouble.CUT_BODY:
            response = web.StreamResponse(headers={"Content-Length": "1000"})
            await response.prepare(request)
            await response.write(b'{"id": "pi_1", "status": "requires_')
        request.transport.abort()
        raise ConnectionResetError


@asynccontextmanager
async def scripted(*answers: Say | Trouble) -> AsyncIterator[Script]:
    """A server on a free port that answers by script."""
    script = Script(answers=list(answers))
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", script.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    script.url = f"http://{host}:{port}"
    try:
        yield script
    finally:
        await runner.cleanup()
