"""The certificates behind webhooks' signatures, made here: a root, an intermediate, and the one that signs.

Source: developer.paypal.com/api/rest/webhooks/rest (Verify messages): PAYPAL-TRANSMISSION-SIG is SHA256withRSA over
`<transmission id>|<transmission time>|<webhook id>|<CRC-32 of the body, decimal>`, and PAYPAL-CERT-URL serves the
certificate with its chain, in PEM. PayPal's chain ends in a public root; the one here ends in a root of its own, which
is handed out so that a verifier can trust it and nothing else.
"""

from __future__ import annotations

import base64
import os
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOST: Final = "messageverificationcerts.paypal.com"
"""Whom PayPal's certificate names."""
ALGORITHM: Final = "SHA256withRSA"
_LIFE: Final = timedelta(days=825)
_SIGNING_LIFE: Final = timedelta(days=365)
_RSA_BITS: Final = 2048
_PAIR_MODE: Final = 0o600

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Certificates:
    """A chain. `root_file`, if it is given, keeps the root (its key beside it, in `<root_file>.key`) across restarts;
    without it, each process has one of its own. Made when it is first needed: keys take a while.
    """

    def __init__(self, root_file: Path | None = None) -> None:
        root, root_key = _kept_root(root_file) if root_file else _new_root()
        self.root_pem = _pem(root)
        middle_key: Key = ec.generate_private_key(ec.SECP256R1())
        middle = _signed(_name("PayPal simulator CA"), middle_key, root, root_key, authority=True)
        self._key = rsa.generate_private_key(65537, _RSA_BITS)
        own = _signed(_name(HOST), self._key, middle, middle_key, authority=False)
        self.id = f"CERT-{own.fingerprint(hashes.SHA256()).hex()[:8]}"
        self.chain_pem = _pem(own) + _pem(middle)

    def sign(self, transmission: str, time: str, webhook: str, body: bytes) -> str:
        """PAYPAL-TRANSMISSION-SIG."""
        message = _message(transmission, time, webhook, body)
        return base64.b64encode(self._key.sign(message, padding.PKCS1v15(), hashes.SHA256())).decode()

    def verifies(self, signature: str, transmission: str, time: str, webhook: str, body: bytes) -> bool:
        """Whether the signature is of this certificate and of this body."""
        try:
            raw, message = base64.b64decode(signature, validate=True), _message(transmission, time, webhook, body)
            self._key.public_key().verify(raw, message, padding.PKCS1v15(), hashes.SHA256())
        except (ValueError, InvalidSignature):
            return False
        return True


def _message(transmission: str, time: str, webhook: str, body: bytes) -> bytes:
    return f"{transmission}|{time}|{webhook}|{zlib.crc32(body)}".encode()


def _new_root() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key, name = ec.generate_private_key(ec.SECP256R1()), _name("PayPal simulator root")
    return _signed(name, key, None, key, authority=True), key


def _kept_root(path: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """The root of the file; a new one is written to it. Raises ValueError if the file holds anything else."""
    beside = path.with_name(f"{path.name}.key")
    if path.exists() and beside.exists():
        key = serialization.load_pem_private_key(beside.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{beside} holds no key of the simulator's")
        return x509.load_pem_x509_certificate(path.read_bytes()), key
    root, key = _new_root()
    path.parent.mkdir(parents=True, exist_ok=True)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _PAIR_MODE), "wb") as file:
        file.write(private)
    path.write_bytes(_pem(root))
    return root, key


def _signed(
    subject: x509.Name, key: Key, issuer: x509.Certificate | None, issuer_key: Key, *, authority: bool
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + (_LIFE if authority else _SIGNING_LIFE))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(_usage(authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if not authority:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=not authority,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    organization = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "PayPal simulator")
    return x509.Name([organization, x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
