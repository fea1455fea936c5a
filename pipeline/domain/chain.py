"""Both deciding stages as one pure fold over a payment's inputs: shared by replay, reconciler, simulation, what-if."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.domain import authorization, capture
from pipeline.domain.authorization import AuthorizationState
from pipeline.domain.capture import CaptureState
from pipeline.domain.decision import Output, Schedule
from pipeline.domain.projection import PaymentView, apply
from pipeline.messages import Input
from pipeline.messages.facts import Fact
from pipeline.messages.requests import ProviderRequest
from pipeline.messages.timers import Timer


@dataclass(frozen=True, slots=True)
class Step:
    """What one input brought about: on `payments.authorizations`, and beyond it."""

    authorizations: tuple[Fact | Input, ...]
    facts: tuple[Fact, ...]
    requests: tuple[ProviderRequest, ...]
    timers: tuple[Timer, ...]


@dataclass(slots=True)
class PaymentChain:
    """One payment's way through the authorization and capture stages."""

    schedule: Schedule
    authorization: AuthorizationState | None = None
    capture: CaptureState | None = None
    view: PaymentView | None = None
    facts: list[Fact] = field(default_factory=list)

    def feed(self, item: Input) -> Step:
        """Give the payment its next input, in the order of `payments.intake`."""
        decision = authorization.decide(self.authorization, item, self.schedule)
        self.authorization = decision.state
        passed: tuple[Fact | Input, ...] = (item,) if decision.forward else decision.facts
        outputs: list[Output] = [output for output in decision.outputs if not isinstance(output, Fact)]
        for part in passed:
            outputs.extend(self._capture(part))
        facts = tuple(output for output in outputs if isinstance(output, Fact))
        self.facts.extend(facts)
        return Step(
            passed,
            facts,
            tuple(output for output in outputs if isinstance(output, ProviderRequest)),
            tuple(output for output in outputs if isinstance(output, Timer)),
        )

    def _capture(self, part: Fact | Input) -> tuple[Output, ...]:
        decision = capture.decide(self.capture, part, self.schedule)
        self.capture = decision.state
        for fact in decision.facts:
            self.view = apply(self.view, fact)
        return decision.outputs
