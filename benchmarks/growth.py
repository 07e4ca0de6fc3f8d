"""Ten thousand cells in one session: bytes and microseconds a cell, as it grows old.

``python -m benchmarks.growth WHERE KIND CELLS`` is one run in a process of its own, JSON out.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from array import array
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from benchmarks.measure import clock, slope
from benchmarks.peers import run_bare
from benchmarks.report import Report, markdown, number
from pyrepl3 import AsyncExecutor, open_session

KINDS = {
    "plain": "value = {n} * 2 + len('cell {n}')",
    "function": "def function(a, b={n}):\n    return a + b + {n}\nfunction(1)",
    "class": "class Thing:\n    number = {n}\n    def get(self):\n        return self.number + {n}",
    "await": "await asyncio.sleep(0, {n})",
}
FLAT_OBJECTS = 0.5  # blocks that Python's allocator has handed out, a cell: a leak has 1 and more
FLAT_BYTES = 128  # a cell: over 8,000 cells one arena of that allocator, of 1 MiB, more or less
FLAT_TIME = 1.25  # last tenth by third tenth

TIMES = "µs a cell: first, third, last tenth"

SAMPLES = 50


async def grow(where: str, kind: str, cells: int) -> dict[str, object]:
    """Run ``cells`` cells. Resident bytes after each fiftieth part, and seconds for each cell."""
    template = KINDS[kind]
    times = array("d", bytes(8 * cells))  # not a list, which would grow by 32 bytes a cell itself
    floors = array("d", bytes(8 * cells))  # how fast the machine itself was at that time
    beside: dict[str, object] = {"asyncio": asyncio}
    memory, blocks = array("q", bytes(8 * SAMPLES)), array("q", bytes(8 * SAMPLES))
    every = cells // SAMPLES
    async with AsyncExitStack() as stack:
        execute = await _opened(where, stack)
        await execute("import asyncio")
        for n in range(cells):
            source = template.format(n=n)
            begun = clock()
            await execute(source)
            times[n] = clock() - begun
            begun = clock()
            await run_bare(source, beside)
            floors[n] = clock() - begun
            if (n + 1) % every == 0:
                gc.collect()
                memory[n // every] = _resident()
                blocks[n // every] = sys.getallocatedblocks()
    # Until then what is bounded fills: the compilation cache, the sources of recent cells.
    settled = range(max(cells // 5, 1_500) // every, SAMPLES)
    tenth = cells // 10
    first, third, last = slice(tenth // 10, tenth), slice(2 * tenth, 3 * tenth), slice(-tenth, None)
    # Not by the first tenth: then nothing is evicted from the caches yet.
    aging = _usual(times[last]) / _usual(times[third])
    aging *= _usual(floors[third]) / _usual(floors[last])
    return {
        "where": where,
        "kind": kind,
        "cells": cells,
        "bytes_a_cell": slope([(i * every, memory[i]) for i in settled]),
        "objects_a_cell": slope([(i * every, blocks[i]) for i in settled]),
        "first_mib": memory[0] / 2**20,
        "last_mib": memory[-1] / 2**20,
        "first_us": _usual(times[first]) * 1e6,
        "third_us": _usual(times[third]) * 1e6,
        "last_us": _usual(times[last]) * 1e6,
        "aging": aging,
    }


def _usual(times: array[float]) -> float:
    """The fastest but one of ten: these cannot be measured in turns."""
    return statistics.quantiles(times, n=10)[0]


async def _opened(where: str, stack: AsyncExitStack) -> Callable[[str], Awaitable[object]]:
    if where == "bare":
        namespace: dict[str, object] = {}
        return lambda source: run_bare(source, namespace)
    if where == "executor":
        executor = AsyncExecutor(observe=lambda _event: None)
        stack.push_async_callback(executor.aclose)
        return executor.execute
    if where == "kept":
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="pyrepl3-bench-"))
        session = await stack.enter_async_context(open_session("growth", store=folder))
    else:
        session = await stack.enter_async_context(open_session())

    async def run(source: str) -> object:
        return (await session.run(source)).unwrap()

    return run


def _resident() -> int:
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run(report: Report, *, cells: int, kept: int, kinds: list[str]) -> None:
    """``kept``: how many cells a session with a store runs; 0: none."""
    plan = [("bare", "plain", cells)]
    plan += [(where, kind, cells) for kind in kinds for where in ("executor", "session")]
    if kept:
        plan.append(("kept", "plain", kept))
    grid = [["cells", "kind", "where", "RSS, MiB", "bytes a cell", "objects a cell", TIMES]]
    ours: list[dict[str, Any]] = []
    for where, kind, count in plan:
        command = [sys.executable, "-m", "benchmarks.growth", where, kind, str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        if where != "bare":
            ours.append(found)
        grid.append(
            [
                str(count),
                kind,
                where,
                f"{found['first_mib']:.1f} to {found['last_mib']:.1f}",
                number(found["bytes_a_cell"]),
                f"{found['objects_a_cell']:.3f}",
                ", ".join(number(found[f"{when}_us"]) for when in ("first", "third", "last")),
            ]
        )
    report.note("## One session, many cells\n\n" + "\n".join(markdown(grid)))
    for key, claim, bound, unit in (
        ("objects_a_cell", "growth", FLAT_OBJECTS, "objects a cell"),
        ("bytes_a_cell", "growth", FLAT_BYTES, "B a cell"),
        ("aging", "last tenth by third tenth", FLAT_TIME, "x"),
    ):
        # What a session with a store has outside Python's allocator is SQLite's page cache: 2 MB.
        counted = [found for found in ours if unit != "B a cell" or found["where"] != "kept"]
        worst = max(counted, key=lambda found: float(found[key]))
        where = f"{worst['cells']:,} {worst['kind']} cells, {worst['where']}"
        report.target(f"many cells, {claim}; worst: {where}", bound, unit, worst[key])


if __name__ == "__main__":
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):  # of cells
        found = asyncio.run(grow(sys.argv[1], sys.argv[2], int(sys.argv[3])))
    print(json.dumps(found))
