"""Which deliveries are genuine, and what each event means."""

from __future__ import annotations

import base64
import json
from typing import Any, NamedTuple

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import SecretStr

from connectors.adyen.webhook import AdyenWebhooks, Endpoint, routed, translate, verify, webhooks
from connectors.provider import Announced, Refusal, Unrouted, UnroutedReason, WebhookRefused
from pipeline.messages.inputs import DisputeReport, ProviderReport
from pipeline.messages.values import DeclineCategory, DisputeStep, Operation, Outcome, ReportSource
from pipeline.settings import Settings
from tests.connectors.adyen.items import (
    ENDPOINT,
    KEY,
    OTHER_KEY,
    PAYMENT,
    SUBJECTS,
    delivery,
    item,
    reference,
    signed,
)

A, C, V, R = Operation.AUTHORIZE, Operation.CAPTURE, Operation.VOID, Operation.REFUND
OK, NO, PENDING = Outcome.APPROVED, Outcome.DECLINED, Outcome.PENDING
NOW = 1_800_000_000_000

# github.com/Adyen/adyen-python-api-library, test/UtilTest.py
PUBLISHED = {
    "pspReference": "7914073381342284",
    "merchantReference": "TestPayment-1407325143704",
    "merchantAccountCode": "TestMerchant",
    "amount": {"currency": "EUR", "value": 1130},
    "eventCode": "AUTHORISATION",
    "success": "true",
    "eventDate": "2019-05-06T17:15:34.121+02:00",
    "operations": ["CANCEL", "CAPTURE", "REFUND"],
    "paymentMethod": "visa",
    "additionalData": {"hmacSignature": "coqCmt/IZ4E3CzPvMY8zTjQVL5hYJUiBRg8UU+iCWo0="},
}
# The same, test/mocks/util: references with slashes and colons are signed as they are.
ODD_REFERENCES = [
    ("\\\\slashes are fun", "T7FD4VM4D3RZNN82", "nIgT81gaB5oJpn2jPXupDq68iRo2wUlBsuYjtYfwKqo="),
    (":slashes are fun", "M8NB66SBZSGLNK82", "2EQYm7YJpKO4EtHSPu55SQTyWf8dkW5u2nD1tJFpViA="),
    ("//slashes are fun", "X3GWNS6KJ8NKGK82", "9Z0xdpG9Xi3zcmXv14t/BvMBut77O/Xq9D4CQXSDUi4="),
    ("\\:/\\/slashes are fun", "ZVWN7D3WSMK2WN82", "CZErGCNQaSsxbaQfZaJlakqo7KPP+mIa8a+wx3yNs9A="),
]


def refusal(raw: bytes, endpoint: Endpoint = ENDPOINT, **headers: str) -> Refusal | None:
    try:
        verify(raw, headers, endpoint)
    except WebhookRefused as refused:
        return refused.reason
    return None


# Verification


def test_the_published_signature_is_taken() -> None:
    assert refusal(delivery(PUBLISHED)) is None


@pytest.mark.parametrize(("reference", "psp", "signature"), ODD_REFERENCES)
def test_published_signatures_of_odd_references_are_taken(reference: str, psp: str, signature: str) -> None:
    made = {
        "amount": {"currency": "EUR", "value": 1000},
        "eventCode": "AUTHORISATION",
        "merchantAccountCode": "AntoniStroinski",
        "merchantReference": reference,
        "pspReference": psp,
        "success": "true",
        "additionalData": {"hmacSignature": signature},
    }
    assert refusal(delivery(made), Endpoint(keys=[bytes.fromhex(OTHER_KEY)])) is None


SIGNED = signed(item("CAPTURE", operation=C, originalReference="8837544667111111"))
SIGNED_FIELDS = (
    *(("pspReference",), ("originalReference",), ("merchantAccountCode",), ("merchantReference",)),
    *(("eventCode",), ("success",), ("amount", "value"), ("amount", "currency")),
)


@given(
    st.sampled_from(SIGNED_FIELDS),
    st.one_of(st.text(max_size=40), st.integers(-(2**62), 2**62), st.booleans(), st.none()),
)
def test_any_altered_signed_field_is_refused(path: tuple[str, ...], value: Any) -> None:
    altered = json.loads(json.dumps(SIGNED))
    place = altered
    for name in path[:-1]:
        place = place[name]
    assume(place[path[-1]] != value)
    place[path[-1]] = value
    assert refusal(delivery(altered)) is not None


