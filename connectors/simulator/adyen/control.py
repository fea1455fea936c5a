"""Controls that only Adyen's account has.

POST   /_sim/adyen/settle                    decide at once what was accepted -> {"settled"}
POST   /_sim/adyen/payments/{psp}/decide     ?outcome=success|fail: a pending payment is decided
POST   /_sim/adyen/payments/{psp}/expire     the issuer lets go of what is left of the hold
POST   /_sim/adyen/payments/{psp}/close      the shopper never came back
POST   /_sim/adyen/payments/{psp}/chargeback the cardholder disputes it
POST   /_sim/adyen/payments/{psp}/refund     somebody refunds all of it in the Customer Area
POST   /_sim/adyen/reports/{name}            a report is said to be there
POST   /_sim/adyen/batches                   settle what is open -> {"report"}: it can be downloaded
POST   /_sim/adyen/webhooks/batch            ?reference=: all events of a payment in one delivery -> {"sent"}
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from connectors.simulator.adyen.account import Account, Call
from connectors.simulator.adyen.errors import AdyenError
from connectors.simulator.adyen.outbox import Outbox
from connectors.simulator.adyen.payments import Payment
from connectors.simulator.answering import Handler, answer, guarded

Doing = Callable[[Payment, Call], None]


class AdyenControl:
    """The handlers."""

    def __init__(self, account: Account, outbox: Outbox, begin: Callable[[], Call]) -> None:
        self._account = account
        self._outbox = outbox
        self._begin = begin

    def routes(self) -> list[BaseRoute]:
        """All of them."""
        account = self._account
        doings: dict[str, Doing] = {
            "expire": account.expire,
            "close": account.close,
            "chargeback": account.dispute,
            "refund": account.refund_in_customer_area,
        }
        table: list[tuple[str, Handler]] = [
            ("settle", self.settle),
            ("payments/{psp}/decide", self.decide),
            *((f"payments/{{psp}}/{name}", self._to(doing)) for name, doing in doings.items()),
            ("reports/{name}", self.report),
            ("batches", self.close_batch),
            ("webhooks/batch", self.batch),
        ]
        posts = [Route(f"/_sim/adyen/{path}", guarded(_refusing(handler)), methods=["POST"]) for path, handler in table]
        return [*posts, Route("/reports/download/MerchantAccount/{account}/{name}", self.download)]

    async def settle(self, _request: Request) -> Response:
        """No waiting for the clock."""
        call = self._begin()
        events = [e for m in list(self._account.modifications.values()) for e in self._account.settle(m, call.now)]
        self._outbox.publish(events)
        return answer({"settled": len(events)})

    async def decide(self, request: Request) -> Response:
        """A pending payment ends."""
        payment, call = self._account.payment(request.path_params["psp"]), self._begin()
        self._account.decide(payment, call, success=request.query_params.get("outcome") == "success")
        self._outbox.publish(call.events)
        return answer({"state": payment.state.value})

    async def report(self, request: Request) -> Response:
        """A report is ready."""
        call = self._begin()
        self._account.report(request.path_params["name"], call)
        self._outbox.publish(call.events)
        return answer({})

    async def close_batch(self, request: Request) -> Response:
        """A batch is settled and paid out, and its report announced."""
        call = self._begin()
        call.base_url = str(request.base_url).rstrip("/")
        name = self._account.batches.close(call.now)
        self._account.report(name, call)
        self._outbox.publish(call.events)
        return answer({"report": name})

    async def download(self, request: Request) -> Response:
        """A report, for whoever has a key."""
        if not self._account.knows(request.headers.get("x-api-key")):
            return answer({}, 401)
        text = self._account.batches.report(request.path_params["name"])
        return answer({}, 404) if text is None else Response(text, media_type="text/csv")

    async def batch(self, request: Request) -> Response:
        """Several items in one delivery."""
        wanted = request.query_params.get("reference")
        events = [event for event in self._outbox.events if wanted in (None, event.payment)]
        self._outbox.batch(events)
        return answer({"sent": len(events)})

    def _to(self, doing: Doing) -> Handler:
        async def handler(request: Request) -> Response:
            payment, call = self._account.payment(request.path_params["psp"]), self._begin()
            doing(payment, call)
            self._outbox.publish(call.events)
            return answer({"state": payment.state.value})

        return handler


def _refusing(handler: Handler) -> Handler:
    async def wrapped(request: Request) -> Response:
        try:
            return await handler(request)
        except AdyenError as error:
            return answer({"error": error.message}, error.status)

    return wrapped
