"""Fifth rule against torn transactions (docs/decisions): after a transport error while a transaction was open or
ending, the process restarts. A delayed, repeated EndTxn could end the next transaction instead (KAFKA-17754); the
restarted producer's new epoch refuses it.
"""

from __future__ import annotations

import logging
from typing import Final

from confluent_kafka import KafkaError

TRANSPORT_ERRORS: Final = {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN}
_log: Final = logging.getLogger("payments")


class ProducerRenewalNeededError(RuntimeError):
    """The connection failed while a transaction was open or ending."""


class TransportWatch:
    """A producer's error callback. `touched`: whether the producer may have spoken to the broker for a transaction
    since its events were last served. Raises ProducerRenewalNeededError out of the `poll` or `flush` that serves it.
    """

    def __init__(self) -> None:
        self.touched = False

    def __call__(self, error: KafkaError) -> None:
        _log.warning("producer: %s", error.str())
        if error.code() in TRANSPORT_ERRORS and self.touched:
            raise ProducerRenewalNeededError(error.str())
