"""What Adyen's answers, events and errors mean. Pure: the calls are in `client`, the webhooks in `webhook`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from connectors import declines, failures
from connectors.adyen import refusals
from connectors.adyen.amounts import from_adyen
from connectors.adyen.objects import Modification, Payment, ResultCode, ServiceError, parse
from connectors.failures import detail_of
from connectors.provider import Answer
from connectors.transport import Reply
from pipeline.messages.values import Decline, NextAction, Outcome

NAME: Final = "adyen"
DECLINES: Final = declines.load(NAME, Path(__file__).with_name("declines.toml"))

IN_PROGRESS: Final = "704"
"""`errorCode`: request already processed or in progress."""
_GENERIC_REFUSAL: Final = "2"
_ERROR: Final = "error"
_RAW_CODE: Final = re.compile(r"\s*([0-9A-Z]{1,2})\s*(?::|$)")
_ACCEPTED: Final = "received"


def is_transient(reply: Reply) -> bool:
    """Adyen's own word that the request may be repeated under the same key."""
    return reply.headers.get("transient-error", "").lower() == "true"


def error_of(reply: Reply) -> ServiceError | None:
    """The error that the body describes, if it does."""
    try:
        error = parse(reply.body, ServiceError)
    except msgspec.MsgspecError:
        return None
    return error if error.error_code or error.error_type else None


# Payments

_APPROVED: Final = {ResultCode.AUTHORISED, ResultCode.PARTIALLY_AUTHORISED}
_REFUSED: Final = {ResultCode.REFUSED, ResultCode.ERROR, ResultCode.CANCELLED}
_ACTION: Final = {
    ResultCode.REDIRECT_SHOPPER,
    ResultCode.IDENTIFY_SHOPPER,
    ResultCode.CHALLENGE_SHOPPER,
    ResultCode.PRESENT_TO_SHOPPER,
}
_UNDECIDED: Final = {ResultCode.RECEIVED, ResultCode.PENDING}


def of_authorization(payment: Payment) -> Answer:
    """What the answer to `POST /payments` says. A payment that waits for the shopper has no `pspReference` yet; its
    webhook brings it.
    """
    if payment.result_code in _APPROVED:
        return _of_payment(payment, Outcome.APPROVED)
    if payment.result_code in _REFUSED:
        return _of_payment(payment, Outcome.DECLINED, decline=_decline_of(payment))
    if payment.result_code in _ACTION:
        url = payment.action.url if payment.action else None
        return _of_payment(payment, Outcome.REQUIRES_ACTION, next_action=NextAction(url=url) if url else None)
    return _of_payment(payment, Outcome.PENDING if payment.result_code in _UNDECIDED else Outcome.UNKNOWN)


def of_details(payment: Payment, reference: str) -> Answer:
    """What the answer to `POST /payments/details` says of the payment that we call `reference`. The shopper's browser
    chose what was sent: it may be the result of another payment, which says nothing of this one.
    """
    if payment.merchant_reference is None:
        return Answer(outcome=Outcome.UNKNOWN, detail="the answer names no payment")
    if payment.merchant_reference != reference:
        return Answer(outcome=Outcome.REQUIRES_ACTION, detail="the result is of another payment")
    return of_authorization(payment)


def of_refused_details(failure: Answer) -> Answer:
    """What it means that Adyen did not take a shopper's result. One that it cannot make sense of decides nothing: they
    may still come back with a better one.
    """
    waits = failure.outcome is Outcome.DECLINED
    return replace(failure, outcome=Outcome.REQUIRES_ACTION, decline=None) if waits else failure


def _of_payment(
    payment: Payment, outcome: Outcome, *, decline: Decline | None = None, next_action: NextAction | None = None
) -> Answer:
    amount = payment.amount if outcome is Outcome.APPROVED else None
    return Answer(
        outcome=outcome,
        provider_reference=payment.psp_reference,
        amount=from_adyen(amount.value, amount.currency) if amount else None,
        currency=amount.currency if amount else None,
        decline=decline,
        next_action=next_action,
        detail=detail_of(payment.result_code, payment.refusal_reason, payment.additional_data.get("refusalReasonRaw")),
    )


