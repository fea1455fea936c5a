"""Webhooks: only what Stripe signed, exactly as it signed it; and each event says exactly one thing."""

from __future__ import annotations

import hmac
import json
from hashlib import sha256
from typing import Any
from uuid import uuid4

import pytest
import stripe
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import SecretStr

from connectors.provider import (
    Announced,
    Ignored,
    Refusal,
    Unrouted,
    UnroutedReason,
    WebhookRefused,
    Webhooks,
    open_webhooks,
)
from connectors.stripe import webhook
from pipeline import ids
from pipeline.messages.inputs import DisputeReport, ProviderReport
from pipeline.messages.values import DeclineCategory, DisputeStep, Operation, Outcome, ReportSource
from pipeline.settings import Settings

SECRET = "whsec_test_secret"
OLD_SECRET = "whsec_the_one_before"
NOW = 1_760_000_000_000
SIGNED_AT = NOW // 1000
BODY = b'{"id": "evt_1", "object": "event", "type": "payment_intent.created", "data": {"object": {"id": "pi_1"}}}'

PAYMENT = ids.payment_id("m", "c")
ATTEMPT = ids.attempt_id(PAYMENT, 1)
CAPTURE = ids.subject_id("capture", PAYMENT, "1")
SECOND = ids.subject_id("capture", PAYMENT, "2")
REFUND = ids.subject_id("refund", PAYMENT, "3")
VOID = ids.subject_id("void", PAYMENT, "4")


def sign(body: bytes, *secrets: str, at: int = SIGNED_AT) -> dict[str, str]:
    """`Stripe-Signature` as the documentation describes it, written anew."""
    signed = f"{at}.".encode() + body
    values = ",".join(f"v1={hmac.new(s.encode(), signed, sha256).hexdigest()}" for s in secrets)
    return {"stripe-signature": f"t={at},{values}"}


def refusal(body: bytes, headers: dict[str, str], *secrets: str, now: int = NOW) -> Refusal | None:
    """Why it is refused; None if it is taken."""
    try:
        webhook.verify(body, headers, secrets or (SECRET,), now)
    except WebhookRefused as refused:
        return refused.reason
    return None


def test_what_the_official_sdk_signs_is_taken() -> None:
    header = stripe.WebhookSignature.generate_signature_header(BODY.decode(), SECRET, SIGNED_AT)
    assert refusal(BODY, {"stripe-signature": header}) is None


def test_what_we_take_the_official_sdk_takes() -> None:
    header = sign(BODY, OLD_SECRET, SECRET)["stripe-signature"]
    stripe.WebhookSignature.verify_header(BODY.decode(), header, SECRET, None)
    assert refusal(BODY, {"stripe-signature": header}) is None


def test_the_published_shape_with_a_test_mode_signature() -> None:
    """docs.stripe.com/webhooks: the header of an endpoint with a `v0` signature, which is no proof."""
    good = sign(BODY, SECRET)["stripe-signature"]
    fake = "6ffbb59b2300aae63f272406069a9788598b792a944a07aba816edb039989a39"
    assert refusal(BODY, {"stripe-signature": f"{good},v0={fake}"}) is None
    digest = good.split("v1=")[1]
    assert refusal(BODY, {"stripe-signature": f"t={SIGNED_AT},v0={digest}"}) is Refusal.MALFORMED_SIGNATURE


@pytest.mark.parametrize(
    ("signed_with", "active"),
    [((SECRET,), (OLD_SECRET, SECRET)), ((OLD_SECRET,), (OLD_SECRET, SECRET)), ((OLD_SECRET, SECRET), (SECRET,))],
)
def test_a_rotation_loses_nothing(signed_with: tuple[str, ...], active: tuple[str, ...]) -> None:
    assert refusal(BODY, sign(BODY, *signed_with), *active) is None


def test_a_retired_secret_is_refused() -> None:
    assert refusal(BODY, sign(BODY, OLD_SECRET), SECRET) is Refusal.WRONG_SIGNATURE


@pytest.mark.parametrize("age", [-300, -299, 0, 299, 300])
def test_within_the_tolerance(age: int) -> None:
    assert refusal(BODY, sign(BODY, SECRET, at=SIGNED_AT - age)) is None


