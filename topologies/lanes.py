"""One partition of a delay tier, as the timer relay sees it: a window of records read ahead, acted on when ready.

Records of one partition get ready nearly, not exactly, in the order they were appended: what is left of a timer in its
last second is any fraction of it. So a lane acts out of order inside a bounded window, and its commit says which
records beyond the committed offset are done: a bitmap in the offset's metadata, committed in the same transaction.
"""

from __future__ import annotations

import heapq
from base64 import b85decode, b85encode
from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(slots=True)
class Lane(Generic[Item]):
    """`window`: how many offsets the records read but not finished may span; the bitmap must fit the broker's
    `offset.metadata.max.bytes` (4096): at most 25 000.
    """

    window: int
    done: set[int] = field(default_factory=set)
    next_offset: int = 0
    _read: deque[int] = field(default_factory=deque)
    _waiting: list[tuple[int, int, Item]] = field(default_factory=list)

    @classmethod
    def resumed(cls, window: int, offset: int, metadata: str | None) -> Lane[Item]:
        """A lane as the last commit left it. Raises ValueError for metadata that no lane wrote."""
        return cls(window=window, done=_unpacked(offset, metadata or ""), next_offset=offset)

    @property
    def full(self) -> bool:
        """Whether reading has to wait for the oldest record."""
        return bool(self._read) and self.next_offset - self._read[0] >= self.window

    @property
    def ready_at(self) -> int | None:
        """When the first waiting record gets ready, in milliseconds."""
        return self._waiting[0][0] if self._waiting else None

    def read(self, offset: int) -> bool:
        """Take note of a record read; False when it was finished before a restart."""
        self._read.append(offset)
        self.next_offset = offset + 1
        return offset not in self.done

    def wait(self, offset: int, ready_at: int, item: Item) -> None:
        """Keep a record until it gets ready."""
        heapq.heappush(self._waiting, (ready_at, offset, item))

    def take(self, now: int) -> tuple[int, Item] | None:
        """The next record that is ready, with its offset."""
        if not self._waiting or self._waiting[0][0] > now:
            return None
        _, offset, item = heapq.heappop(self._waiting)
        return offset, item

    def finish(self, offset: int) -> None:
        """The record was acted on."""
        self.done.add(offset)
        while self._read and self._read[0] in self.done:
            self.done.discard(self._read.popleft())

    def position(self) -> tuple[int, str]:
        """The offset to commit and its metadata."""
        base = self._read[0] if self._read else self.next_offset
        return base, _packed(base, self.done)

    def __len__(self) -> int:
        return len(self._waiting)


def _packed(base: int, done: set[int]) -> str:
    """Bit n stands for offset base + n."""
    ahead = [offset - base for offset in done if offset > base]
    if not ahead:
        return ""
    bits = sum(1 << place for place in ahead)
    return b85encode(bits.to_bytes(max(ahead) // 8 + 1, "little")).decode()


def _unpacked(base: int, metadata: str) -> set[int]:
    bits = int.from_bytes(b85decode(metadata), "little")
    return {base + place for place in range(bits.bit_length()) if bits >> place & 1}
