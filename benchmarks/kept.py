"""What it costs the cells themselves that their session is kept: their own run time, kept and not.

The cells of ``workload``, in a process a round and way, in turns. Watching pages makes the first write to each
dearer, checkpoints and audits leave cold caches behind; this is what all that comes to.
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


def run(report: Report, *, rounds: int) -> None:
    """The ratio of each cell's medians; of these the median."""
    taken: dict[bool, list[list[float]]] = {False: [], True: []}
    for _ in range(rounds):
        for kept, rows in taken.items():
            word = "kept" if kept else "not"
            command = [sys.executable, "-m", "benchmarks.kept", word]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
    grid = [["cell", "not kept, ms", "kept, ms", "ratio", "of the least"]]
    ratios: list[tuple[float, float, float]] = []
    for n, source in enumerate(CELLS):
        alone, with_it = ([row[n] for row in taken[kept]] for kept in (False, True))
        medians = statistics.median(alone), statistics.median(with_it)
        ratio, least = medians[1] / medians[0], min(with_it) / min(alone)
        ratios.append((medians[0], ratio, least))
        first = source.splitlines()[-1][:50].replace("|", "¦")
        times = [number(seconds * 1e3) for seconds in medians]
        grid.append([f"`{first}`", *times, number(ratio), number(least)])
    report.note("## The cells themselves, in a kept session\n\n" + "\n".join(markdown(grid)))
    long = [row for row in ratios if row[0] >= LEAST]
    for what, rows in (("all cells", ratios), (f"{len(long)} cells over 0.5 ms", long)):
        median = statistics.median(ratio for _, ratio, _ in rows)
        least = statistics.median(least for _, _, least in rows)
        report.at_most_x(f"cell in a kept session, {what}, median of ratios", 1.05, median, least)


async def live(*, kept: bool) -> list[float]:
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
            return seconds


if __name__ == "__main__":
    import numpy  # noqa: ICN001, F401
    import pandas  # noqa: ICN001, F401

    print(json.dumps(asyncio.run(live(kept=sys.argv[1] == "kept"))))
