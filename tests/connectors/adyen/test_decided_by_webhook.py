"""What a payment makes of Adyen's answers and webhooks, in whatever order they come: the pure stages only."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import pytest

from connectors.adyen import answers
from connectors.adyen.objects import Modification, Payment
from connectors.adyen.webhook import translate
from connectors.provider import Answer, operation_of, report_of
from connectors.references import Reference
from pipeline.domain.chain import PaymentChain
from pipeline.domain.decision import Schedule
from pipeline.messages import Input
from pipeline.messages.commands import Authorize, Capture, CreateIntent, Refund, Void
from pipeline.messages.inputs import ProviderReport, TimerFired
from pipeline.messages.requests import LookupRequest, ProviderRequest
from pipeline.messages.values import CaptureMethod, NextAction, Operation, Outcome, PaymentMethod, TimerKind
from tests.connectors.adyen.items import PAYMENT, delivery, item

NOW = 1_800_000_000_000
PSP = "8837544667111111"
METHOD = PaymentMethod(token="adyen_ok")


class Life:
    """A payment's life: commands, and what Adyen says of the requests they cause."""

    def __init__(self, capture_method: CaptureMethod = CaptureMethod.MANUAL) -> None:
        self.chain = PaymentChain(Schedule())
        self._count = itertools.count()
        self.command(
            CreateIntent, amount=1_000, currency="EUR", provider="adyen", capture_method=capture_method,
            payment_method=METHOD,
        )  # fmt: skip

    def command(self, kind: Any, **fields: Any) -> ProviderRequest | None:
        """A command; the request it causes."""
        common = {"command_id": f"c{next(self._count)}", "merchant_id": "acme", "payment_id": PAYMENT}
        return self.feed(kind(**common, occurred_at=NOW, **fields))

    def feed(self, given: Input) -> ProviderRequest | None:
        requests = self.chain.feed(given).requests
        return requests[-1] if requests else None

    def asked(self, kind: Any, **fields: Any) -> ProviderRequest:
        request = self.command(kind, **fields)
        assert request is not None
        return request

    def answer(self, request: ProviderRequest, answer: Answer) -> ProviderRequest | None:
        return self.feed(report_of(request, answer, NOW))

    def taken(self, request: ProviderRequest) -> ProviderRequest | None:
        """The answer to a capture, cancel or refund."""
        return self.answer(request, answers.accepted(Modification("993617894906488A", "received", PSP)))

    def webhook(self, event: str, request: ProviderRequest, success: str = "true", **fields: Any) -> None:
        operation = operation_of(request)
        own = PSP if operation is Operation.AUTHORIZE else "993617894906488A"
        made = {
            "merchantReference": str(Reference(PAYMENT, operation, request.subject_id)),
            "pspReference": own,
            **({} if operation is Operation.AUTHORIZE else {"originalReference": PSP}),
            **fields,
        }
        (report,) = translate(delivery(item(event, success=success, **made)), NOW)
        assert isinstance(report, ProviderReport)
        self.feed(report)

    def authorized(self) -> None:
        request = self.asked(Authorize)
        self.answer(request, answers.of_authorization(Payment(result_code="Authorised", psp_reference=PSP)))
        assert self.status == "authorized"

    @property
    def status(self) -> str:
        assert self.chain.view is not None
        return self.chain.view.status.value

    def names(self) -> list[str]:
        return [type(fact).__name__ for fact in self.chain.facts]


class Kind(NamedTuple):
    """A command, the event that decides it, and the facts of either end."""

    command: Any
    event: str
    done: str
    failed: str


MOVES = [
    Kind(Capture, "CAPTURE", "PaymentCaptured", "CaptureFailed"),
    Kind(Void, "CANCELLATION", "PaymentVoided", "VoidFailed"),
    Kind(Refund, "REFUND", "PaymentRefunded", "RefundFailed"),
]


def begun(kind: Any) -> tuple[Life, ProviderRequest]:
    """A capture, void or refund that was asked for."""
    life = Life(CaptureMethod.AUTOMATIC if kind is Refund else CaptureMethod.MANUAL)
    request = life.asked(Authorize)
    life.answer(request, answers.of_authorization(Payment(result_code="Authorised", psp_reference=PSP)))
    return life, life.asked(kind)


ORDERS = [
    ("answer", "webhook"),
    ("webhook", "answer"),
    ("answer", "webhook", "webhook"),
    ("webhook", "answer", "webhook"),
    ("webhook",),
]


@pytest.mark.parametrize("kind", MOVES, ids=lambda kind: kind.event)
@pytest.mark.parametrize("success", ["true", "false"])
@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_the_webhook_decides_whenever_it_comes(kind: Kind, success: str, order: tuple[str, ...]) -> None:
    life, request = begun(kind.command)
    for what in order:
        if what == "answer":
            life.taken(request)
        else:
            life.webhook(kind.event, request, success)
    expected, other = (kind.done, kind.failed) if success == "true" else (kind.failed, kind.done)
    since = life.names()[life.names().index(f"{kind.command.__name__}Requested") :]
    assert since.count(expected) == 1
    assert other not in since


