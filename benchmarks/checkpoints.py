"""A session killed with SIGKILL and restored: ms a checkpoint, bytes stored, ms to restore, what is right.

Peers keep the same 29 cells in processes of their own, one after the other; see ``workload`` and ``keepers``.
How many bytes are stored is compared over the cells of data alone, which both keep: who does not keep
functions, nor what it links with them, stores little and restores less.
"""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.keepers import OURS, PEERS, installed
from benchmarks.measure import keeping_bytecode
from benchmarks.peers import calibrate
from benchmarks.report import Report, markdown, number
from benchmarks.workload import CELLS, WORKLOADS

DICTS = next(n for n, source in enumerate(CELLS) if source.startswith("people[4_242]"))
RIGHT = WORKLOADS["cells"].results
SAME = WORKLOADS["data"].results


@dataclass
class Kept:
    """What one way did: seconds a checkpoint, bytes on disk after it, and what came back."""

    seconds: list[float] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    stored: int = 0
    restore: float = 0.0
    right: int = 0
    wrong: dict[str, str] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def keep(way: str, workload: str, *, restored: bool) -> Kept:
    """Live in one process until SIGKILL, restore in another. Raises CalledProcessError.

    The second finds the bytecode that the first one left, as in any installation that is in use.
    """
    kept = Kept()
    with (
        tempfile.TemporaryDirectory(prefix="pyrepl3-bench-") as folder,
        tempfile.TemporaryDirectory(prefix="pyrepl3-bench-") as bytecode,
    ):
        env = keeping_bytecode(Path(bytecode))
        answers = _read(["live", way, folder, workload], until="stored", kept=kept, env=env)
        kept.stored = answers["stored"]
        if not restored:
            return kept
        try:
            words = ["restore", way, folder, workload]
            found = _read(words, until="results", kept=kept, env=env)
        except subprocess.CalledProcessError as error:
            if way == OURS:
                raise
            # What it wrote cannot be read: that is its result.
            kept.wrong = {"all": error.stderr.strip().rpartition("\n")[2]}
            kept.restore = float("nan")
            return kept
        kept.restore = found["restore"]
        for name, value in found["results"].items():
            expected = answers["facts"].get(name, "None")
            if value == expected:
                kept.right += 1
            else:
                kept.wrong[name] = value
        declared = WORKLOADS[workload].declared
        if found["declared"]:
            kept.right += 1
        elif declared is not None:
            kept.wrong[declared] = "gone, and nobody said so"
    return kept


def _read(arguments: list[str], *, until: str, kept: Kept, env: dict[str, str]) -> dict[str, Any]:
    """What a process tells, up to a line with ``until``; it is killed then."""
    command = [sys.executable, "-m", "benchmarks.keepers", *arguments]
    answers: dict[str, Any] = {}
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=env,
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            answer = json.loads(line)
            if "seconds" in answer:
                kept.seconds.append(answer["seconds"])
                kept.lags.append(answer["lag"])
                kept.sizes.append(answer["size"])
            answers |= answer
            if until in answer:
                process.send_signal(signal.SIGKILL)
                return answers
        process.wait()
        errors.seek(0)
        raise subprocess.CalledProcessError(process.returncode, command, "", errors.read()[-3000:])


