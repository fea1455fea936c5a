"""PayPal's simulated money, whatever is done in whatever order: nothing moves that was not there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.simulator.book import Book, By, Query
from connectors.simulator.clock import Clock
from connectors.simulator.faults import Faults
from connectors.simulator.ids import Ids
from connectors.simulator.parts import Parts
from connectors.simulator.paypal import money
from connectors.simulator.paypal.account import Call
from connectors.simulator.paypal.business import Business, business
from connectors.simulator.paypal.errors import PayPalError
from connectors.simulator.paypal.payments import OVERAGE_PERCENT
from connectors.simulator.paypal.records import AuthorizationStatus, DisputeOutcome, Order
from connectors.simulator.settings import SimulatorSettings
from connectors.simulator.stats import Stats
from connectors.simulator.webhooks import Deliverer

VALUE = 1_000
METHODS = ["paypal_ok", "paypal_pending", "paypal_capture_pending", "paypal_refund_pending", "paypal_capture_disputed"]
Step = tuple[str, int, int, bool]
"""What, how much, of which, and a choice."""

OFTEN = ["capture", "refund", "decide"] * 3
SELDOM = ["void", "expire", "reverse", "dispute", "resolve"]
steps = st.lists(
    st.tuples(
        st.sampled_from([*OFTEN, *SELDOM]),
        st.integers(1, 8).map(lambda hundreds: hundreds * 100 - hundreds % 2),
        st.integers(0, 3),
        st.booleans(),
    ),
    min_size=6,
    max_size=16,
)


def new_business() -> tuple[Business, Book]:
    options, book = SimulatorSettings(seed=1), Book()
    parts = Parts(book, Faults(), Stats(), Clock(), Ids(1), Deliverer(options.delivery, 1))
    return business(options, parts), book


def new_order(own: Business, method: str, intent: str) -> Order:
    unit = {"amount": {"currency_code": "EUR", "value": "10.00"}, "custom_id": "x"}
    source = {"card": {"vault_id": method}}
    return own.orders.create(
        {"intent": intent, "purchase_units": [unit], "payment_source": source}, Call(1, "key", "http://sim")
    )


def take(own: Business, order: Order, step: Step) -> None:
    """Do it, as far as it can be done."""
    what, value, which, choice = step
    call, asked = Call(2, base_url="http://sim"), {"amount": money.shown(value, "EUR")}
    account, payments = own.account, own.payments

    def of(things: list[Any]) -> Any:
        return things[which % len(things)] if things else None

    held, made = of(order.authorizations), of(order.captures)
    pending = of([*order.authorizations, *order.captures, *order.refunds])
    dispute = of(list(account.disputes.values()))
    doings: dict[str, tuple[Any, Callable[[], Any]]] = {
        "capture": (held, lambda: payments.capture(held, {**asked, "final_capture": choice}, call)),
        "void": (held, lambda: payments.void(held, call)),
        "expire": (held, lambda: payments.expire(held, call)),
        "refund": (made, lambda: payments.refund(made, asked, call)),
        "reverse": (made, lambda: payments.reverse(made, call)),
        "dispute": (made, lambda: own.disputes.open(made, call)),
        "resolve": (dispute, lambda: own.disputes.resolve(dispute, list(DisputeOutcome)[choice], call)),
        "decide": (pending, lambda: payments.decide(pending, call, success=choice)),
    }
    about, doing = doings[what]
    try:
        if about is not None:
            doing()
    except PayPalError as error:
        if error.status != 422:
            raise


@settings(max_examples=400, deadline=None)
@given(method=st.sampled_from(METHODS), intent=st.sampled_from(["AUTHORIZE", "CAPTURE"]), taken=steps)
def test_nothing_moves_that_was_not_there(method: str, intent: str, taken: list[Step]) -> None:
    own, book = new_business()
    order = new_order(own, method, intent)
    for step in taken:
        take(own, order, step)
        sums = book.sums(Query(), By.REFERENCE).get(order.id)
        if sums is None:
            continue
        authorized, captured, voided = sums["authorized"], sums["captured"], sums["voided"]
        assert captured * 100 <= authorized * OVERAGE_PERCENT
        assert voided <= authorized
        assert sums["refunded"] <= captured
        assert sums["disputed"] <= captured
        assert sums["dispute_won"] <= sums["disputed"]
        taken_or_pending = captured + sum(each.value for each in order.captures if each.pending)
        left = sum(held.left for held in order.authorizations)
        assert taken_or_pending + voided + left == max(authorized, taken_or_pending)
        assert not any(held.left for held in order.authorizations if held.status is AuthorizationStatus.CAPTURED)


def test_a_denied_capture_gives_back_only_what_nobody_else_took() -> None:
    own, book = new_business()
    order = new_order(own, "paypal_capture_pending", "AUTHORIZE")
    take(own, order, ("capture", 600, 0, False))
    take(own, order, ("capture", 550, 0, True))
    take(own, order, ("decide", 1, 1, False))
    take(own, order, ("decide", 1, 2, True))
    sums = book.sums(Query(), By.REFERENCE)[order.id]
    assert (sums["authorized"], sums["captured"], sums["voided"]) == (1_000, 550, 450)


@pytest.mark.parametrize(
    ("value", "currency", "text"), [(1_050, "EUR", "10.50"), (5, "USD", "0.05"), (-5, "USD", "-0.05"), (7, "HUF", "7")]
)
def test_amounts_as_paypal_writes_them(value: int, currency: str, text: str) -> None:
    assert money.shown(value, currency) == {"currency_code": currency, "value": text}


@given(value=st.integers(1, 10**11), currency=st.sampled_from(sorted(money.CURRENCIES)))
def test_amounts_are_read_as_they_are_written(value: int, currency: str) -> None:
    assert money.parse(money.shown(value, currency), "/amount") == money.Money(value, currency)