@pytest.mark.parametrize("age", [-86_400, -301, 301, 86_400])
def test_stale_or_from_the_future(age: int) -> None:
    assert refusal(BODY, sign(BODY, SECRET, at=SIGNED_AT - age)) is Refusal.STALE


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, Refusal.MISSING_SIGNATURE),
        ({"stripe-signature": ""}, Refusal.MISSING_SIGNATURE),
        ({"stripe-signature": "nonsense"}, Refusal.MALFORMED_SIGNATURE),
        ({"stripe-signature": f"t={SIGNED_AT}"}, Refusal.MALFORMED_SIGNATURE),
        ({"stripe-signature": "v1=00"}, Refusal.MALFORMED_SIGNATURE),
        ({"stripe-signature": f"t={SIGNED_AT},t={SIGNED_AT},v1=00"}, Refusal.MALFORMED_SIGNATURE),
        ({"stripe-signature": "t=٣,v1=00"}, Refusal.MALFORMED_SIGNATURE),
        ({"stripe-signature": f"t={'9' * 4_000},v1=00"}, Refusal.MALFORMED_SIGNATURE),
        ({"stripe-signature": f"t={SIGNED_AT},v1=é"}, Refusal.WRONG_SIGNATURE),
        ({"stripe-signature": f"t={SIGNED_AT},v1="}, Refusal.WRONG_SIGNATURE),
    ],
)
def test_bad_headers_are_refused_and_never_crash(headers: dict[str, str], reason: Refusal) -> None:
    assert refusal(BODY, headers) is reason


def test_without_a_secret_nothing_is_taken() -> None:
    with pytest.raises(WebhookRefused) as refused:
        webhook.verify(BODY, sign(BODY, ""), [""], NOW)
    assert (refused.value.reason, refused.value.status) == (Refusal.NOT_CONFIGURED, 503)


@given(st.integers(0, len(BODY) - 1), st.integers(1, 255))
def test_any_altered_byte_of_the_body_is_refused(place: int, change: int) -> None:
    altered = bytearray(BODY)
    altered[place] ^= change
    assert refusal(bytes(altered), sign(BODY, SECRET)) is Refusal.WRONG_SIGNATURE


@given(st.binary(max_size=40), st.integers(0, len(BODY)))
def test_any_byte_more_or_less_is_refused(extra: bytes, place: int) -> None:
    assume(extra)
    assert refusal(BODY[:place] + extra + BODY[place:], sign(BODY, SECRET)) is Refusal.WRONG_SIGNATURE
    assert refusal(BODY[: -len(extra)], sign(BODY, SECRET)) is Refusal.WRONG_SIGNATURE


HEADER = sign(BODY, SECRET)["stripe-signature"]


@given(st.integers(0, len(HEADER) - 1), st.characters(codec="utf-8"))
def test_any_altered_character_of_the_header_is_refused(place: int, char: str) -> None:
    altered = HEADER[:place] + char + HEADER[place + 1 :]
    assume([part.strip() for part in altered.split(",")] != [part.strip() for part in HEADER.split(",")])
    assert refusal(BODY, {"stripe-signature": altered}) is not None


@given(st.text(max_size=200), st.binary(max_size=200))
def test_no_header_or_body_raises_anything_else(header: str, body: bytes) -> None:
    assert refusal(body, {"stripe-signature": header}) is not None


JSON = st.recursive(st.none() | st.text() | st.integers(), st.lists).map(lambda value: json.dumps(value).encode())


@given(st.binary(max_size=300) | JSON)
def test_no_body_raises_anything_else(body: bytes) -> None:
    try:
        webhook.translate(body, NOW)
    except WebhookRefused as refused:
        assert refused.reason is Refusal.MALFORMED_BODY  # noqa: PT017


# What events say


def tags(*captures: tuple[str, int]) -> dict[str, str]:
    made = {"capture_" + capture.replace("-", ""): str(amount) for capture, amount in captures}
    return {**made, **({"capture_id": captures[-1][0]} if captures else {})}


def intent(status: str, **fields: Any) -> dict[str, Any]:
    metadata = {"payment_id": PAYMENT, "attempt_id": ATTEMPT, **fields.pop("metadata", {})}
    return {
        "id": "pi_1",
        "object": "payment_intent",
        "status": status,
        "amount": 1_000,
        "amount_capturable": 0,
        "amount_received": 0,
        "currency": "eur",
        "capture_method": "manual",
        "latest_charge": "ch_1",
        "metadata": metadata,
        **fields,
    }


