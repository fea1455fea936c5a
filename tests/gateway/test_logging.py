"""No card number and no secret in a log line, and nothing lost that is neither."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from pipeline import logging as ours

KEY = "sk_test_0123456789abcdef_" + "A" * 43


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What is logged from here on."""
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    stream = io.StringIO()
    ours.configure("test", stream=stream)
    yield stream
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    logging.captureWarnings(capture=False)
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)


def last(stream: io.StringIO) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(stream.getvalue().splitlines()[-1])
    return event


def test_a_line_names_stage_time_level_and_bound_ids(lines: io.StringIO) -> None:
    structlog.contextvars.bind_contextvars(payment_id="p1")
    structlog.get_logger().info("said", offset=7)
    event = last(lines)
    assert (event["event"], event["stage"], event["level"], event["payment_id"]) == ("said", "test", "info", "p1")
    assert event["offset"] == 7
    assert event["at"].endswith("Z")


SECRETS = [
    KEY,
    "whsec_abcdefgh12345678",
    "Bearer abcdef0123456789",
    "postgresql://payments_gateway:hunter2hunter2@127.0.0.1/payments",
]
PANS = [
    "4242424242424242",
    "4242 4242 4242 4242",
    "5555-5555-5555-4444",
    "378282246310005",
    "4242424242424242".translate({ord("0") + digit: 0xFF10 + digit for digit in range(10)}),
]


@pytest.mark.parametrize("secret", [*SECRETS, *PANS])
def test_secrets_and_card_numbers_are_redacted_wherever_they_stand(lines: io.StringIO, secret: str) -> None:
    log = structlog.get_logger()
    log.info(f"it was {secret} here")
    log.info("in a value", detail=secret, deep={"list": [secret, {"key": secret}]})
    log.info("in a name", **{secret: 1})
    logging.getLogger("library").warning("%s was sent", secret)
    logging.getLogger("library").warning("extra", extra={"detail": secret})
    try:
        raise ValueError(secret)
    except ValueError:
        log.exception("failed")
        logging.getLogger("library").exception("failed")
    telling = secret.removeprefix("Bearer ").removeprefix("postgresql://payments_gateway:").split("@")[0]
    assert telling not in lines.getvalue()
    assert json.dumps(telling)[1:-1] not in lines.getvalue()
    assert lines.getvalue().count("[redacted]") >= 7


def test_a_card_number_as_a_number_is_redacted(lines: io.StringIO) -> None:
    structlog.get_logger().info("said", number=4242424242424242)
    assert last(lines)["number"] == "[redacted]"


@pytest.mark.parametrize(
    "name", ["secret", "password", "api_key", "stripe_api_key", "cvc", "signature", "authorization"]
)
def test_a_value_named_like_a_secret_is_redacted(lines: io.StringIO, name: str) -> None:
    structlog.get_logger().info("said", **{name: "short"})
    assert last(lines)[name] == "[redacted]"


def test_bytes_are_counted_not_shown(lines: io.StringIO) -> None:
    structlog.get_logger().info("said", body=b"4242424242424242")
    assert "4242" not in lines.getvalue()


@given(st.uuids())
def test_ids_are_kept(value: UUID) -> None:
    assert ours.redact(f"payment {value} of {value}") == f"payment {value} of {value}"


@given(st.integers(min_value=1_500_000_000_000, max_value=1_999_999_999_999))
def test_times_in_milliseconds_are_kept(millis: int) -> None:
    assert ours.redact(str(millis)) == str(millis)


@given(st.text(max_size=60), st.sampled_from([*SECRETS, *PANS[:4]]), st.text(max_size=60))
def test_the_quick_look_never_misses_what_the_slow_one_finds(before: str, secret: str, after: str) -> None:
    event = {"event": f"{before} {secret} {after}"}
    if ours.redact_event(None, "info", dict(event)) != event:
        assert ours._is_suspect(ours._dumps(event))
