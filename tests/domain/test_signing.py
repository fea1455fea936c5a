"""Our signatures, verified by somebody else's program: the Standard Webhooks library."""

from __future__ import annotations

import json
import time
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from pipeline.domain.signing import signature_header, written

bodies = st.dictionaries(st.text(max_size=20), st.text() | st.integers() | st.none(), max_size=5)
secrets = st.binary(min_size=24, max_size=64)


def headers(message_id: str, at: int, signature: str) -> dict[str, str]:
    return {"webhook-id": message_id, "webhook-timestamp": str(at), "webhook-signature": signature}


@given(secrets, bodies)
def test_the_library_verifies_what_we_sign(secret: bytes, body: dict[str, object]) -> None:
    raw, now, message = json.dumps(body).encode(), int(time.time()), str(uuid4())
    signature = signature_header([secret], message, now, raw)
    assert Webhook(written(secret)).verify(raw, headers(message, now, signature)) == body


@given(secrets, secrets, secrets)
def test_during_a_rotation_either_secret_verifies_and_no_other(old: bytes, new: bytes, other: bytes) -> None:
    raw, now = b'{"type":"payments.captured"}', int(time.time())
    sent = headers("m", now, signature_header([new, old], "m", now, raw))
    for secret in (old, new):
        Webhook(written(secret)).verify(raw, sent)
    if other not in (old, new):
        with pytest.raises(WebhookVerificationError):
            Webhook(written(other)).verify(raw, sent)


@pytest.mark.parametrize("change", ["id", "timestamp", "body"])
def test_nothing_that_is_signed_can_be_changed(change: str) -> None:
    secret, raw, now = b"s" * 32, b'{"amount":"1.00"}', int(time.time())
    sent = headers("m", now, signature_header([secret], "m", now, raw))
    match change:
        case "id":
            sent["webhook-id"] = "n"
        case "timestamp":
            sent["webhook-timestamp"] = str(now + 1)
        case _:
            raw = b'{"amount":"9.00"}'
    with pytest.raises(WebhookVerificationError):
        Webhook(written(secret)).verify(raw, sent)


def test_an_id_cannot_reach_into_the_timestamp() -> None:
    with pytest.raises(ValueError, match="full stop"):
        signature_header([b"s" * 32], "m.1", 1, b"")
