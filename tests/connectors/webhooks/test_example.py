"""The receiver that docs/webhooks.md shows: it takes what we sign, once, and nothing else."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.domain.signing import signature_header, written
from pipeline.settings import PROJECT
from pipeline.stack.process import free_ports

EXAMPLE = PROJECT / "docs" / "examples" / "receive_webhooks.py"
SECRET = b"s" * 32
BODY = b'{"type":"payments.captured","data":{"payment_id":"p","status":"captured","sequence":5}}'


def signed(message_id: str, *secrets: bytes, at: int | None = None) -> dict[str, str]:
    now = int(time.time()) if at is None else at
    signature = signature_header(secrets or [SECRET], message_id, now, BODY)
    return {"webhook-id": message_id, "webhook-timestamp": str(now), "webhook-signature": signature}


@pytest.fixture(scope="module")
def verify() -> Callable[..., Any]:
    found: Callable[..., Any] = runpy.run_path(str(EXAMPLE))["verify"]
    return found


def test_it_verifies_our_signatures(verify: Callable[..., Any]) -> None:
    for secrets in ([SECRET], [b"n" * 32, SECRET], [SECRET, b"o" * 32]):
        verify(written(SECRET), signed("m", *secrets), BODY, time.time())


@pytest.mark.parametrize("late", [-301, 301])
def test_it_refuses_what_is_old_changed_or_signed_by_others(verify: Callable[..., Any], late: int) -> None:
    now = int(time.time())
    for headers, body in (
        (signed("m", at=now - late), BODY),
        (signed("m"), BODY + b" "),
        (signed("m") | {"webhook-id": "n"}, BODY),
        (signed("m", b"o" * 32), BODY),
        (signed("m") | {"webhook-signature": "v1,"}, BODY),
        (signed("m") | {"webhook-signature": "v1a,x"}, BODY),
    ):
        with pytest.raises(ValueError, match=r"signature|old"):
            verify(written(SECRET), headers, body, now)


@contextmanager
def running(folder: Path) -> Iterator[str]:
    [port] = free_ports(1)
    environment = {**os.environ, "WEBHOOK_SECRET": written(SECRET), "PYTHONUNBUFFERED": "1"}
    with (folder / "out").open("wb") as out:
        process = subprocess.Popen([sys.executable, str(EXAMPLE), str(port)], env=environment, stdout=out, stderr=out)
    try:
        yield f"http://127.0.0.1:{port}/hook"
    finally:
        process.terminate()
        process.wait()


def test_it_answers_and_does_nothing_twice(tmp_path: Path) -> None:
    with running(tmp_path) as url, httpx.Client(transport=httpx.HTTPTransport(retries=8)) as client:
        statuses = [client.post(url, content=BODY, headers=signed("m")).status_code for _ in range(2)]
        refused = client.post(url, content=BODY, headers=signed("m", b"o" * 32)).status_code
    assert (statuses, refused) == ([204, 204], 400)
    assert (tmp_path / "out").read_text().count("payments.captured p captured 5") == 1
