"""What a cell's text says of blocking and of loops: mode, placement, reasons, without a namespace."""

from __future__ import annotations

import pytest

from pyrepl3.lang.blocking import BLOCKING_IO_CALLS, BLOCKING_IO_MODULES
from pyrepl3.lang.compile import compile_cell
from pyrepl3.lang.modes import explain_mode
from pyrepl3.records import ExecutionMode, Reason

AWAIT = ExecutionMode.TOP_LEVEL_AWAIT
ASYNC = ExecutionMode.ASYNC_DEF
BLOCKING = ExecutionMode.BLOCKING_SYNC
SIMPLE = ExecutionMode.SIMPLE_SYNC


def test_the_specifications_own_modules_and_calls_are_known():
    assert {
        *("requests", "urllib", "socket", "subprocess", "sqlite3", "psycopg2", "pymongo", "redis")
    } <= BLOCKING_IO_MODULES
    assert {"open", "input", "sleep", "wait", "read", "write", "recv", "send"} <= BLOCKING_IO_CALLS


TEXTS = [
    # The specification's own table.
    ("await asyncio.sleep(0)", AWAIT, "loop"),
    ("async def foo(): pass", ASYNC, "loop"),
    ("import requests; r = requests.get('url')", BLOCKING, "thread"),
    ("x = 1 + 1", SIMPLE, "loop"),
    # Plain.
    ("", SIMPLE, "loop"),
    ("print('x')", SIMPLE, "loop"),
    ("import os, sys, json, time, asyncio", SIMPLE, "loop"),
    ("import os.path", SIMPLE, "loop"),
    ("open_files = sleepy = 'open'", SIMPLE, "loop"),
    ("x.open = 1", SIMPLE, "loop"),
    ("f = open", SIMPLE, "loop"),
    ("'requests.get()'", SIMPLE, "loop"),
    ("sys.stdout.write('x')", SIMPLE, "loop"),
    ("from sys import stderr\nstderr.write('x')", SIMPLE, "loop"),
    ("c = asyncio.sleep(0)", SIMPLE, "loop"),
    ("import asyncio as aio\nc = aio.sleep(0)", SIMPLE, "loop"),
    ("from asyncio import sleep\nc = sleep(0)", SIMPLE, "loop"),
    ("from anyio import sleep as zzz\nc = zzz(0)", SIMPLE, "loop"),
    ("import io\nio.StringIO('x').read()", SIMPLE, "loop"),
    ("from io import BytesIO\nb = BytesIO()\nb.write(b'x')", SIMPLE, "loop"),
    ("with StringIO() as s:\n    s.write('x')", SIMPLE, "loop"),
    ("','.read()", SIMPLE, "loop"),
    # Calls.
    ("open('x')", BLOCKING, "thread"),
    ("with open('x') as f: pass", BLOCKING, "thread"),
    ("data = [open(p).read() for p in paths]", BLOCKING, "thread"),
    ("x = {k: v for k in input()}", BLOCKING, "thread"),
    ("if x:\n    for y in z:\n        time.sleep(y)", BLOCKING, "thread"),
    ("import time\ntime.sleep(1)", BLOCKING, "thread"),
    ("from time import sleep as s\nsleep(1)", BLOCKING, "thread"),
    ("path.read_text()", BLOCKING, "thread"),
    ("conn.execute('select 1')", BLOCKING, "thread"),
    ("sock.recv(10)", BLOCKING, "thread"),
    ("subprocess.run(['ls'])", BLOCKING, "thread"),
    ("requests.get('url').json()", BLOCKING, "thread"),
    ("requests.api.get('url')", BLOCKING, "thread"),
    ("os.system('ls')", BLOCKING, "thread"),
    ("sys.stdin.readline()", BLOCKING, "thread"),
    ("b = StringIO() if x else open('y')\nb.read()", BLOCKING, "thread"),
    ("f'{open(x).read()}'", BLOCKING, "thread"),
    ("assert input()", BLOCKING, "thread"),
    ("@open('x')\ndef f(): pass", BLOCKING, "thread"),
    ("def f(x=input()): pass", BLOCKING, "thread"),
    ("def f(*, x=input()): pass", BLOCKING, "thread"),
    ("f = lambda x=input(): 1", BLOCKING, "thread"),
    ("class A:\n    x = open('f')", BLOCKING, "thread"),
    ("class A(open('f')): pass", BLOCKING, "thread"),
    ("return open('f')", BLOCKING, "thread"),
    # Imports.
    ("import sqlite3", BLOCKING, "thread"),
    ("import urllib.request as r", BLOCKING, "thread"),
    ("import json, socket as s", BLOCKING, "thread"),
    ("from subprocess import run", BLOCKING, "thread"),
    ("from urllib import request", BLOCKING, "thread"),
    ("import http.client", BLOCKING, "thread"),
    ("from http import client", BLOCKING, "thread"),
    ("from http.client import HTTPConnection", BLOCKING, "thread"),
    ("from http import HTTPStatus", SIMPLE, "loop"),
    ("import redis.asyncio", SIMPLE, "loop"),
    ("from redis import asyncio", SIMPLE, "loop"),
    ("from redis.asyncio import Redis", SIMPLE, "loop"),
    ("from .requests import x", SIMPLE, "loop"),
    ("try:\n    import psycopg2\nexcept ImportError: pass", BLOCKING, "thread"),
    # A definition does not block; calling it in the same cell does.
    ("def f(): time.sleep(1)", SIMPLE, "loop"),
    ("def f(): import requests", SIMPLE, "loop"),
    ("class A:\n    def f(self): open('x')", SIMPLE, "loop"),
    ("f = lambda: open('x')", SIMPLE, "loop"),
    ("def f(): time.sleep(1)\nf()", BLOCKING, "thread"),
    ("def f(): g()\ndef g(): time.sleep(1)\nf()", BLOCKING, "thread"),
    ("def f(): time.sleep(1)\nprint(f)", SIMPLE, "loop"),
    ("def f(): f()\nf()", SIMPLE, "loop"),
    ("def wait(): pass\nwait()", SIMPLE, "loop"),
    ("async def f(): time.sleep(1)\nc = f()", ASYNC, "loop"),
    # What needs the running loop stays there.
    ("t = asyncio.create_task(f())", SIMPLE, "loop"),
    ("t = asyncio.create_task(f())\ntime.sleep(1)", BLOCKING, "loop"),
    ("asyncio.get_running_loop()\nopen('x')", BLOCKING, "loop"),
    ("asyncio.gather(a, b)\nopen('x')", BLOCKING, "loop"),
    ("from asyncio import gather\ngather(a)\nopen('x')", BLOCKING, "loop"),
    ("client.gather(a, b)\nopen('x')", BLOCKING, "thread"),
    ("loop.call_later(1, f); input()", BLOCKING, "loop"),
    ("def f(): asyncio.create_task(g())\ninput()", BLOCKING, "thread"),
    # An async cell is on the loop, whatever it calls.
    ("await f(); time.sleep(1)", AWAIT, "loop"),
    ("import sqlite3\nawait f()", AWAIT, "loop"),
    # The label is one thing, the placement another.
    ("async def f(): pass\ntime.sleep(1)", ASYNC, "thread"),
    ("async def f(): pass\nimport requests", ASYNC, "thread"),
    ("def f():\n    async def g(): pass", ASYNC, "loop"),
    ("class A:\n    async def g(self):\n        yield 1", ASYNC, "loop"),
    # What starts a loop of its own must be on no loop.
    ("asyncio.run(main())", BLOCKING, "thread"),
    ("async def main():\n    asyncio.create_task(f())\nasyncio.run(main())", ASYNC, "thread"),
    ("import asyncio\nif __name__ == '__main__':\n    asyncio.run(main())", BLOCKING, "thread"),
    ("from asyncio import run\nrun(main())", BLOCKING, "thread"),
    ("import anyio\nanyio.run(main)", BLOCKING, "thread"),
    ("trio.run(main)", BLOCKING, "thread"),
    ("with asyncio.Runner() as r:\n    r.run(main())", BLOCKING, "thread"),
    ("loop = asyncio.get_event_loop()\nloop.run_until_complete(main())", BLOCKING, "thread"),
    ("loop.run_forever()", BLOCKING, "thread"),
    ("def go(): asyncio.run(main())\ngo()", BLOCKING, "thread"),
    ("app.run()", SIMPLE, "loop"),
    ("run(main())", SIMPLE, "loop"),
    ("asyncio.create_task(f())\nasyncio.run(main())", BLOCKING, "thread"),
]


