"""What the values in the namespace say of a cell that reads them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import io
import json
import queue
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

import pyrepl3
from pyrepl3.lang.compile import compile_cell
from pyrepl3.lang.modes import blocking_values, explain_mode, place, uses_loop
from pyrepl3.lang.values import BLOCKS, LOOP, NOTHING, weigh
from pyrepl3.records import ExecutionMode, Reason

BLOCKING = ExecutionMode.BLOCKING_SYNC
SIMPLE = ExecutionMode.SIMPLE_SYNC
ASYNC = ExecutionMode.ASYNC_DEF


def namespace_of(source: str = "", **values: object) -> dict:
    """A namespace in which a cell has run."""
    namespace: dict = {"__name__": "cells", **values}
    exec(source, namespace)
    return namespace


@pytest.fixture
def resources(tmp_path):
    """Values that block when they are used, by name."""
    path = tmp_path / "file"
    path.write_text("text")
    with (
        path.open() as text,
        path.open("rb") as buffered,
        path.open("rb", buffering=0) as raw,
        socket.socket() as sock,
        ThreadPoolExecutor(1) as pool,
        tempfile.NamedTemporaryFile() as temporary,
        subprocess.Popen([sys.executable, "-c", ""]) as process,
    ):
        connection = sqlite3.connect(":memory:")
        yield {
            "connection": connection,
            "cursor": connection.cursor(),
            "sock": sock,
            "process": process,
            "text": text,
            "buffered": buffered,
            "raw": raw,
            "temporary": temporary,
            "pool": pool,
            "lock": threading.Lock(),
            "rlock": threading.RLock(),
            "local": threading.local(),
            "event": threading.Event(),
            "thread": threading.Thread(),
            "queue": queue.Queue(),
            "simple_queue": queue.SimpleQueue(),
            "sqlite3_module": sqlite3,
            "socket_module": socket,
            "urllib_module": urllib,
            "popen_class": subprocess.Popen,
            "run_function": subprocess.run,
            "connect_function": sqlite3.connect,
            "sleep_function": time.sleep,
            "open_function": open,
            "method": sock.recv,
            "file_method": text.read,
            "python_method": process.wait,
            "partial": functools.partial(subprocess.run, ["ls"]),
        }
        connection.close()


def test_values_that_block_are_found_by_their_types(resources):
    assert blocking_values(resources, resources) == list(resources)


@pytest.fixture
def plain():
    with tempfile.TemporaryFile("w") as closed:
        pass
    return {
        "number": 1,
        "text": "open",
        "none": None,
        "list": [socket],
        "json_module": json,
        "time_module": time,
        "asyncio_module": asyncio,
        "sys_module": sys,
        "stdout": sys.stdout,
        "stderr": sys.__stderr__,
        "memory": io.StringIO(),
        "bytes_memory": io.BytesIO(),
        "closed_file": closed,
        "generator": (x for x in ()),
        "sleep": asyncio.sleep,
        "print_function": print,
        "length": len,
        "list_method": [].append,
        "quote": urllib.parse.quote,
        "parsed": urllib.parse.urlparse("http://host/path"),
        "constant": socket.AF_INET,
        "finished": subprocess.CompletedProcess([], 0),
        "error": sqlite3.OperationalError("x"),
        "error_class": subprocess.CalledProcessError,
        "class": dict,
        "partial": functools.partial(print, 1),
        "cached": functools.cache(len),
    }


def test_values_that_do_not_block_are_not(plain):
    assert blocking_values(plain, plain) == []


def test_names_that_are_not_bound_do_not_count():
    assert blocking_values(["no", "such", "name"], {}) == []


CELLS = {
    # What earlier cells made, the name that a later cell reads, what it does.
    "a function that sleeps": ("def f(): time.sleep(1)", "f", BLOCKS),
    "a function that opens": ("def f(p): return [open(x) for x in p]", "f", BLOCKS),
    "a function that calls one": ("def g(): open('x')\ndef f(): g()", "f", BLOCKS),
    "a function that reads a connection": (
        "import sqlite3\nc = sqlite3.connect(':memory:')\ndef f(): return c.total_changes\n"
        "c.close()", "f", BLOCKS),
    "a function that only computes": ("def f(x): return x + len(x)", "f", NOTHING),
    "a function that is recursive": ("def f(): return g()\ndef g(): return f()", "f", NOTHING),
    "a coroutine function": ("async def f(): time.sleep(1)", "f", NOTHING),
    "an asynchronous generator": ("async def f():\n    yield open('x')", "f", NOTHING),
    "a generator function": ("def f():\n    yield open('x')", "f", BLOCKS),
    "a function that prints": ("def f(): sys.stdout.write('x')", "f", NOTHING),
    "a function that sleeps on the loop": ("def f(): return asyncio.sleep(1)", "f", NOTHING),
    "a function that runs a loop": ("def f(): asyncio.run(g())", "f", BLOCKS),
    "a function that runs another loop": ("def f(): loop.run_until_complete(g())", "f", BLOCKS),
    "a runner": ("from asyncio import run as f", "f", BLOCKS),
    "a runner class": ("from asyncio import Runner as f", "f", BLOCKS),
    "a maker of tasks": ("from asyncio import create_task as f", "f", LOOP),
    "a function that makes a task": ("def f(): asyncio.create_task(g())", "f", LOOP),
    "a decorated function": (
        "import functools\ndef d(f):\n    @functools.wraps(f)\n    def g(): return f()\n    return g\n"
        "@d\ndef f(): open('x')", "f", BLOCKS),
    "a cached function": ("import functools\n@functools.cache\ndef f(): open('x')", "f", BLOCKS),
    "a partial": ("import functools\ndef g(x): open(x)\nf = functools.partial(g, 1)", "f", BLOCKS),
    "a lambda": ("f = lambda: input()", "f", BLOCKS),
    "a class that opens when made": (
        "class A:\n    def __init__(self): self.f = open('x')", "A", BLOCKS),
    "an object used by its method": (
        "class A:\n    def load(self): return open('x')\na = A()", "a.load", BLOCKS),
    "an object used by another method": (
        "class A:\n    def load(self): open('x')\n    def add(self): pass\na = A()", "a.add", NOTHING),
    "an object used by an inherited method": (
        "class A:\n    def load(self): open('x')\nclass B(A): pass\na = B()", "a.load", BLOCKS),
    "a class method": (
        "class A:\n    @classmethod\n    def load(cls): open('x')", "A.load", BLOCKS),
    "a property": (
        "class A:\n    @property\n    def text(self): return open('x').read()\na = A()", "a.text",
        BLOCKS),
    "a context manager": (
        "class A:\n    def __enter__(self): open('x')\n    def __exit__(self, *e): pass\na = A()", "a",
        BLOCKS),
    "a bound method": (
        "class A:\n    def load(self): open('x')\nm = A().load", "m", BLOCKS),
    "a subclass of a blocking one": (
        "import threading\nclass A(threading.Thread): pass\na = A()", "a", BLOCKS),
    "an abstract class": (
        "import abc\nclass A(abc.ABC):\n    def load(self): open('x')\nclass B(A): pass", "B.load",
        BLOCKS),
    "an enumeration": ("import enum\nclass A(enum.Enum):\n    x = 1\na = A.x", "a", NOTHING),
    "an exception": ("class A(Exception): pass\na = A()", "a", NOTHING),
    "a class whose module is no string": (
        "class A: __module__ = property(lambda self: 1 / 0)\na = A()", "a", NOTHING),
    "a metaclass with traps": (
        "class M(type):\n    def __getattribute__(cls, name): 1 / 0\nclass A(metaclass=M): pass\n"
        "a = A()", "a", NOTHING),
    "an object with traps": (
        "class A:\n    def __getattribute__(self, name): 1 / 0\n    def __eq__(self, o): 1 / 0\n"
        "    __hash__ = None\na = A()", "a", NOTHING),
}  # fmt: skip


@pytest.mark.parametrize("name", CELLS)
def test_what_was_made_in_cells_is_judged_by_its_code(name):
    source, reads, expected = CELLS[name]
    namespace = namespace_of(source)
    cell = compile_cell(f"{reads}", "<cell>")
    value = namespace[reads.partition(".")[0]]
    assert weigh(value, namespace, cell.names) == expected
    assert bool(blocking_values(cell.names, namespace)) == (expected == BLOCKS)
    report = explain_mode(reads, namespace)
    assert report.placement == ("thread" if expected == BLOCKS else "loop")


def test_many_functions_that_call_each_other_are_looked_at_once():
    """Each of 40 calls all 40: a look at every path would never end."""
    calls = "; ".join(f"f{i}()" for i in range(40))
    namespace = namespace_of("\n".join(f"def f{i}(): {calls}" for i in range(40)))
    assert blocking_values(["f0"], namespace) == []
    exec("def f39(): open('x')", namespace)
    assert blocking_values(["f0"], namespace) == ["f0"]


def test_a_chain_of_a_thousand_functions_is_no_recursion():
    source = "\n".join(f"def f{i}(): f{i + 1}()" for i in range(3000))
    assert blocking_values(["f0"], namespace_of(source)) == []


def test_functions_of_a_library_are_judged_by_its_name_not_by_their_code():
    assert blocking_values(["f"], {"f": json.dumps, "__name__": "cells"}) == []


# --- mode and placement ---------------------------------------------------------------------------


def decide(source: str, namespace: dict) -> tuple[ExecutionMode, str]:
    decided = place(compile_cell(source, "<cell>"), namespace)
    report = explain_mode(source, namespace)
    assert (report.mode, report.placement) == decided
    return decided


def test_a_cell_that_reads_a_blocking_value_goes_to_the_thread(resources):
    for name in resources:
        assert decide(f"x = {name}", resources) == (BLOCKING, "thread")
        assert decide(f"async def f(): pass\n{name}", resources) == (ASYNC, "thread")
        assert decide(f"{name}\nasyncio.create_task(f())", resources) == (BLOCKING, "loop")
        assert decide(f"await f({name})", resources)[1] == "loop"


def test_the_reason_names_the_value(resources):
    report = explain_mode("print(connection, lock)", resources)
    assert report.reasons == (
        Reason(kind="value", name="connection", text="sqlite3.Connection"),
        Reason(kind="value", name="lock", text="_thread.lock"),
    )


async def test_what_belongs_to_a_loop_keeps_a_blocking_cell_on_it():
    namespace = {
        "task": asyncio.current_task(),
        "event": asyncio.Event(),
        "loop": asyncio.get_running_loop(),
        "future": asyncio.get_running_loop().create_future(),
    }
    for name in namespace:
        assert decide(f"time.sleep(1)\n{name}.x", namespace) == (BLOCKING, "loop")
        assert decide(f"{name}.x", namespace) == (SIMPLE, "loop")
        reasons = explain_mode(f"{name}.x", namespace).reasons
        assert [(r.kind, r.name) for r in reasons] == [("needs_loop", name)]


async def test_what_must_stay_on_the_loop_is_known_apart_from_what_blocks():
    namespace = {"__name__": "cells", "task": asyncio.current_task(), "x": 1}
    expected = {
        "x": False,
        "time.sleep(1)": False,
        "task.cancel()": True,
        "time.sleep(1)\ntask.cancel()": True,
        "asyncio.create_task(x)": True,
        "await x": True,
        "async def f(): await x": False,
    }
    for source, stays in expected.items():
        assert uses_loop(compile_cell(source, "<cell>"), namespace) is stays


async def test_a_method_that_sounds_blocking_is_judged_by_what_it_is_of():
    class Writer:
        def write(self, data):
            pass

    def echo():
        while True:
            yield

    ours, theirs = socket.socketpair()
    _, writer = await asyncio.open_connection(sock=ours)
    namespace = {
        "__name__": "cells",
        "writer": writer,
        "memory": io.StringIO(),
        "generator": echo(),
        "aio": asyncio,
        "sleep": asyncio.sleep,
        "stdout": sys.stdout,
        "unknown": Writer(),
        "time": time,
        "real_sleep": time.sleep,
    }
    assert decide("writer.write(b'x')", namespace) == (SIMPLE, "loop")
    assert decide("memory.read()", namespace) == (SIMPLE, "loop")
    assert decide("generator.send(1)", namespace) == (SIMPLE, "loop")
    assert decide("c = aio.sleep(0)", namespace) == (SIMPLE, "loop")
    assert decide("c = sleep(0)", namespace) == (SIMPLE, "loop")
    assert explain_mode("c = sleep(0)", namespace).reasons == ()
    # Nothing is known of these, so they may block.
    assert decide("unknown.write(b'x')", namespace) == (BLOCKING, "thread")
    assert decide("nowhere.write(b'x')", namespace) == (BLOCKING, "thread")
    assert decide("time.sleep(1)", namespace) == (BLOCKING, "thread")
    assert decide("real_sleep(1)", namespace) == (BLOCKING, "thread")
    # One that may block is enough.
    assert decide("memory.read()\nunknown.read()", namespace) == (BLOCKING, "thread")
    assert decide("memory.read()\nopen('x')", namespace) == (BLOCKING, "thread")
    # What the text binds anew is not what the namespace holds.
    assert decide("memory = open('x')\nmemory.read()", namespace) == (BLOCKING, "thread")
    writer.close()
    await writer.wait_closed()
    theirs.close()


def test_a_users_function_by_a_blocking_name_is_judged_by_its_code():
    namespace = namespace_of("def wait(): return 1\ndef read(): return open('x')")
    assert decide("wait()", namespace) == (SIMPLE, "loop")
    assert decide("read()", namespace) == (BLOCKING, "thread")


def test_a_closed_file_is_only_a_name():
    """`with open(…) as f` leaves one behind, and the next cell may bind f anew."""
    with tempfile.TemporaryFile() as file:
        namespace = {"f": file}
        assert decide("f", namespace) == (BLOCKING, "thread")
    assert decide("f", namespace) == (SIMPLE, "loop")


def test_classes_made_in_cells_are_not_kept_alive():
    namespace = namespace_of("class A: pass\na = A()")
    seen = weakref.ref(namespace["A"])
    assert blocking_values(["a", "A"], namespace) == []
    namespace.clear()
    gc.collect()
    assert seen() is None


# --- cells that no value can move ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "settled"),
    [
        ("conn = 1", True),
        ("conn = None; x = [1, 2]", True),
        ("import json", True),
        ("del conn", True),
        ("await f()", True),
        ("import time; time.sleep(1)", True),
        ("time.sleep(1)", False),  # it rests on what time is
        ("conn", False),
        ("x = conn.total", False),
        ("conn += 1", False),
        ("def f(): return conn", False),
        ("global conn; conn = conn", False),
        ("x = [conn for _ in ()]", False),
    ],
)
def test_only_what_reads_no_global_is_settled_by_its_text(source, settled):
    compiled = compile_cell(source, "<cell>")
    assert compiled.settled is settled
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        holding = dict.fromkeys(("conn", "x", "json", "f"), connection)
        if settled:
            assert place(compiled, holding) == place(compiled, {})


async def test_binding_a_name_anew_does_not_use_what_it_held():
    async with pyrepl3.open_session() as session:
        await session.run("import sqlite3; conn = sqlite3.connect(':memory:')")
        assert (await session.run("conn.total_changes")).placement == "thread"
        await session.run("kept, conn = conn, None")
        assert (await session.run("conn = 1")).placement == "loop"
        assert (await session.run("kept = kept.close()")).placement == "thread"
        assert (await session.run("kept = 2")).placement == "loop"