@given(st.sampled_from(SIGNED_FIELDS))
def test_any_signed_field_that_is_left_out_is_refused(path: tuple[str, ...]) -> None:
    altered = json.loads(json.dumps(SIGNED))
    place = altered
    for name in path[:-1]:
        place = place[name]
    del place[path[-1]]
    assert refusal(delivery(altered)) is not None


@given(st.data())
def test_any_altered_byte_of_the_signature_is_refused(data: st.DataObject) -> None:
    bits = bytearray(base64.b64decode(SIGNED["additionalData"]["hmacSignature"]))
    bits[data.draw(st.integers(0, len(bits) - 1))] ^= data.draw(st.integers(1, 255))
    forged = {**SIGNED, "additionalData": {"hmacSignature": base64.b64encode(bits).decode()}}
    assert refusal(delivery(forged)) is Refusal.WRONG_SIGNATURE


def test_what_is_signed_cannot_be_moved_from_field_to_field() -> None:
    """The signed text of both is the same."""
    made = signed(item("CAPTURE", operation=C, originalReference="A", merchantReference="x:B"))
    moved = {**made, "merchantAccountCode": f"{made['merchantAccountCode']}:x", "merchantReference": "B"}
    assert refusal(delivery(made)) is None
    assert refusal(delivery(moved)) is Refusal.MALFORMED_BODY


def test_every_active_key_is_taken_during_a_rotation() -> None:
    both = Endpoint(keys=[bytes.fromhex(KEY), bytes.fromhex(OTHER_KEY)])
    made = item("CAPTURE", operation=C)
    assert refusal(delivery(signed(made, OTHER_KEY)), both) is None
    assert refusal(delivery(signed(made, KEY)), both) is None
    assert refusal(delivery(signed(made, OTHER_KEY))) is Refusal.WRONG_SIGNATURE


@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_bad_item_refuses_the_whole_delivery(place: int) -> None:
    items = [signed(item("CAPTURE", operation=C)) for _ in range(3)]
    assert refusal(delivery(*items)) is None
    items[place] = {**items[place], "pspReference": "FORGED"}
    assert refusal(delivery(*items)) is Refusal.WRONG_SIGNATURE


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (item("CAPTURE"), Refusal.MISSING_SIGNATURE),
        (item("CAPTURE", additionalData={}), Refusal.MISSING_SIGNATURE),
        (item("CAPTURE", additionalData={"hmacSignature": ""}), Refusal.MISSING_SIGNATURE),
        (item("CAPTURE", additionalData={"hmacSignature": "not base64!"}), Refusal.MALFORMED_SIGNATURE),
        (item("CAPTURE", additionalData={"hmacSignature": "é"}), Refusal.MALFORMED_SIGNATURE),
        (signed(item("CAPTURE", success="True")), Refusal.MALFORMED_BODY),
        (signed(item("CAPTURE", success="1")), Refusal.MALFORMED_BODY),
    ],
)
def test_bad_items(made: dict[str, Any], reason: Refusal) -> None:
    assert refusal(delivery(made)) is reason


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"live":"false","notificationItems":[]}',
        b'{"live":"false","notificationItems":[{}]}',
        b'{"live":"false","notificationItems":[{"NotificationRequestItem":{}}]}',
        b'{"live":false,"notificationItems":[]}',
        b'{"live":"false","notificationItems":{}}',
    ],
)
def test_what_is_no_notification(raw: bytes) -> None:
    assert refusal(raw) is Refusal.MALFORMED_BODY
    with pytest.raises(WebhookRefused, match="malformed_body"):
        translate(raw, NOW)


@pytest.mark.parametrize(("live", "ours", "taken"), [("false", False, True), ("true", True, True),
                                                     ("true", False, False), ("false", True, False),
                                                     ("yes", True, False)])  # fmt: skip
