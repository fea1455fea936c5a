"""Adyen's settlement reports, from where its webhook says they are. Source: docs.adyen.com/reporting/
downloading-reports (`REPORT_AVAILABLE`: pspReference is the file's name, reason its URL).

A webhook names the URL, so it is held against the settings' own: the credential goes nowhere else.
"""

from __future__ import annotations

from typing import IO
from urllib.parse import unquote

import httpx

from connectors.adyen.settlement import read
from connectors.settlement.fetching import Client, FetchError
from connectors.settlement.report import Reader
from pipeline.messages.reports import ReadOutcome, ReportRequest
from pipeline.settings import Settings


class AdyenReports:
    """The reports of one merchant account, under `base`."""

    def __init__(self, base: str, api_key: str, merchant_account: str) -> None:
        self._base = httpx.URL(base.rstrip("/") + "/")
        self._account = merchant_account
        self._client = Client({"X-API-Key": api_key})

    @property
    def read(self) -> Reader:
        """The Settlement details report, CSV."""
        return read

    def fetch(self, request: ReportRequest, into: IO[bytes]) -> None:
        """The file as Adyen made it. Raises FetchError."""
        url = request.url or f"{self._base}MerchantAccount/{self._account}/{request.reference}"
        self._client.stream(self._allowed(url), into)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _allowed(self, text: str) -> str:
        try:
            url = httpx.URL(text)
        except httpx.InvalidURL:
            url = httpx.URL()
        path = url.raw_path.decode()
        same = (url.scheme, url.host, url.port) == (self._base.scheme, self._base.host, self._base.port)
        below = path.startswith(self._base.raw_path.decode()) and ".." not in unquote(path)
        if not same or not below or url.userinfo:
            raise FetchError(ReadOutcome.REFUSED, f"reports come from {self._base} only: see adyen_report_url")
        return text


def source(settings: Settings) -> AdyenReports:
    """With the report user's key, or else the account's."""
    key = settings.reveal("adyen_report_api_key") or settings.reveal("adyen_api_key")
    return AdyenReports(settings.adyen_report_url, key, settings.adyen_merchant_account)
