"""A session reduced to what a Snapshotter needs: a module, cells, a store, and a restart."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import types
from pathlib import Path

import pytest

from pyrepl3.records import Cell, Receipt
from pyrepl3.snapshot.delta import Snapshotter
from pyrepl3.snapshot.reaches import ESCAPES, code_names
from pyrepl3.store.sqlite import SqliteStore

RECEIPT = Receipt(cell=Cell(id="t-c1", n=1, source="", filename="<t>"), status="done")
FRESH = {"__name__", "__doc__", "__package__", "__loader__", "__spec__", "__builtins__"}
_numbers = itertools.count()


class Live:
    """One life of a session: from a start, or a restart, to the next."""

    def __init__(self, store, name):
        self.store, self.name = store, name
        self.module = types.ModuleType(name)
        sys.modules[name] = self.module
        self.ns = self.module.__dict__
        self.snapshotter = Snapshotter(self.ns, module=name, skip=FRESH)
        self.lost, self.extra = {}, {}

    def run(self, source):
        """Run a cell; returns what it touched, as the engine would tell."""
        code = compile(source, f"<{self.name}>", "exec", dont_inherit=True)
        exec(code, self.ns)
        names = code_names(code)
        return None if names & ESCAPES else names

    def cell(self, source, extra=None):
        """Run a cell and commit what it changed. Returns the delta."""
        return self.checkpoint(self.run(source), extra)

    def checkpoint(self, touched, extra=None):
        delta = self.snapshotter.delta(touched, extra=extra or {})
        self.store.commit(delta, RECEIPT, parent=self.store.head)
        self.snapshotter.mark()
        return delta

    def restart(self):
        """The next life, in this process: nothing but the store's bytes goes over."""
        new = Live(self.store, self.name)
        new.lost, new.extra = new.snapshotter.restore(self.store.load())
        return new

    def __getitem__(self, name):
        return self.ns[name]


@pytest.fixture
def live():
    store = SqliteStore(":memory:")
    name = f"pyrepl3.cells.t{next(_numbers)}"
    yield Live(store, name)
    store.close()
    del sys.modules[name]


@pytest.fixture(scope="session")
def lives():
    """Makes sessions, for tests that need many (a property)."""

    def make():
        return Live(SqliteStore(":memory:"), f"pyrepl3.cells.t{next(_numbers)}")

    return make


@pytest.fixture
def open_live():
    """Opens a session whose store is on disk, so that another process can restore it."""
    opened = []

    def make(path: Path, name: str):
        store = SqliteStore(path)
        opened.append((store, name))
        return Live(store, name)

    yield make
    for store, name in opened:
        store.close()
        sys.modules.pop(name, None)


_CHECKER = """
import json, pathlib, sys, traceback, types
from pyrepl3.snapshot.delta import Snapshotter
from pyrepl3.store.sqlite import SqliteStore

FRESH = {fresh!r}
failures = {{}}
for path, name, source in json.loads(sys.stdin.read()):
    module = sys.modules[name] = types.ModuleType(name)
    if name == "__main__":
        sys.modules["__main__"] = module
    store = SqliteStore(pathlib.Path(path))
    snapshotter = Snapshotter(module.__dict__, module=name, skip=FRESH)
    lost, extra = snapshotter.restore(store.load())
    store.close()
    try:
        assert not lost, lost
        exec(compile(source, "<check>", "exec", dont_inherit=True), module.__dict__)
    except BaseException:
        failures[path] = traceback.format_exc()
print(json.dumps(failures))
"""


@pytest.fixture
def check_in_new_process():
    """Restores stores in a new process and runs code there. Takes and returns by path."""

    def check(cases):
        done = subprocess.run(
            [sys.executable, "-c", _CHECKER.format(fresh=FRESH)],
            input=json.dumps([(str(path), name, source) for path, name, source in cases]),
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return check
