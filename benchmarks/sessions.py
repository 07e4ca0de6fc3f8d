"""Many sessions in processes of their own: at once, and one after the other; what each holds, what is left."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.measure import Cost, clock
from benchmarks.report import Report, Target, number
from pyrepl3 import Pool, open_session
from pyrepl3.isolate.process import ProcessRunner
from pyrepl3.records import Cell
from pyrepl3.run.usage import private_bytes
from pyrepl3.testing.leftovers import count_held

MB = 1_000_000


async def at_once(report: Report, count: int) -> None:
    """Open ``count`` sessions, run a cell in each, and look what each has for itself."""
    with Pool(warm=0) as pool:
        opened = Cost()
        runners = []
        for n in range(count):
            begun = clock()
            runner = ProcessRunner(f"s{n}", pool=pool)
            await runner.start()
            opened.samples.append(clock() - begun)
            runners.append(runner)
        again = Cost()
        for turn in (1, 2):
            for runner in runners:
                begun = clock()
                cell = Cell(id=f"{runner.name}-c{turn}", n=turn, source="x = 1", filename="<one>")
                assert (await runner.run(cell, lambda _: None)).ok
                if turn == 2:
                    again.samples.append(clock() - begun)
        held = Cost([private_bytes(runner.pid or 0) or 0 for runner in runners])
        for runner in runners:
            await runner.aclose()
    report.note(
        f"{count} sessions at once: {number(opened.median * 1e3)} ms each to open, "
        f"{number(again.median * 1e6)} µs a cell in one after the other; "
        f"{number(held.median / MB)} MB private at the median, {number(max(held.samples) / MB)} at most"
    )
    worst = max(held.samples) / MB
    report.targets.append(
        Target(f"private memory of an idle session, the most of {count}", 8, "MB", worst, worst)
    )


async def one_by_one(report: Report, count: int) -> None:
    """Open and close ``count`` sessions, one in ten confined, and count what is left over."""
    with tempfile.TemporaryDirectory() as folder, Pool(warm=0) as pool:
        before_dir, tempfile.tempdir = tempfile.tempdir, folder
        try:
            for n in range(20):  # what is loaded or kept once is no leak
                await _one(pool, n)
            before = count_held([pool._forker.pid or 0], Path(folder))
            begun = clock()
            for n in range(count):
                await _one(pool, n)
            spent = (clock() - begun) / count
            grown = count_held([pool._forker.pid or 0], Path(folder)).grown(before)
        finally:
            tempfile.tempdir = before_dir
    report.note(
        f"{count} sessions opened, used and closed, {number(spent * 1e3)} ms each. What grew: "
        + ", ".join(f"{name} {more}" for name, more in grown.items())
    )
    left = sum(grown[name] for name in ("processes", "descriptors", "files"))
    report.target(f"left after {count} sessions: processes, fds, files", 0, "", left)
    report.target(
        f"left after {count} sessions: memory of host and zygote", 4, "MB", grown["memory"] / MB
    )


async def _one(pool: Pool, n: int) -> None:
    kind = "process" if n % 10 else "confined"
    async with open_session(isolation=kind, pool=pool) as session:
        assert (await session.run(f"{n} + 1")).text == str(n + 1)