def _decline_of(payment: Payment) -> Decline:
    code = payment.refusal_reason_code or refusals.code_of(payment.refusal_reason or "")
    return refused(code or payment.refusal_reason or _GENERIC_REFUSAL, payment.additional_data)


def refused(code: str, additional_data: Mapping[str, str | None]) -> Decline:
    """Why an authorization was refused: `refusalReasonCode`, and what the card network said beside it."""
    return DECLINES.decline(
        code,
        network_code=raw_code(additional_data.get("refusalReasonRaw")),
        network_advice_code=raw_code(additional_data.get("merchantAdviceCode")),
    )


def raw_code(text: str | None) -> str | None:
    """The code at the beginning of `51 : Insufficient funds`; it comes with or without a leading zero."""
    match = _RAW_CODE.match(text or "")
    return match[1].rjust(2, "0") if match else None


# Modifications


def accepted(modification: Modification) -> Answer:
    """Adyen took a capture, cancel or refund: a webhook decides it."""
    return Answer(
        outcome=Outcome.PENDING if modification.status == _ACCEPTED else Outcome.UNKNOWN,
        provider_reference=modification.payment_psp_reference,
        operation_reference=modification.psp_reference,
        detail=detail_of(modification.status),
    )


# Errors


def of_failure(reply: Reply) -> Answer:
    """What it means that Adyen did not do as asked.

    Sources: docs.adyen.com/development-resources/response-handling, /api-idempotency. An error answer is kept under the
    key, and a repeat gets it again, unless `transient-error: true` says that the repeat counts as the first. What
    stands in front of the API (502 to 504) keeps nothing.
    """
    if reply.status == 0:
        return failures.unanswered(reply)
    error = error_of(reply)
    if error is not None and error.error_code == IN_PROGRESS:
        return _failed(reply, Outcome.UNKNOWN, repeat=is_transient(reply))
    match reply.status:
        case 401 | 403:
            return _failed(reply, Outcome.TEMPORARY_FAILURE, reachable=False)
        case 429:
            return _failed(reply, Outcome.TEMPORARY_FAILURE, repeat=True)
        case 408 | 409:
            return _failed(reply, Outcome.UNKNOWN, repeat=True)
        case status if status >= 500:
            return _server_error(reply, error)
        case status if status >= 400 and error is not None:
            return _refused_request(reply, error)
    return _failed(reply, Outcome.UNKNOWN)


def invalid(detail: str) -> Answer:
    """A request that cannot be made."""
    return Answer(outcome=Outcome.DECLINED, decline=DECLINES.decline(_ERROR), detail=detail)


def _server_error(reply: Reply, error: ServiceError | None) -> Answer:
    """`configuration`: the account cannot do what was asked, and nothing was. Everything else is indeterminate."""
    if error is not None and error.error_type == "configuration" and error.error_code:
        return _refused_request(reply, error)
    repeat = is_transient(reply) or reply.status in {502, 503, 504}
    return _failed(reply, Outcome.UNKNOWN, repeat=repeat, reachable=False)


def _refused_request(reply: Reply, error: ServiceError) -> Answer:
    raw = f"{_ERROR}_{error.error_code}" if error.error_code else _ERROR
    return _failed(reply, Outcome.DECLINED, decline=DECLINES.decline(raw, otherwise=_ERROR))


def _failed(
    reply: Reply, outcome: Outcome, *, decline: Decline | None = None, repeat: bool = False, reachable: bool = True
) -> Answer:
    error = error_of(reply)
    said = (error.error_type, error.error_code, error.message, error.psp_reference) if error else ()
    return failures.failed(reply, outcome, *said, decline=decline, repeat=repeat, reachable=reachable)
