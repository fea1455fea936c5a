"""Which deliveries are genuine, and what each event means."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from connectors.paypal.certificates import Certificates
from connectors.paypal.webhook import ByCertificate, PayPalWebhooks, routed, translate, webhooks
from connectors.provider import Ignored, Refusal, Unrouted, UnroutedReason, WebhookRefused
from connectors.transport import Connections, Reply, Timeouts
from pipeline.messages.inputs import DisputeReport, ProviderReport
from pipeline.messages.values import DeclineCategory, DisputeStep, Operation, Outcome, ReportSource
from pipeline.settings import Settings
from tests.connectors.paypal.events import (
    DAY,
    NAME,
    NOW,
    ORIGIN,
    OTHER_WEBHOOK_ID,
    PAYMENT,
    SUBJECTS,
    TIME,
    URL,
    WEBHOOK_ID,
    authority,
    event,
    headers,
    identity,
    movement,
)

A, C, V, R = Operation.AUTHORIZE, Operation.CAPTURE, Operation.VOID, Operation.REFUND
OK, NO, PENDING = Outcome.APPROVED, Outcome.DECLINED, Outcome.PENDING
BODY = event("PAYMENT.CAPTURE.COMPLETED", movement("COMPLETED", custom=A, invoice=C))


class Shelf:
    """Where certificates are fetched from: documents by URL, and how often each was asked for."""

    def __init__(self, documents: dict[str, Reply]) -> None:
        self.documents = documents
        self.asked: list[str] = []

    async def send(self, method: str, url: str, /) -> Reply:
        self.asked.append(url)
        return self.documents.get(url, Reply(status=404))


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("roots") / "roots.pem"
    path.write_bytes(authority().pem)
    return path


def shelf(pem: bytes | None = None) -> Shelf:
    return Shelf({URL: Reply(status=200, body=pem or identity().pem)})


def opened(roots: Path, documents: Shelf, webhook_ids: Sequence[str] = (WEBHOOK_ID,)) -> PayPalWebhooks:
    certificates = Certificates(documents, [ORIGIN], [NAME], roots)

    def check() -> ByCertificate:
        return ByCertificate(certificates, tuple(webhook_ids), Connections(1, Timeouts(), {}))

    return PayPalWebhooks(check)


async def refusal(webhook: PayPalWebhooks, raw: bytes, sent: dict[str, str], now: int = NOW) -> Refusal | None:
    try:
        await webhook.verify(raw, sent, now)
    except WebhookRefused as refused:
        return refused.reason
    finally:
        await webhook.close()
    return None


async def test_a_genuine_delivery(roots: Path) -> None:
    assert await refusal(opened(roots, shelf()), BODY, headers(BODY)) is None


async def test_every_active_webhook_id_is_tried(roots: Path) -> None:
    both = opened(roots, shelf(), [OTHER_WEBHOOK_ID, WEBHOOK_ID])
    assert await refusal(both, BODY, headers(BODY)) is None
    other = opened(roots, shelf(), [OTHER_WEBHOOK_ID])
    assert await refusal(other, BODY, headers(BODY)) is Refusal.WRONG_SIGNATURE


async def test_a_certificate_is_fetched_once(roots: Path) -> None:
    documents = shelf()
    webhook = opened(roots, documents)
    for _ in range(3):
        await webhook.verify(BODY, headers(BODY), NOW)
    await webhook.close()
    assert documents.asked == [URL]


@given(st.data())
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_any_altered_byte_is_refused(roots: Path, data: st.DataObject) -> None:
    """Of the body, or of any header that is signed or signs."""
    sent = headers(BODY)
    where = data.draw(st.sampled_from(["body", *sorted(set(sent) - {"paypal-cert-url"})]))
    text = BODY if where == "body" else sent[where].encode()
    place = data.draw(st.integers(0, len(text) - 1))
    byte = data.draw(st.integers(32, 126))
    assume(byte != text[place])
    altered = text[:place] + bytes([byte]) + text[place + 1 :]
    raw = altered if where == "body" else BODY
    changed = sent if where == "body" else sent | {where: altered.decode()}
    assert await refusal(opened(roots, shelf()), raw, changed) is not None


@pytest.mark.parametrize("name", ["transmission-id", "transmission-time", "transmission-sig", "cert-url"])
async def test_every_header_is_needed(roots: Path, name: str) -> None:
    sent = headers(BODY)
    del sent[f"paypal-{name}"]
    assert await refusal(opened(roots, shelf()), BODY, sent) is Refusal.MISSING_SIGNATURE


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"paypal_auth_algo": "SHA1withRSA"}, Refusal.MALFORMED_SIGNATURE),
        ({"paypal_transmission_time": "yesterday"}, Refusal.MALFORMED_SIGNATURE),
        ({"paypal_transmission_time": (TIME - 5 * DAY).isoformat()}, Refusal.STALE),
        ({"paypal_transmission_time": (TIME + DAY).isoformat()}, Refusal.STALE),
        ({"paypal_transmission_time": (TIME - 3 * DAY).isoformat()}, None),
    ],
)
async def test_transmissions(roots: Path, changed: dict[str, Any], reason: Refusal | None) -> None:
    """PayPal repeats for 3 days; what is older is somebody's copy."""
    assert await refusal(opened(roots, shelf()), BODY, headers(BODY, **changed)) is reason


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/v1/notifications/certs/CERT-1",
        "http://api.paypal.com/v1/notifications/certs/CERT-1",
        "https://api.paypal.com.evil.example/v1/notifications/certs/CERT-1",
        "https://api.paypal.com@evil.example/v1/notifications/certs/CERT-1",
        "https://user@api.paypal.com/v1/notifications/certs/CERT-1",
        "https://api.paypal.com:8443/v1/notifications/certs/CERT-1",
        "https://api.paypal.com/v1/notifications/certs/../../../redirect",
        "https://api.paypal.com/v2/anything",
        "https://api.paypal.com/v1/notifications/certs/CERT-1?next=https://evil.example",
        "file:///etc/ssl/certs/ca-certificates.crt",
        "not a url",
    ],
)
async def test_certificates_come_from_paypal_only(roots: Path, url: str) -> None:
    documents = Shelf({url: Reply(status=200, body=identity().pem)})
    refused = await refusal(opened(roots, documents), BODY, headers(BODY, paypal_cert_url=url))
    assert refused is Refusal.WRONG_SIGNATURE
    assert documents.asked == [], "nothing was fetched"


