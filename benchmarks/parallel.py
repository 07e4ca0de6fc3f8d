"""A cell of eight awaits, and one that computes four things, in order and at once: what that brings, and costs."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys

from benchmarks.computing import CALLS, CRUNCH, calibrate
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
    asyncio.run(_compute(report, rounds))


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


async def _compute(report: Report, rounds: int) -> None:
    """Four calls of 100 ms, and of 1 ms, by cells of a worker and by what the standard library has."""
    columns: list[dict[str, list[float]]] = []
    for seconds in (0.1, 0.001):
        n = calibrate(seconds)
        cell = "\n".join(f"v{at} = crunch({n})" for at in range(CALLS))
        listed = f"[crunch(n) for n in {[n] * CALLS}]"
        ours = {
            "a cell, in order": (cell, False),
            "the same with parallel=True": (cell, True),
            "a list comprehension, parallel=True": (listed, True),
        }
        peers = {
            "plain Python, in order": "in order",
            "ProcessPoolExecutor, warm": "warm pool",
            "ProcessPoolExecutor, made for it": "new pool",
            "multiprocessing by hand": "by hand",
        }
        column: dict[str, list[float]] = {name: [] for name in (*ours, *peers)}
        command = [sys.executable, "-m", "benchmarks.computing", str(n)]
        async with open_session(isolation="process") as session:
            assert (await session.run(CRUNCH)).ok
            with subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
            ) as other:
                assert other.stdin is not None
                assert other.stdout is not None
                for _ in range(rounds):
                    for name, times in (await _in_turns(session, ours, 1)).items():
                        column[name] += times
                    for name, way in peers.items():
                        other.stdin.write(way + "\n")
                        column[name].append(float(other.stdout.readline()))
                other.stdin.close()
        columns.append(column)
    in_order, at_once, _ = (columns[0][name] for name in ours)
    report.at_most_x(
        "4 calls of 100 ms on two processors, of those in order",
        0.8,
        statistics.median(at_once) / statistics.median(in_order),
        min(at_once) / min(in_order),
    )
    grid = [["four calls, ms: median / least, times as fast", "100 ms each", "1 ms each"]]
    for name in columns[0]:
        cells = [
            f"{number(statistics.median(column[name]) * 1e3)} / {number(min(column[name]) * 1e3)}, "
            f"{number(statistics.median(column['a cell, in order']) / statistics.median(column[name]))}x"
            for column in columns
        ]
        grid.append([name, *cells])
    report.note("## What only computes, on two processors\n\n" + "\n".join(markdown(grid)))
