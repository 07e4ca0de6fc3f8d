"""Ways to keep a session, each run in processes of its own: live until killed, then restored.

``python -m benchmarks.keepers live|restore WAY FOLDER WORKLOAD``; lines of JSON out.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.workload import WORKLOADS, Workload

clock = time.perf_counter
OURS = "pyrepl3"
PEERS = ("cloudpickle", "kishu", "dill")


def tell(**facts: Any) -> None:
    """One line for the parent."""
    os.write(_out, (json.dumps(facts) + "\n").encode())


_out = 1


class Main:
    """A ``__main__`` of its own for cells."""

    def __init__(self, folder: Path) -> None:
        self.module = types.ModuleType("__main__")
        sys.modules["__main__"] = self.module
        self.names = self.module.__dict__
        self.fresh = set(self.names)
        self.names["FOLDER"] = str(folder)

    def run(self, source: str) -> None:
        exec(compile(source, "<cell>", "exec"), self.names)

    def user_names(self) -> dict[str, Any]:
        return {k: v for k, v in self.names.items() if k not in self.fresh and k != "__builtins__"}


class Dumper:
    """The whole namespace by one pickler, after each cell, to a new file that replaces the old one."""

    def __init__(self, library: str, folder: Path) -> None:
        self.library = __import__(library)
        self.file, self.main = folder / "dump", Main(folder)
        self.bad: set[str] = set()
        self.written = 0

    def live(self, cells: tuple[str, ...]) -> Iterator[float]:
        tried: set[str] = set()
        for source in cells:
            self.main.run(source)
            new = {k: v for k, v in self.main.user_names().items() if k not in tried}
            tried |= new.keys()
            self.bad |= {name for name, value in new.items() if not self.loads_elsewhere(value)}
            begun = clock()
            self.dump()
            yield clock() - begun

    def loads_elsewhere(self, value: object) -> bool:
        """In favour of the peer: one name that cannot be loaded would cost it all others."""
        if type(value).__module__ in ("numpy", "pandas", "builtins") and not callable(value):
            return True
        try:
            data = self.library.dumps(value)
        except Exception:
            return False
        code = f"import sys, {self.library.__name__} as p; p.loads(sys.stdin.buffer.read())"
        done = subprocess.run(
            [sys.executable, "-c", code], input=data, capture_output=True, check=False
        )
        return done.returncode == 0

    def dump(self) -> None:
        names = {k: v for k, v in self.main.user_names().items() if k not in self.bad}
        new = self.file.with_suffix(".new")
        try:
            self._write(new, names)
        except Exception:
            for name, value in names.items():  # what cannot be kept is found once
                try:
                    self.library.dumps(value)
                except Exception:
                    self.bad.add(name)
            self._write(new, {k: v for k, v in names.items() if k not in self.bad})
        self.written += new.stat().st_size
        new.replace(self.file)

    def _write(self, path: Path, names: dict[str, Any]) -> None:
        with path.open("wb") as file:
            self.library.dump(names, file, protocol=5)
            file.flush()
            os.fsync(file.fileno())

    def restore(self) -> tuple[Callable[[str], object], set[str]]:
        with self.file.open("rb") as file:
            self.main.names.update(self.library.load(file))
        return self.evaluate, set()

    def evaluate(self, source: str) -> object:
        return eval_or_exec(source, self.main.names)


class Kishu:
    """Kishu in an IPython shell without a notebook in front, as its own tests drive it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.written = folder, 0
        self.notebook = folder / "session.ipynb"
        os.environ |= {
            "HOME": str(folder),
            "IPYTHONDIR": str(folder / "ipython"),
            "KISHU_PATH_ROOT": str(folder),
            "TEST_NOTEBOOK_PATH": str(self.notebook),
            "ENV_KISHU_TEST_MODE": "1",
        }
        import nbformat
        from IPython.core.interactiveshell import InteractiveShell

        if not self.notebook.exists():
            nbformat.write(nbformat.v4.new_notebook(), str(self.notebook))
        self.shell = InteractiveShell.instance()
        import kishu
        from kishu.jupyterint import KishuForJupyter

        self.spent = 0.0
        for name in ("pre_run_cell", "post_run_cell"):
            setattr(KishuForJupyter, name, self._timed(getattr(KishuForJupyter, name)))
        # ``init_kishu`` looks for the shell by this name.
        import builtins

        builtins.get_ipython = lambda: self.shell
        kishu.init_kishu(str(self.notebook))

    def _timed(self, hook: Callable[..., None]) -> Callable[..., None]:
        def call(kishu: Any, info: Any) -> None:
            begun = clock()
            try:
                hook(kishu, info)
            finally:
                self.spent += clock() - begun

        return call

    def live(self, cells: tuple[str, ...]) -> Iterator[float]:
        self.shell.user_ns["FOLDER"] = str(self.folder)
        for source in cells:
            self.spent = 0.0
            self.shell.run_cell(source, store_history=True, silent=False)
            yield self.spent

    def restore(self) -> tuple[Callable[[str], object], set[str]]:
        import sqlite3

        instrument = self.shell.user_ns["_kishu"]
        with sqlite3.connect(instrument.database_path()) as database:
            rows = database.execute("SELECT branch_name FROM branch").fetchall()
        with contextlib.redirect_stdout(sys.stderr):
            instrument.checkout(rows[-1][0], skip_notebook=True)
        return self.evaluate, set()

    def evaluate(self, source: str) -> object:
        return eval_or_exec(source, self.shell.user_ns)


