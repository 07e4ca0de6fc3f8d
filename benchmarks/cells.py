"""Cells in the caller's process: the same again, new ones, awaiting ones; and Session.run."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import Self

from benchmarks import peers
from benchmarks.measure import Batch, clock, in_turns
from benchmarks.report import Report, Table
from pyrepl3 import open_session

PLAIN = "x = 1 + 1"
AWAITING = "await asyncio.sleep(0)"
FUNCTION = """\
def scale(values, by={n}):
    total = 0
    for value in values:
        total += value * by
    return total
scale([1, 2, 3])"""

# Seconds that parse + split + compile + exec takes where the targets in µs were set.
REFERENCE = {PLAIN: peers.REFERENCE, AWAITING: 29e-6}

TURNS = 3
"""Times as many turns for repeated cells: they cost so little that only few turns find the machine free."""

STEADY = 300
"""Cells before those that count, where a cell is repeated: more than any of the ways remembers."""

_serial = itertools.count()


def again(source: str):
    """The same text for every cell; a new string object each, as texts arrive from outside."""
    return lambda n: ["".join(source) for _ in range(n)]


def anew(template: str):
    """A text that was never seen before for every cell."""
    return lambda n: [template.format(n=next(_serial)) for _ in range(n)]


async def run(report: Report, *, rounds: int) -> None:
    """Rows of the first table, with their targets."""
    ours = await peers.ours()
    floors = peers.floors()
    plain = {**ours, **peers.interpreter(), **peers.asyncio_console()}
    awaiting = {**ours, **peers.asyncio_console()}
    for peer in (peers.ipython(), peers.ptpython()):
        plain |= peer
        awaiting |= peer
    new = {peers.COMPILE: floors[peers.COMPILE], **plain}

    table = Table("## A cell in the caller's process", peers.OURS)
    again_costs = await in_turns(
        {**floors, **plain}, again(PLAIN), rounds=TURNS * rounds, warm_up=STEADY
    )
    table.add("same plain cell", again_costs)
    new_costs = await in_turns(new, anew("x = {n} + 1"), rounds=rounds)
    table.add("new plain cell", new_costs)
    function_costs = await in_turns(new, anew(FUNCTION), rounds=rounds)
    table.add("new cell with a function", function_costs)
    await_costs = await in_turns(
        {**peers.awaiting_floors(), peers.COMPILE: floors[peers.COMPILE], **awaiting},
        again(AWAITING),
        rounds=TURNS * rounds,
        warm_up=STEADY,
    )
    table.add("same await cell", await_costs)
    report.table(table)

    us = peers.OURS
    report.calibrate(again_costs[peers.COMPILE], REFERENCE[PLAIN])
    report.at_most_us(
        "same plain cell, over exec of compiled code", 5, again_costs[us], again_costs[peers.EXEC]
    )
    report.calibrate(await_costs[peers.COMPILE], REFERENCE[AWAITING])
    report.at_most_us(
        "same await cell, over a task of its own", 10, await_costs[us], await_costs[peers.TASK]
    )
    report.at_most_us(
        "same await cell, over awaiting it in the caller's",
        10,
        await_costs[us],
        await_costs[peers.AWAIT],
    )
    for name, costs in (("one line", new_costs), ("a function", function_costs)):
        claim = f"new cell ({name}), of parse + split + compile + exec"
        report.at_most(claim, 2.5, costs[us], costs[peers.COMPILE])
    if peers.IPYTHON in again_costs:
        report.at_least(
            "same plain cell, IPython takes", 15, again_costs[peers.IPYTHON], again_costs[us]
        )
        report.at_least(
            "same await cell, IPython takes", 10, await_costs[peers.IPYTHON], await_costs[us]
        )
    await sessions(report, rounds=rounds)


async def sessions(report: Report, *, rounds: int) -> None:
    """Session.run in memory, beside the two thread hops that it cannot do without."""
    hop = "Session.run, in memory"
    async with open_session() as session:
        await session.run("import asyncio")
        with _OtherLoop() as other:
            ways: dict[str, Batch] = {
                "two thread hops": other.batch,
                hop: peers.in_session(session),
            }
            table = Table("## A cell in a session of its own thread", hop)
            plain = await in_turns(ways, again(PLAIN), rounds=rounds)
            table.add("same plain cell", plain)
            table.add(
                "new plain cell",
                await in_turns(ways, anew("x = {n} + 1"), rounds=rounds),
            )
            table.add(
                "same await cell",
                await in_turns(ways, again(AWAITING), rounds=rounds),
            )
    report.table(table)
    report.at_most_us("Session.run in memory", 250, plain[hop])


class _OtherLoop:
    """A loop on a thread: there and back is what a session has to pay."""

    def __enter__(self) -> Self:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    async def batch(self, sources: list[str]) -> float:
        here = asyncio.get_running_loop()
        begun = clock()
        for _ in sources:
            future = here.create_future()
            self.loop.call_soon_threadsafe(here.call_soon_threadsafe, future.set_result, None)
            await future
        return clock() - begun
