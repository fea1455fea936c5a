"""What every test may ask for."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

from pipeline import logging as our_logging

pytest_plugins = ["tests.fixtures.stack"]

# A busy machine draws slowly; that says nothing about the code.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")

# Gateways and simulators run in threads, and log there. sys.stdout is pytest's, which swaps and closes it for a test
# that captures: a write that meets the close of its TextIOWrapper in another thread can end CPython with SIGSEGV.
# This stream is never closed, and its descriptor is captured like any other.
structlog.configure(logger_factory=structlog.PrintLoggerFactory(file=sys.__stderr__))


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """Everything that is logged meanwhile, in any thread, as a process of ours writes it."""
    root, configured = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    our_logging.configure("test", stream=stream)
    root.setLevel(logging.DEBUG)
    yield stream
    structlog.configure(**configured)
    logging.captureWarnings(capture=False)
    root.handlers[:], root.level = handlers, level