@pytest.mark.parametrize(("source", "mode", "placement"), TEXTS, ids=[t[0] for t in TEXTS])
def test_the_text_decides_mode_and_placement(source, mode, placement):
    cell = compile_cell(source, "<cell>")
    assert (cell.mode, cell.placement) == (mode, placement)
    # Without values the explanation says the same, and never without a reason.
    report = explain_mode(source, {})
    assert (report.mode, report.placement) == (mode, placement)
    assert bool(report.reasons) == (
        (mode, placement) != (SIMPLE, "loop") or "create_task" in source
    )


@pytest.mark.parametrize("transformed", [False, True])
def test_a_changed_tree_is_judged_as_changed(transformed):
    import ast

    tree = ast.parse("open('x')")
    cell = compile_cell("x = 1", "<cell>", transform=(lambda _: tree) if transformed else None)
    assert (cell.placement == "thread") is transformed


def test_reasons_have_their_place_and_come_in_the_order_of_the_text():
    source = (
        "import requests\n"
        "é = 1; r = requests.get('url')\n"
        "async def f():\n"
        "    await g()\n"
        "def h():\n"
        "    time.sleep(1)\n"
        "h()\n"
        "t = loop.create_task(f())"
    )
    report = explain_mode(source, {})
    assert report.mode is ASYNC
    assert report.placement == "loop"
    assert report.reasons == (
        Reason(kind="import", name="requests", line=1, column=0, text="import requests"),
        Reason(kind="call", name="get", line=2, column=11, text="requests.get(…)"),
        Reason(kind="async_def", name="f", line=3, column=0),
        Reason(kind="call", name="sleep", line=6, column=4, text="time.sleep(…)"),
        Reason(kind="needs_loop", name="create_task", line=8, column=4, text="loop.create_task(…)"),
    )


