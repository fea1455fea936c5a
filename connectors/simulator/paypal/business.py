"""All of one PayPal business account: what its API, its payer's page and its controls work on."""

from __future__ import annotations

from dataclasses import dataclass

from connectors.simulator.parts import Parts
from connectors.simulator.paypal.account import Account
from connectors.simulator.paypal.disputes import Disputes
from connectors.simulator.paypal.keys import Keys
from connectors.simulator.paypal.orders import Orders
from connectors.simulator.paypal.outbox import Outbox
from connectors.simulator.paypal.payments import Payments
from connectors.simulator.paypal.records import References
from connectors.simulator.paypal.tokens import Tokens
from connectors.simulator.settings import SimulatorSettings


@dataclass(frozen=True, slots=True)
class Business:
    """The records, the rules, and what goes in and out."""

    account: Account
    orders: Orders
    payments: Payments
    disputes: Disputes
    tokens: Tokens
    keys: Keys
    outbox: Outbox


def business(settings: SimulatorSettings, parts: Parts) -> Business:
    """An account without a history."""
    own, references = settings.paypal, References(settings.seed)
    account = Account(own, parts, references)
    disputes = Disputes(account)
    payments = Payments(account, disputes)
    return Business(
        account=account,
        orders=Orders(account, payments),
        payments=payments,
        disputes=disputes,
        tokens=Tokens(own.client_id, own.client_secret, own.token_seconds, references),
        keys=Keys(),
        outbox=Outbox(own, settings.events_kept, parts.deliverer),
    )
