"""Stripe's errors. Source: docs.stripe.com/api/errors, docs.stripe.com/error-codes."""

from __future__ import annotations

from typing import Any, Final

from connectors.simulator.stripe.objects import Failure, Intent

INVALID: Final = "invalid_request_error"
_DOCS: Final = "https://stripe.com/docs/error-codes/"


class StripeError(Exception):
    """An error answer. `saved`: kept under the idempotency key; an endpoint must have begun for that, so that refused
    parameters, credentials, conflicts and rate limits are not.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = INVALID,
        code: str | None = None,
        param: str | None = None,
        saved: bool = True,
        intent: Intent | None = None,
        failure: Failure | None = None,
        retry_after: int | None = None,
        should_retry: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.code = code
        self.param = param
        self.saved = saved
        self.intent = intent
        self.failure = failure
        self.retry_after = retry_after
        self.should_retry = should_retry

    def fields(self) -> dict[str, Any]:
        """The error without the objects that come with it."""
        if self.failure is not None:
            return failure_fields(self.failure)
        fields: dict[str, Any] = {"message": self.message, "type": self.kind}
        if self.code:
            fields["code"] = self.code
            fields["doc_url"] = _DOCS + self.code.replace("_", "-")
        if self.param:
            fields["param"] = self.param
        return fields


def failure_fields(failure: Failure) -> dict[str, Any]:
    """A card error, as in an error answer and in `last_payment_error`."""
    named = {
        "advice_code": failure.advice,
        "charge": failure.charge,
        "code": failure.code,
        "decline_code": failure.decline_code,
        "doc_url": _DOCS + failure.code.replace("_", "-"),
        "message": failure.message,
        "network_advice_code": failure.network_advice,
        "network_decline_code": failure.network,
        "param": failure.param,
        "type": failure.kind,
    }
    return {name: value for name, value in named.items() if value is not None}


def invalid(message: str, param: str | None = None, code: str | None = None) -> StripeError:
    """A parameter is refused before anything begins."""
    return StripeError(400, message, param=param, code=code, saved=False)


def missing(param: str) -> StripeError:
    """A required parameter is not there."""
    return invalid(f"Missing required param: {param}.", param, "parameter_missing")


def no_such(kind: str, identifier: str, param: str, status: int = 404) -> StripeError:
    """An object does not exist."""
    return StripeError(status, f"No such {kind}: '{identifier}'", code="resource_missing", param=param)


def unexpected_state(message: str, intent: Intent) -> StripeError:
    """The intent's status does not allow it."""
    return StripeError(400, message, code="payment_intent_unexpected_state", intent=intent)


def card_error(failure: Failure, intent: Intent) -> StripeError:
    """A charge was declined."""
    return StripeError(402, failure.message, kind="card_error", intent=intent, failure=failure)


def unauthorized(key: str | None) -> StripeError:
    """No key, or none of ours."""
    if not key:
        message = (
            "You did not provide an API key. You need to provide your API key in the Authorization header, using "
            "Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY')."
        )
    else:
        message = f"Invalid API Key provided: {_masked(key)}"
    return StripeError(401, message, saved=False)


def unknown_url(method: str, path: str) -> StripeError:
    """No such endpoint."""
    message = (
        f"Unrecognized request URL ({method}: {path}). If you are trying to list objects, remove the trailing slash."
    )
    return StripeError(404, message, saved=False)


def rate_limited(retry_after: int | None) -> StripeError:
    """Too many requests."""
    message = "Request rate limit exceeded. Learn more about rate limits here https://stripe.com/docs/rate-limits."
    return StripeError(429, message, code="rate_limit", saved=False, retry_after=retry_after)


def server_error() -> StripeError:
    """Stripe's own failure."""
    message = "An unknown error occurred. If the problem persists, contact us via our support site."
    return StripeError(500, message, kind="api_error")


def unavailable(status: int, retry_after: int | None) -> StripeError:
    """A proxy before the API; nothing is saved."""
    message = "Sorry, the request could not be processed at this time."
    return StripeError(status, message, kind="api_error", saved=False, retry_after=retry_after)


def key_in_use(key: str) -> StripeError:
    """The first request with that key is still being worked on."""
    message = (
        "There is currently another in-progress request using this Idempotent Key (that probably means you submitted "
        f"twice, and the other request is still going through): {key}. Please try again later."
    )
    return StripeError(409, message, code="idempotency_key_in_use", saved=False, should_retry=True)


def other_parameters(key: str) -> StripeError:
    """The key was first used with another body."""
    message = (
        "Keys for idempotent requests can only be used with the same parameters they were first used with. "
        f"Try using a key other than '{key}' if you meant to execute a different request."
    )
    return StripeError(400, message, kind="idempotency_error", saved=False)


def other_endpoint(key: str, now: str, first: str) -> StripeError:
    """The key was first used elsewhere."""
    message = (
        "Keys for idempotent requests can only be used for the same endpoint they were first used for "
        f"('{now}' vs '{first}'). Try using a key other than '{key}' if you meant to execute a different request."
    )
    return StripeError(400, message, kind="idempotency_error", saved=False)


def _masked(key: str) -> str:
    """As Stripe shows it: the kind and the last four."""
    head = "_".join(key.split("_")[:2]) + "_" if key.count("_") >= 2 else key[:3]
    return f"{head}{'*' * 8}{key[-4:]}"