def refund(status: str, **fields: Any) -> dict[str, Any]:
    metadata = {"payment_id": PAYMENT, "refund_id": REFUND}
    return {
        "id": "re_1",
        "object": "refund",
        "status": status,
        "amount": 400,
        "currency": "eur",
        "payment_intent": "pi_1",
        "metadata": metadata,
        **fields,
    }


def event(kind: str, thing: Any, key: str | None = None, **fields: Any) -> bytes:
    request = {"id": "req_1", "idempotency_key": key}
    return json.dumps({"id": "evt_1", "type": kind, "data": {"object": thing}, "request": request, **fields}).encode()


def said(kind: str, thing: Any, key: str | None = None, **fields: Any) -> ProviderReport:
    (report,) = webhook.translate(event(kind, thing, key, **fields), NOW)
    assert isinstance(report, ProviderReport)
    assert report.payment_id == PAYMENT
    assert report.occurred_at == NOW, "the receipt decides the time, not the provider's clock"
    assert report.source is ReportSource.WEBHOOK
    assert report.report_id == ids.derive("stripe-event", "evt_1")
    return report


@pytest.mark.parametrize(
    ("kind", "thing", "outcome", "amount"),
    [
        ("amount_capturable_updated", intent("requires_capture", amount_capturable=1_000), Outcome.APPROVED, 1_000),
        ("succeeded", intent("succeeded", capture_method="automatic", amount_received=1_000), Outcome.APPROVED, 1_000),
        ("processing", intent("processing"), Outcome.PENDING, None),
        ("requires_action", intent("requires_action"), Outcome.REQUIRES_ACTION, None),
        ("payment_failed", intent("requires_payment_method", last_payment_error={}), Outcome.DECLINED, None),
        ("payment_failed", intent("requires_payment_method"), Outcome.DECLINED, None),
        ("payment_failed", intent("requires_action"), Outcome.DECLINED, None),
        ("canceled", intent("canceled", latest_charge=None), Outcome.DECLINED, None),
    ],
)
def test_authorizations(kind: str, thing: dict[str, Any], outcome: Outcome, amount: int | None) -> None:
    report = said(f"payment_intent.{kind}", thing)
    assert (report.operation, report.outcome, report.amount) == (Operation.AUTHORIZE, outcome, amount)
    assert (report.subject_id, report.provider_reference) == (ATTEMPT, "pi_1")
    assert (report.decline is not None) == (outcome is Outcome.DECLINED)


def test_a_failed_payment_says_why() -> None:
    error = {"code": "card_declined", "decline_code": "stolen_card", "network_decline_code": "43", "type": "card_error"}
    report = said("payment_intent.payment_failed", intent("requires_payment_method", last_payment_error=error))
    assert report.decline is not None
    assert (report.decline.category, report.decline.raw_code) == (DeclineCategory.FRAUD, "stolen_card")
    assert report.decline.network_code == "43"


def test_authentication_is_handed_on() -> None:
    action = {"type": "redirect_to_url", "redirect_to_url": {"url": "https://hooks.example/3ds"}}
    report = said("payment_intent.requires_action", intent("requires_action", next_action=action))
    assert report.next_action is not None
    assert report.next_action.url == "https://hooks.example/3ds"


@pytest.mark.parametrize(
    ("kind", "money", "key", "subject", "amount"),
    [
        # the one capture, known by the key of its call
        ("succeeded", (1_000, tags((CAPTURE, 1_000))), CAPTURE, CAPTURE, 1_000),
        # a partial one that lets the rest go
        ("succeeded", (400, tags((CAPTURE, 400))), CAPTURE, CAPTURE, 400),
        # the first of several, and the last: totals grow, amounts are each one's own
        ("amount_capturable_updated", (300, tags((CAPTURE, 300))), CAPTURE, CAPTURE, 300),
        ("succeeded", (1_000, tags((CAPTURE, 300), (SECOND, 700))), SECOND, SECOND, 700),
        # the event does not say which call caused it
        ("succeeded", (1_000, tags((CAPTURE, 300), (SECOND, 700))), None, SECOND, 700),
        # an event older than the tag: ours, and the request knows the amount
        ("succeeded", (1_000, {}), CAPTURE, CAPTURE, None),
        # somebody else's, at the console: all of it, or what is beyond ours
        ("succeeded", (1_000, {}), None, None, 1_000),
        ("succeeded", (1_000, {}), str(uuid4()), None, 1_000),
        ("succeeded", (1_000, tags((CAPTURE, 300))), "console", None, 700),
    ],
)  # fmt: skip
def test_captures(
    kind: str, money: tuple[int, dict[str, str]], key: str | None, subject: str | None, amount: int | None
) -> None:
    status = "succeeded" if kind == "succeeded" else "requires_capture"
    thing = intent(status, amount_received=money[0], metadata=money[1])
    report = said(f"payment_intent.{kind}", thing, key)
    assert (report.operation, report.outcome) == (Operation.CAPTURE, Outcome.APPROVED)
    assert (report.subject_id, report.amount) == (subject, amount)