@pytest.mark.parametrize(
    "signer",
    [
        identity("api.paypal.com"),
        identity("messageverificationcerts.paypal.com.evil.example"),
        identity(NAME, "an authority that nobody trusts"),
        identity(NAME, made_at=NOW - 40 * 24 * 60 * 60 * 1000),
    ],
    ids=["of another", "of a stranger", "untrusted", "expired"],
)
async def test_certificates_are_paypals_only(roots: Path, signer: Any) -> None:
    """What they sign is signed well; they are not whom we trust."""
    sent = headers(BODY, signer)
    assert await refusal(opened(roots, shelf(signer.pem)), BODY, sent) is Refusal.WRONG_SIGNATURE


async def test_a_certificate_ends(roots: Path) -> None:
    webhook = opened(roots, shelf())
    await webhook.verify(BODY, headers(BODY), NOW)
    later = NOW + 16 * 24 * 60 * 60 * 1000
    sent = headers(BODY, paypal_transmission_time=(TIME + 16 * DAY).isoformat())
    assert await refusal(webhook, BODY, sent, later) is Refusal.WRONG_SIGNATURE


@pytest.mark.parametrize("reply", [Reply(status=0), Reply(status=500), Reply(status=302), Reply(status=200, body=b"?")])
async def test_a_certificate_that_cannot_be_had_now(roots: Path, reply: Reply) -> None:
    """PayPal is to deliver it again."""
    documents = Shelf({URL: reply})
    assert await refusal(opened(roots, documents), BODY, headers(BODY)) is Refusal.UNAVAILABLE


