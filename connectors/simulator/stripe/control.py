"""Controls that only Stripe's account has.

POST   /_sim/refunds/{id}                  ?outcome=success|fail: a refund ends
POST   /_sim/payment_intents/{id}/expire   the hold's seven days are over
POST   /_sim/charges/{id}/dispute          {"reason"?, "inquiry"?}: the cardholder disputes it
POST   /_sim/stripe/payouts                pay out the whole balance, by currency
POST   /_sim/stripe/payouts/{id}           ?outcome=paid|failed: it arrives, or comes back
GET    /_sim/stripe/balance_report.csv     the published report `balance_change_from_activity.itemized.3`
GET    /_sim/stripe/payouts_report.csv     the published report `payouts.itemized.3`
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from connectors.simulator.answering import Handler, answer, guarded, read
from connectors.simulator.stripe import reports
from connectors.simulator.stripe.account import Account
from connectors.simulator.stripe.errors import StripeError
from connectors.simulator.stripe.objects import PayoutStatus
from connectors.simulator.stripe.outbox import Outbox
from connectors.simulator.stripe.records import Call


class Outcome(StrEnum):
    """How a refund ends."""

    SUCCESS = "success"
    FAIL = "fail"


class PayoutOutcome(StrEnum):
    """How a payout ends."""

    PAID = "paid"
    FAILED = "failed"


class Disputed(msgspec.Struct, forbid_unknown_fields=True):
    """Why a charge is disputed."""

    reason: str = "fraudulent"
    inquiry: bool = False


class StripeControl:
    """The handlers."""

    def __init__(self, account: Account, outbox: Outbox, begin: Callable[[], Call]) -> None:
        self._account = account
        self._outbox = outbox
        self._begin = begin

    def routes(self) -> list[BaseRoute]:
        """All of them."""
        table: list[tuple[str, Handler]] = [
            ("/_sim/refunds/{id}", self.settle_refund),
            ("/_sim/payment_intents/{id}/expire", self.expire),
            ("/_sim/charges/{id}/dispute", self.dispute),
            ("/_sim/stripe/payouts", self.pay_out),
            ("/_sim/stripe/payouts/{id}", self.settle_payout),
        ]
        posts = [Route(path, guarded(_refusing(handler)), methods=["POST"]) for path, handler in table]
        return [
            *posts,
            Route("/_sim/stripe/balance_report.csv", self.balance_report),
            Route("/_sim/stripe/payouts_report.csv", self.payouts_report),
        ]

    async def expire(self, request: Request) -> Response:
        """A hold runs out."""
        call = self._begin()
        intent = self._account.intents.expire(request.path_params["id"], call)
        self._outbox.publish(call.events)
        return answer({"id": intent.id, "status": intent.status})

    async def settle_refund(self, request: Request) -> Response:
        """A refund ends."""
        outcome = msgspec.convert(request.query_params.get("outcome"), Outcome)
        succeeded = outcome is Outcome.SUCCESS
        refund = self._account.refunds.settle(request.path_params["id"], succeeded=succeeded)
        return answer({"id": refund.id, "status": refund.status}) if refund else answer({}, 404)

    async def dispute(self, request: Request) -> Response:
        """A cardholder disputes a charge."""
        asked = await read(request, Disputed)
        dispute = self._account.disputes.open(request.path_params["id"], asked.reason, inquiry=asked.inquiry)
        return answer({"id": dispute.id, "status": dispute.status})

    async def pay_out(self, _request: Request) -> Response:
        """The balance goes to the bank."""
        call = self._begin()
        made = self._account.payouts.pay_out(call)
        self._outbox.publish(call.events)
        return answer([msgspec.structs.asdict(payout) for payout in made])

    async def settle_payout(self, request: Request) -> Response:
        """A payout ends."""
        outcome = msgspec.convert(request.query_params.get("outcome"), PayoutOutcome)
        call = self._begin()
        payout = self._account.payouts.settle(request.path_params["id"], PayoutStatus(outcome), call)
        self._outbox.publish(call.events)
        return answer(msgspec.structs.asdict(payout))

    async def balance_report(self, _request: Request) -> Response:
        """What happened on the balance."""
        return Response(reports.activity(self._account.store), media_type="text/csv")

    async def payouts_report(self, _request: Request) -> Response:
        """What left it for the bank."""
        return Response(reports.payouts(self._account.store), media_type="text/csv")


def _refusing(handler: Handler) -> Handler:
    async def wrapped(request: Request) -> Response:
        try:
            return await handler(request)
        except StripeError as error:
            return answer({"error": error.message}, error.status)

    return wrapped
