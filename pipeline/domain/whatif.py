"""What another retry policy would have done with the declines that were: pure, and it touches nothing.

What happened is known only for the attempts that were made, so what would have happened needs a model; `MODEL` says it
to whoever reads the report. An attempt that the policy plans for the very moment that it was planned for is the real
one, with what became of it: so a payment whose attempts were made by the policy alone comes out as it did under the
same policy, nothing saved, gained or lost. Manual retries are part of what happened, and of no policy.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace

from pipeline import ids, money
from pipeline.domain.networks import Limit
from pipeline.domain.retry import Policy, plan
from pipeline.messages.facts import AttemptDeclined, AttemptStarted, Fact, PaymentAuthorized, RetryScheduled
from pipeline.messages.inputs import RetryPlanned

MODEL: Final = (
    "A card that declined until an attempt at R was approved declines before R and approves from R on (to within 1 % "
    "of the time since the first attempt). A card that never approved declines until its last real attempt; after "
    "that, an attempt succeeds with the chance that retries after the same decline code had in this log. Attempts "
    "after the end of the log are not counted."
)
NEARLY: Final = 0.99
CERTAIN: Final = 1e-9
"""Below this a chance is no chance."""


@dataclass(frozen=True, slots=True)
class Try:
    """A real attempt. `planned_for`: when the policy wanted it, None for one that somebody asked for; `declined`: its
    decline, None if it was approved or is still open.
    """

    attempt_id: str
    at: int
    planned_for: int | None = None
    declined: AttemptDeclined | None = None
    approved: bool = False


@dataclass(slots=True)
class Episode:
    """The real attempts of one payment with one method, the first of them declined."""

    tries: list[Try]

    @property
    def first(self) -> AttemptDeclined:
        """The first decline."""
        declined = self.tries[0].declined
        assert declined is not None
        return declined

    @property
    def code(self) -> str:
        """The canonical code of the first decline."""
        return self.first.decline.code

    @property
    def recovered_at(self) -> int | None:
        """When an attempt was approved after all."""
        return next((made.at for made in self.tries if made.approved), None)

    @property
    def declined_until(self) -> int:
        """The last moment at which the card is known to have declined."""
        return max(made.at for made in self.tries if made.declined)

    def decline_at(self, at: int) -> AttemptDeclined:
        """The decline that an attempt at `at` would have met: the latest one that is known by then."""
        known = [made.declined for made in self.tries if made.declined and made.at <= at]
        return known[-1] if known else self.first


class Log:
    """Collects episodes from the facts of `payments.events`, in the order of each payment."""

    def __init__(self) -> None:
        self._tries: dict[str, dict[str, list[Try]]] = defaultdict(lambda: defaultdict(list))
        self._methods: dict[str, dict[str, str]] = defaultdict(dict)
        self._planned: dict[str, int] = {}
        self.facts = 0
        self.until = 0
        """The time of the newest fact."""

    def add(self, fact: Fact) -> None:
        """Take the next fact."""
        self.facts += 1
        self.until = max(self.until, fact.occurred_at)
        match fact:
            case AttemptStarted():
                method = f"{fact.payment_method.kind}:{fact.payment_method.token}"
                self._methods[fact.payment_id][fact.attempt_id] = method
                planned = self._planned.pop(fact.payment_id, None)
                due = planned if planned is not None and planned <= fact.occurred_at else None
                self._tries[fact.payment_id][method].append(Try(fact.attempt_id, fact.occurred_at, due))
            case RetryScheduled():
                self._planned[fact.payment_id] = fact.due_at
            case AttemptDeclined():
                self._close(fact.payment_id, fact.attempt_id, fact.occurred_at, declined=fact)
            case PaymentAuthorized():
                self._close(fact.payment_id, fact.attempt_id, fact.occurred_at, approved=True)

    def episodes(self) -> Iterator[Episode]:
        """Every episode that began with a decline."""
        for methods in self._tries.values():
            for tries in methods.values():
                if tries[0].declined:
                    yield Episode(tries)

    def _close(
        self, payment: str, attempt: str, at: int, *, declined: AttemptDeclined | None = None, approved: bool = False
    ) -> None:
        """An attempt's outcome. One whose start is before the log's beginning began when it ended."""
        method = self._methods[payment].get(attempt, "")
        tries = self._tries[payment][method]
        for number, made in enumerate(tries):
            if made.attempt_id == attempt:
                closed = (declined or made.declined, approved or made.approved)
                tries[number] = Try(attempt, made.at, made.planned_for, *closed)
                return
        tries.append(Try(attempt, at, None, declined, approved))


Chances = Mapping[str, float]


def chances(episodes: Iterable[Episode]) -> dict[str, float]:
    """By decline code: the share of the retries made after it that were approved."""
    made, approved = defaultdict[str, int](int), defaultdict[str, int](int)
    for episode in episodes:
        before = episode.first
        for attempt in episode.tries[1:]:
            if attempt.declined or attempt.approved:
                made[before.decline.code] += 1
                approved[before.decline.code] += attempt.approved
            before = attempt.declined or before
    return {code: approved[code] / count for code, count in made.items()}


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a policy does with an episode: retries made, and the chance that it recovers. Expected values."""

    retries: float
    recovered: float


