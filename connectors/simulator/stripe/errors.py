"""Stripe's error envelope."""

from __future__ import annotations

from typing import Any


class StripeError(Exception):
    """An error as Stripe's API answers it: HTTP status and the members of `error`."""

    def __init__(self, status: int, kind: str, message: str, **members: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"type": kind, "message": message, **members}}


def missing(what: str, reference: str) -> StripeError:
    """404 for an id that is not there."""
    return StripeError(
        404, "invalid_request_error", f"No such {what}: '{reference}'", code="resource_missing", param="intent"
    )


def unexpected_state(intent: dict[str, Any], wish: str) -> StripeError:
    """400 for a call that the payment intent's status does not allow."""
    return StripeError(
        400,
        "invalid_request_error",
        f"This PaymentIntent could not be {wish} because it has a status of {intent['status']}.",
        code="payment_intent_unexpected_state",
        payment_intent=intent,
    )


def invalid(message: str, **members: Any) -> StripeError:
    """400 for parameters that make no sense."""
    return StripeError(400, "invalid_request_error", message, **members)