def test_every_await_is_a_reason():
    source = (
        "x = await f()\n"
        "async for y in z: pass\n"
        "async with a: pass\n"
        "[b async for b in c]\n"
        "def g(d=await e): await_ = 1\n"
        "(i async for i in j)\n"
    )
    reasons = explain_mode(source, {}).reasons
    assert [(r.kind, r.name, r.line, r.column) for r in reasons] == [
        ("await", "await", 1, 4),
        ("await", "async for", 2, 0),
        ("await", "async with", 3, 0),
        ("await", "async for", 4, 0),
        ("await", "await", 5, 8),
        ("await", "async for", 6, 0),
    ]


def test_a_long_reason_is_cut():
    name = "a" * 200
    (reason,) = explain_mode(f"{name}.read()", {}).reasons
    assert len(reason.text) == 80
    assert reason.text.endswith("…")


@pytest.mark.parametrize(
    "source", ["x = ", "await", "x = 1\n  y", "lambda: await x", "\0", "'\ud800'", "(" * 500]
)
def test_what_does_not_compile_is_unknown_and_says_why(source):
    report = explain_mode(source, {})
    assert report.mode is ExecutionMode.UNKNOWN
    (reason,) = report.reasons
    assert reason.kind == "syntax"
    assert reason.line >= 1
    assert reason.column >= 0
    assert reason.text


def test_inherited_flags_are_heeded():
    import __future__

    barry = __future__.barry_as_FLUFL.compiler_flag
    assert explain_mode("1 <> 2", {}).mode is ExecutionMode.UNKNOWN
    assert explain_mode("1 <> 2", {}, flags=barry).mode is SIMPLE
