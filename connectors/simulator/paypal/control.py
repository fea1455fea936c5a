"""Controls that only PayPal's account has. `outcome` is `success` or `fail`.

POST   /_sim/paypal/settle                      decide at once what ends by itself -> {"settled"}
POST   /_sim/paypal/authorizations/{id}/decide  ?outcome=: a pending authorization is decided
POST   /_sim/paypal/authorizations/{id}/expire  the authorization period is over
POST   /_sim/paypal/captures/{id}/decide        ?outcome=: a pending capture is decided
POST   /_sim/paypal/captures/{id}/reverse       PayPal takes the capture back
POST   /_sim/paypal/captures/{id}/refund        somebody refunds what is left of it, on paypal.com
POST   /_sim/paypal/captures/{id}/dispute       the payer disputes it: the dispute's id
POST   /_sim/paypal/refunds/{id}/decide         ?outcome=: a pending refund is decided
POST   /_sim/paypal/disputes/{id}/update        PayPal reviews it
POST   /_sim/paypal/disputes/{id}/resolve       ?outcome=success (won) | fail (lost)
POST   /_sim/paypal/orders/{id}/void            the payer never came back
POST   /_sim/paypal/tokens/expire               every access token ends now -> {"expired"}
GET    /_sim/paypal/root.pem                    the root that webhooks' certificates end in
GET    /_sim/paypal/settlement_report.csv       the published Settlement Report (STL) of everything so far

Those about one thing answer with its id and status.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from connectors.simulator.answering import Handler, answer, guarded
from connectors.simulator.paypal import report
from connectors.simulator.paypal.account import Call
from connectors.simulator.paypal.business import Business
from connectors.simulator.paypal.errors import PayPalError
from connectors.simulator.paypal.records import Authorization, Capture, Dispute, DisputeOutcome, Order, Pending, Refund

Thing = Order | Authorization | Capture | Refund | Dispute
Doing = Callable[[str, Call, bool], Thing]
"""Id, call and whether `outcome` is success -> what it is about."""

_PEM = "application/x-pem-file"


class PayPalControl:
    """The handlers."""

    def __init__(self, business: Business, begin: Callable[[str], Call]) -> None:
        self._account = business.account
        self._orders = business.orders
        self._payments = business.payments
        self._disputes = business.disputes
        self._tokens = business.tokens
        self._outbox = business.outbox
        self._begin = begin

    def routes(self) -> list[BaseRoute]:
        """All of them."""
        doings: dict[str, Doing] = {
            "orders/{id}/void": self._void_order,
            "authorizations/{id}/decide": self._decide_authorization,
            "authorizations/{id}/expire": self._expire,
            "captures/{id}/decide": self._decide_capture,
            "captures/{id}/reverse": self._reverse,
            "captures/{id}/refund": self._refund,
            "captures/{id}/dispute": self._dispute,
            "refunds/{id}/decide": self._decide_refund,
            "disputes/{id}/update": self._update_dispute,
            "disputes/{id}/resolve": self._resolve_dispute,
        }
        table: list[tuple[str, str, Handler]] = [
            ("POST", "settle", self.settle),
            *(("POST", path, self._to(doing)) for path, doing in doings.items()),
            ("POST", "tokens/expire", self.expire_tokens),
            ("GET", "root.pem", self.root),
            ("GET", "settlement_report.csv", self.settlement_report),
        ]
        return [
            Route(f"/_sim/paypal/{path}", guarded(_refusing(handler)), methods=[method])
            for method, path, handler in table
        ]

    async def settle(self, request: Request) -> Response:
        """No waiting for the clock."""
        account, call = self._account, self._begin(_base(request))
        kept: list[Pending] = [*account.authorizations.values(), *account.captures.values(), *account.refunds.values()]
        due = [each for each in kept if each.pending and each.ends is not None]
        for pending in due:
            self._payments.decide(pending, call, success=pending.ends == "completed")
        self._outbox.publish(call.events)
        return answer({"settled": len(due)})

    async def expire_tokens(self, _request: Request) -> Response:
        """Every client needs a new one."""
        return answer({"expired": self._tokens.expire()})

    async def root(self, _request: Request) -> Response:
        """What a verifier has to trust."""
        return Response(self._outbox.certificates.root_pem, media_type=_PEM)

    async def settlement_report(self, _request: Request) -> Response:
        """What moved so far."""
        return Response(report.settlement(self._account), media_type="text/csv")

    # What is done to one thing

    def _void_order(self, name: str, call: Call, _success: bool) -> Thing:
        order = self._account.order(name)
        self._orders.void(order, call)
        return order

    def _decide_authorization(self, name: str, call: Call, success: bool) -> Thing:
        held = self._account.authorization(name)
        self._payments.decide(held, call, success=success)
        return held

    def _expire(self, name: str, call: Call, _success: bool) -> Thing:
        held = self._account.authorization(name)
        self._payments.expire(held, call)
        return held

    def _decide_capture(self, name: str, call: Call, success: bool) -> Thing:
        made = self._account.capture(name)
        self._payments.decide(made, call, success=success)
        return made

    def _reverse(self, name: str, call: Call, _success: bool) -> Thing:
        made = self._account.capture(name)
        self._payments.reverse(made, call)
        return made

    def _refund(self, name: str, call: Call, _success: bool) -> Thing:
        return self._payments.refund(self._account.capture(name), {}, call)

    def _dispute(self, name: str, call: Call, _success: bool) -> Thing:
        made = self._account.capture(name)
        self._disputes.open(made, call)
        return made.dispute or made

    def _decide_refund(self, name: str, call: Call, success: bool) -> Thing:
        refund = self._account.refund(name)
        self._payments.decide(refund, call, success=success)
        return refund

    def _update_dispute(self, name: str, call: Call, _success: bool) -> Thing:
        dispute = self._account.dispute(name)
        self._disputes.update(dispute, call)
        return dispute

    def _resolve_dispute(self, name: str, call: Call, success: bool) -> Thing:
        dispute = self._account.dispute(name)
        self._disputes.resolve(dispute, DisputeOutcome.WON if success else DisputeOutcome.LOST, call)
        return dispute

    def _to(self, doing: Doing) -> Handler:
        async def handler(request: Request) -> Response:
            call = self._begin(_base(request))
            outcome = request.query_params.get("outcome", "success")
            if outcome not in ("success", "fail"):
                return answer({"error": "outcome must be success or fail"}, 400)
            thing = doing(request.path_params["id"], call, outcome == "success")
            self._outbox.publish(call.events)
            return answer({"id": thing.id, "status": thing.status.value})

        return handler


def _base(request: Request) -> str:
    return str(request.base_url).rstrip("/")


def _refusing(handler: Handler) -> Handler:
    async def wrapped(request: Request) -> Response:
        try:
            return await handler(request)
        except PayPalError as error:
            return answer({"error": str(error)}, error.status)

    return wrapped