def test_the_environment_must_be_ours(live: str, ours: bool, taken: bool) -> None:
    found = refusal(delivery(signed(item("CAPTURE")), live=live), Endpoint(keys=ENDPOINT.keys, live=ours))
    assert found is (None if taken else Refusal.WRONG_ENVIRONMENT)


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        (basic("adyen:s3cret:with colon"), True),
        (basic("adyen:s3cret:with colon").replace("Basic", "basic"), True),
        (basic("adyen:wrong"), False),
        (basic("other:s3cret:with colon"), False),
        ("Bearer " + basic("adyen:s3cret:with colon")[6:], False),
        ("Basic ☃", False),
        (None, False),
    ],
)
def test_basic_authentication(header: str | None, taken: bool) -> None:
    endpoint = Endpoint(keys=ENDPOINT.keys, username="adyen", password="s3cret:with colon")
    headers = {"authorization": header} if header else {}
    found = refusal(delivery(signed(item("CAPTURE"))), endpoint, **headers)
    assert found is (None if taken else Refusal.WRONG_CREDENTIALS)


def test_without_a_key_nothing_is_taken() -> None:
    assert refusal(delivery(PUBLISHED), Endpoint(keys=[])) is Refusal.NOT_CONFIGURED


async def test_the_settings_open_it() -> None:
    settings = Settings(
        adyen_webhook_hmac_keys=SecretStr(f"{OTHER_KEY}, {KEY}"),
        adyen_webhook_username="adyen",
        adyen_webhook_password=SecretStr("pw"),
    )
    opened = webhooks(settings)
    assert opened.acknowledgement == b"[accepted]"
    await opened.verify(delivery(PUBLISHED), {"authorization": basic("adyen:pw")}, NOW)
    with pytest.raises(WebhookRefused):
        await opened.verify(delivery(PUBLISHED), {}, NOW)
    assert isinstance(opened, AdyenWebhooks)
    with pytest.raises(ValueError, match="hex"):
        webhooks(Settings(adyen_webhook_hmac_keys=SecretStr("not hex")))


# Translation


def said(made: dict[str, Any]) -> ProviderReport:
    (report,) = translate(delivery(made), NOW)
    assert isinstance(report, ProviderReport)
    return report


class Row(NamedTuple):
    """An event, whose reference it carries, and what it means."""

    event: str
    success: str
    whose: Operation
    operation: Operation
    outcome: Outcome
    amount: bool


TABLE = [
    Row("AUTHORISATION", "true", A, A, OK, amount=True),
    Row("AUTHORISATION", "false", A, A, NO, amount=False),
    Row("PENDING", "true", A, A, PENDING, amount=False),
    Row("OFFER_CLOSED", "true", A, A, NO, amount=False),
    Row("CAPTURE", "true", C, C, OK, amount=True),
    Row("CAPTURE", "false", C, C, NO, amount=True),
    Row("CAPTURE_FAILED", "true", C, C, NO, amount=True),
    Row("CANCELLATION", "true", V, V, OK, amount=False),
    Row("CANCELLATION", "false", V, V, NO, amount=True),
    Row("TECHNICAL_CANCEL", "true", V, V, OK, amount=False),
    Row("TECHNICAL_CANCEL", "false", V, V, NO, amount=True),
    Row("EXPIRE", "true", A, V, OK, amount=False),
    Row("REFUND", "true", R, R, OK, amount=True),
    Row("REFUND", "false", R, R, NO, amount=True),
    Row("POSTPONED_REFUND", "true", R, R, PENDING, amount=False),
    Row("REFUND_FAILED", "true", R, R, NO, amount=True),
    Row("REFUNDED_REVERSED", "true", R, R, NO, amount=True),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.event}-{row.success}")
def test_what_each_event_means(row: Row) -> None:
    modifies = row.operation is not A
    original = {"originalReference": "8837544667111111"} if modifies else {}
    report = said(item(row.event, success=row.success, operation=row.whose, **original))
    assert (report.operation, report.outcome, report.source) == (row.operation, row.outcome, ReportSource.WEBHOOK)
    assert (report.provider, report.payment_id, report.occurred_at) == ("adyen", PAYMENT, NOW)
    assert report.subject_id == (SUBJECTS[row.operation] if row.whose is row.operation else None)
    assert report.provider_reference == ("8837544667111111" if modifies else "QFQTPCQ8HXSKGK82")
    assert report.operation_reference == ("QFQTPCQ8HXSKGK82" if modifies else None)
    assert (report.amount, report.currency) == ((1_000, "EUR") if row.amount else (None, None))
    assert (report.decline is not None) == (row.outcome is NO)
    assert report.detail is not None
    assert report.detail.startswith(f"{row.event} {row.success}")


