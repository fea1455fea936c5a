"""When a declined payment is tried again."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain.calendars import Calendar, hours
from pipeline.domain.networks import Limit
from pipeline.domain.retry import (
    RETRYABLE,
    Planned,
    Policy,
    PolicyError,
    decide,
    milliseconds,
    parse,
    plan,
)
from pipeline.messages.facts import AttemptDeclined, AttemptStarted, PaymentAuthorized
from pipeline.messages.inputs import RetryAbandoned, RetryPlanned
from pipeline.messages.values import CaptureMethod, Decline, DeclineCategory, PaymentMethod
from pipeline.policies import NETWORKS
from tests.domain.samples import NOW, PAYMENT, VISA

SHIPPED = parse((Path(__file__).parents[2] / "pipeline" / "policies" / "retry.toml").read_text())
HOUR, DAY = 3_600_000, 86_400_000

SMALL = """
jitter = 0.0
[[limits]]
name = "three_a_day"
attempts = 3
period = "1d"
[[rules]]
name = "acme_soft"
merchants = ["acme"]
categories = ["soft"]
delays = ["1h", "1h", "1h", "1h"]
window = "30d"
[[rules]]
name = "rest"
delays = ["5s"]
"""


def declined(
    number: int = 1, at: int = NOW, category: DeclineCategory = DeclineCategory.SOFT, **decline: Any
) -> AttemptDeclined:
    return AttemptDeclined(
        fact_id=f"fact-{number}",
        payment_id=PAYMENT,
        merchant_id="acme",
        occurred_at=at,
        cause_id="cause",
        operation_id="op",
        attempt_id=f"attempt-{number}",
        number=number,
        provider="stripe",
        amount=1_000,
        currency="USD",
        decline=Decline(category=category, code=decline.pop("code", "do_not_honor"), raw_code="x", **decline),
    )


def started(number: int, at: int = NOW, method: PaymentMethod = VISA) -> AttemptStarted:
    return AttemptStarted(
        fact_id=f"started-{number}",
        payment_id=PAYMENT,
        merchant_id="acme",
        occurred_at=at,
        cause_id="cause",
        operation_id="op",
        attempt_id=f"attempt-{number}",
        number=number,
        provider="stripe",
        amount=1_000,
        currency="USD",
        payment_method=method,
    )


@pytest.mark.parametrize("category", [c for c in DeclineCategory if c not in RETRYABLE])
def test_the_policy_is_silent_about_declines_that_are_final_anyway(category: DeclineCategory) -> None:
    assert plan(SHIPPED, declined(category=category), (NOW,)) is None


def test_insufficient_funds_come_back_after_days_not_minutes() -> None:
    word = plan(SHIPPED, declined(code="insufficient_funds"), (NOW,))
    assert isinstance(word, RetryPlanned)
    assert word.rule == "insufficient_funds"
    assert DAY <= word.due_at - NOW <= 1.1 * DAY


def test_a_provider_that_could_not_be_asked_is_asked_again_soon() -> None:
    word = plan(SHIPPED, declined(category=DeclineCategory.TEMPORARY), (NOW,))
    assert isinstance(word, RetryPlanned)
    assert 5_000 <= word.due_at - NOW <= 5_500


@pytest.mark.parametrize("advice", ["03", "21"])
def test_mastercards_do_not_retry_is_obeyed(advice: str) -> None:
    word = plan(SHIPPED, declined(network_advice_code=advice), (NOW,))
    assert isinstance(word, RetryAbandoned)
    assert word.rule == "mastercard_do_not_retry"


@pytest.mark.parametrize("code", ["04", "07", "12", "14", "15", "41", "43", "46", "57", "R0", "R1", "R3"])
def test_visas_category_1_is_obeyed(code: str) -> None:
    word = plan(SHIPPED, declined(network_code=code), (NOW,))
    assert isinstance(word, RetryAbandoned)
    assert word.rule == "visa_do_not_retry"


def test_delays_follow_one_another_until_they_are_used_up() -> None:
    at, made, rules = NOW, [], []
    for number in range(1, 10):
        made.append(at)
        word = plan(SHIPPED, declined(number, at, code="insufficient_funds"), tuple(made))
        if isinstance(word, RetryAbandoned):
            rules.append(word.rule)
            break
        assert word is not None
        rules.append(f"+{(word.due_at - at) // DAY}")
        at = word.due_at
    assert rules == ["+1", "+3", "+5", "insufficient_funds:max_attempts"]


def test_a_network_limit_puts_the_retry_off() -> None:
    policy = parse(SMALL)
    made = (NOW, NOW + HOUR, NOW + 2 * HOUR)
    word = plan(policy, declined(3, NOW + 2 * HOUR), made)
    assert isinstance(word, RetryPlanned)
    assert word.due_at == NOW + DAY, "the fourth may be made when the first is a day old"


def test_what_a_limit_puts_outside_the_window_is_given_up() -> None:
    policy = parse(SMALL.replace('window = "30d"', 'window = "4h"'))
    made = (NOW, NOW + HOUR, NOW + 2 * HOUR)
    word = plan(policy, declined(3, NOW + 2 * HOUR), made)
    assert isinstance(word, RetryAbandoned)
    assert word.rule == "acme_soft:window"


def test_a_rule_may_be_one_merchants() -> None:
    policy = parse(SMALL)
    assert policy.rule_for("acme", declined().decline).name == "acme_soft"
    assert policy.rule_for("other", declined().decline).name == "rest"


@given(st.lists(st.integers(0, 40), min_size=1, max_size=60), st.sampled_from(RETRYABLE))
def test_no_plan_ever_exceeds_a_networks_limit(gaps: list[int], category: DeclineCategory) -> None:
    """Whatever the history (manual retries included), the planned attempt keeps within every limit."""
    generous = SHIPPED.model_copy(
        update={
            "rules": tuple(
                rule.model_copy(update={"delays": (1_000,) * 64, "max_attempts": 64, "never": False})
                for rule in SHIPPED.rules
            )
        }
    )
    made, at = [], NOW
    for gap in gaps:
        at += gap * HOUR
        made.append(at)
    word = plan(generous, declined(len(made), at, category), tuple(made))
    if isinstance(word, RetryPlanned):
        for limit in generous.networks.limits:
            within = [moment for moment in (*made, word.due_at) if moment > word.due_at - limit.period]
            assert len(within) <= limit.attempts


def test_jitter_spreads_and_repeats() -> None:
    words = [plan(SHIPPED, declined(number, code="insufficient_funds"), (NOW,)) for number in range(1, 101)]
    again = [plan(SHIPPED, declined(number, code="insufficient_funds"), (NOW,)) for number in range(1, 101)]
    assert words == again
    delays = {word.due_at - NOW for word in words if isinstance(word, RetryPlanned)}
    assert len(delays) == 100
    assert max(delays) - min(delays) > 0.08 * DAY


def test_attempts_are_counted_once_and_another_method_starts_afresh() -> None:
    policy = parse(SMALL)
    state = decide(None, started(1), policy).state
    assert state is not None
    assert decide(state, started(1), policy).state == state, "a repeat counts nothing"
    state = decide(state, started(2, NOW + HOUR), policy).state
    assert state is not None
    assert state.history("attempt-2") == (NOW, NOW + HOUR)
    state = decide(state, started(3, NOW + 2 * HOUR, PaymentMethod(token="pm_other")), policy).state
    assert state is not None
    assert state.history("attempt-3") == (NOW + 2 * HOUR,)


def test_the_same_method_set_again_does_not_start_afresh() -> None:
    policy, state = parse(SMALL), None
    methods = [VISA, VISA, PaymentMethod(token="pm_other"), VISA]
    for number, method in enumerate(methods, 1):
        state = decide(state, started(number, NOW + number, method), policy).state
    assert state is not None
    assert state.history("attempt-4") == (NOW + 1, NOW + 2, NOW + 4)
    assert state.history("attempt-2") == (NOW + 1, NOW + 2), "an earlier decline speaks of what was before it"


def test_a_decline_without_history_counts_as_the_first() -> None:
    word = decide(None, declined(), parse(SMALL)).outputs
    assert [type(output) for output in word] == [RetryPlanned]


def test_other_facts_change_nothing() -> None:
    authorized = PaymentAuthorized(
        fact_id="f", payment_id=PAYMENT, merchant_id="acme", occurred_at=NOW, cause_id="c", operation_id="o",
        attempt_id="attempt-1", provider="stripe", amount=1, currency="USD", capture_method=CaptureMethod.MANUAL,
        provider_reference="pi_1", hold_expires_at=NOW,
    )  # fmt: skip
    counted = decide(None, started(1), SHIPPED).state
    assert decide(counted, authorized, SHIPPED) == Planned(counted)
    assert decide(None, authorized, SHIPPED) == Planned(None)


def test_the_shipped_policy_scales_for_demos() -> None:
    quick = SHIPPED.scaled(0.0001)
    word = plan(quick, declined(code="insufficient_funds"), (NOW,))
    assert isinstance(word, RetryPlanned)
    assert 8_000 <= word.due_at - NOW <= 10_000
    assert quick.networks.limits == SHIPPED.networks.limits


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("jitter = 0.0", "jitter = 0.9"), "jitter"),
        (("jitter = 0.0", "jitters = 0.1"), "jitters"),
        (('"5s"', '"5 s"'), "duration"),
        (('"5s"', "5"), "duration"),
        (('delays = ["5s"]', ""), "either delays or never"),
        (('delays = ["5s"]', 'delays = ["5s"]\nnever = true'), "either delays or never"),
        (('name = "rest"', 'name = "acme_soft"'), "same name"),
        (('name = "rest"', 'name = "rest"\ncategories = ["soft"]'), "no rule catches every temporary"),
        (('categories = ["soft"]', 'categories = ["mild"]'), "categories"),
        (("attempts = 3", "attempts = 0"), "attempts"),
        (("[[limits]]", "[[limits"), "TOML|Expected|expected"),
        (("jitter = 0.0", "jitter = 0.0\n[networks]\nlimits = []"), "not a policy's to change"),
        (("jitter = 0.0", 'jitter = 0.0\n[calendar]\ntime_zone = "Mars/Olympus"'), "no IANA time zone"),
        (("jitter = 0.0", "jitter = 0.0\n[calendar]\npaydays = [32]"), "a payday is"),
        (("jitter = 0.0", 'jitter = 0.0\n[merchants.acme]\npaydays = ["someday"]'), "merchants.acme.paydays"),
        (('delays = ["5s"]', 'delays = ["5s"]\nhours = "20:00-08:00"'), "hours end after they start"),
        (('delays = ["5s"]', 'delays = ["5s"]\nhours = "8-20"'), "hours are two times"),
        (('delays = ["5s"]', 'delays = ["5s"]\npayday_within = "40d"'), "payday_within"),
        (('delays = ["5s"]', 'delays = ["5s"]\nwindow = "31d"'), "at most 30d"),
        (('name = "rest"', 'name = "rest"\ndelays = ["1s"]\n[[rules]]\nname = "late"'), "late is never reached"),
    ],
)
def test_a_mistake_in_the_policy_is_found_when_it_is_read(change: tuple[str, str], words: str) -> None:
    with pytest.raises(PolicyError, match=words):
        parse(SMALL.replace(*change))


def test_durations() -> None:
    assert [milliseconds(text) for text in ("1s", "2m", "3h", "4d")] == [1_000, 120_000, 3 * HOUR, 4 * DAY]


def test_the_policy_is_frozen() -> None:
    assert isinstance(SHIPPED, Policy)
    with pytest.raises(ValueError, match="frozen"):
        SHIPPED.jitter = 0.2  # type: ignore[misc]


def test_the_networks_rules_hold_under_any_policy() -> None:
    policy = parse('[[rules]]\nname = "reckless"\ndelays = ["1s"]\n')
    for code in ("04", "R3"):
        word = plan(policy, declined(network_code=code), (NOW,))
        assert isinstance(word, RetryAbandoned)
        assert word.rule == "visa_do_not_retry"
    word = plan(policy, declined(network_advice_code="26"), (NOW,))
    assert isinstance(word, RetryPlanned)
    assert (word.due_at, word.moved_by) == (NOW + 2 * DAY, ["mastercard_advice_26"])


def test_what_puts_a_retry_off_is_named() -> None:
    made = (NOW, NOW + HOUR, NOW + 2 * HOUR)
    word = plan(parse(SMALL), declined(3, NOW + 2 * HOUR), made)
    assert isinstance(word, RetryPlanned)
    assert word.moved_by == ["three_a_day"]


HINTED = """
[calendar]
time_zone = "America/New_York"
paydays = [1, 15]
[merchants.acme]
time_zone = "Asia/Tokyo"
paydays = ["friday"]
[[rules]]
name = "funds"
delays = ["1d", "1d"]
window = "7d"
payday_within = "3d"
hours = "09:00-17:00"
"""


def test_a_retry_waits_for_the_merchants_payday_and_hours() -> None:
    """Monday, 21 September 2026, 14:13 UTC. The day after tomorrow in Tokyo is no Friday, but one is near."""
    word = plan(parse(HINTED), declined(), (NOW,))
    assert isinstance(word, RetryPlanned)
    assert word.moved_by == ["payday", "hours"]
    due = datetime.fromtimestamp(word.due_at / 1000, ZoneInfo("Asia/Tokyo"))
    assert (due.strftime("%A"), due.hour) == ("Friday", 9)


def test_another_merchant_has_another_calendar() -> None:
    """No payday of New York is near, and the hour there is 10 in the morning: nothing moves."""
    word = plan(parse(HINTED), msgspec.structs.replace(declined(), merchant_id="other"), (NOW,))
    assert isinstance(word, RetryPlanned)
    assert (word.due_at, word.moved_by) == (NOW + DAY, [])


def test_a_hint_never_costs_a_retry() -> None:
    word = plan(parse(HINTED.replace('window = "7d"', 'window = "2d"')), declined(), (NOW,))
    assert isinstance(word, RetryPlanned)
    assert (word.due_at, word.moved_by) == (NOW + DAY, [])


@given(
    st.integers(NOW, NOW + 400 * DAY),
    st.sampled_from(["UTC", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "America/Santiago"]),
    st.sampled_from([[1, 15], ["last"], ["friday"], [31], []]),
)
def test_a_hinted_moment_is_one_that_was_asked_for(at: int, zone: str, paydays: list[int | str]) -> None:
    calendar, allowed = Calendar.model_validate({"time_zone": zone, "paydays": paydays}), hours("09:00-17:00")
    day = calendar.on_payday(at, 10 * DAY)
    assert at <= day <= at + 10 * DAY
    if day > at:
        local = datetime.fromtimestamp(day / 1000, ZoneInfo(zone))
        tomorrow = local + timedelta(days=1)
        assert (local.day in paydays) or (local.strftime("%A").lower() in paydays) or (tomorrow.day == 1)
    open_at = calendar.in_hours(at, allowed)
    assert at <= open_at < at + DAY + 2 * HOUR
    assert 9 <= datetime.fromtimestamp(open_at / 1000, ZoneInfo(zone)).hour < 17


def test_a_limit_counts_what_was_beyond_it() -> None:
    limit = Limit.model_validate({"name": "three", "attempts": 3, "period": "1h"})
    assert limit.excess([NOW, NOW + 1, NOW + 2]) == 0
    assert limit.excess([NOW, NOW + 1, NOW + 2, NOW + 3, NOW + HOUR + 5]) == 1


def test_the_networks_rules_are_the_published_ones() -> None:
    assert {limit.name: (limit.attempts, limit.period) for limit in NETWORKS.limits} == {
        "visa_15_in_30_days": (15, 30 * DAY),
        "mastercard_10_in_24_hours": (10, DAY),
        "mastercard_35_in_30_days": (35, 30 * DAY),
    }
    assert {code: delay // HOUR for code, delay in NETWORKS.earliest.items()} == {
        "24": 1, "25": 24, "26": 48, "27": 96, "28": 144, "29": 192, "30": 240,
    }  # fmt: skip