def eval_or_exec(source: str, names: dict[str, Any]) -> object:
    try:
        code = compile(source, "<check>", "eval")
    except SyntaxError:
        exec(compile(source, "<check>", "exec"), names)
        return None
    return eval(code, names)


async def live_ours(folder: Path, workload: Workload) -> None:
    """Ours: from the end of a cell to the answer that it is on disk; how late the caller's loop was."""
    from pyrepl3 import open_session
    from pyrepl3.records import Finished

    ended = 0.0

    def observe(event: object) -> None:
        nonlocal ended
        if isinstance(event, Finished):
            ended = clock()

    ticks: list[tuple[float, float]] = []

    async def tick() -> None:
        while True:
            due = clock() + 0.001
            await asyncio.sleep(0.001)
            ticks.append((due, clock()))

    async with open_session("bench", store=folder, observe=observe) as session:
        (await session.run(f"FOLDER = {str(folder)!r}")).unwrap()
        for source in workload.cells:
            ticks.clear()
            ticking = asyncio.create_task(tick())
            await asyncio.sleep(0.002)
            outcome = await session.run(source)
            done = clock()
            outcome.unwrap()
            await asyncio.sleep(0.002)
            ticking.cancel()
            late = [at - max(due, ended) for due, at in ticks if at > ended and due < done]
            tell(seconds=done - ended, lag=max(late, default=0.0), size=size_of(folder))
        tell(facts={k: repr((await session.run(v)).unwrap()) for k, v in workload.facts.items()})
        tell(stored=size_of(folder))
        sys.stdin.read()


async def restore_ours(folder: Path, workload: Workload) -> None:
    import blake3  # noqa: F401 - nor are our own imports: the peers' are not counted either

    import pyrepl3.run.display
    import pyrepl3.run.thread
    import pyrepl3.snapshot.loader
    import pyrepl3.snapshot.work
    import pyrepl3.store.directory
    import pyrepl3.store.mapping  # noqa: F401
    from pyrepl3 import open_session

    begun = clock()
    async with open_session("bench", store=folder) as session:
        tell(restore=clock() - begun)
        lost = set(session.lost)
        results = {}
        for name, source in {**workload.facts, **workload.checks}.items():
            outcome = await session.run(source)
            results[name] = repr(outcome.value) if outcome.ok else f"! {outcome.error!r}"
        tell(results=results, declared=workload.declared in lost, lost=dict(session.lost))


def size_of(folder: Path) -> int:
    """Bytes on disk, without the log file of the workload."""
    return sum(p.stat().st_blocks * 512 for p in folder.rglob("*") if p.is_file())


def make(way: str, folder: Path) -> Any:
    return Kishu(folder) if way == "kishu" else Dumper(way, folder)


def live_peer(way: str, folder: Path, workload: Workload) -> None:
    keeper = make(way, folder)
    for seconds in keeper.live(workload.cells):
        tell(seconds=seconds, lag=seconds, size=keeper.written or size_of(folder))
    names = names_of(keeper)
    tell(facts={k: repr(eval_or_exec(v, names)) for k, v in workload.facts.items()})
    tell(stored=keeper.written or size_of(folder))
    sys.stdin.read()


def names_of(keeper: Any) -> dict[str, Any]:
    return keeper.shell.user_ns if isinstance(keeper, Kishu) else keeper.main.names


def restore_peer(way: str, folder: Path, workload: Workload) -> None:
    keeper = make(way, folder)
    begun = clock()
    evaluate, lost = keeper.restore()
    tell(restore=clock() - begun)
    results = {}
    for name, source in {**workload.facts, **workload.checks}.items():
        try:
            results[name] = repr(evaluate(source))
        except Exception as error:
            results[name] = f"! {error!r}"
    tell(results=results, declared=workload.declared in lost, lost={})


def installed(way: str) -> bool:
    return way == OURS or importlib.util.find_spec(way) is not None


def main() -> None:
    """See the module."""
    global _out  # noqa: PLW0603 - cells print; what they print is no answer
    _out = os.dup(1)
    os.dup2(2, 1)
    action, way, folder, name = sys.argv[1:]
    workload = WORKLOADS[name]
    import numpy  # noqa: ICN001 - what a session imports itself is no part of a restore
    import pandas  # noqa: ICN001

    del numpy, pandas
    place = Path(folder)
    if way == OURS:
        asyncio.run((live_ours if action == "live" else restore_ours)(place, workload))
    else:
        (live_peer if action == "live" else restore_peer)(way, place, workload)


if __name__ == "__main__":
    main()
