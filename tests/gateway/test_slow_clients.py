"""Clients that send a byte now and then, too much, or no HTTP at all. The deadlines here are one second."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from tests.gateway.chain import APPROVED, Chain
from tests.gateway.conftest import Client, Running

pytestmark = pytest.mark.stack


@pytest.fixture
def line(running: Running) -> Iterator[socket.socket]:
    """A bare connection."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as made:
        yield made


def until_closed(line: socket.socket, seconds: float = 8) -> bytes:
    """All that comes until the other side closes."""
    received, deadline = b"", time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            part = line.recv(65_536)
        except ConnectionResetError:
            return received
        if not part:
            return received
        received += part
    raise AssertionError(f"still open, after {received[:200]!r}")


def trickle(line: socket.socket, data: bytes, gap: float, seconds: float = 8) -> float:
    """Send a byte now and then until the other side closes; returns after how many seconds it did."""
    begun = time.monotonic()
    for byte in data:
        time.sleep(gap)
        try:
            line.send(bytes([byte]))
        except (BrokenPipeError, ConnectionResetError):
            return time.monotonic() - begun
        line.setblocking(False)
        try:
            if line.recv(1, socket.MSG_PEEK) == b"":
                return time.monotonic() - begun
            if time.monotonic() - begun > seconds:
                break
        except BlockingIOError:
            pass
        except ConnectionResetError:
            return time.monotonic() - begun
        finally:
            line.setblocking(True)
            line.settimeout(10)
    return time.monotonic() - begun


def head(client: Client, *lines: str, path: str = "/api/v1/intents") -> bytes:
    rest = "".join(f"{line}\r\n" for line in lines)
    start = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {client.key}\r\nIdempotency-Key: k\r\n"
    return (start + rest + "\r\n").encode()


def test_a_silent_connection_is_closed(line: socket.socket) -> None:
    begun = time.monotonic()
    answer = until_closed(line)
    assert 0.8 < time.monotonic() - begun < 3
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"application/problem+json" in answer


def test_trickled_headers_have_an_absolute_deadline(line: socket.socket) -> None:
    took = trickle(line, b"GET /health HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 200, gap=0.1)
    assert took < 3


def test_trickled_line_ends_have_it_too(line: socket.socket) -> None:
    assert trickle(line, b"\r\n" * 200, gap=0.1) < 3


def test_trickled_headers_after_an_answer_have_it_too(line: socket.socket) -> None:
    line.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert line.recv(65_536).startswith(b"HTTP/1.1 200 ")
    assert trickle(line, b"GET /health HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 200, gap=0.1) < 3


def test_a_trickled_body_has_a_deadline(line: socket.socket, client: Client) -> None:
    line.sendall(head(client, "Content-Type: application/json", "Content-Length: 1000"))
    begun = time.monotonic()
    trickle(line, b" " * 200, gap=0.1)
    assert time.monotonic() - begun < 3
    assert b"408" in until_closed(line)[:20]


def test_a_body_that_never_comes_has_a_deadline(line: socket.socket, client: Client) -> None:
    line.sendall(head(client, "Content-Type: application/json", "Transfer-Encoding: chunked"))
    begun = time.monotonic()
    answer = until_closed(line)
    assert time.monotonic() - begun < 3
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"/problems/body_too_slow" in answer


def test_endless_headers_are_refused(line: socket.socket) -> None:
    line.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n")
    sent = 0
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while sent < 100_000_000:
            sent += line.send(b"X: " + b"a" * 1000 + b"\r\n")
    assert sent < 100_000_000


def test_large_headers_are_told_so(line: socket.socket) -> None:
    line.sendall(
        b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: %s\r\n" % (n, b"a" * 1000) for n in range(40))
    )
    assert until_closed(line).startswith(b"HTTP/1.1 431 ")


def test_what_is_no_http_is_told_so(line: socket.socket) -> None:
    line.sendall(b"\x16\x03\x01 hello\r\n\r\n")
    answer = until_closed(line)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"/problems/malformed_http" in answer


def test_both_lengths_are_refused(line: socket.socket, client: Client) -> None:
    """Request smuggling: RFC 9112, section 6.1."""
    line.sendall(
        head(client, "Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\nGET /health HTTP/1.1\r\n\r\n"
    )
    answer = until_closed(line)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.startswith(b"HTTP/1.1 4")


def test_an_unread_body_is_not_the_next_request(line: socket.socket) -> None:
    """Refused before its body was read: what follows on the connection is body, not a request."""
    hidden = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    line.sendall(b"POST /api/v1/intents HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + hidden)
    answer = until_closed(line)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close" in answer
    assert answer.count(b"HTTP/1.1 ") == 1


def test_waiting_for_an_outcome_is_not_slow(line: socket.socket, client: Client, chain: Chain) -> None:
    """The deadlines are the client's, not the answer's: a wait of two seconds outlives them."""
    made = client.create(APPROVED)["payment_id"]
    chain.held.set()
    try:
        asked = head(client, "Prefer: wait=2", "Content-Length: 0", path=f"/api/v1/intents/{made}/authorize")
        line.sendall(asked.replace(b"Key: k", b"Key: other") + b"\r\n")
        begun = time.monotonic()
        answer = line.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 202 ")
        assert time.monotonic() - begun > 1.8
    finally:
        chain.held.clear()


def test_slow_clients_are_in_nobodys_way(running: Running, client: Client) -> None:
    lines = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(200)]
    try:
        for line in lines:
            line.sendall(b"POST /api/v1/intents HTTP/1.1\r\nHost:")
        begun = time.monotonic()
        for _ in range(20):
            client.create()
        assert time.monotonic() - begun < 5
    finally:
        for line in lines:
            line.close()