def run(report: Report, *, quick: bool) -> None:
    """``quick``: ours alone."""
    ways = [OURS] if quick else [way for way in (OURS, *PEERS) if installed(way)]
    for way in PEERS:
        if way not in ways and not quick:
            report.note(f"{way} is not installed: `uv sync --group peers`")
    found: dict[str, Kept] = {}
    giants: dict[str, Kept] = {}
    data: dict[str, Kept] = {}
    for way in ways:
        try:
            found[way] = keep(way, "cells", restored=True)
            _tell(report, way, found[way])
            giants[way] = keep(way, "giant" if way == OURS else "giant, less", restored=False)
            if way in (OURS, "kishu"):
                data[way] = keep(way, "data", restored=True)
                _tell(report, f"{way}, data alone", data[way])
        except subprocess.CalledProcessError as error:
            report.note(f"{way} failed: {error}\n{error.stderr}")
    head = [
        "",
        "median, ms",
        "worst, ms",
        "total, s",
        "stored, MB",
        "restore, s",
        f"right of {RIGHT}",
    ]
    grid = [[*head, "one of 1e5 dicts, ms", "one element of 1 GiB, ms"]]
    for way, kept in found.items():
        grid.append(
            [
                way,
                number(kept.median * 1e3),
                number(max(kept.seconds) * 1e3),
                number(sum(kept.seconds)),
                number(kept.stored / 1e6),
                number(kept.restore),
                str(kept.right),
                number(kept.seconds[DICTS] * 1e3),
                number(statistics.median(giants[way].seconds[1:]) * 1e3) if way in giants else "",
            ]
        )
    report.note("## Checkpoints: 29 cells, SIGKILL, restored\n\n" + "\n".join(markdown(grid)))
    if OURS in data:
        grid = [["", "stored, MB", "restore, s", f"right of {SAME}"]]
        for way, kept in data.items():
            grid.append([way, number(kept.stored / 1e6), number(kept.restore), str(kept.right)])
        count = len(WORKLOADS["data"].cells)
        report.note(f"## Data alone: {count} of these cells\n\n" + "\n".join(markdown(grid)))
    if OURS in found:
        _promise(report, found, giants, data)
        _show_cells(report, found)


def _tell(report: Report, way: str, kept: Kept) -> None:
    wrong = "; ".join(f"{name}: {text[:100]}" for name, text in kept.wrong.items())
    report.note(
        f"{way}: median {number(kept.median * 1e3)} ms, in all {number(sum(kept.seconds))} s, stored "
        f"{number(kept.stored / 1e6)} MB, restored in {number(kept.restore)} s; not right: {wrong or 'nothing'}"
    )


def _promise(
    report: Report, found: dict[str, Kept], giants: dict[str, Kept], data: dict[str, Kept]
) -> None:
    ours = found[OURS]
    calibrate(report)
    report.scaled("checkpoint, median", 5, "ms", [ours.median * 1e3])
    report.scaled("checkpoints of 29 cells in all", 3, "s", [sum(ours.seconds)])
    report.scaled("one of 1e5 dicts changed", 600, "ms", [ours.seconds[DICTS] * 1e3])
    if OURS in giants:
        giant = statistics.median(giants[OURS].seconds[1:]) * 1e3
        report.scaled("one element of 1 GiB changed", 15, "ms", [giant])
    report.target("worst lag of the caller's loop in a checkpoint", 50, "ms", max(ours.lags) * 1e3)
    report.scaled("restore to the first cell", 0.2, "s", [ours.restore])
    report.target(f"wrong of {RIGHT} checks", 0, "checks", float(len(ours.wrong)))
    kishu = found.get("kishu")
    if kishu is not None:
        report.target("median, of Kishu's", 0.01, "x", ours.median / kishu.median)
    if "kishu" in data:
        same = data[OURS].stored / data["kishu"].stored
        report.target("bytes stored, of Kishu's, data alone", 0.25, "x", same)


def _show_cells(report: Report, found: dict[str, Kept]) -> None:
    ours, beside = found[OURS], [way for way in ("kishu",) if way in found]
    head = ["cell", "checkpoint, ms", "worst lag, ms", "stored, MB"]
    grid = [[*head, *(f"{way}, MB" for way in beside)]]
    for n, source in enumerate(CELLS):
        first = source.splitlines()[-1][:50].replace("|", "¦")
        row = [f"`{first}`", number(ours.seconds[n] * 1e3), number(ours.lags[n] * 1e3)]
        for way in (OURS, *beside):
            sizes = [0, *found[way].sizes]
            row.append(f"{(sizes[n + 1] - sizes[n]) / 1e6:.1f}")
        grid.append(row)
    report.note("\n".join(markdown(grid)))


assert len(CELLS) == 29
