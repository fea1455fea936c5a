"""The page of the card's bank. `POST` with `outcome=success` or `fail` (or `GET` with it) is the customer's answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import urlencode, urlsplit, urlunsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from connectors.simulator.stripe import render
from connectors.simulator.stripe.account import Account
from connectors.simulator.stripe.errors import StripeError
from connectors.simulator.stripe.forms import decode
from connectors.simulator.stripe.objects import Intent, IntentStatus
from connectors.simulator.stripe.outbox import Outbox
from connectors.simulator.stripe.records import Call

_PAGE: Final = """<!doctype html><html lang="en"><meta charset="utf-8"><title>3D Secure (simulated)</title>
<h1>Confirm this payment?</h1>
<form method="post"><button name="outcome" value="success">Complete</button>
<button name="outcome" value="fail">Fail</button></form></html>"""
_PAID: Final = (IntentStatus.SUCCEEDED, IntentStatus.REQUIRES_CAPTURE)


class ThreeDSecure:
    """The page of one payment intent, /_3ds/stripe/{intent}."""

    def __init__(self, account: Account, outbox: Outbox, begin: Callable[[], Call]) -> None:
        self._account = account
        self._outbox = outbox
        self._begin = begin

    async def page(self, request: Request) -> Response:
        """The question, or the customer's answer to it."""
        outcome = request.query_params.get("outcome")
        if request.method == "POST" and outcome is None:
            outcome = str((await _form(request)).get("outcome", ""))
        if outcome is None:
            return HTMLResponse(_PAGE)
        if outcome not in ("success", "fail"):
            return JSONResponse({"error": "outcome must be success or fail"}, 400)
        return self._answered(request.path_params["intent"], outcome == "success")

    def _answered(self, identifier: str, passed: bool) -> Response:
        call = self._begin()
        try:
            intent = self._account.intents.authenticate(identifier, passed, call)
        except StripeError as error:
            return JSONResponse({"error": error.fields()}, error.status)
        self._outbox.publish(call.events)
        if intent.return_url:
            return RedirectResponse(_back(intent), 303)
        return JSONResponse({"payment_intent": intent.id, "status": intent.status.value})


async def _form(request: Request) -> dict[str, str]:
    return decode(await request.body())


def _back(intent: Intent) -> str:
    """The return URL with what Stripe adds to it."""
    parts = urlsplit(intent.return_url or "")
    added = urlencode(
        {
            "payment_intent": intent.id,
            "payment_intent_client_secret": render.client_secret(intent.id),
            "redirect_status": "succeeded" if intent.status in _PAID else "failed",
        }
    )
    return urlunsplit(parts._replace(query=f"{parts.query}&{added}" if parts.query else added))
