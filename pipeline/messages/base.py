"""What every record of the pipeline shares.

A record is a frozen struct. Its class name is its Avro record name, its fields are the Avro fields, and its contract is
`avro/<ClassName>.avsc`: one name for one thing. Amounts are integers in minor units of `currency` (ISO 4217); times are
milliseconds since 1970-01-01T00:00:00Z.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

Millis = Annotated[
    int,
    msgspec.Meta(description="milliseconds since 1970-01-01T00:00:00Z", extra={"logicalType": "timestamp-millis"}),
]
Minor = Annotated[int, msgspec.Meta(description="amount in minor units of the currency (ISO 4217)")]


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A record with a contract in `avro/`."""


class Input(Record, frozen=True, kw_only=True):
    """Anything that may move a payment: all of it goes through `payments.intake`, in one order, keyed by payment."""

    payment_id: Annotated[str, msgspec.Meta(description="UUID of the payment; the record's key")]
    occurred_at: Annotated[
        int,
        msgspec.Meta(
            description="when it happened, by the clock of the trusted writer; the decision's time",
            extra={"logicalType": "timestamp-millis"},
        ),
    ]

    @property
    def input_id(self) -> str:
        """The id by which a repeat of this input is known."""
        raise NotImplementedError
