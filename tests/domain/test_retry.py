"""When a declined payment is tried again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain.retry import (
    RETRYABLE,
    Planned,
    Policy,
    PolicyError,
    RetryState,
    decide,
    milliseconds,
    parse,
    plan,
)
from pipeline.messages.facts import AttemptDeclined, AttemptStarted, MethodSet, PaymentAuthorized
from pipeline.messages.inputs import RetryAbandoned, RetryPlanned
from pipeline.messages.values import CaptureMethod, Decline, DeclineCategory
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


def started(number: int, at: int = NOW) -> AttemptStarted:
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
        payment_method=VISA,
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
        for limit in generous.limits:
            within = [moment for moment in (*made, word.due_at) if moment > word.due_at - limit.period]
            assert len(within) <= limit.attempts


def test_jitter_spreads_and_repeats() -> None:
    words = [plan(SHIPPED, declined(number, code="insufficient_funds"), (NOW,)) for number in range(1, 101)]
    again = [plan(SHIPPED, declined(number, code="insufficient_funds"), (NOW,)) for number in range(1, 101)]
    assert words == again
    delays = {word.due_at - NOW for word in words if isinstance(word, RetryPlanned)}
    assert len(delays) == 100
    assert max(delays) - min(delays) > 0.08 * DAY


def test_attempts_are_counted_once_and_a_new_method_starts_afresh() -> None:
    policy = parse(SMALL)
    state = decide(None, started(1), policy).state
    assert decide(state, started(1), policy).state == state, "a repeat counts nothing"
    state = decide(state, started(2, NOW + HOUR), policy).state
    assert state is not None
    assert len(state.tried) == 2
    changed = MethodSet(
        fact_id="f", payment_id=PAYMENT, merchant_id="acme", occurred_at=NOW, cause_id="c", operation_id="o",
        payment_method=VISA,
    )  # fmt: skip
    assert decide(state, changed, policy).state == RetryState()


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
    assert quick.limits == SHIPPED.limits


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