def replay(policy: Policy, episode: Episode, odds: Chances, until: int) -> Replayed:
    """Make the attempts that the policy plans, with the outcomes that the model gives them."""
    made, declined, ended = _as_it_was(policy, episode)
    if ended is not None:
        return ended
    lag = max(0, episode.first.occurred_at - episode.tries[0].at)
    retries, recovered, alive = float(len(made) - 1), 0.0, 1.0
    while alive > CERTAIN:
        word = plan(policy, declined, tuple(made))
        if not isinstance(word, RetryPlanned) or word.due_at > until:
            break
        retries += alive
        chance = _chance(episode, declined, word.due_at, odds)
        recovered += alive * chance
        alive *= 1 - chance
        made.append(word.due_at)
        declined = _met(episode, word.due_at, len(made), lag)
    return Replayed(retries, recovered)


def _as_it_was(policy: Policy, episode: Episode) -> tuple[list[int], AttemptDeclined, Replayed | None]:
    """The real attempts as long as the policy plans them too: when each was made, the last one's decline, and what
    became of the episode if they are all there is.
    """
    made, declined = [episode.tries[0].at], episode.first
    for real in episode.tries[1:]:
        word = plan(policy, declined, tuple(made))
        if not isinstance(word, RetryPlanned) or word.due_at != real.planned_for:
            break
        made.append(real.at)
        if real.declined is None:
            return made, declined, Replayed(len(made) - 1, float(real.approved))
        declined = real.declined
    return made, declined, None


def _chance(episode: Episode, declined: AttemptDeclined, at: int, odds: Chances) -> float:
    """That an attempt at `at` is approved."""
    if episode.recovered_at is not None:
        first = episode.tries[0].at
        return 1.0 if at >= first + NEARLY * (episode.recovered_at - first) else 0.0
    return 0.0 if at <= episode.declined_until else odds.get(declined.decline.code, 0.0)


def _met(episode: Episode, at: int, number: int, lag: int) -> AttemptDeclined:
    """The decline of a replayed attempt, under the id that the attempt would have had: jitter derives from it."""
    attempt = ids.attempt_id(episode.first.payment_id, number)
    return replace(episode.decline_at(at), attempt_id=attempt, number=number, occurred_at=at + lag)


@dataclass(slots=True)
class Line:
    """One decline code: what was, and what would have been. `gained` and `lost` are expected recoveries."""

    code: str
    payments: int = 0
    retries: int = 0
    replayed: float = 0.0
    recovered: int = 0
    gained: float = 0.0
    lost: float = 0.0
    excess: int = 0
    fees: Counter[str] = field(default_factory=Counter)
    """What the networks charge for the real attempts beyond their limits: minor units by currency."""

    @property
    def saved(self) -> float:
        """Retries saved; below zero: retries added."""
        return self.retries - self.replayed

    @property
    def would_recover(self) -> float:
        """Recoveries under the other policy."""
        return self.recovered + self.gained - self.lost


@dataclass(slots=True)
class Report:
    """The whole comparison."""

    lines: dict[str, Line] = field(default_factory=dict)
    odds: Chances = field(default_factory=dict)

    @property
    def total(self) -> Line:
        """All codes together."""
        total = Line("total")
        for line in self.lines.values():
            total.payments += line.payments
            total.retries += line.retries
            total.replayed += line.replayed
            total.recovered += line.recovered
            total.gained += line.gained
            total.lost += line.lost
            total.excess += line.excess
            total.fees.update(line.fees)
        return total


def compare(log: Log, policy: Policy, since: int, before: int) -> Report:
    """What `policy` would have done with the episodes whose first decline is in [since, before), in milliseconds."""
    episodes = list(log.episodes())
    report = Report(odds=chances(episodes))
    for episode in episodes:
        if since <= episode.first.occurred_at < before:
            line = report.lines.setdefault(episode.code, Line(episode.code))
            _add(line, episode, replay(policy, episode, report.odds, log.until), policy.networks.limits)
    return report


def _add(line: Line, episode: Episode, replayed: Replayed, limits: Iterable[Limit]) -> None:
    real = episode.recovered_at is not None
    line.payments += 1
    line.retries += len(episode.tries) - 1
    line.replayed += replayed.retries
    line.recovered += real
    line.gained += 0.0 if real else replayed.recovered
    line.lost += 1 - replayed.recovered if real else 0.0
    beyond = {limit: limit.excess([made.at for made in episode.tries]) for limit in limits}
    line.excess += max(beyond.values(), default=0)
    for limit, count in beyond.items():
        if count and limit.excess_fee:
            fee, currency = limit.excess_fee.split()
            line.fees[currency] += count * money.parse(fee, currency)
