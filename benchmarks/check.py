"""What it takes to check a cell before it runs: warm, with a namespace of some size; and what peers take."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks.measure import Cost, clock
from benchmarks.report import Report, Table
from pyrepl3 import open_session
from pyrepl3.check.ty import find_ty

LIVE = """
import asyncio, json, time
import numpy as np
import pandas as pd
class Client:
    def __init__(self, url: str, retries: int = 3): self.url, self.retries = url, retries
    async def get(self, path: str) -> dict[str, int]: ...
client = Client("http://there")
frame = pd.DataFrame({"a": [1, 2], "b": [3.0, 4.0]})
array = np.zeros((3, 4))
rows = [{"name": str(n), "count": n} for n in range(10_000)]
def mean(values: list[float], *, skip: int = 0) -> float: return sum(values[skip:]) / len(values)
for _n in range(1_000): globals()[f"name{_n}"] = _n
"""
CELL = """
found = await client.get("a")
total = mean([float(row["count"]) for row in rows], skip={n})
frame["c"] = frame.a * array.sum()
async def poll(times: int) -> list[dict[str, int]]:
    seen = []
    for _ in range(times):
        seen.append(await client.get("b"))
        time.sleep(1)
    return seen
poll("often")
print(json.dumps(found), name{n} + nmae{n}, client.uri)
"""
OURS = "Session.check"


async def run(report: Report, *, rounds: int) -> None:
    """The table, with its targets."""
    table = Table("## Checking a cell of twelve lines before it runs", OURS, unit="ms")
    costs: dict[str, Cost] = {}
    found: dict[str, int] = {}
    for isolation, name in (("none", OURS), ("process", f"{OURS}, in a worker")):
        async with open_session(isolation=isolation) as session:
            assert (await session.run(LIVE)).ok

            async def all_of_it(source: str, session=session) -> int:
                return len((await session.check(source, types=True)).diagnostics)

            async def ours_only(source: str, session=session) -> int:
                return len((await session.check(source, types=False)).diagnostics)

            begun = clock()
            await all_of_it(CELL.format(n=999))
            costs[f"{name}, the first one"] = Cost([clock() - begun])
            costs[name], found[name] = await _time(all_of_it, rounds)
            if isolation == "none":
                bare = f"{OURS}, without the extra"
                costs[bare], found[bare] = await _time(ours_only, rounds)
                costs["Session.types"], _ = await _time(lambda _: _types(session), rounds)
    costs |= _processes(min(rounds, 5))
    table.add("a check", costs)
    report.table(table)
    report.note("findings: " + "; ".join(f"{name}: {count}" for name, count in found.items()))
    zero = Cost([0.0])
    report.at_most_ms("a warm check, in this process", 150, costs[OURS], zero)
    report.at_most_ms("a warm check, in a worker", 150, costs[f"{OURS}, in a worker"], zero)


async def _types(session) -> int:
    return len(await session.types())


async def _time(check: Callable[[str], Awaitable[int]], rounds: int) -> tuple[Cost, int]:
    cost, found = Cost(), 0
    for n in range(rounds):
        source = CELL.format(n=n)
        begun = clock()
        found = await check(source)
        cost.samples.append(clock() - begun)
    return cost, found


def _processes(rounds: int) -> dict[str, Cost]:
    """A process a check, and without the live names: what a command line costs."""
    program = find_ty()
    commands = {} if program is None else {"ty check, a process each": [program, "check", "-q"]}
    commands["mypy, a process each"] = [sys.executable, "-m", "mypy", "--no-incremental"]
    costs: dict[str, Cost] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "cell.py")
        body = "\n".join(f"    {line}" for line in CELL.format(n=1).splitlines())
        file.write_text(f"async def cell():\n{body}\n", encoding="utf-8")
        for name, command in commands.items():
            cost = costs[name] = Cost()
            for _ in range(rounds):
                begun = clock()
                subprocess.run([*command, str(file)], capture_output=True, check=False, cwd=folder)
                cost.samples.append(clock() - begun)
    return costs
