"""What stays responsive while a cell blocks, and how long an interrupt takes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

from benchmarks.measure import Cost, clock, lag_during
from benchmarks.report import Report, Table, markdown, number
from pyrepl3 import AsyncExecutor, Session, open_session

SLEEP = "import time; time.sleep({seconds})"
QUERY = """\
import sqlite3
sqlite3.connect(":memory:").execute(
    "with recursive n(i) as (select 1 union all select i + 1 from n limit {rows}) select max(i) from n"
).fetchone()"""
SPIN = "while True: pass"
BARE = "a bare thread"
LAST = 10  # seconds that an interrupt gets

INTERRUPTS = {
    "await asyncio.sleep(60)": "import asyncio\nawait asyncio.sleep(60)",
    "while True: pass": SPIN,
    "time.sleep(60)": "import time\ntime.sleep(60)",
    "a sync loop inside async def": (
        "async def hog():\n    while True: pass\nawait hog()"  # holds the session's loop
    ),
    "a loop in a sub-task": (
        "async def hog():\n    while True: pass\n"
        "import asyncio\nasync with asyncio.TaskGroup() as group:\n    group.create_task(hog())"
    ),
    "waiting for a lock": "import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()",
    "swallows BaseException": (
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass"
    ),
}


def run(report: Report, *, seconds: float) -> None:
    """``seconds``: how long each cell holds its thread."""
    asyncio.run(lags(report, seconds=seconds))
    interrupts(report)


async def lags(report: Report, *, seconds: float) -> None:
    """The worst lag of each turn; two turns, since any other process may make one late."""
    sleep = SLEEP.format(seconds=seconds)
    query = QUERY.format(rows=int(seconds * 4_000_000))
    async with open_session() as session:
        executor = AsyncExecutor()
        ways: dict[str, dict[str, Callable[[], Awaitable[object]]]] = {
            "nothing runs": {BARE: lambda: asyncio.sleep(seconds)},
            "time.sleep": {
                BARE: lambda: asyncio.to_thread(time.sleep, seconds),
                "Session": lambda: session.run(sleep),
                "AsyncExecutor": lambda: executor.execute(sleep),
            },
            "sqlite3 query": {
                BARE: lambda: asyncio.to_thread(exec, query, {}),
                "Session": lambda: session.run(query),
                "AsyncExecutor": lambda: executor.execute(query),
            },
            "while True: pass": {
                BARE: lambda: asyncio.to_thread(_spin, seconds),
                "Session": lambda: _run_and_stop(session, seconds),
            },
        }
        table = Table(
            "## How late the caller's loop is at worst (a timer of 1 ms)", BARE, unit="ms"
        )
        for what, works in ways.items():
            costs = {who: Cost() for who in works}
            for _ in range(2):
                for who, work in works.items():
                    costs[who].samples.append(max((await lag_during(work())).samples))
            table.add(what, costs)
            for who in list(works)[1:]:
                claim = f"worst lag, {who}, {what}, over a bare thread"
                report.at_most_ms(claim, 10, costs[who], costs[BARE])
        await executor.aclose()
    report.table(table)


def _spin(seconds: float) -> None:
    end = clock() + seconds
    while clock() < end:
        pass


async def _run_and_stop(session: Session, seconds: float) -> None:
    running = asyncio.create_task(session.run(SPIN))
    await asyncio.sleep(seconds)
    session.interrupt()
    await running


def interrupts(report: Report) -> None:
    """From ``interrupt()`` to the outcome; afterwards the session must still have its state."""
    grid = [["a cell that is stopped", "ms", "outcome"]]
    for name in INTERRUPTS:
        command = [sys.executable, "-m", "benchmarks.answering", name]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LAST)
        except subprocess.TimeoutExpired:
            ms, outcome = float("inf"), f"still running after {LAST} s"
        else:
            ms, outcome = json.loads(done.stdout)
        grid.append([name, number(ms), outcome])
        # 1 s of grace, as amendment 13 has it, then until the next line of Python.
        bound = 1200 if "swallows" in name else 300
        stopped = outcome.startswith("Interrupted")
        report.target(f"interrupt of {name}", bound, "ms", ms if stopped else float("inf"))
    report.note("## Interrupting a cell of a session\n\n" + "\n".join(markdown(grid)))


async def interrupt_one(name: str) -> tuple[float, str]:
    """Milliseconds and the outcome. In a process of its own: it may never end."""
    session = await open_session().__aenter__()
    await session.run("kept = 41")
    running = asyncio.create_task(session.run(INTERRUPTS[name]))
    await asyncio.sleep(0.2)
    begun = clock()
    session.interrupt()
    outcome = await running
    spent = clock() - begun
    word = type(outcome).__name__
    word += ", forced" * getattr(outcome, "forced", False)
    word += ", thread abandoned" * getattr(outcome, "abandoned", False)
    if (await session.run("kept + 1")).value != 42:
        word = "the session lost its state"
    return spent * 1e3, word


if __name__ == "__main__":
    print(json.dumps(asyncio.run(interrupt_one(sys.argv[1]))), flush=True)
    os._exit(0)  # threads that were abandoned need not be waited for
