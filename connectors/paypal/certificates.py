"""PayPal's signing certificates: fetched from PayPal only, trusted as far as their chain leads, kept until they end.

Source: developer.paypal.com/api/rest/webhooks/rest, "verify the message". The URL comes with the webhook, from anyone:
it is never followed anywhere but to the origins that the settings allow, nor is a redirect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

import certifi
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from connectors.provider import Refusal, WebhookRefused
from connectors.transport import Reply

log = structlog.get_logger()

PATH: Final = "/v1/notifications/certs/"
_KEPT: Final = 16
_LARGEST: Final = 64 * 1024


class Fetches(Protocol):
    """What gets a document over HTTP."""

    async def send(self, method: str, url: str, /) -> Reply:
        """The answer; status 0 for none."""


class Certificates:
    """The public keys behind certificate URLs.

    `origins`: scheme, host and port that a certificate may come from; `names`: whom it must be made out to.
    """

    def __init__(self, fetches: Fetches, origins: Sequence[str], names: Sequence[str], roots: Path | None) -> None:
        self._fetches = fetches
        self._origins = frozenset(origin.rstrip("/") for origin in origins)
        self._names = names
        self._roots = roots
        self._store: Store | None = None
        self._kept: dict[str, x509.Certificate] = {}
        self._fetching = asyncio.Lock()

    async def key(self, url: str, now: int) -> RSAPublicKey:
        """The key that a webhook of this certificate URL must be signed with; `now` in milliseconds.

        Raises WebhookRefused: WRONG_SIGNATURE for a certificate that is not PayPal's, UNAVAILABLE (503, so that PayPal
        delivers again) when it cannot be fetched.
        """
        self._check_origin(url)
        at = datetime.fromtimestamp(now / 1000, UTC)
        certificate = self._known(url, at)
        if certificate is None:
            # One at a time: whoever makes up URLs delays nobody whose certificate is known.
            async with self._fetching:
                certificate = self._known(url, at) or self._trusted(await self._fetched(url), at)
                self._keep(url, certificate)
        key = certificate.public_key()
        if not isinstance(key, RSAPublicKey):
            raise WebhookRefused(Refusal.WRONG_SIGNATURE)
        return key

    def _known(self, url: str, at: datetime) -> x509.Certificate | None:
        certificate = self._kept.get(url)
        return certificate if certificate is not None and at < certificate.not_valid_after_utc else None

    def _check_origin(self, url: str) -> None:
        parts = urlsplit(url)
        plain = parts.username is None and not parts.query and not parts.fragment and ".." not in parts.path
        if not plain or f"{parts.scheme}://{parts.netloc}" not in self._origins or not parts.path.startswith(PATH):
            log.warning("a certificate from elsewhere", host=parts.hostname)
            raise WebhookRefused(Refusal.WRONG_SIGNATURE)

    async def _fetched(self, url: str) -> list[x509.Certificate]:
        reply = await self._fetches.send("GET", url)
        if reply.status == 404:
            raise WebhookRefused(Refusal.WRONG_SIGNATURE)
        if reply.status != 200:
            raise WebhookRefused(Refusal.UNAVAILABLE, status=503)
        try:
            return x509.load_pem_x509_certificates(reply.body[:_LARGEST])
        except ValueError as error:
            raise WebhookRefused(Refusal.UNAVAILABLE, status=503) from error

    def _trusted(self, chain: list[x509.Certificate], at: datetime) -> x509.Certificate:
        """The first certificate, if the rest leads from it to an authority that is trusted (RFC 5280)."""
        leaf, *between = chain
        builder = PolicyBuilder().store(self._authorities()).time(at)
        for name in self._names:
            try:
                builder.build_server_verifier(x509.DNSName(name)).verify(leaf, between)
            except VerificationError:
                continue
            return leaf
        raise WebhookRefused(Refusal.WRONG_SIGNATURE)

    def _authorities(self) -> Store:
        """Read once, when the first certificate is checked."""
        if self._store is None:
            pem = Path(self._roots or certifi.where()).read_bytes()
            self._store = Store(x509.load_pem_x509_certificates(pem))
        return self._store

    def _keep(self, url: str, certificate: x509.Certificate) -> None:
        while len(self._kept) >= _KEPT:
            self._kept.pop(next(iter(self._kept)))
        self._kept[url] = certificate
