"""What a promise costs that is made and settled, and opening a file with many of them.

Over the embedded connection by itself, through the SDK, and beside the SDK's own memory and DBOS on SQLite
(group ``peers``) in the same run, in turns. The disk is what is measured, that of TMPDIR: a synced append
between turns tells what it took just then. In a process of its own, since DBOS leaves threads behind.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
from resonate.connections import LocalConnection
from resonate.heartbeat import NoopHeartbeat
from resonate.resonate import Resonate
from resonate.types import Value

from benchmarks.measure import clock
from benchmarks.peers import calibrate
from benchmarks.report import Report, Row
from pyrepl3.durable.embedded import Embedded
from pyrepl3.durable.rows import Synchronous
from pyrepl3.durable.state.requests import PromiseCreate, PromiseSettle

type Step = Callable[[str], Awaitable[object]]
"""Makes a promise of this name and settles it."""

FOREVER = 1 << 50
LOCAL = {"resonate:scope": "local"}
VALUE = msgspec.Raw(b'{"data":"%s"}' % (b"QUJD" * 25))
OPENING = "opening with 10,000 finished"
TURN = 50  # steps of one way before the next has its turn


async def settle(future: Any) -> object:
    return await asyncio.wrap_future(future)


def directly(connection: Embedded) -> Step:
    """As our steps do it: both requests at once, one answer."""

    async def step(name: str) -> object:
        connection.request(PromiseCreate(id=name, timeout_at=FOREVER, param=VALUE, tags=LOCAL))
        settled = PromiseSettle(id=name, state="resolved", value=VALUE)
        return await settle(connection.request(settled))

    return step


def by_client(network: Any) -> tuple[Resonate, Step]:
    """As the SDK's client does it: one request, one answer, and again."""
    resonate = Resonate(
        network=network, heartbeat=NoopHeartbeat(), autostart=False, subscription_refresh_secs=0
    )

    async def step(name: str) -> object:
        await resonate.promises.create(name, FOREVER, Value(data={"a": 1}), LOCAL)
        return await resonate.promises.resolve(name, Value(data={"b": 2}))

    return resonate, step


def in_workflows(network: Any, stack: AsyncExitStack) -> Callable[[str, int], Awaitable[object]]:
    """As the SDK's workflows do it: so many steps in one."""
    resonate, _ = by_client(network)

    async def leaf(_: Any, n: int) -> int:
        return n

    async def workflow(ctx: Any, steps: int) -> int:
        for n in range(steps):
            await ctx.run(leaf, n)
        return steps

    resonate.register(leaf)
    resonate.register(workflow)
    resonate.start()
    stack.push_async_callback(resonate.stop)

    async def run(name: str, steps: int) -> object:
        return await resonate.run(name, workflow, steps).result()

    return run


def sync_floor(folder: Path) -> float:
    """What the disk takes for an append of 4 KiB and a sync, just now."""
    times = []
    with (folder / "floor").open("ab", buffering=0) as file:
        for _ in range(10):
            begun = clock()
            file.write(bytes(4096))
            os.fdatasync(file)
            times.append(clock() - begun)
    return statistics.median(times)


_rows: list[Row] = []


def show(what: str, times: list[float], more: str = "") -> None:
    _rows.append(Row(what, times, more))


async def steps_in_turns(folder: Path, synchronous: Synchronous, steps: int, stored: int) -> None:
    """Both ways on files of their own, in turns; a peer's memory beside them while it is bearable."""
    async with AsyncExitStack() as stack:
        ways: dict[str, Step] = {}
        for name in ("request", "client"):
            connection = Embedded(folder / f"{name}.db", synchronous=synchronous)
            stack.push_async_callback(connection.stop)
            for n in range(0, stored, 500):
                await asyncio.gather(*(directly(connection)(f"old-{k}") for k in range(n, n + 500)))
            ways[name] = directly(connection) if name == "request" else by_client(connection)[1]
        times: dict[str, list[float]] = {name: [] for name in ways}
        floors = []
        for turn in range(0, steps, TURN):
            for name, step in ways.items():
                for n in range(turn, turn + TURN):
                    begun = clock()
                    await step(f"c-{n}")
                    times[name].append(clock() - begun)
            floors.append(sync_floor(folder))
        floor = f"fdatasync {statistics.median(floors) * 1e6:.0f}"
        for name, found in times.items():
            show(f"{synchronous}, {name}, {stored:,} stored before", found, floor)