async def test_a_certificate_that_there_is_not(roots: Path) -> None:
    assert await refusal(opened(roots, Shelf({})), BODY, headers(BODY)) is Refusal.WRONG_SIGNATURE


async def test_a_webhook_that_is_not_set_up() -> None:
    assert await refusal(webhooks(Settings()), BODY, headers(BODY)) is Refusal.NOT_CONFIGURED


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b"\xff", b'{"id": 1}'])
async def test_what_is_no_event(roots: Path, raw: bytes) -> None:
    assert await refusal(opened(roots, shelf()), raw, headers(raw)) is Refusal.MALFORMED_BODY
    with pytest.raises(WebhookRefused):
        translate(raw, NOW)


# Translation


class Case(NamedTuple):
    """An event, and what it says."""

    event: str
    resource: dict[str, Any]
    operation: Operation
    outcome: Outcome
    subject: bool = True


HELD = {"related_ids": {"order_id": "5O190127TN364715T", "authorization_id": "0AW2184448108334S"}}
CASES = [
    Case("PAYMENT.AUTHORIZATION.CREATED", movement("CREATED", custom=A), A, OK),
    Case("PAYMENT.AUTHORIZATION.CREATED", movement("PENDING", custom=A), A, PENDING),
    Case("PAYMENT.AUTHORIZATION.DENIED", movement("DENIED", custom=A), A, NO),
    Case("PAYMENT.AUTHORIZATION.VOIDED", movement("VOIDED", custom=A), V, OK, subject=False),
    Case("PAYMENT.AUTHORIZATION.VOIDED", movement("DENIED", custom=A), A, NO),
    Case("PAYMENT.CAPTURE.COMPLETED", movement("COMPLETED", custom=A, invoice=C, supplementary_data=HELD), C, OK),
    Case("PAYMENT.CAPTURE.COMPLETED", movement("COMPLETED", custom=A, invoice=A), A, OK),
    Case("PAYMENT.CAPTURE.COMPLETED", movement("COMPLETED", custom=A, supplementary_data=HELD), C, OK, subject=False),
    Case("PAYMENT.CAPTURE.PENDING", movement("PENDING", custom=A, invoice=A), A, PENDING),
    Case("PAYMENT.CAPTURE.PENDING", movement("PENDING", custom=A, invoice=C, supplementary_data=HELD), C, PENDING),
    Case("PAYMENT.CAPTURE.DENIED", movement("DENIED", custom=A, invoice=C, supplementary_data=HELD), C, NO),
    Case("PAYMENT.CAPTURE.DECLINED", movement("DECLINED", custom=A, invoice=A), A, NO),
    Case("PAYMENT.CAPTURE.REFUNDED", movement("COMPLETED", custom=R, invoice=R), R, OK),
    Case("PAYMENT.CAPTURE.REFUNDED", movement("COMPLETED", custom=A), R, OK, subject=False),
    Case("PAYMENT.REFUND.PENDING", movement("PENDING", custom=R), R, PENDING),
    Case("PAYMENT.REFUND.FAILED", movement("FAILED", custom=R), R, NO),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.event}-{case.operation}-{case.outcome}")
def test_events(case: Case) -> None:
    (said,) = translate(event(case.event, case.resource), NOW)
    assert isinstance(said, ProviderReport)
    assert (said.payment_id, said.provider, said.source) == (PAYMENT, "paypal", ReportSource.WEBHOOK)
    assert (said.operation, said.outcome) == (case.operation, case.outcome)
    assert said.subject_id == (SUBJECTS[case.operation] if case.subject else None)
    assert said.provider_reference == "5O190127TN364715T"
    moves = case.outcome is OK and case.operation is not V
    assert (said.amount, said.currency) == ((1_000, "EUR") if moves else (None, None))
    assert (said.decline is not None) == (case.outcome is NO)
    assert said.occurred_at == NOW


