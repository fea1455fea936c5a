"""The chart of accounts has every account that is posted to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.domain import postings
from pipeline.domain.accounts import CHART, UnknownAccountError, kind_of

LEDGER = Path(__file__).parents[2] / "docs" / "ledger.md"


def test_every_account_that_is_posted_to_is_in_the_chart() -> None:
    names = set(re.findall(r'f"(\w+):\{fact\.', Path(postings.__file__).read_text()))
    assert {"holds_receivable", "merchant_payable"} <= names <= CHART.keys()


def test_the_documented_accounts_are_those_of_the_chart() -> None:
    assert set(re.findall(r"^\| `(\w+):", LEDGER.read_text(), re.MULTILINE)) <= CHART.keys()


def test_an_unknown_account_is_an_error() -> None:
    with pytest.raises(UnknownAccountError, match="slush_fund:USD"):
        kind_of("slush_fund:USD")