async def many_at_once(folder: Path, synchronous: Synchronous) -> None:
    """Fifty cells at once, whose steps share commits."""
    connection = Embedded(folder / "many.db", synchronous=synchronous)
    step, times = directly(connection), []

    async def cell(c: int) -> None:
        for n in range(20):
            await step(f"c{c}-{n}")

    for turn in range(5):
        begun = clock()
        await asyncio.gather(*(cell(turn * 50 + c) for c in range(50)))
        times.append((clock() - begun) / 1000)
    await connection.stop()
    show(f"{synchronous}, request, 50 cells at once", times)


async def workflows(folder: Path, turns: int) -> None:
    """A step of a workflow of fifty: ours, the SDK's memory, DBOS on SQLite."""
    async with AsyncExitStack() as stack:
        ways: dict[str, Callable[[str, int], Awaitable[object]]] = {
            "workflow of 50 on Embedded, FULL": in_workflows(Embedded(folder / "f.db"), stack),
            "workflow of 50 on Embedded, NORMAL": in_workflows(
                Embedded(folder / "n.db", synchronous="NORMAL"), stack
            ),
            "workflow of 50 on the SDK's memory": in_workflows(LocalConnection(), stack),
        }
        if importlib.util.find_spec("dbos"):
            ways["workflow of 50 on DBOS, SQLite"] = in_dbos(folder)
        times: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(turns + 1):
            for name, run in ways.items():
                begun = clock()
                await run(f"w-{turn}", 50)
                if turn:
                    times[name].append((clock() - begun) / 50)
        for name, found in times.items():
            show(name, found)


def in_dbos(folder: Path) -> Callable[[str, int], Awaitable[object]]:
    """The same workflow there."""
    from dbos import DBOS, SetWorkflowID
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    @event.listens_for(Engine, "connect")
    def mend(connection: Any, _: Any) -> None:
        # SQLite before 3.42 knows no 'subsec', which the defaults of DBOS's tables need.
        if sqlite3.sqlite_version_info < (3, 42):
            connection.create_function("unixepoch", -1, lambda *_: time.time())

    address = f"sqlite:///{folder / 'dbos.sqlite'}"
    DBOS(config={"name": "bench", "system_database_url": address, "log_level": "CRITICAL"})

    @DBOS.step()
    def leaf(n: int) -> int:
        return n

    @DBOS.workflow()
    def workflow(steps: int) -> int:
        for n in range(steps):
            leaf(n)
        return steps

    DBOS.launch()

    async def run(name: str, steps: int) -> object:
        def work() -> int:
            with SetWorkflowID(name):
                return workflow(steps)

        return await asyncio.to_thread(work)

    return run


async def opening(folder: Path) -> None:
    """Opening a file with 10,000 finished promises, and one with 1,000 that are pending."""
    for what, stored, pending in (("10,000 finished", 10_000, 0), ("1,000 pending", 0, 1_000)):
        path = folder / f"open-{stored}.db"
        connection = Embedded(path, synchronous="NORMAL")
        step = directly(connection)
        for n in range(0, stored, 500):
            await asyncio.gather(*(step(f"p-{k}") for k in range(n, n + 500)))
        for n in range(pending):
            await settle(connection.request(PromiseCreate(id=f"p-{n}", timeout_at=FOREVER)))
        await connection.stop()
        times = []
        for _ in range(20):
            begun = clock()
            connection = Embedded(path)
            times.append(clock() - begun)
            await connection.stop()
        show(f"opening with {what}", times)


async def measure(folder: Path, *, quick: bool) -> None:
    for synchronous in ("FULL", "NORMAL"):
        for steps, stored in (
            (100, 0),
            (500 if quick else 5_000, 0),
            (100 if quick else 1_000, 10_000),
        ):
            with tempfile.TemporaryDirectory(dir=folder) as place:
                await steps_in_turns(Path(place), synchronous, steps, stored)
        with tempfile.TemporaryDirectory(dir=folder) as place:
            await many_at_once(Path(place), synchronous)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        await opening(Path(place))
    with tempfile.TemporaryDirectory(dir=folder) as place:
        await workflows(Path(place), 3 if quick else 10)


def run(report: Report, *, quick: bool) -> None:
    """``quick``: fewer turns. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory(prefix="pyrepl3-bench-") as folder:
        words = ["quick"] if quick else []
        command = [sys.executable, "-m", "benchmarks.durable", folder, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [Row(**row) for row in json.loads(done.stdout.splitlines()[-1])]
    report.rows("A promise made and settled; opening", rows, unit="µs")
    calibrate(report)
    for row in rows:
        if row.what == OPENING:
            report.scaled(row.what, 20, "ms", [seconds * 1e3 for seconds in row.times])


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    asyncio.run(measure(Path(sys.argv[1]), quick="quick" in sys.argv))
    print(json.dumps([asdict(row) for row in _rows]), flush=True)
    os._exit(0)  # DBOS leaves threads behind
