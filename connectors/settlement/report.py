"""What reading a provider's report takes, whatever its format: rows by column name, amounts, times, and clear refusals.

A report is read row by row, in flat memory. What cannot be read is refused with its line number: nothing is guessed.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Final, Protocol, TextIO

from pipeline.messages.settlement import SettlementLine
from pipeline.money import MoneyError, exponent

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_DECIMAL: Final = re.compile(r"(-?)([0-9]{1,15})(?:\.([0-9]{1,6}))?", re.ASCII)


class ReportError(ValueError):
    """A report that cannot be read. `line` counts from 1, the header included; 0 is the file as a whole."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}" if line else reason)
        self.line = line


class EmptyReportError(ReportError):
    """A report without a line."""

    def __init__(self) -> None:
        super().__init__(0, "the report has no lines")


@dataclass(frozen=True, slots=True)
class Origin:
    """The file that the lines are read from; `account` is what the operator says it is the report of."""

    report_id: str
    account: str | None = None


class Reader(Protocol):
    """Reads one provider's reports."""

    def __call__(self, text: TextIO, origin: Origin) -> Iterator[SettlementLine]:
        """Every line of the report. `payment_id` is what the report itself claims. Raises ReportError."""


class Table:
    """The columns of a CSV report by name."""

    def __init__(self, header: Sequence[str], line: int) -> None:
        names = [" ".join(name.lstrip("\ufeff").split()) for name in header]
        doubled = {name for name in names if names.count(name) > 1 and name}
        if doubled:
            raise ReportError(line, f"the header has {', '.join(sorted(doubled))} twice")
        self._places = {name: place for place, name in enumerate(names)}
        self.width = len(names)

    def require(self, line: int, *names: str) -> None:
        """Raises ReportError unless these columns are there."""
        missing = [name for name in names if name not in self._places]
        if missing:
            raise ReportError(line, f"the header has no column {', '.join(missing)}")

    def place(self, name: str) -> int | None:
        """Where a column stands."""
        return self._places.get(name)

    def __contains__(self, name: str) -> bool:
        return name in self._places


class Row:
    """One row, by column name."""

    __slots__ = ("_cells", "_table", "line")

    def __init__(self, table: Table, cells: Sequence[str], line: int) -> None:
        if len(cells) != table.width:
            raise ReportError(line, f"{len(cells)} cells, the header has {table.width}")
        self._table = table
        self._cells = cells
        self.line = line

    def text(self, *names: str) -> str | None:
        """The first of these columns that is there and not empty."""
        for name in names:
            place = self._table.place(name)
            if place is not None and (cell := self._cells[place].strip()):
                return cell
        return None

    def need(self, *names: str) -> str:
        """The same. Raises ReportError when there is none."""
        found = self.text(*names)
        if found is None:
            raise ReportError(self.line, f"{' or '.join(names)} is empty")
        return found

    def currency(self, name: str) -> str:
        """An ISO 4217 code, in upper case. Raises ReportError."""
        code = self.need(name).upper()
        try:
            digits_of(code)
        except MoneyError as error:
            raise ReportError(self.line, f"{name}: {error}") from error
        return code

    def minor(self, name: str, currency: str) -> int:
        """Minor units of a decimal in major units; 0 if the cell is empty. Raises ReportError."""
        cell = self.text(name)
        if cell is None:
            return 0
        try:
            return minor_of(cell, currency)
        except ValueError as error:
            raise ReportError(self.line, f"{name}: {error}") from error

    def time(self, *names: str, zone: tzinfo = UTC) -> int:
        """Milliseconds since 1970 of a time `YYYY-MM-DD[ HH:MM:SS]`, or one with its own offset. Raises ReportError."""
        cell = self.need(*names)
        try:
            at = datetime.fromisoformat(cell.replace("/", "-"))
        except ValueError as error:
            raise ReportError(self.line, f"{names[0]}: {cell[:40]!r} is no time") from error
        return round((at if at.tzinfo else at.replace(tzinfo=zone)).timestamp() * 1000)


def table_rows(text: TextIO, check: Callable[[Table, int], None]) -> Iterator[Row]:
    """The rows under the header, which `check` may refuse, given its line. Raises ReportError."""
    rows = numbered(text)
    line, header = next(rows, (0, []))
    if not header:
        raise ReportError(0, "the file is empty")
    table = Table(header, line)
    check(table, line)
    for number, cells in rows:
        yield Row(table, cells, number)


def numbered(text: TextIO) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file with the number of the line each ends on; blank ones left out. Raises ReportError."""
    reader = csv.reader(text, strict=True)
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        raise ReportError(reader.line_num, f"no CSV: {error}") from error
    except UnicodeDecodeError as error:
        raise ReportError(reader.line_num + 1, "no UTF-8") from error


@lru_cache(maxsize=512)
def digits_of(currency: str) -> int:
    """Digits after the decimal point (ISO 4217). Raises MoneyError."""
    return exponent(currency)


def minor_of(text: str, currency: str) -> int:
    """Minor units of a signed decimal: ("-10.5", "USD") is -1050. Zeros beyond the currency's digits are allowed.

    Raises ValueError for what is no plain decimal, and for more digits than the currency has: money is never rounded.
    """
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is no plain decimal")
    digits = digits_of(currency)
    fraction = (match[3] or "").ljust(digits, "0")
    if fraction[digits:].strip("0"):
        raise ValueError(f"{text[:40]!r} has more than the {digits} decimals of {currency}")
    minor = int(match[2] + fraction[:digits])
    return -minor if match[1] else minor


def our_payment(claim: str | None) -> str | None:
    """What a report has in the place of our reference: our payment's id, alone or followed by `_` and more."""
    first = claim.split("_", 1)[0] if claim else ""
    return first if _UUID.fullmatch(first) else None
