"""A cron line and a time in, the next time that it names out. UTC; the dialect of the Postgres server.

Five fields: minute, hour, day of month, month, day of week (0: Sunday); numbers, ``*``, ``a-b``,
``a,b`` and ``/step``. Where both days are given, one of them is enough.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
_HORIZON = timedelta(days=9 * 366)  # 29 February comes every eight years at worst, around 2100


def next_run(cron: str, after: int) -> int:
    """The first full minute later than ``after`` that ``cron`` names, both in ms since 1970.

    Raises ValueError for a line that cannot be read or names no day that exists.
    """
    fields = cron.split()
    if len(fields) != 5:
        raise ValueError(f"cron line {cron!r}: five fields are needed, {len(fields)} are given")
    minutes, hours, days, months, weekdays = (
        _read(field, *bounds) for field, bounds in zip(fields, _RANGES, strict=True)
    )
    any_day, any_weekday = fields[2] == "*", fields[4] == "*"

    def on(day: datetime) -> bool:
        in_month, in_week = day.day in days, day.isoweekday() % 7 in weekdays
        if any_day or any_weekday:
            return in_month and in_week
        return in_month or in_week

    at = datetime.fromtimestamp(after // 60_000 * 60, UTC) + timedelta(minutes=1)
    end = at + _HORIZON
    while at < end:
        if at.month not in months:
            at = (at.replace(day=1, hour=0, minute=0) + timedelta(days=32)).replace(day=1)
        elif not on(at):
            at = at.replace(hour=0, minute=0) + timedelta(days=1)
        elif at.hour not in hours:
            at = at.replace(minute=0) + timedelta(hours=1)
        elif at.minute not in minutes:
            at += timedelta(minutes=1)
        else:
            return int(at.timestamp()) * 1000
    raise ValueError(f"cron line {cron!r} names no day that exists")


def _read(field: str, low: int, high: int) -> frozenset[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, slash, step = part.partition("/")
        first, dash, last = span.partition("-")
        try:
            start, end = (low, high) if span == "*" else (int(first), int(last or first))
            by = int(step) if slash else 1
        except ValueError:
            raise ValueError(f"cron field {field!r}: {part!r} is not a number or a range") from None
        if slash and not dash and span != "*":
            end = high
        if by < 1 or not low <= start <= end <= high:
            raise ValueError(f"cron field {field!r}: {part!r} is not within {low} to {high}")
        found.update(range(start, end + 1, by))
    return frozenset(found)
