"""Adyen's error bodies. Sources: docs.adyen.com/development-resources/error-codes, ServiceError of the OpenAPI."""

from __future__ import annotations

from enum import StrEnum
from typing import Any


class ErrorType(StrEnum):
    """`errorType`"""

    INTERNAL = "internal"
    VALIDATION = "validation"
    SECURITY = "security"


class AdyenError(Exception):
    """A call that Adyen refuses. `transient`: a repeat under the same key counts as the first. `kept`: the answer is
    saved under the key.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        kind: ErrorType = ErrorType.VALIDATION,
        *,
        transient: bool = False,
        kept: bool = True,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.kind = kind
        self.transient = transient
        self.kept = kept
        self.retry_after = retry_after

    def body(self, psp_reference: str | None) -> dict[str, Any]:
        """The error's JSON."""
        fields = {"status": self.status, "errorCode": self.code, "message": self.message, "errorType": self.kind.value}
        return {**fields, "pspReference": psp_reference} if psp_reference else fields


def invalid(code: str, message: str) -> AdyenError:
    """A request that makes no sense."""
    return AdyenError(422, code, message)


def missing(field: str) -> AdyenError:
    """A required field is not there."""
    return AdyenError(422, "702", f"Required field '{field}' is not provided.")


def unreadable(message: str) -> AdyenError:
    """The body is no JSON object."""
    return AdyenError(400, "702", message, kept=False)


def unauthorized() -> AdyenError:
    """No key, or a wrong one."""
    return AdyenError(401, "000", "HTTP Status Response - Unauthorized", ErrorType.SECURITY, kept=False)


def other_account() -> AdyenError:
    """The key is not for this merchant account."""
    return AdyenError(403, "901", "Invalid Merchant Account", ErrorType.SECURITY, kept=False)


def in_progress() -> AdyenError:
    """The first request under this key has no answer yet."""
    return AdyenError(422, "704", "request already processed or in progress", transient=True, kept=False)


def rate_limited(retry_after: int | None) -> AdyenError:
    """Too many requests."""
    message = "Too many requests"
    return AdyenError(429, "029", message, ErrorType.SECURITY, kept=False, retry_after=retry_after)


def server_error() -> AdyenError:
    """Something broke, and it is not said what was done."""
    return AdyenError(500, "903", "Internal error", ErrorType.INTERNAL)