def test_an_authorizations_processor_says_why() -> None:
    resource = movement("DENIED", custom=A, processor_response={"response_code": "5120", "payment_advice_code": "03"})
    (said,) = translate(event("PAYMENT.AUTHORIZATION.DENIED", resource), NOW)
    assert isinstance(said, ProviderReport)
    assert said.decline is not None
    assert (said.decline.raw_code, said.decline.network_advice_code) == ("5120", "03")
    assert said.decline.category is DeclineCategory.HARD, "advice hardens"


def test_a_payer_who_approved_has_decided_nothing_yet() -> None:
    unit = {"custom_id": movement("", custom=A)["custom_id"]}
    order = {"id": "5O190127TN364715T", "status": "APPROVED", "intent": "AUTHORIZE", "purchase_units": [unit]}
    (said,) = translate(event("CHECKOUT.ORDER.APPROVED", order), NOW)
    assert isinstance(said, ProviderReport)
    assert (said.operation, said.outcome, said.subject_id) == (A, PENDING, SUBJECTS[A])
    (said,) = translate(event("CHECKOUT.PAYMENT-APPROVAL.REVERSED", order), NOW)
    assert isinstance(said, ProviderReport)
    assert (said.outcome, said.decline is not None) == (NO, True)


def test_the_same_event_is_the_same_report() -> None:
    first, again = translate(BODY, NOW), translate(BODY, NOW + 1)
    other = translate(event("PAYMENT.CAPTURE.COMPLETED", movement("COMPLETED", custom=A, invoice=C), "WH-2"), NOW)
    ids = [said.report_id for said in (*first, *again, *other) if isinstance(said, ProviderReport)]
    assert ids[0] == ids[1] != ids[2]


def test_what_another_event_says_as_well() -> None:
    (said,) = translate(event("CHECKOUT.ORDER.COMPLETED", {"id": "5O190127TN364715T"}), NOW)
    assert isinstance(said, Ignored)


def test_an_unknown_type_is_kept() -> None:
    (said,) = translate(event("BILLING.SUBSCRIPTION.CREATED", {"id": "I-BW452GLLEP1G"}), NOW)
    assert isinstance(said, Unrouted)
    assert said.reason is UnroutedReason.UNKNOWN_TYPE


@pytest.mark.parametrize("resource", [{"id": 7}, {}, {**movement("COMPLETED", custom=A), "amount": {"value": "1"}}])
def test_a_known_type_in_unknown_words_is_kept(resource: dict[str, Any]) -> None:
    (said,) = translate(event("PAYMENT.CAPTURE.COMPLETED", resource), NOW)
    assert isinstance(said, Unrouted)
    assert said.reason is UnroutedReason.UNKNOWN_TYPE


def test_one_that_names_no_payment_of_ours_is_routed_by_its_capture() -> None:
    up: dict[str, Any] = {
        "links": [{"rel": "up", "href": "https://api.paypal.com/v2/payments/captures/2GG279541U471931P"}]
    }
    raw = event("PAYMENT.CAPTURE.REFUNDED", movement("COMPLETED", **up))
    (said,) = translate(raw, NOW)
    assert isinstance(said, Unrouted)
    assert (said.reason, said.provider_reference) == (UnroutedReason.UNKNOWN_PAYMENT, "2GG279541U471931P")
    (found,) = routed(raw, NOW, PAYMENT)
    assert isinstance(found, ProviderReport)
    assert (found.payment_id, found.operation, found.outcome, found.amount) == (PAYMENT, R, OK, 1_000)


# Disputes


def dispute(outcome: str | None = None, captures: Sequence[str] = ("2GG279541U471931P",)) -> dict[str, Any]:
    made: dict[str, Any] = {
        "dispute_id": "PP-D-27803",
        "reason": "MERCHANDISE_OR_SERVICE_NOT_RECEIVED",
        "dispute_amount": {"currency_code": "EUR", "value": "10.00"},
        "disputed_transactions": [{"seller_transaction_id": capture} for capture in captures],
        "seller_response_due_date": "2027-02-01T00:00:00.000Z",
    }
    return made | ({"dispute_outcome": {"outcome_code": outcome}} if outcome else {})