@pytest.mark.parametrize("kind", MOVES, ids=lambda kind: kind.event)
def test_a_lost_request_is_sent_again_under_its_key(kind: Kind) -> None:
    """The look-up that asks for it, and the webhook that decides after all."""
    life, request = begun(kind.command)
    life.answer(request, Answer(outcome=Outcome.UNKNOWN))
    fired = TimerFired(
        payment_id=PAYMENT, occurred_at=NOW, timer_id="t", kind=TimerKind.RECOVERY, subject_id=request.subject_id,
        operation=operation_of(request), generation=2, due_at=NOW,
    )  # fmt: skip
    question = life.feed(fired)
    assert isinstance(question, LookupRequest)
    again = life.answer(question, Answer(outcome=Outcome.NOT_FOUND, looked_up=True))
    assert again is not None
    assert (type(again), again.subject_id) == (type(request), request.subject_id)
    assert again.request_id != request.request_id, "so that the worker knows that it may have been sent before"
    life.taken(again)
    life.webhook(kind.event, request)
    since = life.names()[life.names().index(f"{kind.command.__name__}Requested") :]
    assert since.count(kind.done) == 1
    assert kind.failed not in since


@pytest.mark.parametrize("first", ["answer", "webhook"])
@pytest.mark.parametrize("success", ["true", "false"])
def test_a_redirect_is_decided_by_webhook(first: str, success: str) -> None:
    life = Life()
    request = life.asked(Authorize)
    asked = Answer(outcome=Outcome.REQUIRES_ACTION, next_action=NextAction(url="https://adyen.example"))
    if first == "answer":
        life.answer(request, asked)
        assert life.status == "requires_action"
        life.webhook("AUTHORISATION", request, success, reason="" if success == "true" else "Refused")
    else:
        life.webhook("AUTHORISATION", request, success, reason="" if success == "true" else "Refused")
        life.answer(request, asked)
    assert life.names().count("PaymentAuthorized") == (success == "true")
    assert life.names().count("AttemptDeclined") == (success == "false")


def test_a_shopper_who_never_comes_back_fails_the_payment() -> None:
    life = Life()
    request = life.asked(Authorize)
    life.answer(request, Answer(outcome=Outcome.REQUIRES_ACTION, next_action=NextAction(url="https://adyen.example")))
    life.webhook("OFFER_CLOSED", request)
    assert life.names()[-2:] == ["AttemptDeclined", "PaymentFailed"]


def test_a_pending_payment_is_decided_by_webhook() -> None:
    life = Life()
    request = life.asked(Authorize)
    life.answer(request, answers.of_authorization(Payment(result_code="Pending", psp_reference=PSP)))
    life.webhook("AUTHORISATION", request)
    assert life.status == "authorized"


def test_an_expiry_gives_the_hold_back() -> None:
    life = Life()
    request = life.asked(Authorize)
    life.webhook("AUTHORISATION", request)
    life.webhook("EXPIRE", request, pspReference="QFQTPCQ8HXSKGK99", originalReference=PSP)
    assert life.names()[-1] == "PaymentVoided"


def test_a_refund_in_the_customer_area_is_a_refund() -> None:
    life = Life(CaptureMethod.AUTOMATIC)
    request = life.asked(Authorize)
    life.webhook("AUTHORISATION", request)
    common = {"pspReference": "QFQTPCQ8HXSKGK99", "originalReference": PSP}
    life.webhook("REFUND", request, amount={"currency": "EUR", "value": 400}, **common)
    assert life.names()[-1] == "PaymentRefunded"


@pytest.mark.parametrize("event", ["REFUND_FAILED", "REFUNDED_REVERSED"])
def test_a_refund_that_came_back(event: str) -> None:
    life, request = begun(Refund)
    life.taken(request)
    life.webhook("REFUND", request)
    life.webhook(event, request)
    assert life.names()[-2:] == ["PaymentRefunded", "RefundFailed"]


def test_a_capture_that_the_scheme_rejects_later() -> None:
    life, request = begun(Capture)
    life.taken(request)
    life.webhook("CAPTURE", request)
    life.webhook("CAPTURE_FAILED", request)
    assert life.names()[-2:] == ["PaymentCaptured", "CaptureFailed"]
    assert life.status == "failed"
    life.webhook("CAPTURE", request)
    assert life.names()[-1] == "CaptureFailed", "said again, the success does not count again"


def test_an_automatic_capture_that_the_scheme_rejects_later() -> None:
    """It has no reference of its own: the event names the payment."""
    life = Life(CaptureMethod.AUTOMATIC)
    request = life.asked(Authorize)
    life.answer(request, answers.of_authorization(Payment(result_code="Authorised", psp_reference=PSP)))
    life.webhook("CAPTURE_FAILED", request, pspReference="993617894906488B", originalReference=PSP)
    assert life.names()[-2:] == ["PaymentCaptured", "CaptureFailed"]
    assert life.status == "failed"


@pytest.mark.parametrize(
    ("kind", "later", "earlier", "wrong"),
    [(Capture, "CAPTURE_FAILED", "CAPTURE", "PaymentCaptured"), (Refund, "REFUND_FAILED", "REFUND", "PaymentRefunded")],
)
def test_a_failure_that_overtakes_its_success_stands(kind: Any, later: str, earlier: str, wrong: str) -> None:
    """Adyen guarantees no order: the failure of what succeeded may come first."""
    life, request = begun(kind)
    life.taken(request)
    life.webhook(later, request)
    life.webhook(earlier, request)
    assert life.names()[-1] != wrong
