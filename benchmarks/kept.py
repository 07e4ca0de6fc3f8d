"""What it costs the cells themselves that their session is kept: their own run time, kept and not.

The cells of ``workload``, in a process a round and way, in turns. Watching pages makes the first write to each
dearer, checkpoints and audits leave cold caches behind; this is what all that comes to.

A checkpoint is also a pause of some milliseconds, and a pause alone, with nothing kept, makes the next small
cell slower: caches go cold and the processor sleeps. So each way is measured twice: with cells one right after
the other, and with cells that come ``APART``, as those of people and clients do, in both kinds of sessions.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.report import Report, markdown, number
from benchmarks.workload import CELLS

LEAST = 0.0005
"""Seconds: cells that take less say how warm the caches were, and are a row of their own."""
APART = 0.005
"""Seconds between two cells: as long as a checkpoint takes at the median."""


def run(report: Report, *, rounds: int) -> None:
    """The ratio of each cell's medians; of these the median."""
    ways = [(pause, kept) for pause in (0.0, APART) for kept in (False, True)]
    taken: dict[tuple[float, bool], list[list[float]]] = {way: [] for way in ways}
    for _ in range(rounds):
        for (pause, kept), rows in taken.items():
            words = ["kept" if kept else "not", str(pause)]
            command = [sys.executable, "-m", "benchmarks.kept", *words]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
    columns = ["not kept, ms", "kept, ms", "ratio", "of the least"]
    grid = [["cell", *columns, *(f"{word}; apart" for word in columns)]]
    grid += [[f"`{source.splitlines()[-1][:50].replace('|', '¦')}`"] for source in CELLS]
    for pause, when in ((0.0, "one right after the other"), (APART, f"{APART * 1e3:g} ms apart")):
        ratios = _compare(taken[pause, False], taken[pause, True])
        for row, (alone, with_it, ratio, least) in zip(grid[1:], ratios, strict=True):
            row += [number(alone * 1e3), number(with_it * 1e3), number(ratio), number(least)]
        long = [each for each in ratios if each[0] >= LEAST]
        for what, rows in (("all cells", ratios), (f"{len(long)} over 0.5 ms", long)):
            median = statistics.median(ratio for _, _, ratio, _ in rows)
            of_least = statistics.median(least for _, _, _, least in rows)
            report.at_most_x(f"cell in a kept session, {when}, {what}", 1.05, median, of_least)
    alone, apart = taken[0.0, False], taken[APART, False]
    slower = statistics.median(ratio for _, _, ratio, _ in _compare(alone, apart))
    report.note(
        "## The cells themselves, in a kept session\n\n"
        + "\n".join(markdown(grid))
        + f"\n\nIn a session that is not kept a cell takes {number(slower)} times as long "
        f"{APART * 1e3:g} ms after the one before as right after it."
    )


def _compare(
    alone: list[list[float]], with_it: list[list[float]]
) -> list[tuple[float, float, float, float]]:
    """Of each cell both medians, their ratio, and that of the least."""
    found = []
    for one, other in zip(zip(*alone, strict=True), zip(*with_it, strict=True), strict=True):
        medians = statistics.median(one), statistics.median(other)
        found.append((*medians, medians[1] / medians[0], min(other) / min(one)))
    return found


async def live(*, kept: bool, pause: float) -> list[float]:
    """Seconds that each cell took by itself."""
    from pyrepl3 import open_session

    with tempfile.TemporaryDirectory(prefix="pyrepl3-bench-") as folder:
        store = Path(folder, "store")
        opened = open_session("bench", store=store) if kept else open_session()
        async with opened as session:
            (await session.run(f"FOLDER = {folder!r}")).unwrap()
            seconds = []
            for source in CELLS:
                outcome = await session.run(source)
                outcome.unwrap()
                seconds.append(outcome.duration)
                await asyncio.sleep(pause)
            return seconds


if __name__ == "__main__":
    import numpy  # noqa: ICN001, F401
    import pandas  # noqa: ICN001, F401

    print(json.dumps(asyncio.run(live(kept=sys.argv[1] == "kept", pause=float(sys.argv[2])))))
