"""PayPal's error bodies. Sources: developer.paypal.com/api/rest/responses, error_* of the OpenAPI, issues.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Final

ISSUES: Final[dict[str, dict[str, str]]] = tomllib.loads(
    Path(__file__).with_name("issues.toml").read_text(encoding="utf-8")
)
"""HTTP status -> issue -> description."""
_STATUS: Final = {issue: int(status) for status, issues in ISSUES.items() for issue in issues}
_DOCUMENTED: Final = "https://developer.paypal.com/api/rest/reference/orders/v2/errors/"

_NAMES: Final = {
    400: ("INVALID_REQUEST", "Request is not well-formed, syntactically incorrect, or violates schema."),
    401: (
        "AUTHENTICATION_FAILURE",
        "Authentication failed due to missing authorization header, or invalid authentication credentials.",
    ),
    403: ("NOT_AUTHORIZED", "Authorization failed due to insufficient permissions."),
    404: ("RESOURCE_NOT_FOUND", "The specified resource does not exist."),
    409: ("RESOURCE_CONFLICT", "The server has detected a conflict while processing this request."),
    413: ("REQUEST_TOO_LARGE", "The request is larger than the server takes."),
    415: ("UNSUPPORTED_MEDIA_TYPE", "The server does not support the request payload's media type."),
    422: (
        "UNPROCESSABLE_ENTITY",
        "The requested action could not be performed, semantically incorrect, or failed business validation.",
    ),
    429: ("RATE_LIMIT_REACHED", "Too many requests. Blocked due to rate limiting."),
    500: ("INTERNAL_SERVER_ERROR", "An internal server error has occurred."),
}


class PayPalError(Exception):
    """A call that PayPal refuses. `kept`: a repeat under the same PayPal-Request-Id is refused in the same way."""

    def __init__(
        self,
        status: int,
        details: dict[str, str] | None = None,
        *,
        kept: bool = False,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(details["issue"] if details else _NAMES[status][0])
        self.status = status
        self.details = details
        self.kept = kept
        self.retry_after = retry_after

    def body(self, debug_id: str) -> dict[str, Any]:
        """The error's JSON."""
        name, message = _NAMES[self.status]
        issue = self.details["issue"] if self.details else name
        links = [{"href": f"{_DOCUMENTED}#{issue}", "rel": "information_link", "method": "GET"}]
        fields: dict[str, Any] = {"name": name, "message": message, "debug_id": debug_id, "links": links}
        return {**fields, "details": [self.details]} if self.details else fields


class OAuthError(Exception):
    """A call without a token that holds, or a token that is not given: an error body of OAuth 2.0."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.description = description

    def body(self) -> dict[str, Any]:
        """The error's JSON."""
        return {"error": self.error, "error_description": self.description}


def issue(name: str, field: str | None = None, value: str | None = None) -> PayPalError:
    """An issue of issues.toml, with the status that it has there. Business refusals (422) are kept."""
    status = _STATUS[name]
    details = {"issue": name, "description": ISSUES[str(status)][name]}
    if field is not None:
        details |= {"field": field, "location": "body"}
    if value is not None:
        details["value"] = value
    return PayPalError(status, details, kept=status == 422)


def invalid(name: str, field: str, value: str) -> PayPalError:
    """A field that makes no sense."""
    return issue(name, field, value)


def missing(field: str) -> PayPalError:
    """A required field is not there."""
    return issue("MISSING_REQUIRED_PARAMETER", field)


def not_found() -> PayPalError:
    """No such resource."""
    return issue("INVALID_RESOURCE_ID")


def rate_limited(retry_after: int | None) -> PayPalError:
    """Too many requests."""
    return PayPalError(429, retry_after=retry_after)
