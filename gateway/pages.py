"""Pages to read: the API's description and what each problem means. Self-contained: no other origin is asked."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from gateway import problems
from gateway.openapi import document
from gateway.problems import Kind, Problem

_ASSETS: Final = files("gateway") / "assets"
_STYLE: Final = (_ASSETS / "page.css").read_text()
_SCRIPT: Final = (_ASSETS / "docs.js").read_text()


async def openapi(_request: Request) -> Response:
    """GET /openapi.json"""
    return Response(document(), media_type="application/json", headers={"Cache-Control": "no-cache"})


async def docs(_request: Request) -> Response:
    """GET /docs: a page that reads /openapi.json."""
    body = f'<main id="api" data-url="openapi.json"><p>Reading openapi.json …</p></main><script>{_SCRIPT}</script>'
    return _page("Payments API", body)


async def problem(request: Request) -> Response:
    """GET /problems/{code}; `all` lists them."""
    code = request.path_params["code"]
    if code == "all":
        return _page("Problems", "<main>" + "".join(map(_described, problems.KINDS.values())) + "</main>")
    kind = problems.KINDS.get(code)
    if kind is None:
        raise Problem(problems.NOT_FOUND)
    return _page(kind.title, f"<main>{_described(kind)}<p><a href='all'>All problems</a></p></main>")


def _described(kind: Kind) -> str:
    return (
        f"<section><h2>{escape(kind.title)}</h2><p><code>{kind.status}</code> <code>{escape(kind.type)}</code></p>"
        f"<p>{escape(kind.advice)}</p></section>"
    )


def _page(title: str, body: str) -> HTMLResponse:
    html = (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{escape(title)}</title>"
        f"<meta name='viewport' content='width=device-width, initial-scale=1'><style>{_STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1>{body}</body></html>"
    )
    policy = (
        "default-src 'none'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        f"style-src '{_hash(_STYLE)}'; script-src '{_hash(_SCRIPT)}'"
    )
    return HTMLResponse(html, headers={"Content-Security-Policy": policy})


def _hash(text: str) -> str:
    return "sha256-" + b64encode(sha256(text.encode()).digest()).decode()
