"""What a durable step costs, as a cell grows, beside the disk's own sync; how soon a cancelled cell is over.

The disk is what is measured, that of TMPDIR: a synced append between steps tells what it took just then.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.peers import calibrate
from benchmarks.report import Report, Row
from pyrepl3 import Interrupted, Output, Started, open_session
from pyrepl3.durable.embedded import Embedded
from pyrepl3.durable.local import LocalPromises
from pyrepl3.durable.steps import ResonateDurability
from pyrepl3.testing.fakes import FakeStore

CELL = """
import os, time
from pyrepl3 import step
clock = time.perf_counter
{define} work(i): return i
times, floors = [], []
fd = os.open({file!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for i in range({n}):
    begun = clock()
    {call}step(work, i)
    times.append(clock() - begun)
    if i % 10 == 0:
        begun = clock()
        os.write(fd, bytes(4096))
        os.fdatasync(fd)
        floors.append(clock() - begun)
os.close(fd)
"""


if TYPE_CHECKING:
    from pyrepl3.records import Cell, Event

type Synchronous = Literal["FULL", "NORMAL"]

TURN = 50
"""Steps whose median counts as one measurement."""

FLAT = 1.25
"""Times that the last tenth of 5,000 steps may take what the first does."""


async def measure(folder: Path, synchronous: Synchronous, n: int) -> list[Row]:
    """One table row for plain code and one for awaited steps."""
    rows: list[Row] = []
    durability = ResonateDurability(
        lambda: LocalPromises(Embedded(folder / "durable.db", synchronous=synchronous)),
        name="bench",
        folder=folder / "steps",
    )
    async with open_session("bench", store=FakeStore(), durability=durability) as session:
        for define, call, form in (("def", "", "plain"), ("async def", "await ", "awaited")):
            # So that both are cells of which the loop knows, and each has its own file to sync.
            source = CELL.format(define=define, call=call, n=n, file=str(folder / form))
            (await session.run(source)).unwrap()
            times = await session.fetch("times")
            floor = statistics.median(await session.fetch("floors"))
            rows.append(
                Row(
                    f"{synchronous}, {n:,} in a cell, {form}",
                    times,
                    f"fdatasync {floor * 1e6:.0f}",
                )
            )
    return rows


CANCELLED = {
    "a cell that awaits": "await asyncio.sleep(60)",
    "a cell that loops": "while True: pass",
}
MOST = 0.1
"""Seconds until a cell is over whose promise was cancelled, its epoch on disk."""


async def measure_cancelling(folder: Path, turns: int) -> list[Row]:
    """From the cancelling of a cell's promise to its outcome."""
    rows = []
    loop = asyncio.get_running_loop()
    async with open_session("bench", store=str(folder / "store")) as session:
        durability: Any = session._durability
        for what, line in CANCELLED.items():
            times = []
            for _ in range(turns):
                begun = asyncio.Event()
                cells = []

                def observe(
                    event: Event, begun: asyncio.Event = begun, cells: list[Cell] = cells
                ) -> None:
                    if isinstance(event, Started):
                        cells.append(event.cell)
                    elif isinstance(event, Output):
                        loop.call_soon_threadsafe(begun.set)

                wait = "await " if "await" in line else ""
                source = f"import asyncio; from pyrepl3 import step; {wait}step(len, 'a'); print('up')\n{line}"
                cell = asyncio.create_task(session.run(source, observe=observe))
                await begun.wait()
                at = time.perf_counter()
                await asyncio.wrap_future(durability.cancel(cells[0].durable_name))
                outcome = await cell
                times.append(time.perf_counter() - at)
                assert isinstance(outcome, Interrupted), outcome
            rows.append(Row(what, times))
    return rows


def run(report: Report, *, quick: bool) -> None:
    """``quick``: with FULL only, and 1,000 steps a cell at most."""
    rows: list[Row] = []
    kinds: tuple[Synchronous, ...] = ("FULL",) if quick else ("FULL", "NORMAL")
    for synchronous in kinds:
        for n in (100, 1000 if quick else 5000):
            with tempfile.TemporaryDirectory(prefix="pyrepl3-bench-") as folder:
                rows += asyncio.run(measure(Path(folder), synchronous, n))
    report.rows("A durable step", rows, unit="µs")
    with tempfile.TemporaryDirectory(prefix="pyrepl3-bench-") as folder:
        cancelled = asyncio.run(measure_cancelling(Path(folder), 10 if quick else 30))
    report.rows("A cell's promise is cancelled, to its outcome", cancelled, unit="ms")
    for row in cancelled:
        report.target(
            f"cancelled, {row.what}, at the latest", MOST * 1e3, "ms", max(row.times) * 1e3
        )
    calibrate(report)
    for row in rows:
        if row.what.startswith("FULL"):
            micros = [seconds * 1e6 for seconds in row.times]
            turns = [statistics.median(micros[n : n + TURN]) for n in range(0, len(micros), TURN)]
            report.scaled(f"durable step, {row.what}", 700, "µs", turns)
            tenth = len(micros) // 10
            last, first = micros[-tenth:], micros[:tenth]
            if len(micros) > 500:
                report.at_most_x(
                    f"the last tenth of them by the first, {row.what}",
                    FLAT,
                    statistics.median(last) / statistics.median(first),
                    min(last) / min(first),
                )
