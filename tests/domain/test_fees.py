"""What a contract says a fee is."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from pipeline.domain.fees import ScheduleError, parse
from pipeline.messages.settlement import LineKind
from pipeline.settings import PROJECT
from tests.domain.test_settlement import CHARGE, REFUND

SCHEDULE = """
[[rule]]
provider = "stripe"
kind = "charge"
currency = "JPY"
basis_points = 360

[[rule]]
provider = "stripe"
kind = "charge"
basis_points = 290
fixed = 30
"""


@pytest.mark.parametrize(
    ("gross", "fee"),
    [(6_000, 204), (10_000, 320), (-4_000, -116), (1, 30), (17, 30), (18, 31), (-18, -1)],
)
def test_a_share_and_a_fixed_part_rounded_half_up(gross: int, fee: int) -> None:
    assert parse(SCHEDULE).expected(replace(CHARGE, gross=gross)) == fee


def test_the_first_rule_that_fits_counts() -> None:
    assert parse(SCHEDULE).expected(replace(CHARGE, currency="JPY", gross=1_000)) == 36


@pytest.mark.parametrize("line", [REFUND, replace(CHARGE, provider="adyen"), replace(CHARGE, kind=LineKind.DISPUTE)])
def test_where_the_contract_says_nothing_nothing_is_expected(line: object) -> None:
    assert parse(SCHEDULE).expected(line) is None  # type: ignore[arg-type]


def test_our_own_schedule_reads() -> None:
    assert parse((PROJECT / "pipeline" / "policies" / "fees.toml").read_text()).rules


@pytest.mark.parametrize("wrong", ["[[rule]]", "rule = 5", "[[rule]]\nprovider='x'\nkind='wish'", "[["])
def test_a_schedule_that_cannot_be_followed_is_refused(wrong: str) -> None:
    with pytest.raises(ScheduleError):
        parse(wrong)
