"""A cell of eight awaits, run in order and at once: what ``run(..., parallel=True)`` brings, and costs."""

from __future__ import annotations

import asyncio
import statistics

from benchmarks.measure import clock
from benchmarks.report import Report, markdown, number
from pyrepl3 import Session, open_session

SETUP = """
import asyncio
from pyrepl3 import independent
async def wait(n):
    await asyncio.sleep({pause})
    return n
@independent
async def fetch(n):
    await asyncio.sleep({pause})
    return n
"""
AWAITS = 8
PAUSE = 0.05
GATHER = "await asyncio.gather(" + ", ".join(f"wait({n})" for n in range(AWAITS)) + ")"
PROVED = "\n".join(f"v{n} = await wait({n})" for n in range(AWAITS))
DECLARED = "\n".join(f"v{n} = await fetch({n})" for n in range(AWAITS))
CHAIN = "v = 0\n" + "\n".join(f"v = await wait(v + {n})" for n in range(AWAITS))


def run(report: Report, *, rounds: int) -> None:
    """Add a table: ms a cell, in this process and in a worker; and what it costs without a gain."""
    asyncio.run(_run(report, rounds))


async def _run(report: Report, rounds: int) -> None:
    grid = [["a cell of 8 awaits, ms: median, times as fast", "here", "in a worker"]]
    waiting = {
        "50 ms each, in order": (PROVED, False),
        "at once, proved": (PROVED, True),
        "at once, declared": (DECLARED, True),
        "asyncio.gather, by hand": (GATHER, False),
        "each needs the one before, in order": (CHAIN, False),
        "the same with parallel=True": (CHAIN, True),
    }
    quick = {
        "no pause, in order": (PROVED, False),
        "at once, proved ": (PROVED, True),
        "at once, declared ": (DECLARED, True),
    }
    columns = []
    for isolation in ("none", "process"):
        async with open_session(isolation=isolation) as session:  # type: ignore[arg-type]
            assert (await session.run(SETUP.format(pause=PAUSE))).ok
            column = await _in_turns(session, waiting, rounds)
            in_order, at_once = column["50 ms each, in order"], column["at once, proved"]
            report.at_most_x(
                f"8 awaits of 50 ms at once, of those in order, isolation={isolation!r}",
                0.2,
                statistics.median(at_once) / statistics.median(in_order),
                min(at_once) / min(in_order),
            )
            assert (await session.run(SETUP.format(pause=0))).ok
            columns.append(column | await _in_turns(session, quick, 5 * rounds))
    for rows in (waiting, quick):
        base = next(iter(rows))
        for row in rows:
            cells = [
                f"{number(statistics.median(column[row]) * 1e3)}, "
                f"{number(statistics.median(column[base]) / statistics.median(column[row]))}x"
                for column in columns
            ]
            grid.append([row.strip(), *cells])
    report.note("## Awaits of one cell at once\n\n" + "\n".join(markdown(grid)))


async def _in_turns(
    session: Session, ways: dict[str, tuple[str, bool]], rounds: int
) -> dict[str, list[float]]:
    """A B C A B C …: seconds."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (source, parallel) in ways.items():
            begun = clock()
            outcome = await session.run(source, parallel=parallel)
            times[name].append(clock() - begun)
            assert outcome.ok, outcome
    return times
