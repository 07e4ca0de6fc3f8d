"""What cannot be stored is named, with a reason for people, and takes nothing else with it."""

from __future__ import annotations

import asyncio
import sys

import pytest

UNSTORABLE = {
    "generator": ("v = (i for i in [1])", "a generator"),
    "coroutine": ("async def f(): pass\nv = f()", "a coroutine"),
    "async generator": ("async def f(): yield\nv = f()", "an asynchronous generator"),
    "future": ("import asyncio\nloop = asyncio.new_event_loop()\nv = loop.create_future()\nloop.close(); del loop", "a future"),
    "event loop": ("import asyncio\nv = asyncio.new_event_loop(); v.close()", "an event loop"),
    "socket": ("import socket\nv = socket.socket(); v.close()", "a socket"),
    "text file": ("import os\nv = open(os.devnull)\nv.close()", "an open file"),
    "binary file": ("import os\nv = open(os.devnull, 'rb')\nv.close()", "an open file"),
    "lock": ("import threading\nv = threading.Lock()", "a lock"),
    "reentrant lock": ("import threading\nv = threading.RLock()", "a lock"),
    "condition": ("import threading\nv = threading.Condition()", "a lock"),
    "thread": ("import threading\nv = threading.Thread()", "a thread"),
    "thread local": ("import threading\nv = threading.local()", "thread-local data"),
    "queue": ("import queue\nv = queue.Queue()", "a queue between threads"),
    "connection": ("import sqlite3\nv = sqlite3.connect(':memory:')\nv.close()", "a database connection"),
    "cursor": ("import sqlite3\nc = sqlite3.connect(':memory:')\nv = c.cursor()\nc.close(); del c", "a database cursor"),
    "frame": ("import sys\nv = sys._getframe()", "a stack frame"),
    "traceback": ("try: 1 / 0\nexcept Exception as e: v = e.__traceback__", "a traceback"),
    "context": ("import contextvars\nv = contextvars.copy_context()", "a context"),
    "token": ("import contextvars\nvar = contextvars.ContextVar('q')\nv = var.set(1)", "a context variable's token"),
    "match": ("import re\nv = re.match('a', 'a')", "a regular expression's match"),
    "hash": ("import hashlib\nv = hashlib.sha256()", "a running hash"),
    "compression": ("import zlib\nv = zlib.compressobj()", "a running compression"),
    "memory map": ("import mmap\nv = mmap.mmap(-1, 10)", "a memory map"),
    "pool": ("from concurrent.futures import ThreadPoolExecutor\nv = ThreadPoolExecutor()\nv.shutdown()", "a pool of workers"),
    "part of a memoryview": ("v = memoryview(bytearray(9))[2:4]", "a view of a part of another object's memory"),
    "super": ("class A:\n    def f(self): return super()\nv = A().f()", "a super() object"),
    "weak proxy": ("import weakref\nclass O: pass\no = O(); v = weakref.proxy(o)", "a weak proxy"),
    "subclass": ("import socket\nclass S(socket.socket): pass\nv = S(); v.close()", "a socket"),
    "module of another session": (
        "import sys, types\nsys.modules['pyrepl3.cells.other'] = v = types.ModuleType('pyrepl3.cells.other')",
        "the module of another session",
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited", "ignore::ResourceWarning")
@pytest.mark.parametrize("kind", UNSTORABLE)
def test_what_cannot_be_stored_is_called_by_its_name(live, kind, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyrepl3.cells.other", None)
    source, words = UNSTORABLE[kind]
    delta = live.cell(source + "\nfine = [1]\nin_dict = {'k': [v]}")
    assert delta.lost["v"] == f"{words} cannot be stored; recreate it after a restart"
    assert delta.lost["in_dict"] == (
        f"in_dict['k'][0] is {words}, which cannot be stored; recreate it after a restart"
    )
    assert {"v", "in_dict"} <= delta.lost.keys()
    again = live.restart()
    assert again["fine"] == [1]
    assert again.lost == delta.lost
    assert "v" not in again.ns
    if kind == "coroutine":
        live["v"].close()


async def test_a_running_task_is_called_a_task(live):
    live.ns["v"] = asyncio.ensure_future(asyncio.sleep(0))
    assert live.checkpoint(None).lost["v"].startswith("a task cannot be stored")
    await live["v"]


def test_a_class_made_by_c_code_is_told_at_once(live):
    delta = live.cell(
        "import ctypes\nclass S(ctypes.Structure):\n    _fields_ = [('x', ctypes.c_int)]\ns = S(1)"
    )
    assert delta.lost["S"].startswith(
        "a class of ctypes, which C code has laid out, cannot be stored"
    )
    assert delta.lost["s"].startswith(
        f"it refers to 'S', which cannot be stored: {delta.lost['S']}"
    )


HOSTILE = {
    "__reduce__ raises": ("class H:\n    def __reduce__(self): raise ValueError('no way')", "ValueError: no way"),
    "__reduce__ interrupts": ("class H:\n    def __reduce__(self): raise KeyboardInterrupt", "KeyboardInterrupt"),
    "__reduce__ exits": ("class H:\n    def __reduce__(self): raise SystemExit(3)", "SystemExit: 3"),
    "__reduce__ raises what cannot be shown": (
        "class E(Exception):\n    def __str__(self): raise E\nclass H:\n    def __reduce__(self): raise E", "<no text>"
    ),
    "__getstate__ raises": ("class H:\n    def __getstate__(self): 1 / 0", "ZeroDivisionError"),
    "__reduce__ returns rubbish": ("class H:\n    def __reduce__(self): return 5", "PicklingError"),
    "__reduce__ names another": ("class H:\n    def __reduce__(self): return 'other'\nother = 1", "calls itself 'other'"),
    "__class__ raises": ("class H:\n    @property\n    def __class__(self): raise RuntimeError('eek')", "eek"),
    "__getattribute__ raises": ("class H:\n    def __getattribute__(self, n): raise RuntimeError(n)", "RuntimeError"),
    "__reduce_ex__ raises": ("class H:\n    def __reduce_ex__(self, p): raise TypeError('cannot pickle me')", "cannot pickle me"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_object_is_lost_alone(live, kind):
    source, words = HOSTILE[kind]
    delta = live.cell(f"{source}\nh = H()\nshared = []\na = [shared, h]\nb = [shared]")
    assert set(delta.lost) == {"h", "a"}
    assert words in delta.lost["h"]
    again = live.restart()
    assert again["b"][0] is again["shared"]
    assert again.lost.keys() == {"h", "a"}


def test_objects_whose_eq_repr_hash_or_bool_raise_are_stored(live):
    live.cell(
        "class X:\n    def __eq__(self, o): raise ValueError\n    __hash__ = None\n"
        "    def __repr__(self): raise ValueError\n    def __bool__(self): raise ValueError\n"
        "    def __len__(self): raise ValueError\nx = X(); x.v = 1; l = [x]"
    )
    again = live.restart()
    assert again["l"][0] is again["x"]
    assert again["x"].v == 1


def test_a_deep_structure_is_lost_alone(live):
    delta = live.cell("deep = []\nfor i in range(100_000): deep = [deep]\nx = [1]")
    assert delta.lost == {
        "deep": "a structure is nested too deeply to be stored; recreate it after a restart"
    }
    assert live.restart()["x"] == [1]
    live.run("while deep: deep = deep[0]")


def test_a_class_that_cannot_be_stored_takes_its_instances_but_nothing_else(live):
    delta = live.cell(
        "import threading\nclass C:\n    lock = threading.Lock()\nc = C(); l = [c]; other = [1]"
    )
    assert delta.lost.keys() == {"C", "c", "l"}
    assert "lock" in delta.lost["C"]
    assert delta.lost["c"].startswith("it refers to 'C', which cannot be stored")
    assert live.restart()["other"] == [1]


def test_a_function_with_a_bad_default_takes_those_that_hold_it(live):
    delta = live.cell(
        "import threading\ndef f(l=threading.Lock()): pass\ndef g(): return f\nl = [f, 1]"
    )
    assert delta.lost.keys() == {"f", "l"}
    assert live.restart()["g"].__name__ == "g"


def test_a_class_that_turns_bad_takes_what_refers_to_it(live):
    assert not live.cell("class C: pass\nc = C()").lost
    delta = live.cell("C.g = (i for i in [])")
    assert delta.lost.keys() == {"C", "c"}
    assert live.restart().lost.keys() == {"C", "c"}


def test_what_becomes_storable_again_comes_back(live):
    live.cell("class C: pass\nc = C(); C.g = (i for i in [])\nx = [C.g]")
    assert live.restart().lost.keys() == {"C", "c", "x"}
    delta = live.cell("del C.g; x.clear()")
    assert delta.lost == {}
    again = live.restart()
    assert again.lost == {}
    assert type(again["c"]) is again["C"]
    assert again["x"] == []


def test_a_loss_is_told_once_and_kept(live):
    assert live.cell("g = (i for i in [])").lost
    assert live.cell("g; x = 1").lost == {}
    assert live.restart().lost.keys() == {"g"}


def test_a_lost_name_that_is_rebound_is_found(live):
    live.cell("g = (i for i in [])")
    live.cell("g = 5")
    again = live.restart()
    assert (again.lost, again["g"]) == ({}, 5)


def test_a_lost_name_that_is_deleted_is_gone(live):
    live.cell("g = (i for i in [])")
    assert live.cell("del g").deleted == {"g"}
    assert live.restart().lost == {}


def test_a_lost_name_stays_lost_over_restarts_until_it_is_bound(live):
    live.cell("g = (i for i in [])")
    again = live.restart()
    assert again.cell("x = 1").deleted == frozenset()
    third = again.restart()
    assert third.lost.keys() == {"g"}
    third.cell("g = [1]")
    assert third.restart()["g"] == [1]


def test_a_stored_name_whose_value_turns_bad_is_told(live):
    live.cell("a = []; b = [a]")
    delta = live.cell("a.append((i for i in []))")
    assert delta.lost.keys() == {"a", "b"}
    assert live.restart().lost.keys() == {"a", "b"}


# --- restores ---------------------------------------------------------------------------------


def test_a_module_that_is_gone_loses_what_needs_it_and_says_so(live, tmp_path, monkeypatch):
    (tmp_path / "shortlived.py").write_text(
        "class T:\n    def __init__(self): self.x = 1\ndef f(): pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    live.cell(
        "import shortlived\nt = shortlived.T(); both = [t]; ok = 1\ndef g(): return shortlived"
    )
    (tmp_path / "shortlived.py").unlink()
    for path in (tmp_path / "__pycache__").glob("*"):
        path.unlink()
    monkeypatch.delitem(sys.modules, "shortlived")
    again = live.restart()
    assert again.lost == dict.fromkeys(
        ("shortlived", "t", "both"), "the module 'shortlived' is not installed here"
    )
    assert again["ok"] == 1
    with pytest.raises(NameError):
        again["g"]()


def test_a_class_that_is_gone_from_its_module_is_told(live, tmp_path, monkeypatch):
    (tmp_path / "changing.py").write_text("class T: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    live.cell("import changing\nt = changing.T()")
    del live["changing"].T
    again = live.restart()
    assert "changing" in again.ns
    assert "T" in again.lost["t"]
    del sys.modules["changing"]


def test_what_failed_to_restore_is_still_in_the_store(live, tmp_path, monkeypatch):
    """Another machine, or a later install, may have what is missing here."""
    (tmp_path / "later.py").write_text("class T: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    live.cell("import later\nt = later.T()")
    module = sys.modules["later"]
    monkeypatch.setitem(sys.modules, "later", None)
    again = live.restart()
    assert again.lost.keys() == {"later", "t"}
    again.cell("x = 1")
    monkeypatch.setitem(sys.modules, "later", module)
    third = again.restart()
    assert third.lost == {}
    assert type(third["t"]) is module.T


def test_a_setstate_that_raises_loses_its_blob_alone(live):
    live.cell(
        "class W:\n    def __setstate__(self, s): raise ValueError('no')\n    def __getstate__(self): return 1\n"
        "w = W(); x = [1]"
    )
    again = live.restart()
    assert again.lost == {"w": "ValueError: no"}
    assert again["x"] == [1]


def test_a_setstate_may_use_globals_whatever_their_order(live):
    live.cell(
        "a = None\nclass W:\n    def __getstate__(self): return 1\n"
        "    def __setstate__(self, s): self.v = helper(zdata)\ndef helper(x): return x[0]\n"
    )
    live.cell("a = W(); zdata = [7]")
    again = live.restart()
    assert again.lost == {}
    assert again["a"].v == 7


def test_another_versions_bytecode_is_refused_with_words(live):
    from pyrepl3.records import Blob, Snapshot
    from pyrepl3.snapshot import rebuild

    live.cell("def f(): return 1\nx = 1\nl = [f]")
    snapshot = live.store.load()
    old = rebuild.MAKER.encode()
    blobs = tuple(
        Blob(names=b.names, data=b.data.replace(old, old[:-1] + b"!")) for b in snapshot.blobs
    )
    lost, _ = live.snapshotter.restore(Snapshot(epoch=1, blobs=blobs))
    assert "was compiled by" in lost["f"]
    assert "it refers to 'f', which was not restored" in lost["l"]
    assert live["x"] == 1


def test_a_blob_of_a_newer_format_is_refused_with_words(live):
    from pyrepl3.records import Blob, Snapshot

    live.cell("x = [1]; y = [2]")
    blobs = live.store.load().blobs
    newer = Blob(names=blobs[0].names, data=b"P3\xff" + blobs[0].data[3:])
    lost, _ = live.snapshotter.restore(Snapshot(epoch=1, blobs=(newer, *blobs[1:])))
    assert "upgrade" in lost["x"]
    assert live["y"] == [2]


@pytest.mark.parametrize("cut", [0, 3, 10, 30, -1])
def test_a_cut_blob_loses_its_names_alone(live, cut):
    from pyrepl3.records import Blob, Snapshot

    live.cell("x = [1, 'abc']; y = [2]")
    blobs = live.store.load().blobs
    bad = Blob(names=blobs[0].names, data=blobs[0].data[:cut])
    lost, _ = live.snapshotter.restore(Snapshot(epoch=1, blobs=(bad, *blobs[1:])))
    assert lost.keys() == {"x"}
    assert live["y"] == [2]
