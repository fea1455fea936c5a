"""One POST to a receiver that may be anything: slow, endless, elsewhere, or our own network."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from connectors.webhooks.addresses import Guard
from connectors.webhooks.sender import MAX_ANSWER, AddressInfo, AddressRefusedError, Lookup, Sender, look_up
from pipeline.domain.deliveries import AttemptError, Outcome
from tests.connectors.webhooks.receivers import LOOPBACK, certificate, raw_server, receiver, status

HEADERS = {"Content-Type": "application/json", "webhook-id": "m1"}
BODY = b'{"type":"payments.captured"}'
PATIENT = 30.0


def info(address: str, port: int) -> AddressInfo:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sockaddr: tuple[Any, ...] = (address, port, 0, 0) if ":" in address else (address, port)
    return (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", sockaddr)


def leads_to(*addresses: str) -> Lookup:
    """Every name leads there."""
    return lambda _host, port: [info(address, port) for address in addresses]


@asynccontextmanager
async def sender(guard: Guard = LOOPBACK, timeout: float = PATIENT, **more: Any) -> AsyncIterator[Sender]:  # noqa: ASYNC109
    made = Sender(guard, timeout, **more)
    try:
        yield made
    finally:
        await made.close()


async def test_the_body_arrives_as_it_is_with_its_headers() -> None:
    async with receiver() as there, sender() as ours:
        assert await ours.send(there.url("/hook?token=%2Fx"), HEADERS, BODY) == Outcome(200)
    [got] = there.got
    assert (got.body, got.path) == (BODY, "/hook?token=%2Fx")
    assert got.headers["webhook-id"] == "m1"
    assert got.headers["content-type"] == "application/json"
    assert got.headers["accept-encoding"] == "identity"
    assert not {"cookie", "authorization", "referer"} & got.headers.keys()


@pytest.mark.parametrize("code", [200, 204, 299, 400, 401, 404, 410, 429, 500, 503])
async def test_every_status_is_told_as_it_is(code: int) -> None:
    async with receiver() as there, sender() as ours:
        there.answers["/hook"] = status(code)
        assert await ours.send(there.url(), HEADERS, BODY) == Outcome(code)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(code: int) -> None:
    async with receiver() as there, sender() as ours:
        there.answers["/hook"] = status(code, Location=there.url("/stolen"))
        assert await ours.send(there.url(), HEADERS, BODY) == Outcome(code)
        assert [got.path for got in there.got] == ["/hook"]


@pytest.mark.parametrize(("said", "read"), [("120", 120.0), ("soon", None), ("-1", None), ("9" * 30, None)])
async def test_how_long_a_receiver_wants_to_rest(said: str, read: float | None) -> None:
    async with receiver() as there, sender() as ours:
        there.answers["/hook"] = status(503, Retry_After=said)
        assert await ours.send(there.url(), HEADERS, BODY) == Outcome(503, retry_after=read)


async def test_no_cookie_is_kept() -> None:
    async with receiver() as there, sender() as ours:
        there.answers["/hook"] = status(200, Set_Cookie="a=b; Path=/")
        for _ in range(2):
            await ours.send(there.url(), HEADERS, BODY)
        assert "cookie" not in there.got[1].headers


async def test_a_receiver_that_does_not_answer_is_left() -> None:
    async with receiver() as there, sender(timeout=0.2) as ours:

        async def never(_request: web.BaseRequest) -> web.StreamResponse:
            await asyncio.sleep(PATIENT)
            return web.Response()

        there.answers["/hook"] = never
        assert await ours.send(there.url(), HEADERS, BODY) == Outcome(error=AttemptError.TIMEOUT)


async def test_an_answer_whose_body_never_ends_counts_by_its_status() -> None:
    async with receiver() as there, sender(timeout=0.5) as ours:

        async def trickle(request: web.BaseRequest) -> web.StreamResponse:
            answer = web.StreamResponse()
            await answer.prepare(request)
            while True:
                await answer.write(b".")
                await asyncio.sleep(0.05)

        there.answers["/hook"] = trickle
        assert await ours.send(there.url(), HEADERS, BODY) == Outcome(200)


async def test_of_a_flood_no_more_is_read_than_the_limit() -> None:
    """What the receiver could write is that, and what lies in buffers; not the gigabyte that it wants to."""
    written, ended = [0], asyncio.Event()
    async with receiver() as there, sender() as ours:

        async def flood(request: web.BaseRequest) -> web.StreamResponse:
            answer = web.StreamResponse()
            await answer.prepare(request)
            try:
                for _ in range(16_384):
                    await answer.write(b"x" * MAX_ANSWER)
                    written[0] += MAX_ANSWER
            finally:
                ended.set()
            return answer

        there.answers["/hook"] = flood
        assert await ours.send(there.url(), HEADERS, BODY) == Outcome(200)
        await ended.wait()
    assert written[0] < 256 * MAX_ANSWER


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", AttemptError.CONNECTION_FAILED),
        (b"SSH-2.0-OpenSSH_9.2\r\n", AttemptError.INVALID_RESPONSE),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n", AttemptError.INVALID_RESPONSE),
    ],
)
async def test_what_is_no_http(answer: bytes, error: AttemptError) -> None:
    async with raw_server(answer) as port, sender() as ours:
        assert await ours.send(f"http://127.0.0.1:{port}/", HEADERS, BODY) == Outcome(error=error)


async def test_nobody_is_there() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        async with sender() as ours:
            outcome = await ours.send(f"http://127.0.0.1:{closed.getsockname()[1]}/", HEADERS, BODY)
    assert outcome == Outcome(error=AttemptError.CONNECTION_FAILED)


@pytest.mark.parametrize("name", ["no-such-name.invalid", "x" * 64 + ".example"])
async def test_a_name_that_nobody_has(name: str) -> None:
    async with sender(lookup=look_up) as ours:
        outcome = await ours.send(f"https://{name}/", HEADERS, BODY)
    assert outcome == Outcome(error=AttemptError.NAME_NOT_RESOLVED)


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["8.8.8.8", "127.0.0.1"],
        ["10.0.0.1"],
        ["169.254.169.254"],
        ["100.64.0.1"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["fe80::1%lo"],
        ["2606:4700::1", "fd00::1"],
        ["0.0.0.0"],
        ["224.0.0.1"],
    ],
)
async def test_a_name_that_leads_inside_is_refused_and_nothing_is_sent(addresses: list[str]) -> None:
    async with receiver() as there, sender(Guard(allow_http=True), lookup=leads_to(*addresses)) as ours:
        outcome = await ours.send(there.url(host="hooks.example"), HEADERS, BODY)
    assert outcome == Outcome(error=AttemptError.ADDRESS_REFUSED)
    assert there.got == []


async def test_the_systems_own_resolver_is_guarded() -> None:
    async with receiver() as there, sender(Guard(allow_http=True)) as ours:
        outcome = await ours.send(there.url(host="localhost"), HEADERS, BODY)
    assert outcome == Outcome(error=AttemptError.ADDRESS_REFUSED)
    assert there.got == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/", "https://127.0.0.1:{port}/", "ftp://x/", "http://[::1]/"])
async def test_a_url_that_the_settings_no_longer_allow_is_not_called(url: str) -> None:
    async with receiver() as there, sender(Guard()) as ours:
        outcome = await ours.send(url.format(port=there.port), HEADERS, BODY)
    assert outcome == Outcome(error=AttemptError.URL_REFUSED)
    assert there.got == []


async def test_a_name_that_is_led_elsewhere_later_is_refused_then() -> None:
    """DNS rebinding: every connection is made to an address that was checked for it."""
    answers = [["127.0.0.1"], ["10.0.0.1"]]

    def lookup(_host: str, port: int) -> list[AddressInfo]:
        return [info(address, port) for address in answers.pop(0)]

    async with receiver() as there, sender(lookup=lookup) as ours:
        there.answers["/hook"] = status(200, Connection="close")
        url = there.url(host="hooks.example")
        assert await ours.send(url, HEADERS, BODY) == Outcome(200)
        assert await ours.send(url, HEADERS, BODY) == Outcome(error=AttemptError.ADDRESS_REFUSED)
        assert len(there.got) == 1


async def test_no_socket_is_made_for_an_address_that_did_not_pass() -> None:
    """The last guard, should an address ever come by a way around the resolver."""
    async with sender(Guard()) as ours:
        for address in ("127.0.0.1", "10.0.0.1", "::1", "::ffff:10.0.0.1"):
            with pytest.raises(AddressRefusedError):
                ours._socket(info(address, 443))
        ours._socket(info("1.1.1.1", 443)).close()


async def test_tls_and_host_keep_the_name_while_the_connection_goes_to_the_checked_address(tmp_path: Path) -> None:
    served, trusted = certificate(tmp_path, "hooks.example")
    async with receiver(served) as there, sender(lookup=leads_to("127.0.0.1"), tls=trusted) as ours:
        url = there.url(host="hooks.example", scheme="https")
        assert await ours.send(url, HEADERS, BODY) == Outcome(200)
    assert there.names == ["hooks.example"]
    assert there.got[0].headers["host"] == f"hooks.example:{there.port}"


async def test_a_certificate_for_another_name_or_of_nobody_known_is_refused(tmp_path: Path) -> None:
    served, trusted = certificate(tmp_path, "hooks.example")
    async with receiver(served) as there:
        async with sender(lookup=leads_to("127.0.0.1"), tls=trusted) as ours:
            url = there.url(host="other.example", scheme="https")
            assert await ours.send(url, HEADERS, BODY) == Outcome(error=AttemptError.TLS_FAILED)
        async with sender(lookup=leads_to("127.0.0.1")) as ours:
            url = there.url(host="hooks.example", scheme="https")
            assert await ours.send(url, HEADERS, BODY) == Outcome(error=AttemptError.TLS_FAILED)
        assert there.got == []


async def test_a_name_whose_servers_do_not_answer_is_asked_for_once_and_holds_up_no_other() -> None:
    asked: list[str] = []
    answered = threading.Event()

    def lookup(host: str, port: int) -> list[AddressInfo]:
        asked.append(host)
        if host == "dead.example":
            answered.wait(PATIENT)
        return [info("127.0.0.1", port)]

    async with receiver() as there, sender(timeout=0.3, lookup=lookup) as ours:
        lost = [ours.send(there.url(host="dead.example"), HEADERS, BODY) for _ in range(200)]
        outcomes = await asyncio.gather(*lost, ours.send(there.url(host="alive.example"), HEADERS, BODY))
        answered.set()
    assert outcomes == [Outcome(error=AttemptError.TIMEOUT)] * 200 + [Outcome(200)]
    assert sorted(asked) == ["alive.example", "dead.example"]
