"""One Stripe account: what it keeps, and what can be done with it."""

from __future__ import annotations

from connectors.simulator.parts import Parts
from connectors.simulator.settings import StripeSettings
from connectors.simulator.stripe.disputes import Disputes
from connectors.simulator.stripe.intents import Intents
from connectors.simulator.stripe.payouts import Payouts
from connectors.simulator.stripe.records import Records
from connectors.simulator.stripe.refunds import Refunds
from connectors.simulator.stripe.schedule import Schedule
from connectors.simulator.stripe.store import Store


class Account:
    """The objects, and the three kinds that calls change."""

    def __init__(self, settings: StripeSettings, store: Store, parts: Parts, schedule: Schedule) -> None:
        records = Records(store, parts)
        self.store = store
        self.disputes = Disputes(settings, store, records, schedule)
        self.refunds = Refunds(settings, store, records, schedule)
        self.payouts = Payouts(store, records)
        self.intents = Intents(settings, store, records, schedule, self.disputes)

    def reset(self) -> None:
        """An account without a history."""
        self.store.reset()
        self.intents.reset()
