"""How the controls read and answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
import orjson
from starlette.requests import Request
from starlette.responses import Response

Asked = TypeVar("Asked")
Handler = Callable[[Request], Awaitable[Response]]


def answer(body: Any, status: int = 200) -> Response:
    """JSON."""
    return Response(orjson.dumps(body), status, media_type="application/json")


async def read(request: Request, kind: type[Asked]) -> Asked:
    """The request's JSON. Raises msgspec.MsgspecError."""
    return msgspec.json.decode(await request.body() or b"{}", type=kind)


def guarded(handler: Handler) -> Handler:
    """What does not fit is a 400 with the reason."""

    async def wrapped(request: Request) -> Response:
        try:
            return await handler(request)
        except msgspec.MsgspecError as error:
            return answer({"error": str(error)}, 400)

    return wrapped
