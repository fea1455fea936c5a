"""The page on which the payer approves. `POST` with `outcome=success` or `fail` (or `GET` with it) is the answer.

As at PayPal, the payer is sent back to the return URL with `token` and `PayerID`, or to the cancel URL with `token`;
approved, an order waits for the merchant to authorize or capture it. Where nobody waits at those URLs, `&finish=true`
answers with the order's status instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from connectors.simulator.paypal.account import Call
from connectors.simulator.paypal.business import Business
from connectors.simulator.paypal.records import Order
from connectors.simulator.paypal.render import PAYER_ID

_PAGE: Final = """<!doctype html><html lang="en"><meta charset="utf-8"><title>PayPal (simulated)</title>
<h1>Approve this payment?</h1>
<form method="post"><button name="outcome" value="success">Approve</button>
<button name="outcome" value="fail">Cancel</button></form></html>"""


class Payer:
    """The page of one order, /checkoutnow?token={order}."""

    def __init__(self, business: Business, begin: Callable[[str], Call]) -> None:
        self._account = business.account
        self._orders = business.orders
        self._outbox = business.outbox
        self._begin = begin

    async def page(self, request: Request) -> Response:
        """The question, or the payer's answer to it."""
        asked = dict(request.query_params)
        if request.method == "POST":
            asked |= dict(parse_qsl((await request.body()).decode()))
        outcome, order = asked.get("outcome"), self._account.orders.get(asked.get("token", ""))
        if order is None:
            return JSONResponse({"error": "no such order"}, 404)
        if outcome is None:
            return HTMLResponse(_PAGE)
        if outcome not in ("success", "fail"):
            return JSONResponse({"error": "outcome must be success or fail"}, 400)
        approved = outcome == "success"
        if approved:
            call = self._begin(str(request.base_url).rstrip("/"))
            self._orders.approve(order, call)
            self._outbox.publish(call.events)
        back = order.return_url if approved else order.cancel_url
        if asked.get("finish") == "true" or back is None:
            return JSONResponse({"status": order.status.value})
        return RedirectResponse(_back(back, order, approved), 303)


def _back(url: str, order: Order, approved: bool) -> str:
    """The merchant's URL with what PayPal adds to it."""
    parts = urlsplit(url)
    added = urlencode({"token": order.id, **({"PayerID": PAYER_ID} if approved else {})})
    return urlunsplit(parts._replace(query=f"{parts.query}&{added}" if parts.query else added))