@pytest.mark.parametrize(
    ("action", "success", "operation", "outcome"),
    [("cancel", "true", V, OK), ("refund", "true", R, OK), ("refund", "false", R, NO), ("cancel", "false", V, NO)],
)
def test_a_reversal_says_which_it_was(action: str, success: str, operation: Operation, outcome: Outcome) -> None:
    data = {"modification.action": action}
    report = said(item("CANCEL_OR_REFUND", success=success, operation=A, originalReference="8", additionalData=data))
    assert (report.operation, report.outcome, report.subject_id) == (operation, outcome, None)


def test_a_modification_of_somebody_else_names_none_of_ours() -> None:
    """Made in the Customer Area: it carries the payment's own reference."""
    report = said(item("REFUND", operation=A, originalReference="8837544667111111"))
    assert (report.payment_id, report.subject_id, report.operation_reference) == (PAYMENT, None, "QFQTPCQ8HXSKGK82")


@pytest.mark.parametrize(
    ("reason", "data", "code", "category"),
    [
        ("Refused", {}, "generic_decline", DeclineCategory.SOFT),
        ("Not enough balance", {"refusalReasonRaw": "51 : Insufficient funds"}, "insufficient_funds",
         DeclineCategory.SOFT),
        ("Refused", {"refusalReasonRaw": "4 : Pick up card"}, "generic_decline", DeclineCategory.HARD),
        ("Refused", {"refusalReasonRaw": "43 : Stolen card"}, "generic_decline", DeclineCategory.FRAUD),
        ("Refused", {"merchantAdviceCode": "03 : Do not try again"}, "generic_decline", DeclineCategory.HARD),
        ("Expired Card", {}, "expired_card", DeclineCategory.NEEDS_CUSTOMER),
        ("Refused", {"refusalReasonCode": "6"}, "expired_card", DeclineCategory.NEEDS_CUSTOMER),
        ("Current AID is in Penalty Box.", {}, "issuer_unavailable", DeclineCategory.TEMPORARY),
        ("Words of tomorrow", {}, "unknown", DeclineCategory.SOFT),
        ("", {}, "generic_decline", DeclineCategory.SOFT),
    ],
)  # fmt: skip
def test_why_a_card_was_refused(reason: str, data: dict[str, str], code: str, category: DeclineCategory) -> None:
    decline = said(item("AUTHORISATION", success="false", operation=A, reason=reason, additionalData=data)).decline
    assert decline is not None
    assert (decline.code, decline.category) == (code, category)
    assert decline.message


def test_amounts_are_ours() -> None:
    report = said(item("CAPTURE", operation=C, amount={"currency": "ISK", "value": 105_000}))
    assert (report.amount, report.currency) == (1_050, "ISK")
    (kept,) = translate(delivery(item("CAPTURE", operation=C, amount={"currency": "ISK", "value": 105_050})), NOW)
    assert isinstance(kept, Unrouted), "money is never rounded"


KEPT = [
    "CHARGEBACK", "CHARGEBACK_REVERSED", "SECOND_CHARGEBACK", "NOTIFICATION_OF_CHARGEBACK", "NOTIFICATION_OF_FRAUD",
    "REQUEST_FOR_INFORMATION", "PREARBITRATION_LOST", "PREARBITRATION_WON", "ISSUER_COMMENTS", "INFORMATION_SUPPLIED",
    "DISPUTE_DEFENSE_PERIOD_ENDED", "AUTHORISATION_ADJUSTMENT", "MANUAL_REVIEW_REJECT", "ORDER_CLOSED",
    "RECURRING_CONTRACT", "PAYOUT_THIRDPARTY", "PAIDOUT_REVERSED", "EVENT_OF_TOMORROW",
]  # fmt: skip


@pytest.mark.parametrize("event", KEPT)
def test_what_moves_no_payment_yet_is_kept_with_the_payments_reference(event: str) -> None:
    made = item(event, operation=A, originalReference="8837544667111111")
    (kept,) = translate(delivery(made), NOW)
    assert isinstance(kept, Unrouted)
    assert (kept.reason, kept.event_type, kept.reference) == (UnroutedReason.UNKNOWN_TYPE, event, "8837544667111111")
    assert kept.raw is not None
    assert json.loads(kept.raw) == made


