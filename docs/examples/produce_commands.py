"""A payment without the API: three commands on `payments.commands`.

Run it beside a running system (`make up`):

    .venv/bin/python docs/examples/produce_commands.py --merchant acme --amount 4200 --currency EUR

A producer team needs the three contracts in `avro/` and the registry; this example borrows the project's own codec. The
key of every record is the payment's id, so that all of a payment's commands stay in order. `command_id` is the
idempotency key: sending a command again changes nothing.
"""

from __future__ import annotations

import argparse
import uuid

from confluent_kafka import Producer

from pipeline import clock, topics
from pipeline.codec import Codec, Registry
from pipeline.headers import headers_of
from pipeline.kafka import producer_config
from pipeline.messages.commands import Authorize, Capture, Command, CreateIntent
from pipeline.messages.values import CaptureMethod, PaymentMethod
from pipeline.settings import settings


def commands(merchant: str, amount: int, currency: str, token: str, reference: str) -> list[Command]:
    """Create, authorize, capture. `amount` in minor units of `currency`."""
    payment = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{merchant}/{reference}"))
    at = clock.now()  # overwritten by the broker's own time when the intake stage takes the command

    def who(step: str) -> dict[str, object]:
        return {
            "command_id": f"{reference}/{step}",
            "merchant_id": merchant,
            "payment_id": payment,
            "occurred_at": at,
        }

    return [
        CreateIntent(
            **who("create"),  # type: ignore[arg-type]
            amount=amount,
            currency=currency,
            provider="stripe",
            capture_method=CaptureMethod.MANUAL,
            merchant_reference=reference,
            payment_method=PaymentMethod(token=token),
        ),
        Authorize(**who("authorize")),  # type: ignore[arg-type]
    ]


def capture(merchant: str, payment: str, reference: str) -> Command:
    """Capture all that is held."""
    return Capture(command_id=f"{reference}/capture", merchant_id=merchant, payment_id=payment, occurred_at=clock.now())


def send(*records: Command) -> None:
    """Produce and wait until the broker has every record. Raises RuntimeError when it has not."""
    chosen = settings()
    codec = Codec(Registry(chosen.registry_url))
    producer = Producer(producer_config(chosen, "example-producer"))
    for record in records:
        producer.produce(
            topics.COMMANDS,
            key=record.payment_id,
            value=codec.encode(record),
            headers=headers_of(record, "example-producer"),
        )
    if producer.flush(30):
        raise RuntimeError("Kafka did not take every command")


def main() -> None:
    """Create and authorize a payment; print its id."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--merchant", default="acme")
    parser.add_argument("--amount", type=int, default=4200, help="minor units")
    parser.add_argument("--currency", default="EUR")
    parser.add_argument("--token", default="pm_card_visa")
    parser.add_argument("--reference", default=f"order-{clock.now()}")
    given = parser.parse_args()
    made = commands(given.merchant, given.amount, given.currency, given.token, given.reference)
    send(*made)
    print(made[0].payment_id)


if __name__ == "__main__":
    main()
