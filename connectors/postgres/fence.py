"""Where a consumer stands: kept in Postgres, moved in the transaction of what it writes, under a fence.

Kafka may hand a partition to another instance while the first one still writes. Who takes a partition over raises its
epoch; who comes with an older epoch, or from another offset, moves nothing, and so nothing of its transaction stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import psycopg
from confluent_kafka import Consumer, TopicPartition
from psycopg import sql

Place = tuple[str, int]
"""A topic and a partition."""


class FencedError(RuntimeError):
    """Another instance has taken the partition over: this one must stop."""


@dataclass(slots=True)
class Fence:
    """The partitions that one instance holds, with the offset that follows in each. `table`: schema and name of a table
    with topic, partition, next_offset and epoch.
    """

    connection: psycopg.Connection
    table: sql.Identifier
    expected: dict[Place, int] = field(default_factory=dict)
    _epochs: dict[Place, int] = field(default_factory=dict)

    def __contains__(self, place: Place) -> bool:
        return place in self.expected

    def take_over(self, place: Place) -> int:
        """Hold a partition, whoever held it before. Returns the offset to go on from: 0 if it was never read."""
        row = self.connection.execute(_TAKE_OVER.format(table=self.table), place).fetchone()
        assert row is not None
        self.expected[place], self._epochs[place] = row
        return self.expected[place]

    def release(self, place: Place) -> None:
        """It is another's."""
        self.expected.pop(place, None)
        self._epochs.pop(place, None)

    def advance(self, following: Mapping[Place, int]) -> None:
        """Move the offsets, in the caller's transaction. Raises FencedError."""
        for (topic, partition), offset in following.items():
            held = {"expected": self.expected[topic, partition], "epoch": self._epochs[topic, partition]}
            moved = {"topic": topic, "partition": partition, "following": offset, **held}
            if self.connection.execute(_ADVANCE.format(table=self.table), moved).rowcount != 1:
                raise FencedError(f"{topic}[{partition}] is another's, or its offset moved")

    def advanced(self, following: Mapping[Place, int]) -> None:
        """That transaction was committed."""
        self.expected.update(following)

    def behind(self, consumer: Consumer) -> int:
        """The records still to come, as far as the consumer has heard of the logs' ends: asks no broker."""
        behind = 0
        for place, following in self.expected.items():
            _, end = consumer.get_watermark_offsets(TopicPartition(*place), cached=True)
            behind += max(0, end - following)
        return behind


_TAKE_OVER: Final = sql.SQL("""
INSERT INTO {table} AS o (topic, partition, next_offset, epoch) VALUES (%s, %s, 0, 1)
ON CONFLICT (topic, partition) DO UPDATE SET epoch = o.epoch + 1
RETURNING next_offset, epoch
""")

_ADVANCE: Final = sql.SQL("""
UPDATE {table} SET next_offset = %(following)s
 WHERE topic = %(topic)s AND partition = %(partition)s AND next_offset = %(expected)s AND epoch = %(epoch)s
   AND next_offset < %(following)s
""")
