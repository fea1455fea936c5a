"""What another policy would have done: under the same one what was, else what the stated model says."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline import ids
from pipeline.domain.retry import Policy, parse
from pipeline.domain.whatif import Log, Report, compare
from pipeline.messages.commands import Authorize
from pipeline.messages.facts import AttemptDeclined, AttemptStarted, Fact, PaymentAuthorized, RetryScheduled
from pipeline.messages.values import CaptureMethod, Decline, DeclineCategory, Outcome
from tests.domain.samples import NOW, VISA
from tests.domain.world import POLICIES, World

HOUR, DAY = 3_600_000, 86_400_000


def policy(*delays: str, window: str = "30d") -> Policy:
    listed = ", ".join(f'"{delay}"' for delay in delays)
    return parse(f"[[rules]]\nname = 'only'\ndelays = [{listed}]\nwindow = '{window}'\n")


def facts(payment: str, *attempts: tuple[int, str | None]) -> list[Fact]:
    """A payment's attempts: when, and the code it was declined with, None if it was approved."""
    found = list[Fact]()
    for number, (at, code) in enumerate(attempts, 1):
        attempt = ids.attempt_id(payment, number)
        base: dict[str, Any] = {
            "payment_id": payment, "merchant_id": "acme", "occurred_at": NOW + at, "cause_id": "c", "operation_id": "o",
            "provider": "stripe", "amount": 1_000, "currency": "USD", "attempt_id": attempt,
        }  # fmt: skip
        found.append(AttemptStarted(fact_id=f"s{attempt}", number=number, payment_method=VISA, **base))
        if code is None:
            found.append(
                PaymentAuthorized(
                    fact_id=f"a{attempt}", capture_method=CaptureMethod.MANUAL, provider_reference="pi",
                    hold_expires_at=NOW, **base,
                )
            )  # fmt: skip
        else:
            decline = Decline(category=DeclineCategory.SOFT, code=code, raw_code=code)
            found.append(AttemptDeclined(fact_id=f"d{attempt}", number=number, decline=decline, **base))
    return found


def report(other: Policy, *payments: list[Fact], until: int = 60 * DAY) -> Report:
    log = Log()
    for fact in (fact for payment in payments for fact in payment):
        log.add(fact)
    log.until = NOW + until
    return compare(log, other, 0, NOW + 90 * DAY)


RECOVERED = facts("p-1", (0, "insufficient_funds"), (DAY, "insufficient_funds"), (4 * DAY, None))
FAILED = facts("p-2", (0, "do_not_honor"), (DAY, "do_not_honor"))


def test_the_same_policy_changes_nothing() -> None:
    total = report(policy("1d", "3d"), RECOVERED).total
    assert (total.payments, total.retries, total.replayed, total.saved) == (1, 2, 2.0, 0.0)
    assert (total.recovered, total.gained, total.lost) == (1, 0.0, 0.0)


def test_a_policy_that_gives_up_too_early_loses_the_recovery_and_saves_the_attempts() -> None:
    total = report(policy("1d"), RECOVERED).total
    assert (total.saved, total.lost, total.would_recover) == (1.0, 1.0, 0.0)


def test_a_later_attempt_recovers_what_an_earlier_one_did() -> None:
    total = report(policy("5d"), RECOVERED).total
    assert (total.saved, total.lost, total.would_recover) == (1.0, 0.0, 1.0)


def test_an_attempt_before_the_recovery_meets_a_decline() -> None:
    total = report(policy("1h", "1h", "1h"), RECOVERED).total
    assert (total.replayed, total.lost) == (3.0, 1.0)


def test_what_nobody_knows_has_the_chance_of_the_log() -> None:
    """One of two retries after insufficient_funds was approved; nothing is known of do_not_honor but a failure."""
    broke = facts("p-3", (0, "insufficient_funds"))
    found = report(policy("1d", "1d"), RECOVERED, FAILED, broke)
    assert found.odds == {"insufficient_funds": 0.5, "do_not_honor": 0.0}
    line = found.lines["insufficient_funds"]
    assert line.gained == pytest.approx(0.5 + 0.25), "of the one that was never tried again"
    assert line.lost == pytest.approx(1.0), "of the one that recovered on the fourth day"
    assert found.lines["do_not_honor"].gained == 0.0


def test_a_retry_that_was_fired_late_is_still_the_one_that_was_planned() -> None:
    """The relay is late by a second, and the next decline, from which the next delay counts, with it."""
    found = facts("p-6", (0, "insufficient_funds"), (DAY + 1_000, "insufficient_funds"), (4 * DAY + 3_000, None))
    planned = [NOW + DAY, NOW + DAY + 1_000 + 3 * DAY]
    for number, due_at in enumerate(planned, 1):
        scheduled = RetryScheduled(
            fact_id=f"r{number}", payment_id="p-6", merchant_id="acme", occurred_at=NOW, cause_id="c", operation_id="o",
            attempt_id=ids.attempt_id("p-6", number), due_at=due_at, rule="only",
        )  # fmt: skip
        found.insert(2 * number + number - 1, scheduled)
    total = report(policy("1d", "3d"), found).total
    assert (total.saved, total.gained, total.lost) == (0.0, 0.0, 0.0)


def test_another_policys_attempt_at_nearly_the_same_time_recovers_too() -> None:
    total = report(policy("2d", "2879m"), RECOVERED).total
    assert total.lost == 0.0, "a card does not approve to the second"


def test_attempts_beyond_a_networks_limit_are_counted_with_their_fees() -> None:
    """Twelve in two hours: two beyond Mastercard's ten in a day."""
    hasty = facts("p-7", *[(number * 600_000, "insufficient_funds") for number in range(12)])
    total = report(policy("1d"), hasty).total
    assert (total.excess, dict(total.fees)) == (2, {"USD": 100})


def test_nothing_is_counted_after_the_end_of_the_log() -> None:
    total = report(policy("1d", "3d"), facts("p-4", (0, "insufficient_funds")), until=2 * DAY).total
    assert total.replayed == 1.0


def test_another_card_is_another_episode() -> None:
    first = facts("p-5", (0, "insufficient_funds"))
    log = Log()
    for fact in first:
        log.add(fact)
    assert [len(episode.tries) for episode in log.episodes()] == [1]


def test_only_declines_of_the_time_asked_for_are_compared() -> None:
    log = Log()
    for fact in RECOVERED:
        log.add(fact)
    assert compare(log, policy("1d"), NOW + 1, NOW + DAY).total.payments == 0
    assert compare(log, policy("1d"), NOW, NOW + 1).total.payments == 1


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("name", sorted(POLICIES))
def test_the_policy_that_was_changes_nothing_in_lives_without_manual_retries(seed: int, name: str) -> None:
    """Through the real decisions: attempts, jitter, limits, advice, paydays and hours come out as they did."""
    world = World(CaptureMethod.MANUAL, name, stubborn=bool(seed % 2))
    world.now += seed * 7 * HOUR
    world.feed(Authorize(**world.command("pay"), payment_method=VISA))
    answers = [Outcome.APPROVED if seed % 3 == 0 and number == 3 else Outcome.DECLINED for number in range(70)]
    for wish in answers:
        world.answer(0, wish, keep=False)
        if not world.planned() or not world.fire():
            break
    log = Log()
    for fact in world.chain.facts:
        log.add(fact)
    total = compare(log, world.policy, 0, 2**53).total
    assert (total.saved, total.gained, total.lost, total.excess) == (0.0, 0.0, 0.0, 0)
