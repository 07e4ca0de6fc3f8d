"""I3 for packs, collections, forks and exports: a crash before, inside or after any effect leaves whole epochs.

What was not synced when the process died is lost in part, as after a power failure.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

_DRIVER = r'''
import json, os, pathlib, shutil, sqlite3, sys
from pyrepl3.errors import SessionInUseError
from pyrepl3.records import CHUNK
from pyrepl3.store import batch, garbage, packs
from pyrepl3.store.directory import SessionDirectory
from pyrepl3.store.sqlite import SqliteStore
from pyrepl3.testing.buffers import read_buffers
from pyrepl3.testing.pieces import make_delta, make_receipt, noise, read_values

packs.FULL = 700_000  # so that there are some
garbage._WORTH = 50_000
stride, first = int(sys.argv[2]), int(sys.argv[3])

def content(n):
    """Cell n: a big buffer of its own, one that shares most with the cell before, big and small values."""
    shared = b"".join(noise(100 + (n if k == n % 6 else 0), CHUNK) for k in range(6))
    return {"x": b"%d" % n, "big": noise(n, 150_000)}, {"a": [noise(n + 50, 5 * CHUNK + n)], "s": [shared]}

made = {n: content(n) for n in range(1, 12)}
deltas = {n: make_delta(values, buffers=buffers, audited=False) for n, (values, buffers) in made.items()}
def commit(store, n):
    return store.commit(deltas[n], make_receipt(n), parent=store.head)

# Each step, and the epochs and the head after it.
def go(root, done):
    """All steps; ``done`` is told after each."""
    directory = SessionDirectory(root)
    store = directory.open("a")
    done("open")
    for n in (1, 2, 3, 4):
        commit(store, n)
        done(f"c{n}")
    store.move(2)
    done("move")
    commit(store, 5)
    done("c5")
    store.audited(5)
    done("audit")
    store.collect(keep=2)
    done("collect")
    commit(store, 6)
    done("c6")
    fork = store.fork("fork")
    done("fork")
    commit(fork, 7)
    fork.close()
    done("c7")
    store.export(root / "file")
    done("export")
    directory.take_in(root / "file", "copy")
    done("import")
    store.close()
    done("close")

AFTER = {
    "": ([], 0), "open": ([], 0), "c1": ([1], 1), "c2": ([1, 2], 2), "c3": ([1, 2, 3], 3),
    "c4": ([1, 2, 3, 4], 4), "move": ([1, 2, 3, 4], 2), "c5": ([1, 2, 3, 4, 5], 5),
    "audit": ([1, 2, 3, 4, 5], 5), "collect": ([2, 5], 5), "c6": ([2, 5, 6], 6),
}
STEPS = [*AFTER, "fork", "c7", "export", "import", "close"]
for step in STEPS[len(AFTER):]:
    AFTER[step] = AFTER["c6"]

synced = {}
def crash_at(point, root):
    left = [point]
    def die():
        left[0] = -1
        for file in root.rglob("pack-*"):
            stat = file.stat()
            safe = synced.get(stat.st_ino, 0)
            if stat.st_size > safe:  # what the disk makes of it: some of it, and not as it was
                os.truncate(file, safe + (stat.st_size - safe) // 2)
                with file.open("r+b") as opened:
                    opened.seek(safe)
                    opened.write(b"\xaa" * min(5000, stat.st_size - safe))
        os._exit(7)
    def effect():
        if left[0] == 0:
            die()
        left[0] -= 1
    real_connect = sqlite3.connect
    def connect(*args, **options):
        db = real_connect(*args, **options)
        db.set_trace_callback(lambda text: effect())
        return db
    sqlite3.connect = connect
    def wrap(name):
        real = getattr(os, name)
        def wrapped(*args, **options):
            effect()
            found = real(*args, **options)
            effect()
            return found
        setattr(os, name, wrapped)
    for name in ("link", "unlink", "rename", "truncate", "ftruncate", "mkdir"):
        wrap(name)
    writev = os.writev
    def half(fd, vector):
        effect()
        if left[0] == 0:
            writev(fd, vector[: len(vector) // 2])
        effect()
        return writev(fd, vector)
    os.writev = half
    def syncing(real):
        def wrapped(fd):
            effect()
            real(fd)
            stat = os.fstat(fd)
            synced[stat.st_ino] = stat.st_size
            effect()
        return wrapped
    packs._sync_data, os.fsync = syncing(packs._sync_data), syncing(os.fsync)

def whole(store):
    """All that is there can be read, and is what its cell made."""
    store.verify()
    line = store.history()
    assert not line or line[0].parent == 0
    for epoch in store.epochs():
        n = epoch.receipt.cell.n
        found = store.load(epoch.epoch)
        values, buffers = made[n]
        for name, buffer in read_buffers(found).items():
            assert buffer == buffers[name], (n, name)
        got = read_values(found)
        assert {name: got[name] for name in values} == values, n
    return [epoch.epoch for epoch in store.epochs()], store.head

def check(root, last):
    directory = SessionDirectory(root)
    at = STEPS.index(last)
    allowed = [AFTER[last]] + ([AFTER[STEPS[at + 1]]] if at + 1 < len(STEPS) else [])
    store = directory.open("a")
    state = whole(store)
    assert state in [(list(a), b) for a, b in allowed], (last, state)
    if at >= STEPS.index("audit"):
        assert [e.audited for e in store.epochs() if e.epoch == 5] == [True]
    for name, step in (("fork", "fork"), ("copy", "import")):
        there = (root / name).exists()
        assert there or at < STEPS.index(step), (name, last)
        if there:
            other = directory.open(name)
            numbers, head = whole(other)
            assert numbers[:3] == [2, 5, 6] and head in (6, 7)
            assert head == 7 or name == "copy" or at < STEPS.index("c7")
            other.close()
    # And it goes on.
    commit(store, 8)
    store.collect(keep=2)
    assert whole(store)[0][-1] == store.head
    assert store._packs.numbers() == sorted(store._packs.ends), "a pack that nobody needs is left"
    store.fork("after").close()
    left = [path.name for path in root.iterdir() if path.name.startswith(".new-")]
    assert not left, left
    store.close()

base = pathlib.Path(sys.argv[1])
point, died, reached = first, 0, set()
while True:
    root = base / str(point)
    root.mkdir()
    acks = root.parent / f"{point}.acks"
    pid = os.fork()
    if pid == 0:
        fd = os.open(acks, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        crash_at(point, root)
        go(root, lambda step: os.write(fd, step.encode() + b"\n"))
        os._exit(0)
    ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert ended in (0, 7), ended
    last = acks.read_text().split()[-1] if acks.exists() and acks.read_text() else ""
    reached.add(last)
    try:
        check(root, last)
    except BaseException as error:
        error.add_note(f"at point {point}, after {last!r}")
        raise
    shutil.rmtree(root)
    if ended == 0:
        break
    died += 1
    point += stride
print(json.dumps({"died": died, "reached": sorted(reached), "points": point}))
'''


@pytest.mark.timeout(900)
def test_a_crash_at_any_effect_leaves_whole_epochs_and_goes_on(tmp_path):
    full = os.environ.get("PYREPL3_CAMPAIGN") == "1"
    stride, first = (1, 0) if full else (13, 5)
    done = subprocess.run(
        [sys.executable, "-c", _DRIVER, str(tmp_path), str(stride), str(first)],
        capture_output=True,
        text=True,
        timeout=850,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert told["died"] > (300 if full else 20)
    assert len(told["reached"]) >= (16 if full else 10), "crashes at each step"
