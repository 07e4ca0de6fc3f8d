"""I3: what is on disk is always the namespace after some whole cell, wherever the process died."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from contextlib import suppress

import pytest

from pyrepl3.store.sqlite import SqliteStore
from pyrepl3.testing.conformance import read_values

pytestmark = pytest.mark.slow

# Epoch n of the writer: what it must hold follows from its number alone.
_MODEL = '''
import random
def make(n):
    """The values that cell n writes: some alone, some in a group, now and then a big one."""
    rng = random.Random(n)
    names = rng.sample("abcdefgh", 3)
    values = {name: b"%s %d;" % (name.encode(), n) * rng.choice([1, 50, 5000]) for name in names}
    if n % 7 == 0:
        values["big"] = b"%d;" % n * 60_000
    return values

def expected(n):
    found = {}
    for k in range(1, n + 1):
        found |= make(k)
    return found
'''
_WRITER = (
    _MODEL
    + """
import pathlib, sys
from pyrepl3.store.sqlite import SqliteStore
from pyrepl3.testing.conformance import make_delta, make_receipt
store = SqliteStore(pathlib.Path(sys.argv[1]))
line = store.history()
n, at = len(line), store.head
while True:
    n += 1
    at = store.commit(make_delta(make(n), engine=b"engine %d" % n), make_receipt(n), parent=at)
    print(n, at, flush=True)
"""
)
model: dict = {}
exec(_MODEL, model)  # the same text in both processes


def check(path, acknowledged):
    """The store is whole, and holds every epoch that was acknowledged."""
    store = SqliteStore(path)
    try:
        line = store.history()
        numbers = {epoch.receipt.cell.n: epoch.epoch for epoch in line}
        assert list(numbers) == list(range(1, len(line) + 1))
        for n, epoch in acknowledged.items():
            assert numbers[n] == epoch
        for n in {len(line), *random.sample(range(1, len(line) + 1), min(5, len(line)))} - {0}:
            snapshot = store.load(numbers[n])
            assert read_values(snapshot) == model["expected"](n)
            assert snapshot.engine == b"engine %d" % n
        return len(line)
    finally:
        store.close()


@pytest.mark.timeout(300)
def test_no_acknowledged_epoch_is_lost_or_torn_by_thirty_kills(tmp_path):
    path = tmp_path / "demo"
    rng = random.Random(20)
    acknowledged: dict[int, int] = {}
    reached = 0
    for _ in range(30):
        child = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        wanted = rng.randrange(12)
        while wanted:
            n, epoch = map(int, child.stdout.readline().split())
            acknowledged[n] = epoch
            wanted -= 1
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout=rng.uniform(0, 0.004))  # somewhere inside the next commits
        child.kill()
        for line in child.stdout.read().splitlines():
            with suppress(ValueError):  # the last line may be cut
                n, epoch = map(int, line.split())
                acknowledged[n] = epoch
        child.stdout.close()
        child.wait()
        if (path / "lock").exists():
            reached = check(path, acknowledged)
    assert reached >= len(acknowledged) > 60


_CRASHER = (
    _MODEL
    + """
import json, os, pathlib, sqlite3, sys
from pyrepl3.store import schema
from pyrepl3.store.sqlite import SqliteStore
from pyrepl3.testing.conformance import make_delta, make_receipt

def run(path, cells):
    store = SqliteStore(path)
    for n in range(1, cells + 1):
        if n > len(store.history()):
            store.commit(make_delta(make(n), engine=b"engine %d" % n), make_receipt(n), parent=store.head)
    store.close()

real = sqlite3.connect
def crash_at(point):
    # 0, 1, 2, …: before the statement of that number; the last one is followed by the close
    left = [point]
    def traced(*args, **options):
        db = real(*args, **options)
        def statement(text):
            if left[0] == 0:
                os._exit(7)
            left[0] -= 1
        db.set_trace_callback(statement)
        return db
    sqlite3.connect = traced

