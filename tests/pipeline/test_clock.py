"""The clock: put forward for all who follow it, never back, and never where a provider is real."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline import clock
from pipeline.clock import Jump, back, forward, parse
from pipeline.settings import PROJECT, Settings

DAY = 86_400_000
JUMPS = st.lists(st.builds(Jump, st.integers(0, 10 * DAY), st.integers(1, 30 * DAY)), max_size=5)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    clock.follow(tmp_path / "clock")
    yield tmp_path / "clock"
    clock.follow(None)


@given(JUMPS, st.integers(0, 20 * DAY))
def test_there_and_back_is_the_same_moment(jumps: list[Jump], real: int) -> None:
    assert back(jumps, forward(jumps, real)) == real


@given(JUMPS, st.integers(0, 20 * DAY), st.integers(0, 20 * DAY))
def test_time_never_goes_back(jumps: list[Jump], one: int, other: int) -> None:
    early, late = sorted((one, other))
    assert forward(jumps, early) <= forward(jumps, late)
    assert back(jumps, early) <= back(jumps, late)


def test_what_was_jumped_over_was_at_the_jump() -> None:
    jumps = [Jump(1_000, 500), Jump(2_000, 100)]
    assert [forward(jumps, at) for at in (999, 1_000, 1_999, 2_000)] == [999, 1_500, 2_499, 2_600]
    assert [back(jumps, at) for at in (999, 1_000, 1_499, 1_500)] == [999, 1_000, 1_000, 1_000]
    assert [back(jumps, at) for at in (2_499, 2_500, 2_599, 2_600)] == [1_999, 2_000, 2_000, 2_000]


def test_every_process_jumps(file: Path) -> None:
    clock.put_forward(3 * DAY)
    clock.put_forward(DAY)
    assert clock.ahead() == 4 * DAY
    assert clock.machine_time(clock.now()) <= clock.real()
    script = "import sys, pathlib, pipeline.clock as c; c.follow(pathlib.Path(sys.argv[1])); print(c.ahead())"
    command = [sys.executable, "-c", script, str(file)]
    other = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert int(other.stdout.splitlines()[-1]) == 4 * DAY


def test_what_was_before_the_jump_stays_there(file: Path) -> None:
    before = clock.real()
    clock.put_forward(DAY)
    assert file.exists()
    assert clock.system_time(before) == before
    assert clock.system_time(clock.real()) >= before + DAY


def test_a_clock_never_goes_back(file: Path) -> None:
    for by in (0, -DAY):
        with pytest.raises(ValueError, match="forward"):
            clock.put_forward(by)
    assert not file.exists()
    with pytest.raises(ValueError, match="forward"):
        parse("1000 -5")


def test_a_system_without_a_clock_of_its_own_has_the_machines() -> None:
    clock.follow(None)
    with pytest.raises(ValueError, match="local"):
        clock.put_forward(DAY)
    assert clock.ahead() == 0


LOCAL = "http://127.0.0.1:1"


def settings_with(**urls: str) -> Settings:
    values = {"stripe_api_url": LOCAL, "adyen_api_url": LOCAL, "paypal_api_url": LOCAL, "clock_file": "clock", **urls}
    return Settings.model_validate(values)


def test_a_real_provider_forbids_it() -> None:
    assert settings_with().clock_file == Path("clock")
    for url in ("https://api.stripe.com", "https://127.0.0.1.evil.example"):
        with pytest.raises(ValidationError, match="simulated providers on this machine only"):
            settings_with(stripe_api_url=url)
    with pytest.raises(ValidationError, match=r"api-m\.paypal\.com"):
        settings_with(paypal_api_url="https://api-m.paypal.com")
