"""``python -m benchmarks.steps [FOLDER]``: what a durable step costs, as a cell grows, beside the disk's own sync.

In FOLDER, since the disk is what is measured: a synced append between steps tells what it took just then.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Literal

from pyrepl3 import open_session
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


async def measure(folder: Path, synchronous: Literal["FULL", "NORMAL"], n: int) -> None:
    """One table row for plain code and one for awaited steps."""
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
            tenth = max(n // 10, 10)
            medians = [statistics.median(part) for part in (times, times[:tenth], times[-tenth:])]
            shown = "".join(f"{seconds * 1e6:9.0f}" for seconds in (*medians, min(times), floor))
            print(f"{synchronous:8}{form:9}{n:6}{shown}", flush=True)


def main() -> None:
    where = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    print(f"load {os.getloadavg()[0]:.1f}; µs a step")
    print("sync    form      steps   median    first     last    least  fdatasync")
    for synchronous in ("FULL", "NORMAL"):
        for n in (100, 5000):
            with tempfile.TemporaryDirectory(dir=where) as folder:
                asyncio.run(measure(Path(folder), synchronous, n))


if __name__ == "__main__":
    main()
