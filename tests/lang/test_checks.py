"""What is found in a cell before it runs, without any engine: kinds, places, repairs; and what is not."""

from __future__ import annotations

import asyncio
import time
from time import sleep
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrepl3.lang.checks import check_cell


async def work(x=None): ...


class Client:
    async def get(self): ...

    def close(self): ...


LIVE = {
    "__name__": "cells",
    "asyncio": asyncio,
    "time": time,
    "sleep": sleep,
    "work": work,
    "client": Client(),
    "total": 1,
    "items": [],
}


def found(source, namespace=LIVE):
    return [(one.kind, one.line, one.column) for one in check_cell(source, namespace)[0]]


CASES = {
    # names that nobody binds
    "totl + 1": [("undefined-name", 1, 0)],
    "é = 'ü'; é + missing": [("undefined-name", 1, 13)],
    "print(y)\ny = 1": [("undefined-name", 1, 6)],
    "def f():\n    return missing": [("undefined-name", 2, 11)],
    "class C:\n    a = 1\n    b = a + missing": [("undefined-name", 3, 12)],
    "def f(x: Missing): ...": [("undefined-name", 1, 9)],
    "return missing": [("undefined-name", 1, 7)],
    # builtins that are hidden
    "list = [1]": [("shadowed-builtin", 1, 0)],
    "def max(): ...": [("shadowed-builtin", 1, 0)],
    "from os import open": [("shadowed-builtin", 1, 0)],
    # coroutines nobody awaits
    "work()": [("unawaited", 1, 0)],
    "client.get()": [("unawaited", 1, 0)],
    "asyncio.sleep(1)": [("unawaited", 1, 0)],
    "async def f(): ...\nf()": [("unawaited", 2, 0)],
    "async def f():\n    work()": [("unawaited", 2, 4)],
    "import asyncio as a\na.sleep(1)": [("unawaited", 2, 0)],
    # calls that block
    "await work(); time.sleep(1)": [("blocking-call", 1, 14)],
    "await work(); sleep(1)": [("blocking-call", 1, 14)],
    "async def f():\n    return open('f').read()": [("blocking-call", 2, 11)],
    "import requests as r\nasync def f(u):\n    return r.get(u)": [("blocking-call", 3, 11)],
    "async def f():\n    subprocess.run([])\nimport subprocess": [("blocking-call", 2, 4)],
    # nothing
    "": [],
    "total + len(items)": [],
    "def f():\n    return later\nlater = 1": [],
    "for i in items:\n    if i: print(y)\n    y = 1": [],
    "try:\n    unicode\nexcept NameError:\n    unicode = str": [],
    "from os.path import *\njoin": [],
    "exec('z = 1'); z": [],
    "[x for x in items]": [],
    "class C:\n    a = 1\n    b = a": [],
    "__file__": [],
    "def f(list): return list": [],
    "_ = 1": [],
    "x = work()\nawait x": [],
    "await work()": [],
    "def f(work):\n    work()": [],
    "asyncio.create_task(work())": [],
    "client.close()": [],
    "time.sleep(1)": [],
    "def f(): time.sleep(1)": [],
    "async def f(r):\n    await r.read(); r.read()\n    await asyncio.wait_for(r.read(), 1)": [],
    "import asyncio\nasync def f():\n    asyncio.sleep": [],
    "work = lambda: None\nwork()": [],
    "from functools import cache\n@cache\nasync def f(): ...\nf()": [],
}


@pytest.mark.parametrize(("source", "expected"), CASES.items())
def test_what_is_found_and_what_is_not(source, expected):
    assert found(source) == expected


REPAIRS = {
    "totl + 1": "total + 1",
    "é = totl": "é = total",
    "np.array(total)": "import numpy as np\nnp.array(total)",
    '"""doc"""\nfrom __future__ import annotations\njson.dumps(1)': (
        '"""doc"""\nfrom __future__ import annotations\nimport json\njson.dumps(1)'
    ),
    "list = [1]\nlist.append(2)\ndef f(list): return list": (
        "list_ = [1]\nlist_.append(2)\ndef f(list): return list"
    ),
    "é = 1; work()": "é = 1; await work()",
    "async def f():\n    time.sleep(1)": "async def f():\n    await asyncio.sleep(1)",
    "async def f():\n    sleep(1)": "async def f():\n    await asyncio.sleep(1)",
    "async def f():\n    return open('f', 'w').read()": (
        "async def f():\n    return (await asyncio.to_thread(open, 'f', 'w')).read()"
    ),
    "async def f():\n    with open('f') as g: ...": (
        "async def f():\n    with await asyncio.to_thread(open, 'f') as g: ..."
    ),
    "async def f():\n    input()": "async def f():\n    await asyncio.to_thread(input)",
    "if total\n    total": "if total:\n    total",
}


@pytest.mark.parametrize(("source", "repaired"), REPAIRS.items())
def test_a_repair_is_proposed_and_finds_no_fault_with_itself(source, repaired):
    (one,) = check_cell(source, LIVE)[0]
    assert one.proposal == repaired
    assert one.changes
    assert found(repaired) == []


def test_a_repair_brings_asyncio_along_where_nobody_has_it():
    (one,) = check_cell("async def f():\n    input()", {})[0]
    assert one.proposal == "import asyncio\nasync def f():\n    await asyncio.to_thread(input)"


def test_a_coroutine_in_a_plain_function_is_told_and_not_repaired():
    (one,) = check_cell("def f():\n    work()", LIVE)[0]
    assert one.proposal is None
    assert "create_task" in one.text


def test_a_builtin_that_is_hidden_already_is_told_once_only():
    assert found("max = 1; max = 2") == [("shadowed-builtin", 1, 0)]
    assert found("max = 1", {"max": 2}) == []


def test_no_code_of_the_values_runs():
    class Trap:
        def __getattribute__(self, name):
            raise AssertionError(name)

    source = "trap.a.b(); trap(); await work(); trap.read()"
    assert found(source, {**LIVE, "trap": Trap(), "space": SimpleNamespace()}) == []


def test_a_syntax_error_is_the_only_thing_told():
    assert found("missing\nx = = 1") == [("syntax", 2, 4)]
    assert found("x = 1\0") == [("syntax", 1, 5)]


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="xyé=+()[]:.\n \t'\"#0awitdefclr,@*", max_size=60))
def test_no_source_makes_it_raise(source):
    for one in check_cell(source, LIVE)[0]:
        assert one.line >= 1
        assert one.column >= 0