root, before, cells = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
point, done = 0, False
while not done:
    path = root / str(point)
    if before:
        run(path, before)
    pid = os.fork()
    if pid == 0:
        crash_at(point)
        run(path, cells)
        os._exit(0)
    done = os.waitpid(pid, 0)[1] == 0
    point += 1
print(point)
"""
)


def crash_everywhere(tmp_path, before, cells):
    done = subprocess.run(
        [sys.executable, "-c", _CRASHER, str(tmp_path), str(before), str(cells)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.timeout(300)
def test_a_crash_at_any_statement_of_a_commit_leaves_the_old_epoch_or_the_new(tmp_path):
    points = crash_everywhere(tmp_path, 3, 5)
    found = [check(tmp_path / str(point), {}) for point in range(points)]
    assert points > 15
    assert set(found) == {3, 4, 5}
    assert found == sorted(found)


@pytest.mark.timeout(300)
def test_a_crash_anywhere_in_the_making_of_a_session_leaves_a_session_or_none(tmp_path):
    points = crash_everywhere(tmp_path, 0, 1)
    found = [check(tmp_path / str(point), {}) for point in range(points)]
    assert points > 15
    assert set(found) == {0, 1}
    assert found == sorted(found)


_SESSION = """
import pathlib, sys, types
from pyrepl3.records import Cell, Receipt
from pyrepl3.snapshot.delta import Snapshotter
from pyrepl3.snapshot.reaches import code_names
from pyrepl3.store.sqlite import SqliteStore

module = sys.modules["pyrepl3.cells.k"] = types.ModuleType("pyrepl3.cells.k")
snapshotter = Snapshotter(module.__dict__, module=module.__name__, skip={*vars(module), "__builtins__"})
store = SqliteStore(pathlib.Path(sys.argv[1]))
snapshot = store.load()
lost, extra = snapshotter.restore(snapshot)
assert not lost, lost
if "--check" in sys.argv:
    exec(sys.stdin.read(), vars(module))
    raise SystemExit
at = store.head
def cell(source):
    global at
    code = compile(source, "<k>", "exec")
    exec(code, vars(module))
    delta = snapshotter.delta(code_names(code), extra={"flags": 0})
    receipt = Receipt(cell=Cell(id="k", n=1, source=source, filename="<k>"), status="done")
    at = store.commit(delta, receipt, parent=at)
    snapshotter.mark()
if at == 0:
    cell('''
log = []; n = 0
class P:
    def __init__(self): self.seen = log
    def add(self):
        global n
        self.seen.append(n)
        n += 1
        return n
p = P(); alias = {"log": log}; add = p.add
''')
while True:
    cell("r = add()" if at % 3 else "r = p.add(); q = P(); alias[r] = q")
    if at % 10 == 0:
        cell("old = P; h = [P, p]")
    print(module.r, flush=True)
"""
_CHECK = """
assert log == list(range(n)) and n >= acknowledged, (n, acknowledged)
assert alias["log"] is log is p.seen and add.__self__ is p and type(p) is P
assert all(q.seen is log and type(q) is P for k, q in alias.items() if k != "log")
print(n)
"""


@pytest.mark.timeout(300)
def test_a_busy_session_killed_ten_times_comes_back_with_all_that_was_acknowledged(tmp_path):
    path = str(tmp_path / "demo")
    rng = random.Random(3)
    acknowledged = 0
    for _ in range(10):
        child = subprocess.Popen(
            [sys.executable, "-c", _SESSION, path], stdout=subprocess.PIPE, text=True
        )
        for _ in range(rng.randrange(1, 25)):
            acknowledged = int(child.stdout.readline())
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout=rng.uniform(0, 0.004))
        child.kill()
        for line in child.stdout.read().splitlines()[:-1]:
            acknowledged = int(line)
        child.stdout.close()
        child.wait()
        checked = subprocess.run(
            [sys.executable, "-c", _SESSION, path, "--check"],
            input=f"acknowledged = {acknowledged}\n{_CHECK}",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert checked.returncode == 0, checked.stderr
        assert json.loads(checked.stdout) >= acknowledged
    assert acknowledged > 50
