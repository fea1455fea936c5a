"""Payment intents through the official SDK: every operation, every state, every refusal."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import stripe

from tests.connectors.simulator.world import World


def make(sdk: stripe.StripeClient, **params: Any) -> stripe.PaymentIntent:
    """A confirmed intent of 10.00 USD on a Visa, held."""
    given = {
        "amount": 1_000,
        "currency": "usd",
        "payment_method": "pm_card_visa",
        "confirm": True,
        "capture_method": "manual",
        "metadata": {"payment_id": "pay_1"},
        **params,
    }
    return sdk.v1.payment_intents.create({k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]


MULTI = {"card": {"request_multicapture": "if_available"}}


def refusal(call: Any, *args: Any, **kwargs: Any) -> stripe.InvalidRequestError:
    with pytest.raises(stripe.InvalidRequestError) as caught:
        call(*args, **kwargs)
    return caught.value


def test_a_hold(sdk: stripe.StripeClient) -> None:
    intent = make(sdk, expand=["latest_charge"], description="a hold")
    assert (intent.status, intent.amount, intent.amount_capturable, intent.amount_received) == (
        "requires_capture",
        1_000,
        1_000,
        0,
    )
    assert intent.id.startswith("pi_")
    assert intent.livemode is False
    assert intent.metadata.to_dict() == {"payment_id": "pay_1"}
    charge = intent.latest_charge
    assert isinstance(charge, stripe.Charge)
    assert (charge.status, charge.paid, charge.captured, charge.amount_captured) == ("succeeded", True, False, 0)
    assert charge.metadata.to_dict() == {"payment_id": "pay_1"}
    assert charge.payment_intent == intent.id
    assert charge.balance_transaction is None
    details: Any = charge.payment_method_details
    card = details.card
    assert (card.brand, card.last4) == ("visa", "4242")
    assert card.capture_before == charge.created + 7 * 24 * 3600


def test_an_automatic_capture_pays_the_fee(sdk: stripe.StripeClient) -> None:
    intent = make(sdk, capture_method="automatic", amount=1_050, expand=["latest_charge.balance_transaction"])
    assert (intent.status, intent.amount_received, intent.amount_capturable) == ("succeeded", 1_050, 0)
    charge = intent.latest_charge
    assert isinstance(charge, stripe.Charge)
    transaction = charge.balance_transaction
    assert isinstance(transaction, stripe.BalanceTransaction)
    # 2.9 % of 10.50 is 0.3045, half up 0.30, and 0.30 fixed
    assert (transaction.amount, transaction.fee, transaction.net) == (1_050, 60, 990)
    assert sdk.v1.balance_transactions.retrieve(transaction.id).source == charge.id


@pytest.mark.parametrize(
    ("amount", "fee"), [(50, 31), (100, 33), (1_000, 59), (1_500, 74), (1_550, 75), (99_999, 2_930)]
)
def test_the_fee_is_rounded_half_up(sdk: stripe.StripeClient, amount: int, fee: int) -> None:
    make(sdk, capture_method="automatic", amount=amount)
    (transaction,) = sdk.v1.balance_transactions.list().data
    assert transaction.fee == fee


def test_create_then_confirm(sdk: stripe.StripeClient) -> None:
    bare = make(sdk, confirm=None, payment_method=None)
    assert bare.status == "requires_payment_method"
    error = refusal(sdk.v1.payment_intents.confirm, bare.id)
    assert (error.code, error.http_status) == ("payment_intent_unexpected_state", 400)
    ready = make(sdk, confirm=None)
    assert ready.status == "requires_confirmation"
    assert sdk.v1.payment_intents.confirm(ready.id).status == "requires_capture"
    assert (
        sdk.v1.payment_intents.confirm(bare.id, {"payment_method": "pm_card_mastercard"}).status == "requires_capture"
    )


def test_a_declined_intent_may_be_confirmed_with_another_card(sdk: stripe.StripeClient) -> None:
    with pytest.raises(stripe.CardError) as caught:
        make(sdk, payment_method="pm_card_visa_chargeDeclined")
    body: Any = caught.value.json_body
    failed = body["error"]["payment_intent"]
    assert (failed["status"], failed["payment_method"]) == ("requires_payment_method", None)
    assert failed["last_payment_error"]["payment_method"]["id"] == "pm_card_visa_chargeDeclined"
    again = sdk.v1.payment_intents.confirm(failed["id"], {"payment_method": "pm_card_visa"})
    assert (again.status, again.last_payment_error) == ("requires_capture", None)
    assert again.latest_charge != failed["latest_charge"]
    assert len(sdk.v1.charges.list({"payment_intent": again.id}).data) == 2


def test_a_full_capture(sdk: stripe.StripeClient) -> None:
    intent = make(sdk)
    done = sdk.v1.payment_intents.capture(intent.id, {"metadata": {"capture_1": "1000"}, "expand": ["latest_charge"]})
    assert (done.status, done.amount_received, done.amount_capturable) == ("succeeded", 1_000, 0)
    assert done.metadata.to_dict() == {"payment_id": "pay_1", "capture_1": "1000"}
    assert isinstance(done.latest_charge, stripe.Charge)
    assert (done.latest_charge.captured, done.latest_charge.amount_captured) == (True, 1_000)


def test_a_partial_capture_releases_the_rest(sim: World, sdk: stripe.StripeClient) -> None:
    intent = make(sdk)
    done = sdk.v1.payment_intents.capture(intent.id, {"amount_to_capture": 400})
    assert (done.status, done.amount_received, done.amount_capturable) == ("succeeded", 400, 0)
    sums = sim.sums("pay_1")
    assert (sums["authorized"], sums["captured"], sums["voided"]) == (1_000, 400, 600)
    error = refusal(sdk.v1.payment_intents.capture, intent.id)
    assert (error.code, "already been captured" in str(error)) == ("payment_intent_unexpected_state", True)


def test_several_captures(sim: World, sdk: stripe.StripeClient) -> None:
    intent = make(sdk, payment_method_options=MULTI, expand=["latest_charge"])
    assert isinstance(intent.latest_charge, stripe.Charge)
    details: Any = intent.latest_charge.payment_method_details
    assert details.card.multicapture.status == "available"
    capture = sdk.v1.payment_intents.capture
    first = capture(intent.id, {"amount_to_capture": 300, "final_capture": False})
    assert (first.status, first.amount_received, first.amount_capturable) == ("requires_capture", 300, 700)
    second = capture(intent.id, {"amount_to_capture": 200, "final_capture": False, "expand": ["latest_charge"]})
    assert (second.status, second.amount_received, second.amount_capturable) == ("requires_capture", 500, 500)
    assert isinstance(second.latest_charge, stripe.Charge)
    assert (second.latest_charge.captured, second.latest_charge.amount_captured) == (False, 500)
    assert refusal(capture, intent.id, {"amount_to_capture": 501}).code == "amount_too_large"
    last = capture(intent.id, {"amount_to_capture": 100})
    assert (last.status, last.amount_received, last.amount_capturable) == ("succeeded", 600, 0)
    transactions = sdk.v1.balance_transactions.list({"source": str(last.latest_charge)}).data
    assert [t.amount for t in transactions] == [100, 200, 300]
    assert sim.sums("pay_1")["voided"] == 400


def test_the_rest_of_several_captures_may_be_released(sim: World, sdk: stripe.StripeClient) -> None:
    intent = make(sdk, payment_method_options=MULTI)
    sdk.v1.payment_intents.capture(intent.id, {"amount_to_capture": 300, "final_capture": False})
    done = sdk.v1.payment_intents.capture(intent.id, {"amount_to_capture": 0, "final_capture": True})
    assert (done.status, done.amount_received) == ("succeeded", 300)
    assert (sim.sums("pay_1")["captured"], sim.sums("pay_1")["captured_count"]) == (300, 1)


def test_several_captures_only_where_asked_for(sdk: stripe.StripeClient) -> None:
    intent = make(sdk)
    error = refusal(sdk.v1.payment_intents.capture, intent.id, {"amount_to_capture": 300, "final_capture": False})
    assert error.param == "final_capture"
    assert sdk.v1.payment_intents.retrieve(intent.id).amount_capturable == 1_000


@pytest.mark.parametrize("amount", [0, -5])
def test_nothing_cannot_be_captured(sdk: stripe.StripeClient, amount: int) -> None:
    intent = make(sdk)
    error = refusal(sdk.v1.payment_intents.capture, intent.id, {"amount_to_capture": amount})
    assert (error.code, error.param) == ("parameter_invalid_integer", "amount_to_capture")


def test_a_void(sim: World, sdk: stripe.StripeClient) -> None:
    intent = make(sdk)
    done = sdk.v1.payment_intents.cancel(intent.id, {"cancellation_reason": "requested_by_customer"})
    assert (done.status, done.amount_capturable, done.cancellation_reason) == ("canceled", 0, "requested_by_customer")
    assert done.canceled_at
    assert sim.sums("pay_1")["voided"] == 1_000
    assert refusal(sdk.v1.payment_intents.capture, intent.id).code == "payment_intent_unexpected_state"
    again = refusal(sdk.v1.payment_intents.cancel, intent.id)
    assert "has a status of canceled" in str(again)
    body: Any = again.json_body
    assert body["error"]["payment_intent"]["status"] == "canceled"


def test_what_was_captured_cannot_be_voided(sdk: stripe.StripeClient) -> None:
    intent = make(sdk, capture_method="automatic")
    assert refusal(sdk.v1.payment_intents.cancel, intent.id).code == "payment_intent_unexpected_state"


def test_a_void_after_a_partial_capture_releases_the_rest(sim: World, sdk: stripe.StripeClient) -> None:
    intent = make(sdk, payment_method_options=MULTI)
    sdk.v1.payment_intents.capture(intent.id, {"amount_to_capture": 300, "final_capture": False})
    done = sdk.v1.payment_intents.cancel(intent.id)
    assert (done.status, done.amount_received) == ("canceled", 300)
    sums = sim.sums("pay_1")
    assert (sums["captured"], sums["voided"]) == (300, 700)


def test_a_hold_runs_out(sim: World, sdk: stripe.StripeClient) -> None:
    intent = make(sdk)
    assert sim.post(f"payment_intents/{intent.id}/expire")["status"] == "canceled"
    found = sdk.v1.payment_intents.retrieve(intent.id)
    assert (found.status, found.cancellation_reason) == ("canceled", "expired")
    sim.drain()
    assert sim.receiver.one("charge.expired")["data"]["object"]["id"] == intent.latest_charge
    assert sim.receiver.one("payment_intent.canceled")["request"] == {"id": None, "idempotency_key": None}


def test_a_hold_runs_out_by_time(sim: World, sdk: stripe.StripeClient) -> None:
    intent, captured_once = make(sdk), make(sdk, payment_method_options=MULTI)
    sdk.v1.payment_intents.capture(captured_once.id, {"amount_to_capture": 300, "final_capture": False})
    sim.post("clock", {"advance_seconds": 7 * 24 * 3600})
    assert refusal(sdk.v1.payment_intents.capture, intent.id).code == "payment_intent_unexpected_state"
    assert sdk.v1.payment_intents.retrieve(intent.id).status == "canceled"
    refusal(sdk.v1.payment_intents.capture, captured_once.id)
    assert sdk.v1.payment_intents.retrieve(captured_once.id).status == "succeeded"


@pytest.mark.parametrize(("outcome", "status"), [("success", "requires_capture"), ("fail", "requires_payment_method")])
def test_three_d_secure(sim: World, sdk: stripe.StripeClient, outcome: str, status: str) -> None:
    intent = make(sdk, payment_method="pm_card_threeDSecure2Required", return_url="https://shop.example/back?order=1")
    assert (intent.status, intent.latest_charge) == ("requires_action", None)
    action = intent.next_action
    assert action is not None
    assert action.redirect_to_url is not None
    page = action.redirect_to_url.url
    assert page is not None
    assert page.startswith(sim.url)
    assert "Confirm this payment" in httpx.get(page).text
    assert sdk.v1.payment_intents.retrieve(intent.id).status == "requires_action"
    back = httpx.post(page, data={"outcome": outcome})
    word = "succeeded" if outcome == "success" else "failed"
    assert back.status_code == 303
    assert back.headers["location"].startswith(f"https://shop.example/back?order=1&payment_intent={intent.id}&")
    assert back.headers["location"].endswith(f"redirect_status={word}")
    found = sdk.v1.payment_intents.retrieve(intent.id)
    assert (found.status, found.next_action) == (status, None)
    assert httpx.post(page, data={"outcome": outcome}).status_code == 400
    sim.drain()
    if outcome == "fail":
        failed: Any = found.last_payment_error
        assert failed.code == "payment_intent_authentication_failure"
        assert found.latest_charge is None
        assert sim.receiver.one("payment_intent.payment_failed")["request"]["id"] is None
    else:
        assert sim.receiver.one("payment_intent.amount_capturable_updated")["request"]["idempotency_key"] is None
        assert sim.sums("pay_1")["authorized_count"] == 1


def test_three_d_secure_without_a_return_url(sim: World, sdk: stripe.StripeClient) -> None:
    action: Any = make(sdk, payment_method="pm_card_authenticationRequired").next_action
    assert action.type == "use_stripe_sdk"
    assert httpx.get(action.use_stripe_sdk["stripe_js"], params={"outcome": "success"}).json()["status"] == (
        "requires_capture"
    )
    assert httpx.get(action.use_stripe_sdk["stripe_js"], params={"outcome": "perhaps"}).status_code == 400


def test_a_card_that_is_declined_after_authentication(sim: World, sdk: stripe.StripeClient) -> None:
    method = "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds"
    intent = make(sdk, payment_method=method, return_url="https://shop.example/")
    action: Any = intent.next_action
    httpx.post(action.redirect_to_url.url, data={"outcome": "success"})
    found = sdk.v1.payment_intents.retrieve(intent.id)
    failed: Any = found.last_payment_error
    assert (found.status, failed.decline_code) == ("requires_payment_method", "insufficient_funds")


@pytest.mark.parametrize("option", [{"off_session": True}, {"error_on_requires_action": True}])
def test_authentication_that_nobody_can_give(sdk: stripe.StripeClient, option: dict[str, bool]) -> None:
    with pytest.raises(stripe.CardError) as caught:
        make(sdk, payment_method="pm_card_authenticationRequired", **option)
    assert caught.value.code == "authentication_required"


def test_a_card_set_up_for_off_session_use(sdk: stripe.StripeClient) -> None:
    method = "pm_card_authenticationRequiredSetupForOffSession"
    assert make(sdk, payment_method=method).status == "requires_action"
    assert make(sdk, payment_method=method, off_session=True).status == "requires_capture"


def test_update(sdk: stripe.StripeClient) -> None:
    intent = make(sdk, confirm=None, metadata={"a": "1", "b": "2"})
    changed = sdk.v1.payment_intents.update(intent.id, {"amount": 2_000, "metadata": {"a": "", "c": "3"}})
    assert (changed.amount, changed.metadata.to_dict()) == (2_000, {"b": "2", "c": "3"})
    assert sdk.v1.payment_intents.update(intent.id, {"metadata": ""}).metadata.to_dict() == {}
    held = make(sdk)
    assert refusal(sdk.v1.payment_intents.update, held.id, {"amount": 1}).code == "payment_intent_unexpected_state"
    assert sdk.v1.payment_intents.update(held.id, {"metadata": {"x": "y"}}).metadata["x"] == "y"


def test_list_pages(sdk: stripe.StripeClient) -> None:
    made = [make(sdk).id for _ in range(5)]
    first = sdk.v1.payment_intents.list({"limit": 2})
    assert ([i.id for i in first.data], first.has_more) == (made[:2:-1], True)
    rest = sdk.v1.payment_intents.list(
        {"limit": 10, "starting_after": first.data[-1].id, "expand": ["data.latest_charge"]}
    )
    assert ([i.id for i in rest.data], rest.has_more) == (made[2::-1], False)
    assert isinstance(rest.data[0].latest_charge, stripe.Charge)
    before = sdk.v1.payment_intents.list({"limit": 1, "ending_before": made[1]})
    assert ([i.id for i in before.data], before.has_more) == ([made[2]], True)
    assert [i.id for i in sdk.v1.payment_intents.list({"limit": 2}).auto_paging_iter()] == made[::-1]
    created = first.data[0].created
    assert len(sdk.v1.payment_intents.list({"created": {"gte": created - 100}}).data) == 5
    assert sdk.v1.payment_intents.list({"created": {"gt": created + 100}}).data == []
    assert sdk.v1.payment_intents.list({"customer": "cus_none"}).data == []
    assert refusal(sdk.v1.payment_intents.list, {"limit": 101}).param == "limit"
    assert refusal(sdk.v1.payment_intents.list, {"starting_after": "pi_none"}).param == "starting_after"


def test_search(sdk: stripe.StripeClient) -> None:
    first = make(sdk, metadata={"payment_id": "one", "note": "it's"})
    second = make(sdk, metadata={"payment_id": "two"}, capture_method="automatic", amount=5_000)

    def find(query: str) -> list[str]:
        return [intent.id for intent in sdk.v1.payment_intents.search({"query": query}).data]

    assert find("metadata['payment_id']:'one'") == [first.id]
    assert find('metadata["payment_id"]:"two"') == [second.id]
    assert find("metadata['payment_id']:'none'") == []
    assert find(r"metadata['note']:'it\'s'") == [first.id]
    assert find("status:'succeeded' AND metadata['payment_id']:'two'") == [second.id]
    assert find("status:'succeeded' AND metadata['payment_id']:'one'") == []
    assert find("metadata['payment_id']:'one' OR metadata['payment_id']:'two'") == [second.id, first.id]
    assert find("-status:'succeeded'") == [first.id]
    assert find("amount>4000") == [second.id]
    assert find("metadata['payment_id']~'n'") == [first.id]
    assert find("metadata['note']:null") == [second.id]
    page: Any = sdk.v1.payment_intents.search({"query": "currency:'usd'", "limit": 1, "expand": ["data.latest_charge"]})
    assert (page.object, page.has_more, bool(page.next_page)) == ("search_result", True, True)
    assert isinstance(page.data[0].latest_charge, stripe.Charge)
    assert len(list(page.auto_paging_iter())) == 2
    for bad in ("nonsense", "colour:'red'", "status:'a' AND status:'b' OR status:'c'"):
        assert refusal(sdk.v1.payment_intents.search, {"query": bad}).param == "query"


@pytest.mark.parametrize(
    ("params", "code", "param"),
    [
        ({"amount": 0}, "parameter_invalid_integer", "amount"),
        ({"amount": 49}, "amount_too_small", "amount"),
        ({"amount": 100_000_000}, "amount_too_large", "amount"),
        ({"amount": None}, "parameter_missing", "amount"),
        ({"amount": "ten"}, "parameter_invalid_integer", "amount"),
        ({"currency": None}, "parameter_missing", "currency"),
        ({"currency": "zzz"}, None, "currency"),
        ({"currency": "kwd", "amount": 1_005}, "invalid_charge_amount", "amount"),
        ({"currency": "isk", "amount": 1_050}, "invalid_charge_amount", "amount"),
        ({"capture_method": "later"}, None, "capture_method"),
        ({"payment_method": "pm_card_nobodys"}, "resource_missing", "payment_method"),
        ({"payment_method": None}, None, "payment_method"),
        ({"colour": "red"}, "parameter_unknown", "colour"),
        ({"expand": ["nonsense"]}, None, "expand"),
        ({"metadata": {"k" * 41: "v"}}, None, "metadata"),
        ({"metadata": {"k": "v" * 501}}, None, "metadata[k]"),
        ({"metadata": {f"k{n}": "v" for n in range(51)}}, None, "metadata"),
        ({"confirm": None, "off_session": True}, None, "off_session"),
    ],
)
def test_what_does_not_fit_is_refused(
    sdk: stripe.StripeClient, params: dict[str, Any], code: str | None, param: str
) -> None:
    error = refusal(make, sdk, **params)
    assert (error.http_status, error.code, error.param) == (400, code, param)


def test_what_does_not_exist(sdk: stripe.StripeClient) -> None:
    for call in (
        sdk.v1.payment_intents.retrieve,
        sdk.v1.payment_intents.capture,
        sdk.v1.payment_intents.cancel,
        sdk.v1.payment_intents.confirm,
        sdk.v1.charges.retrieve,
        sdk.v1.refunds.retrieve,
        sdk.v1.balance_transactions.retrieve,
        sdk.v1.events.retrieve,
    ):
        error = refusal(call, "xx_none")
        assert (error.http_status, error.code) == (404, "resource_missing")


def test_credentials(sim: World) -> None:
    with pytest.raises(stripe.AuthenticationError) as caught:
        make(sim.sdk("sk_test_some_other_key_1234"))
    assert caught.value.http_status == 401
    assert "sk_test_********1234" in str(caught.value)
    form = {"amount": "1000", "currency": "usd"}
    assert sim.control.post("/v1/payment_intents", data=form).status_code == 401
    basic = sim.control.post("/v1/payment_intents", data=form, auth=("sk_test_simulator_tests", ""))
    assert basic.status_code == 200
    assert basic.headers["request-id"].startswith("req_")


def test_an_unknown_address(sim: World) -> None:
    answer = sim.control.get("/v1/unicorns", auth=("sk_test_simulator_tests", ""))
    assert answer.status_code == 404
    assert "Unrecognized request URL (GET: /v1/unicorns)" in answer.json()["error"]["message"]


async def test_the_async_sdk_on_aiohttp(sim: World) -> None:
    import aiohttp

    async with aiohttp.ClientSession() as session:
        sdk = sim.sdk(http_client=stripe.AIOHTTPClient(session=session))
        intent = await sdk.v1.payment_intents.create_async(
            {"amount": 1_000, "currency": "usd", "payment_method": "pm_card_visa", "confirm": True}
        )
        assert intent.status == "succeeded"
        assert (await sdk.v1.payment_intents.retrieve_async(intent.id)).id == intent.id
        with pytest.raises(stripe.CardError):
            await sdk.v1.payment_intents.create_async(
                {"amount": 1_000, "currency": "usd", "payment_method": "pm_card_visa_chargeDeclined", "confirm": True}
            )
