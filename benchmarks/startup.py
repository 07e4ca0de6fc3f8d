"""New interpreters: what an import costs, what the command line does, how soon a killed cell runs again."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import peers
from benchmarks.measure import Cost, keeping_bytecode, processes_in_turns
from benchmarks.report import Report, Table

ASYNCIO = "import asyncio"
KILLED = """\
# %%
rows = [{"id": n, "name": f"name {n}"} for n in range(1000)]
def double(n): return 2 * n
# %%
import os, signal, time
from pyrepl3 import step
open("begun", "a").write(f"{time.time()}\\n")
total = step(double, 21)
if not os.path.exists("killed"):
    open("killed", "w").close()
    os.kill(os.getpid(), signal.SIGKILL)
print(total, len(rows))
"""
"""A file whose second cell is killed after its step, when it runs for the first time."""
DURABLE = "… --session, a new one, with a step"


def run(report: Report, *, rounds: int) -> None:
    """All in turns, from the start of the process to its end."""
    with tempfile.TemporaryDirectory(prefix="pyrepl3-bench-") as folder:
        file = Path(folder, "one_line.py")
        file.write_text("print(6 * 7)\n")
        beside = Path(sys.executable).with_name("pyrepl3")
        command = [str(beside)] if beside.exists() else [sys.executable, "-m", "pyrepl3"]
        stores = iter(range(10_000))

        def python(text: str):
            return lambda: [sys.executable, "-c", text]

        durable = Path(folder, "durable.py")
        durable.write_text("from pyrepl3 import step; print(step(max, 6, 7))\n")

        def keep(store: str, file: Path = file) -> list[str]:
            return [*command, "run", str(file), "--session", "x", "--store", f"{folder}/{store}"]

        costs = processes_in_turns(
            {
                "pass": python("pass"),
                ASYNCIO: python(ASYNCIO),
                "import pyrepl3": python("import pyrepl3"),
                "pyrepl3.AsyncExecutor": python("import pyrepl3; pyrepl3.AsyncExecutor"),
                "pyrepl3.open_session": python("import pyrepl3; pyrepl3.open_session"),
                "pyrepl3 run FILE": lambda: [*command, "run", str(file)],
                "… --isolation none": lambda: [*command, "run", "--isolation", "none", str(file)],
                "… --session, a new one": lambda: keep(f"new{next(stores)}"),
                "… --session, finished before": lambda: keep("old"),
                DURABLE: lambda: keep(f"durable{next(stores)}", durable),
            },
            rounds=rounds,
            bytecode=Path(folder, "bytecode"),
        )
        resumed = resume(command, Path(folder), rounds)
    table = Table("## A new process", ASYNCIO, unit="ms")
    table.add("start to exit", costs)
    table.add("to the first line of a cell killed before", {"… --session, resumed": resumed})
    report.table(table)
    for name, bound in (
        ("import pyrepl3", 1.6),
        ("pyrepl3.AsyncExecutor", 1.6),  # the same promise once something of it is used
        ("pyrepl3 run FILE", 2.5),
        ("… --session, a new one", 3.0),
        (DURABLE, 5.0),
    ):
        claim = name.replace("…", "pyrepl3 run FILE")
        report.at_most(f"{claim}, of import asyncio", bound, costs[name], costs[ASYNCIO])
    peers.calibrate(report)
    report.scaled("start to the first line of a killed cell", 0.5, "s", resumed.samples)


def resume(command: list[str], folder: Path, rounds: int) -> Cost:
    """Seconds from the start of a process to the first line of a cell that was killed in another."""
    env = keeping_bytecode(folder / "bytecode")
    cost = Cost()
    for turn in range(rounds + 1):
        place = folder / f"killed{turn}"
        place.mkdir()
        file = place / "job.py"
        file.write_text(KILLED)
        words = [*command, "run", str(file), "--session", "x", "--store", str(place / "store")]
        subprocess.run(words, cwd=place, env=env, capture_output=True, check=False)
        begun = time.time()
        done = subprocess.run(words, cwd=place, env=env, capture_output=True, text=True, check=True)
        assert done.stdout == "42 1000\n", done
        first, again = map(float, (place / "begun").read_text().split())
        assert first < begun
        if turn:
            cost.samples.append(again - begun)
    return cost
