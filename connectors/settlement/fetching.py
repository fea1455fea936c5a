"""How a provider's report is fetched: into a file, and read from it like one that an operator names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import IO, Any, Final, Protocol, TypeVar, cast

import httpx
import msgspec

from connectors.settlement.report import Reader, ReportError
from pipeline.messages.reports import ReadOutcome, ReportRequest
from pipeline.settings import Settings

_TIMEOUT: Final = httpx.Timeout(60.0, connect=10.0)
Thing = TypeVar("Thing")
_REFUSALS: Final = frozenset({400, 401, 403, 405, 410})


class FetchError(Exception):
    """A report that did not come. The words name no secret, and no URL that holds one."""

    def __init__(self, outcome: ReadOutcome, detail: str) -> None:
        super().__init__(detail)
        self.outcome = outcome


class Source(Protocol):
    """Where one account's reports are."""

    @property
    def read(self) -> Reader:
        """What reads the file that `fetch` writes."""

    def fetch(self, request: ReportRequest, into: IO[bytes]) -> None:
        """Write the report. Raises FetchError; never leaves out a part of it in silence."""

    def close(self) -> None:
        """Close the connections."""


def open_source(provider: str, settings: Settings) -> Source:
    """The provider's reports, with the credentials in the settings."""
    return cast(Source, import_module(f"connectors.{provider}.reports").source(settings))


class Client:
    """HTTPS to one provider. It follows no redirect: credentials go where the settings say, and nowhere else."""

    def __init__(self, headers: Mapping[str, str], auth: tuple[str, str] | None = None) -> None:
        self._client = httpx.Client(timeout=_TIMEOUT, headers=dict(headers), auth=auth, trust_env=False)

    def json(self, url: str, params: Mapping[str, Any] | None = None, **options: Any) -> bytes:
        """The body of an answer. Raises FetchError."""
        with _understood():
            answer = self._client.request(options.pop("method", "GET"), url, params=params, **options)
        _require_success(answer)
        return answer.content

    def stream(self, url: str, into: IO[bytes]) -> None:
        """A file of any size. Raises FetchError."""
        with _understood(), self._client.stream("GET", url) as answer:
            _require_success(answer)
            for some in answer.iter_bytes():
                into.write(some)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


@contextmanager
def _understood() -> Iterator[None]:
    try:
        yield
    except httpx.InvalidURL as error:
        raise FetchError(ReadOutcome.REFUSED, "the report's address is none") from error
    except httpx.HTTPError as error:
        raise FetchError(ReadOutcome.UNAVAILABLE, f"no answer: {type(error).__name__}") from error


def _require_success(answer: httpx.Response) -> None:
    """A redirect is a refusal; what may yet come (404: not there yet) is asked for again."""
    if answer.is_success:
        return
    refused = answer.status_code in _REFUSALS or answer.is_redirect
    outcome = ReadOutcome.REFUSED if refused else ReadOutcome.UNAVAILABLE
    raise FetchError(outcome, f"the provider answered {answer.status_code}")


def decoded(body: bytes, kind: type[Thing]) -> Thing:
    """JSON that the provider answered. Raises FetchError."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise FetchError(ReadOutcome.UNREADABLE, str(error)) from error


def parsed(text: str, kind: type[Thing], number: int) -> Thing:
    """JSON on a line of a file that was fetched. Raises ReportError."""
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError as error:
        raise ReportError(number, str(error)) from error
