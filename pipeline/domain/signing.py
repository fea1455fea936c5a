"""Signatures of outgoing webhooks: Standard Webhooks 1.0.0, symmetric (`v1`).

The signed content is `{id}.{timestamp}.{body}`, under HMAC-SHA256; a secret is written `whsec_` and base64.
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Iterable
from typing import Final

SECRET_BYTES: Final = 32
PREFIX: Final = "whsec_"


def written(secret: bytes) -> str:
    """The secret as its merchant gets it."""
    return PREFIX + b64encode(secret).decode()


def signature_header(secrets: Iterable[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`: one signature a secret. `timestamp` is the attempt's, seconds since 1970.
    Raises ValueError for an id with a full stop, which would let two contents be one.
    """
    if "." in message_id:
        raise ValueError("a message id has no full stop")
    content = b".".join((message_id.encode(), str(timestamp).encode(), body))
    return " ".join("v1," + b64encode(hmac.digest(secret, content, "sha256")).decode() for secret in secrets)
