"""When people have money and issuers are at work: paydays and hours of the day, in the merchant's time zone."""

from __future__ import annotations

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Final
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field

from pipeline.domain.networks import Strict

WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
LAST: Final = "last"
_HOURS: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]|24):([0-5][0-9])")
_DAY: Final = 24 * 60


@dataclass(frozen=True, slots=True)
class Hours:
    """Part of a day: from minute `start` up to, and not including, minute `end`."""

    start: int
    end: int


def hours(text: object) -> Hours:
    """Hours of the day such as 08:00-20:00. Raises ValueError."""
    match = _HOURS.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError("hours are two times of one day, such as 08:00-20:00")
    start, end = int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])
    if not start < end <= _DAY:
        raise ValueError("hours end after they start, at 24:00 at the latest")
    return Hours(start, end)


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError) as error:
        raise ValueError(f"{name!r} is no IANA time zone") from error
    return name


def _payday(value: object) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 31:
        return value
    if isinstance(value, str) and value in (*WEEKDAYS, LAST):
        return value
    raise ValueError(f"a payday is a day of the month (1 to 31), {LAST!r}, or a weekday such as 'friday'")


HoursOfDay = Annotated[Hours, BeforeValidator(hours)]
Zone = Annotated[str, AfterValidator(_zone)]
Payday = Annotated[int | str, BeforeValidator(_payday)]


class Calendar(Strict):
    """Where a merchant's customers live, and when they are paid."""

    time_zone: Zone = "UTC"
    paydays: Annotated[tuple[Payday, ...], Field(max_length=31)] = ()

    def on_payday(self, at: int, within: int) -> int:
        """The first moment of a payday in `[at, at + within]`; `at` itself if it is on one or there is none."""
        today = self._local(at).date()
        for days in range(within // (_DAY * 60_000) + 2):
            day = today + timedelta(days=days)
            if self._is_payday(day):
                begins = self._moment(day, 0)
                return begins if at < begins <= at + within else at
        return at

    def in_hours(self, at: int, allowed: Hours) -> int:
        """The first moment from `at` on that is within the hours of a day there."""
        local = self._local(at)
        minute = local.hour * 60 + local.minute
        if allowed.start <= minute < allowed.end:
            return at
        day = local.date() if minute < allowed.start else local.date() + timedelta(days=1)
        return max(at, self._moment(day, allowed.start))

    def _is_payday(self, day: date) -> bool:
        length = monthrange(day.year, day.month)[1]
        for payday in self.paydays:
            if isinstance(payday, int):
                # Who is paid on the 31st is paid on the last day of a shorter month.
                if day.day == min(payday, length):
                    return True
            elif (payday == LAST and day.day == length) or payday == WEEKDAYS[day.weekday()]:
                return True
        return False

    def _local(self, at: int) -> datetime:
        return datetime.fromtimestamp(at / 1000, ZoneInfo(self.time_zone))

    def _moment(self, day: date, minute: int) -> int:
        """When it is that time there, in milliseconds; a time that a clock change skips is the one after it."""
        local = datetime.combine(day, time(minute // 60 % 24, minute % 60), ZoneInfo(self.time_zone))
        return round(local.astimezone(UTC).timestamp() * 1000)
