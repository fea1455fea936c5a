"""A report's way into the books: checked whole, matched, sent, waited for, and looked up once more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Final, Protocol
from uuid import UUID

import psycopg

from connectors.settlement.matching import Matcher
from connectors.settlement.readers import reader
from connectors.settlement.result import absent, known
from connectors.settlement.sending import Report, check, lines_of, send, wait_posted
from pipeline.codec import Codec
from pipeline.messages.settlement import SettlementLine
from pipeline.settings import Settings

_AT_ONCE: Final = 5_000
_ID_BYTES: Final = 16


class Progress(Protocol):
    """Is told how far a step is."""

    def step(self, name: str, total: int) -> Callable[[int], None]:
        """A step of `total` units begins; the answer is told of each advance."""

    def waiting(self, count: int) -> None:
        """So many records are on the way to the books."""


@dataclass(frozen=True, slots=True)
class Posted:
    """What became of a report. `known` lines were in the books before, `changed` ones among them with other figures,
    which stand; `absent` ones are not in the books even now. The last two are dead letters of settlement.lines.
    """

    report: Report
    known: int
    changed: int
    absent: int

    @property
    def whole(self) -> bool:
        """Whether the books have every line as the report has it."""
        return not self.changed and not self.absent


@dataclass(frozen=True, slots=True)
class Poster:
    """Puts reports into the books. `patience`: seconds that nothing may move."""

    settings: Settings
    connection: psycopg.Connection
    codec: Codec
    matcher: Matcher
    progress: Progress
    patience: float = 60.0

    def post(self, provider: str, path: Path, account: str | None) -> Posted:
        """Raises ReportError and OSError before anything is sent; NotPostedError, KafkaException."""
        size = path.stat().st_size
        report = check(path, reader(provider), account, self.progress.step("checking", size))
        with TemporaryFile() as ids:
            lines = lines_of(report, self.progress.step("sending", size))
            before, changed = self._send(lines, ids)
            wait_posted(self.settings, self.connection, self.patience, self.progress.waiting)
            missing = sum(absent(self.connection, some) for some in _read_ids(ids))
        return Posted(report, before, changed, missing)

    def _send(self, lines: Iterable[SettlementLine], ids: IO[bytes]) -> tuple[int, int]:
        """Sends them and notes their ids; returns how many were in the books before, and how many otherwise."""
        before, changed = 0, 0

        def noted() -> Iterator[SettlementLine]:
            nonlocal before, changed
            rest = iter(self.matcher.matched(lines))
            while some := list(islice(rest, _AT_ONCE)):
                ids.write(b"".join(UUID(line.line_id).bytes for line in some))
                there, otherwise = known(self.connection, some)
                before, changed = before + there, changed + otherwise
                yield from some

        send(self.settings, self.codec, noted())
        return before, changed


def _read_ids(ids: IO[bytes]) -> Iterator[list[str]]:
    ids.seek(0)
    while some := ids.read(_ID_BYTES * _AT_ONCE):
        yield [str(UUID(bytes=some[at : at + _ID_BYTES])) for at in range(0, len(some), _ID_BYTES)]