@pytest.mark.parametrize(("key", "subject"), [(VOID, VOID), (None, None), (str(uuid4()), None), ("x", None)])
def test_voids(key: str | None, subject: str | None) -> None:
    report = said("payment_intent.canceled", intent("canceled", cancellation_reason="automatic"), key)
    assert (report.operation, report.outcome, report.subject_id) == (Operation.VOID, Outcome.APPROVED, subject)


@pytest.mark.parametrize("kind", ["refund.created", "refund.updated", "refund.failed", "charge.refund.updated"])
@pytest.mark.parametrize(
    ("status", "outcome"),
    [("succeeded", Outcome.APPROVED), ("pending", Outcome.PENDING), ("failed", Outcome.DECLINED)],
)
def test_refunds(kind: str, status: str, outcome: Outcome) -> None:
    report = said(kind, refund(status))
    assert (report.operation, report.outcome, report.amount) == (Operation.REFUND, outcome, 400)
    assert (report.subject_id, report.operation_reference, report.provider_reference) == (REFUND, "re_1", "pi_1")


def test_a_refund_from_the_console_of_our_payment() -> None:
    report = said("refund.created", refund("succeeded", metadata={"payment_id": PAYMENT}))
    assert report.subject_id is None


TYPE, NOBODY = UnroutedReason.UNKNOWN_TYPE, UnroutedReason.UNKNOWN_PAYMENT


@pytest.mark.parametrize(
    ("kind", "thing", "reason", "key"),
    [
        ("refund.created", refund("succeeded", metadata={}), NOBODY, "pi_1"),
        ("refund.created", refund("succeeded", metadata=None, payment_intent=None), NOBODY, "evt_1"),
        ("payment_intent.succeeded", {"id": "pi_2", "status": "succeeded"}, NOBODY, "pi_2"),
        ("payment_intent.succeeded", intent("succeeded", metadata={"payment_id": "shop-1"}), NOBODY, "pi_1"),
        ("charge.dispute.created", {"id": "dp_1", "payment_intent": "pi_1"}, NOBODY, "pi_1"),
        ("topup.created", {"id": "tu_1"}, TYPE, "tu_1"),
        ("an.event.of.tomorrow", [1, 2], TYPE, "evt_1"),
    ],
)  # fmt: skip
def test_what_fits_no_payment_is_kept(kind: str, thing: Any, reason: UnroutedReason, key: str) -> None:
    (item,) = webhook.translate(event(kind, thing), NOW)
    assert isinstance(item, Unrouted)
    assert (item.reason, item.reference, item.event_type) == (reason, key, kind)


def disputed(status: str, *transactions: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "dp_1",
        "object": "dispute",
        "amount": 1_000,
        "currency": "eur",
        "payment_intent": "pi_1",
        "reason": "fraudulent",
        "status": status,
        "evidence_details": {"due_by": 1_790_500_000},
        "balance_transactions": list(transactions),
    }


OUT = {"amount": -1_000, "fee": 1_500, "currency": "eur"}
BACK = {"amount": 1_000, "fee": -1_500, "currency": "eur"}
FOREIGN = {"amount": -1_100, "fee": 1_650, "currency": "usd"}


