"""Secrets that must be used again, encrypted at rest: AES-256-GCM under keys from the settings.

The setting is `id:base64[,id:base64]`, 32 bytes a key. The first key seals, all of them open: put a new one in front,
and take an old one away once nothing is sealed under it. What is sealed is bound to what it belongs to, so that it
cannot be moved to another row.
"""

from __future__ import annotations

import binascii
import re
import secrets
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,32}", re.ASCII)


class SealError(ValueError):
    """No key to seal with, or what is sealed cannot be opened with the keys there are."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """Nonce and ciphertext, and the id of the key that opens them."""

    key_id: str
    data: bytes


class Sealer:
    """The keys of a setting. Raises ValueError for a malformed one, without quoting it."""

    def __init__(self, setting: str) -> None:
        self._keys = dict(_parsed(part.strip(), place) for place, part in enumerate(setting.split(","), 1) if part)

    @property
    def key_id(self) -> str | None:
        """The key that seals; None if there is none."""
        return next(iter(self._keys), None)

    def seal(self, plain: bytes, owner: str) -> Sealed:
        """`plain`, to be opened for the same `owner` only. Raises SealError when there is no key."""
        key_id = self.key_id
        if key_id is None:
            raise SealError("there is no key to seal with")
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return Sealed(key_id, nonce + self._keys[key_id].encrypt(nonce, plain, owner.encode()))

    def open(self, sealed: Sealed, owner: str) -> bytes:
        """What was sealed for `owner`. Raises SealError."""
        key = self._keys.get(sealed.key_id)
        if key is None:
            raise SealError(f"the key {sealed.key_id} is not in the settings")
        nonce, data = sealed.data[:_NONCE_BYTES], sealed.data[_NONCE_BYTES:]
        try:
            return key.decrypt(nonce, data, owner.encode())
        except (InvalidTag, ValueError):
            raise SealError(f"not sealed under the key {sealed.key_id} for this owner, or damaged") from None


def new_key(key_id: str = "k1") -> str:
    """A setting with one new key."""
    return f"{key_id}:{b64encode(secrets.token_bytes(_KEY_BYTES)).decode()}"


def _parsed(part: str, place: int) -> tuple[str, AESGCM]:
    key_id, _, text = part.partition(":")
    try:
        raw = b64decode(text, validate=True)
    except binascii.Error:
        raw = b""
    if not _ID.fullmatch(key_id) or len(raw) != _KEY_BYTES:
        raise ValueError(f"sealing key {place} is not `id:base64` of {_KEY_BYTES} bytes")
    return key_id, AESGCM(raw)