@pytest.mark.parametrize(
    ("name", "success"), [("dispute_report_1.csv", "true"), ("settlement_detail_report_batch_1.csv", "false")]
)
def test_another_report_is_kept_under_its_file_name(name: str, success: str) -> None:
    made = item("REPORT_AVAILABLE", pspReference=name, merchantReference="", success=success)
    (kept,) = translate(delivery(made), NOW)
    assert isinstance(kept, Unrouted)
    assert kept.reference == name


def test_a_settlement_report_is_announced() -> None:
    name, url = "settlement_detail_report_batch_1.csv", "https://ca-test.adyen.com/reports/download/x.csv"
    made = item("REPORT_AVAILABLE", pspReference=name, merchantReference="", reason=url)
    (first,), (again,) = translate(delivery(made), NOW), translate(delivery(made), NOW + 1)
    assert isinstance(first, Announced)
    assert (first.reference, first.url) == (name, url)
    assert first == again


@pytest.mark.parametrize("theirs", ["order-17", "", reference(A).upper(), reference(A) + "x", reference(A)[:36]])
def test_another_systems_payment_is_kept(theirs: str) -> None:
    (kept,) = translate(delivery(item("AUTHORISATION", merchantReference=theirs)), NOW)
    assert isinstance(kept, Unrouted)
    assert (kept.reason, kept.reference) == (UnroutedReason.UNKNOWN_PAYMENT, "QFQTPCQ8HXSKGK82")


def test_a_batch_says_all_it_has_in_order() -> None:
    mixed = [item("AUTHORISATION", operation=A), item("CHARGEBACK"), item("CAPTURE", operation=C)]
    first, second, third = translate(delivery(*mixed), NOW)
    assert isinstance(first, ProviderReport)
    assert isinstance(second, Unrouted)
    assert isinstance(third, ProviderReport)
    assert [first.operation, third.operation] == [A, C]


def test_an_events_identity_is_its_code_its_reference_and_its_success() -> None:
    made = item("CAPTURE", operation=C)
    ids = {said(made).report_id, said({**made, "eventDate": "2026-02-01T01:00:00+01:00", "reason": "again"}).report_id}
    assert len(ids) == 1
    for change in ({"success": "false"}, {"eventCode": "CAPTURE_FAILED"}, {"pspReference": "QFQTPCQ8HXSKGK83"}):
        ids.add(said({**made, **change}).report_id)
    assert len(ids) == 4


@pytest.mark.parametrize(
    ("event", "step"),
    [
        ("NOTIFICATION_OF_CHARGEBACK", DisputeStep.OPENED),
        ("CHARGEBACK", DisputeStep.FUNDS_WITHDRAWN),
        ("CHARGEBACK_REVERSED", DisputeStep.FUNDS_REINSTATED),
        ("SECOND_CHARGEBACK", DisputeStep.FUNDS_WITHDRAWN),
        ("PREARBITRATION_WON", DisputeStep.WON),
        ("PREARBITRATION_LOST", DisputeStep.LOST),
    ],
)
def test_a_dispute_is_reported_once_its_payment_is_known(event: str, step: DisputeStep) -> None:
    raw = delivery(item(event, originalReference="8837544667111111"))
    (kept,) = translate(raw, NOW)
    assert isinstance(kept, Unrouted)
    assert kept.raw is not None
    (said,) = routed(kept.raw, NOW, PAYMENT)
    assert isinstance(said, DisputeReport)
    assert (said.payment_id, said.step, said.amount, said.currency) == (PAYMENT, step, 1_000, "EUR")


def test_a_refund_at_adyens_console_is_reported_once_its_payment_is_known() -> None:
    (kept,) = translate(delivery(item("REFUND", originalReference="8837544667111111")), NOW)
    assert isinstance(kept, Unrouted)
    (said,) = routed(kept.raw or b"", NOW, PAYMENT)
    assert isinstance(said, ProviderReport)
    assert (said.payment_id, said.operation, said.subject_id) == (PAYMENT, R, None)
