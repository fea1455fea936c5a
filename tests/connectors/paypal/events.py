"""PayPal's events and deliveries: signed as its documentation says, by an authority made for the tests."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from connectors.references import Reference
from pipeline import ids
from pipeline.messages.values import Operation

PAYMENT = ids.payment_id("m_test", "1")
SUBJECTS = {operation: ids.subject_id(operation, PAYMENT, "1") for operation in Operation}
WEBHOOK_ID, OTHER_WEBHOOK_ID = "1JE4291016473214C", "8PT597110X687430A"
ORIGIN, NAME = "https://api.paypal.com", "messageverificationcerts.paypal.com"
URL = f"{ORIGIN}/v1/notifications/certs/CERT-360caa42-fca2a594-1d93a270"
NOW = 1_800_000_000_000
TIME = datetime.fromtimestamp(NOW / 1000, UTC)
DAY = timedelta(days=1)


class Identity(NamedTuple):
    """A certificate with its key."""

    key: rsa.RSAPrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        """The certificate as a file."""
        return self.certificate.public_bytes(Encoding.PEM)


def authority(name: str = "root") -> Identity:
    """An authority of that name."""
    return _authority(name)


@cache
def _authority(name: str) -> Identity:
    key, subject = _key(), _name(name)
    return Identity(key, _signed(_builder(key, subject, subject, NOW), key, key, authority=True))


def identity(name: str = NAME, issuer: str = "root", made_at: int = NOW) -> Identity:
    """Who signs webhooks: a certificate made out to `name`, good for 30 days around `made_at`."""
    return _identity(name, issuer, made_at)


@cache
def _identity(name: str, issuer: str, made_at: int) -> Identity:
    key, root = _key(), authority(issuer)
    builder = _builder(key, _name(name), root.certificate.subject, made_at).add_extension(
        x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False
    )
    return Identity(key, _signed(builder, key, root.key, authority=False))


def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(key: rsa.RSAPrivateKey, subject: x509.Name, issuer: x509.Name, made_at: int) -> x509.CertificateBuilder:
    at = datetime.fromtimestamp(made_at / 1000, UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - 15 * DAY)
        .not_valid_after(at + 15 * DAY)
    )


def _signed(
    builder: x509.CertificateBuilder, key: rsa.RSAPrivateKey, by: rsa.RSAPrivateKey, *, authority: bool
) -> x509.Certificate:
    """With what RFC 5280 and the web's rules ask of an authority, or of a server."""
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=authority, crl_sign=authority, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = (
        builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
    )
    if not authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return builder.sign(by, SHA256())


def headers(raw: bytes, signer: Identity | None = None, webhook_id: str = WEBHOOK_ID, **changed: str) -> dict[str, str]:
    """The headers of a delivery; `changed` before it is signed, with `_` for `-`."""
    made = {
        "paypal-transmission-id": "69cd13f0-d67a-11e5-baa3-778b53f4ae55",
        "paypal-transmission-time": TIME.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "paypal-cert-url": URL,
        "paypal-auth-algo": "SHA256withRSA",
    } | {name.replace("_", "-"): value for name, value in changed.items()}
    text = f"{made['paypal-transmission-id']}|{made['paypal-transmission-time']}|{webhook_id}|{zlib.crc32(raw)}"
    signature = (signer or identity()).key.sign(text.encode(), padding.PKCS1v15(), SHA256())
    return made | {"paypal-transmission-sig": base64.b64encode(signature).decode()}


def reference(operation: Operation) -> str:
    """Ours, for that operation of PAYMENT."""
    return str(Reference(PAYMENT, operation, SUBJECTS[operation]))


def event(
    event_type: str, resource: Mapping[str, Any], event_id: str = "WH-58D329510W468432D-8HN650336L201105X"
) -> bytes:
    """A webhook's body, as in notifications_webhooks_v1's example."""
    return json.dumps(
        {
            "id": event_id,
            "create_time": "2026-02-14T21:50:07.940Z",
            "resource_type": "capture",
            "event_type": event_type,
            "summary": "Something happened.",
            "resource": dict(resource),
            "links": [],
            "event_version": "1.0",
        }
    ).encode()


def movement(
    status: str, *, custom: Operation | None = None, invoice: Operation | None = None, **fields: Any
) -> dict[str, Any]:
    """An authorization, capture or refund; `custom` and `invoice`: whose references it carries."""
    made: dict[str, Any] = {
        "id": "42311647XV020574X",
        "status": status,
        "amount": {"currency_code": "EUR", "value": "10.00"},
        "supplementary_data": {"related_ids": {"order_id": "5O190127TN364715T"}},
    }
    if custom:
        made["custom_id"] = reference(custom)
    if invoice:
        made["invoice_id"] = reference(invoice)
    return made | fields
