"""How a payment behaves: by its vaulted payment method, `payment_source.card.vault_id`, `.paypal.vault_id` or
`.token.id`; which of them, it does not matter.

    paypal_ok                       paid
    paypal_payer_action             the payer must approve first; then paid
    paypal_payer_action_<code>      the payer must approve first; then the processor declines with that response code
    paypal_declined_<code>          the processor declines with that response code (responses.toml): the order is
                                    COMPLETED, its authorization DENIED or its capture DECLINED; then any of
                                    _advice<code> (payment_advice_code: 01, 02, 03, 21),
                                    _times<n> (only the first n orders of a payment of ours)
    paypal_issue_<issue>            PayPal refuses the payment: 422 with that issue of issues.toml, in lower case;
                                    then perhaps _times<n>
    paypal_pending                  PENDING (PENDING_REVIEW) until `/_sim/paypal/.../decide`
    paypal_pending_completed, paypal_pending_denied     PENDING, decided after a while

An authorization is made, and what comes after it goes that way; with intent CAPTURE, that is the capture made at once:

    paypal_capture_declined_<code>, paypal_capture_issue_<issue>
    paypal_capture_pending, paypal_capture_pending_completed, paypal_capture_pending_denied     (ECHECK)
    paypal_capture_reversed         captured, then PayPal takes it back
    paypal_capture_disputed         captured, then the payer disputes it
    paypal_void_issue_<issue>
    paypal_refund_issue_<issue>, paypal_refund_failed
    paypal_refund_pending, paypal_refund_pending_completed, paypal_refund_pending_failed        (ECHECK)

Every other one is not in the vault: 422 TOKEN_ID_NOT_FOUND.
"""

from __future__ import annotations

import re
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from connectors.simulator.paypal.errors import ISSUES

RESPONSES: Final[dict[str, str]] = tomllib.loads(Path(__file__).with_name("responses.toml").read_text(encoding="utf-8"))
"""Processor response code -> meaning."""
APPROVED: Final = "0000"
_ADVICES: Final = frozenset({"01", "02", "03", "21"})
_NAME: Final = re.compile(
    r"paypal_(?:(?P<stage>capture|void|refund)_)?"
    r"(?P<outcome>ok|payer_action|declined|issue|pending|failed|reversed|disputed)"
    r"(?:_(?P<detail>[0-9A-Z]{4}|[a-z_]+?))?(?:_advice(?P<advice>\d\d))?(?:_times(?P<times>\d{1,3}))?"
)


class Stage(StrEnum):
    """What goes another way than usual."""

    PAYMENT = "payment"
    """The authorization; with intent CAPTURE, the capture."""
    CAPTURE = "capture"
    VOID = "void"
    REFUND = "refund"


class Outcome(StrEnum):
    """Which way it goes."""

    OK = "ok"
    PAYER_ACTION = "payer_action"
    DECLINED = "declined"
    ISSUE = "issue"
    PENDING = "pending"
    FAILED = "failed"
    REVERSED = "reversed"
    DISPUTED = "disputed"


class Method(msgspec.Struct, frozen=True, kw_only=True):
    """How a payment behaves. `detail`: the response code, the issue, or how what is pending ends (None: when it is
    said). `times`: only the first so many orders of a payment go that way.
    """

    name: str
    stage: Stage = Stage.PAYMENT
    outcome: Outcome = Outcome.OK
    detail: str | None = None
    advice: str | None = None
    times: int | None = None

    def at(self, *stages: Stage) -> Outcome:
        """What happens at these stages."""
        return self.outcome if self.stage in stages else Outcome.OK

    def declines(self, *stages: Stage) -> str | None:
        """The response code with which a processor declines at these stages."""
        return self.detail if self.at(*stages) in {Outcome.DECLINED, Outcome.PAYER_ACTION} else None


_DECLINES: Final = frozenset(RESPONSES) - {APPROVED}
_REFUSALS: Final = frozenset(ISSUES["422"])
_NONE: Final[frozenset[str | None]] = frozenset({None})
_DETAILS: Final[dict[tuple[Stage, Outcome], frozenset[str | None]]] = {
    (Stage.PAYMENT, Outcome.OK): _NONE,
    (Stage.PAYMENT, Outcome.PAYER_ACTION): _NONE | _DECLINES,
    (Stage.PAYMENT, Outcome.DECLINED): frozenset(_DECLINES),
    (Stage.PAYMENT, Outcome.ISSUE): frozenset(_REFUSALS),
    (Stage.PAYMENT, Outcome.PENDING): frozenset({None, "completed", "denied"}),
    (Stage.CAPTURE, Outcome.DECLINED): frozenset(_DECLINES),
    (Stage.CAPTURE, Outcome.ISSUE): frozenset(_REFUSALS),
    (Stage.CAPTURE, Outcome.PENDING): frozenset({None, "completed", "denied"}),
    (Stage.CAPTURE, Outcome.REVERSED): _NONE,
    (Stage.CAPTURE, Outcome.DISPUTED): _NONE,
    (Stage.VOID, Outcome.ISSUE): frozenset(_REFUSALS),
    (Stage.REFUND, Outcome.ISSUE): frozenset(_REFUSALS),
    (Stage.REFUND, Outcome.PENDING): frozenset({None, "completed", "failed"}),
    (Stage.REFUND, Outcome.FAILED): _NONE,
}
"""What there is, and the details that each of it may have."""


def method_of(vault_id: str) -> Method | None:
    """How a vaulted payment method behaves; None if it is not in the vault."""
    match = _NAME.fullmatch(vault_id)
    if match is None:
        return None
    stage, outcome, detail = Stage(match["stage"] or Stage.PAYMENT), Outcome(match["outcome"]), match["detail"]
    if outcome is Outcome.ISSUE and detail is not None:
        detail = detail.upper()
    advice, times = match["advice"], match["times"]
    if detail not in _DETAILS.get((stage, outcome), frozenset()):
        return None
    if advice is not None and (outcome is not Outcome.DECLINED or advice not in _ADVICES):
        return None
    if times is not None and (stage is not Stage.PAYMENT or outcome not in {Outcome.DECLINED, Outcome.ISSUE}):
        return None
    return Method(
        name=vault_id,
        stage=stage,
        outcome=outcome,
        detail=detail,
        advice=advice,
        times=None if times is None else int(times),
    )
