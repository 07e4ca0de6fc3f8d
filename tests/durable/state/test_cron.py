"""Cron lines, read as the Postgres server reads them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pyrepl3.durable.state.cron import next_run


def ms(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("cron", "after", "then"),
    [
        ("* * * * *", "2026-11-22T22:00:00", "2026-11-22T22:01"),
        ("* * * * *", "2026-11-22T22:00:59.999", "2026-11-22T22:01"),
        ("*/15 * * * *", "2026-11-22T22:46", "2026-11-22T23:00"),
        ("5/20 * * * *", "2026-11-22T22:26", "2026-11-22T22:45"),
        ("0 9-17/4 * * *", "2026-11-22T13:00", "2026-11-22T17:00"),
        ("30 8 1,15 * *", "2026-12-15T08:30", "2027-01-01T08:30"),
        ("0 0 * * 0", "2026-11-22T00:00", "2026-11-29T00:00"),
        ("0 0 13 * 5", "2026-11-22T00:00", "2026-11-27T00:00"),
        ("0 0 29 2 *", "2026-01-01T00:00", "2028-02-29T00:00"),
        ("59 23 31 12 *", "2026-12-31T23:59", "2027-12-31T23:59"),
    ],
)
def test_the_next_minute_that_a_line_names(cron, after, then):
    assert next_run(cron, ms(after)) == ms(then)


@pytest.mark.parametrize(
    ("cron", "why"),
    [
        ("* * * *", "five fields"),
        ("60 * * * *", "not within 0 to 59"),
        ("* * 0 * *", "not within 1 to 31"),
        ("*/0 * * * *", "not within"),
        ("5-1 * * * *", "not within"),
        ("a * * * *", "not a number"),
        ("0 0 31 2 *", "no day that exists"),
    ],
)
def test_a_line_that_names_nothing_is_refused(cron, why):
    with pytest.raises(ValueError, match=why):
        next_run(cron, 0)
