"""The page of the shopper's bank. `POST` with `outcome=success` or `fail` (or `GET` with it) is the shopper's answer.

As at Adyen, the shopper is sent back to the return URL with a `redirectResult`, and nothing is decided until that is
given to `/payments/details`. Where nobody waits at the return URL, `&finish=true` lets Adyen decide at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from connectors.simulator.adyen.account import Account, Call
from connectors.simulator.adyen.outbox import Outbox
from connectors.simulator.adyen.payments import Payment, State

_PAGE: Final = """<!doctype html><html lang="en"><meta charset="utf-8"><title>3D Secure (simulated)</title>
<h1>Confirm this payment?</h1>
<form method="post"><button name="outcome" value="success">Complete</button>
<button name="outcome" value="fail">Fail</button></form></html>"""


class Shopper:
    """The page of one payment, /_3ds/adyen/{payment}."""

    def __init__(self, account: Account, outbox: Outbox, begin: Callable[[], Call]) -> None:
        self._account = account
        self._outbox = outbox
        self._begin = begin

    async def page(self, request: Request) -> Response:
        """The question, or the shopper's answer to it."""
        asked = dict(request.query_params)
        if request.method == "POST":
            asked |= dict(parse_qsl((await request.body()).decode()))
        outcome, payment = asked.get("outcome"), self._account.payments.get(request.path_params["payment"])
        if payment is None:
            return JSONResponse({"error": "no such payment"}, 404)
        if outcome is None:
            return HTMLResponse(_PAGE)
        if outcome not in ("success", "fail"):
            return JSONResponse({"error": "outcome must be success or fail"}, 400)
        if asked.get("finish") == "true" and payment.state is State.WAITING:
            call = self._begin()
            self._account.decide(payment, call, success=outcome == "success")
            self._outbox.publish(call.events)
            return JSONResponse({"state": payment.state.value})
        return RedirectResponse(_back(payment, outcome), 303)


def _back(payment: Payment, outcome: str) -> str:
    """The return URL with what Adyen adds to it."""
    parts = urlsplit(payment.return_url or "")
    added = urlencode({"redirectResult": f"{payment.psp}!{outcome}"})
    return urlunsplit(parts._replace(query=f"{parts.query}&{added}" if parts.query else added))