@pytest.mark.parametrize(
    ("kind", "thing", "step", "fee"),
    [
        ("created", disputed("needs_response"), DisputeStep.OPENED, 0),
        ("created", disputed("warning_needs_response"), DisputeStep.OPENED, 0),
        ("funds_withdrawn", disputed("needs_response", OUT), DisputeStep.FUNDS_WITHDRAWN, 1_500),
        ("funds_withdrawn", disputed("needs_response", FOREIGN), DisputeStep.FUNDS_WITHDRAWN, 0),
        ("funds_reinstated", disputed("won", OUT, BACK), DisputeStep.FUNDS_REINSTATED, 1_500),
        ("closed", disputed("won", OUT, BACK), DisputeStep.WON, 0),
        ("closed", disputed("lost", OUT), DisputeStep.LOST, 0),
        ("closed", disputed("warning_closed"), DisputeStep.WON, 0),
    ],
)  # fmt: skip
def test_a_dispute_is_reported_once_its_payment_is_known(kind: str, thing: Any, step: DisputeStep, fee: int) -> None:
    raw = event(f"charge.dispute.{kind}", thing)
    (waiting,) = webhook.translate(raw, NOW)
    assert isinstance(waiting, Unrouted)
    assert (waiting.reason, waiting.reference) == (NOBODY, "pi_1")
    (said,) = webhook.translate(raw, NOW, PAYMENT)
    assert isinstance(said, DisputeReport)
    assert (said.payment_id, said.step, said.fee) == (PAYMENT, step, fee)
    assert (said.amount, said.currency, said.dispute_reference) == (1_000, "EUR", "dp_1")
    assert said.evidence_due_at == 1_790_500_000_000


def test_a_refund_at_stripes_console_is_reported_once_its_payment_is_known() -> None:
    raw = event("refund.created", refund("succeeded", metadata={}))
    (said,) = webhook.translate(raw, NOW, PAYMENT)
    assert isinstance(said, ProviderReport)
    assert (said.payment_id, said.subject_id, said.operation_reference) == (PAYMENT, None, "re_1")


@pytest.mark.parametrize("kind", ["charge.refunded", "charge.captured", "charge.succeeded", "payment_intent.created"])
def test_repeats_of_other_events_are_without_effect(kind: str) -> None:
    assert webhook.translate(event(kind, {"id": "ch_1"}), NOW) == [Ignored(event_id="evt_1", event_type=kind)]


@pytest.mark.parametrize("status", ["succeeded", "canceled"])
def test_what_can_be_captured_changes_at_the_end_too(status: str) -> None:
    """Stripe then sends `amount_capturable_updated` besides `succeeded` or `canceled`: one fact, one report."""
    kind = "payment_intent.amount_capturable_updated"
    thing = intent(status, amount_received=1_000, metadata=tags((CAPTURE, 1_000)))
    assert webhook.translate(event(kind, thing, CAPTURE), NOW) == [Ignored(event_id="evt_1", event_type=kind)]


@pytest.mark.parametrize("request_", [None, "req_1", {"id": None}, {}])
def test_other_api_versions_are_tolerated(request_: Any) -> None:
    """`request` was a string before 2017-05-25; everything that we read may be missing."""
    bare = {"id": "pi_1", "status": "requires_capture", "metadata": {"payment_id": PAYMENT}}
    report = said("payment_intent.amount_capturable_updated", bare, request=request_)
    assert (report.outcome, report.subject_id, report.amount) == (Outcome.APPROVED, None, None)


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b"nonsense", b'{"id": "evt_1", "type": "payment_intent.succeeded", "data": {}}',
     b'{"id": "evt_1", "type": "refund.created", "data": {"object": {"id": 7}}}'],
)  # fmt: skip
def test_no_event_at_all_is_refused(body: bytes) -> None:
    with pytest.raises(WebhookRefused) as refused:
        webhook.translate(body, NOW)
    assert (refused.value.reason, refused.value.status) == (Refusal.MALFORMED_BODY, 400)


async def test_the_gateway_finds_it_with_every_active_secret() -> None:
    both = Settings(stripe_webhook_secrets=SecretStr(f"{OLD_SECRET}, {SECRET}"))
    opened: Webhooks = open_webhooks("stripe", both)
    await opened.verify(BODY, sign(BODY, OLD_SECRET), NOW)
    with pytest.raises(WebhookRefused):
        await opened.verify(BODY + b" ", sign(BODY, SECRET), NOW)
    assert opened.acknowledgement is None, "any 2xx will do"
    await opened.close()


@pytest.mark.parametrize("kind", sorted(webhook.ANNOUNCED_BY))
def test_a_payout_announces_its_report(kind: str) -> None:
    (item,) = webhook.translate(event(kind, {"id": "po_1", "object": "payout"}), NOW)
    assert item == Announced(event_id="evt_1", event_type=kind, reference="po_1")
