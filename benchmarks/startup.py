"""New interpreters: what an import costs, and what the command line does."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.measure import processes_in_turns
from benchmarks.report import Report, Table

ASYNCIO = "import asyncio"


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

        def keep(store: str) -> list[str]:
            return [*command, "run", str(file), "--session", "x", "--store", f"{folder}/{store}"]

        costs = processes_in_turns(
            {
                "pass": python("pass"),
                ASYNCIO: python(ASYNCIO),
                "import pyrepl3": python("import pyrepl3"),
                "pyrepl3.AsyncExecutor": python("import pyrepl3; pyrepl3.AsyncExecutor"),
                "pyrepl3.open_session": python("import pyrepl3; pyrepl3.open_session"),
                "pyrepl3 run FILE": lambda: [*command, "run", str(file)],
                "… --session, a new one": lambda: keep(f"new{next(stores)}"),
                "… --session, finished before": lambda: keep("old"),
            },
            rounds=rounds,
            bytecode=Path(folder, "bytecode"),
        )
    table = Table("## A new process", ASYNCIO, unit="ms")
    table.add("start to exit", costs)
    report.table(table)
    for name, bound in (
        ("import pyrepl3", 1.6),
        ("pyrepl3.AsyncExecutor", 1.6),  # the same promise once something of it is used
        ("pyrepl3 run FILE", 2.5),
        ("… --session, a new one", 3.0),
    ):
        claim = name.replace("…", "pyrepl3 run FILE")
        report.at_most(f"{claim}, of import asyncio", bound, costs[name], costs[ASYNCIO])
