"""Requests as the pipeline makes them, each of a payment of its own."""

from __future__ import annotations

from typing import Any, TypeVar
from uuid import uuid4

import msgspec

from pipeline import clock, ids
from pipeline.messages.requests import (
    AuthorizeRequest,
    CaptureRequest,
    LookupRequest,
    ProviderRequest,
    RefundRequest,
    VoidRequest,
)
from pipeline.messages.values import CaptureMethod, Operation, PaymentMethod

AnyRequest = TypeVar("AnyRequest", bound=ProviderRequest)

_KINDS: dict[str, type[ProviderRequest]] = {
    "attempt": AuthorizeRequest,
    "capture": CaptureRequest,
    "void": VoidRequest,
    "refund": RefundRequest,
}


def _common(provider: str, operation: str, payment_id: str | None, fields: dict[str, Any]) -> dict[str, Any]:
    payment = payment_id or ids.payment_id("m_test", str(uuid4()))
    subject = fields.pop("subject_id", None) or ids.subject_id(operation, payment, str(uuid4()))
    return {
        "request_id": ids.request_id(subject, _KINDS[operation].__name__, 0),
        "payment_id": payment,
        "merchant_id": "m_test",
        "provider": provider,
        "subject_id": subject,
        "issued_at": clock.now(),
        "merchant_reference": "order-17",
        **fields,
    }


def authorize(
    token: str,
    amount: int = 1_050,
    currency: str = "EUR",
    *,
    manual: bool = True,
    provider: str = "stripe",
    payment_id: str | None = None,
    **fields: Any,
) -> AuthorizeRequest:
    return AuthorizeRequest(
        **_common(provider, "attempt", payment_id, fields),
        amount=amount,
        currency=currency,
        capture_method=CaptureMethod.MANUAL if manual else CaptureMethod.AUTOMATIC,
        payment_method=PaymentMethod(token=token),
        attempt_number=1,
    )


def capture(
    reference: str,
    amount: int = 1_050,
    currency: str = "EUR",
    *,
    final: bool = True,
    provider: str = "stripe",
    payment_id: str | None = None,
    **fields: Any,
) -> CaptureRequest:
    return CaptureRequest(
        **_common(provider, "capture", payment_id, fields),
        provider_reference=reference,
        amount=amount,
        currency=currency,
        final=final,
    )


def void(reference: str, *, provider: str = "stripe", payment_id: str | None = None, **fields: Any) -> VoidRequest:
    return VoidRequest(**_common(provider, "void", payment_id, fields), provider_reference=reference)


def refund(
    reference: str,
    amount: int = 1_050,
    currency: str = "EUR",
    *,
    provider: str = "stripe",
    payment_id: str | None = None,
    reason: str | None = None,
    **fields: Any,
) -> RefundRequest:
    return RefundRequest(
        **_common(provider, "refund", payment_id, fields),
        provider_reference=reference,
        amount=amount,
        currency=currency,
        reason=reason,
    )


def again(request: AnyRequest) -> AnyRequest:
    """The same operation, sent again because a look-up found nothing."""
    return msgspec.structs.replace(request, request_id=ids.request_id(request.subject_id, type(request).__name__, 1))


def lookup(
    request: ProviderRequest,
    *,
    reference: str | None = None,
    operation_reference: str | None = None,
    action_result: str | None = None,
) -> Any:
    """What became of `request`?"""
    operations = {
        AuthorizeRequest: Operation.AUTHORIZE,
        CaptureRequest: Operation.CAPTURE,
        VoidRequest: Operation.VOID,
        RefundRequest: Operation.REFUND,
    }
    return LookupRequest(
        request_id=ids.request_id(request.subject_id, "LookupRequest", 1),
        payment_id=request.payment_id,
        merchant_id=request.merchant_id,
        provider=request.provider,
        subject_id=request.subject_id,
        issued_at=clock.now(),
        operation=operations[type(request)],
        provider_reference=reference or getattr(request, "provider_reference", None),
        action_result=action_result,
        operation_reference=operation_reference,
        asked_at=request.issued_at,
    )