@pytest.mark.parametrize(
    ("kind", "outcome", "step"),
    [
        ("CREATED", None, DisputeStep.OPENED),
        ("UPDATED", None, DisputeStep.OPENED),
        ("RESOLVED", "RESOLVED_BUYER_FAVOUR", DisputeStep.LOST),
        ("RESOLVED", "ACCEPTED", DisputeStep.LOST),
        ("RESOLVED", "RESOLVED_SELLER_FAVOUR", DisputeStep.WON),
        ("RESOLVED", "RESOLVED_WITH_PAYOUT", DisputeStep.WON),
        ("RESOLVED", "CANCELED_BY_BUYER", DisputeStep.WON),
        ("RESOLVED", "NONE", DisputeStep.OPENED),
    ],
)
def test_disputes_find_their_payment_by_the_capture(kind: str, outcome: str | None, step: DisputeStep) -> None:
    raw = event(f"CUSTOMER.DISPUTE.{kind}", dispute(outcome))
    (kept,) = translate(raw, NOW)
    assert isinstance(kept, Unrouted)
    assert (kept.reason, kept.provider_reference) == (UnroutedReason.UNKNOWN_PAYMENT, "2GG279541U471931P")
    (said,) = routed(kept.raw or raw, NOW, PAYMENT)
    assert isinstance(said, DisputeReport)
    assert (said.payment_id, said.step, said.dispute_reference) == (PAYMENT, step, "2GG279541U471931P")
    assert (said.amount, said.currency, said.evidence_due_at) == (1_000, "EUR", 1_801_440_000_000)
    assert "PP-D-27803" in (said.detail or "")


def test_a_dispute_about_two_captures_is_two() -> None:
    raw = event("CUSTOMER.DISPUTE.CREATED", dispute(captures=["2GG279541U471931P", "3C679366HH908993F"]))
    kept = [item for item in translate(raw, NOW) if isinstance(item, Unrouted)]
    assert [item.provider_reference for item in kept] == ["2GG279541U471931P", "3C679366HH908993F"]
    assert len({item.event_id for item in kept}) == 2
    for item in kept:
        (said,) = routed(item.raw or b"", NOW, PAYMENT)
        assert isinstance(said, DisputeReport)
        assert said.dispute_reference == item.provider_reference


def test_a_reversal_takes_the_money() -> None:
    up: dict[str, Any] = {
        "links": [{"rel": "up", "href": "https://api.paypal.com/v2/payments/captures/2GG279541U471931P"}]
    }
    raw = event("PAYMENT.CAPTURE.REVERSED", movement("COMPLETED", custom=A, **up))
    (said,) = translate(raw, NOW)
    assert isinstance(said, DisputeReport)
    assert (said.step, said.amount, said.dispute_reference) == (DisputeStep.FUNDS_WITHDRAWN, 1_000, "2GG279541U471931P")
    nameless = event("PAYMENT.CAPTURE.REVERSED", movement("COMPLETED", **up))
    (kept,) = translate(nameless, NOW)
    assert isinstance(kept, Unrouted)
    assert routed(nameless, NOW, PAYMENT) == [said]


def test_nothing_of_a_kept_event_is_lost() -> None:
    """A later version may know what this one does not."""
    raw = event("CUSTOMER.DISPUTE.CREATED", dispute() | {"a_field_of_tomorrow": 1})
    (kept,) = translate(raw, NOW)
    assert isinstance(kept, Unrouted)
    assert json.loads(kept.raw or raw)["resource"]["a_field_of_tomorrow"] == 1


@pytest.mark.parametrize("raw", [b"{}", event("PAYMENT.CAPTURE.REFUNDED", {})])
def test_a_kept_event_that_cannot_be_read(raw: bytes) -> None:
    with pytest.raises(WebhookRefused):
        routed(raw, NOW, PAYMENT)
