"""A session comes back in a new process, after an end or a kill at any moment, with all it had."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import textwrap

import pytest

import pyrepl3
from pyrepl3.errors import SessionInUseError

# Runs cells, given as JSON on the command line, and prints what they came to as JSON, one line a cell.
PROGRAM = """
import asyncio, json, sys
import pyrepl3

store, epoch, host, cells = json.loads(sys.argv[1])

async def main(open_session=pyrepl3.open_session):
    async with open_session("kept", store=store) as session:
        if epoch:
            await session.restore(epoch)
        say(["open", session.count, session.epoch, session.lost])
        for source in cells:
            outcome = await session.run(source)
            value = repr(outcome.value) if outcome.ok else outcome.traceback
            say([outcome.ok, value, outcome.cell.id, outcome.epoch])
    return 0

def say(what):
    sys.__stdout__.write(json.dumps(what) + "\\n")
    sys.__stdout__.flush()

if host:
    from pyrepl3.engine.main import host_main
    sys.exit(host_main(main))
asyncio.run(main())
"""


def start(store, *cells, epoch=None, host=False):
    request = json.dumps([str(store), epoch, host, [textwrap.dedent(cell) for cell in cells]])
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, request],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )


def run(store, *cells, epoch=None, host=False):
    """Run cells in a new process to its end: the opening line, then one a cell."""
    process = start(store, *cells, epoch=epoch, host=host)
    out, err = process.communicate(timeout=60)
    assert err == ""
    assert process.returncode == 0
    opened, *results = map(json.loads, out.splitlines())
    return opened, results


DEFINITIONS = [
    "from __future__ import annotations",
    "import math, contextvars\nnumber, text, items = 42, 'é', [1, [2]]\nalias = items",
    "def area(r: Nowhere):\n    return math.pi * r * scale\nscale = 2",
    """
    class Shape:
        kind = "shape"
        def __init__(self, r): self.r = r
        def area(self): return area(self.r)
    class Round(Shape):
        def area(self): return super().area() + 1
    shape = Round(1)
    """,
    "async def later(x):\n    return x + number\nadd = lambda x: x + number\n"
    "def counter():\n    n = 0\n    def step():\n        nonlocal n\n        n += 1\n        return n\n"
    "    return step\nstep = counter(); step();",
    "variable = contextvars.ContextVar('variable'); variable.set('set')",
    "import threading; lock = threading.Lock()",
    "'shown'",
    "1 / 0",
]

ANSWERS = {
    "_": "'shown'",
    "type(_last_exception).__name__": "'ZeroDivisionError'",
    "number, text, items, alias is items": "(42, 'é', [1, [2]], True)",
    "round(area(1), 3), area.__annotations__": "(6.283, {'r': 'Nowhere'})",
    "type(shape).__mro__[1] is Shape, round(shape.area(), 3), Round.kind, shape.r": (
        "(True, 7.283, 'shape', 1)"
    ),
    "await later(1), add(2), step()": "(43, 44, 2)",
    "variable.get()": "'set'",
    "lock": "LostValueError: name 'lock' was lost in the restart",
    "def g(x: Missing): pass\ng.__annotations__": "{'x': 'Missing'}",
    "import inspect\n[inspect.getsource(o).splitlines()[0] for o in (area, Shape, Round, step)]": (
        "['def area(r: Nowhere):', 'class Shape:', 'class Round(Shape):', '    def step():']"
    ),
    "area('x')": "line 2, in area\n    return math.pi * r * scale\n",
    "import pickle; pickle.loads(pickle.dumps(shape)).r, pickle.loads(pickle.dumps(area)) is area": (
        "(1, True)"
    ),
}
FAILS = {"lock", "area('x')"}


def ask(store, *, epoch, host):
    """Ask all questions in a new process, check what is answered, and give the opening line."""
    opened, results = run(store, *ANSWERS, epoch=epoch, host=host)
    for (question, answer), (ok, value, _, _) in zip(ANSWERS.items(), results, strict=True):
        assert ok is (question not in FAILS), (question, value)
        assert answer == value if ok else answer in value, (question, value)
    first = opened[1] + 1
    assert [cell for _, _, cell, _ in results] == [
        f"kept-c{n}" for n in range(first, first + len(results))
    ]
    return opened


@pytest.mark.slow
@pytest.mark.parametrize("first", [False, True], ids=["library", "main"])
@pytest.mark.parametrize("second", [False, True], ids=["library", "main"])
def test_everything_comes_back_in_a_new_process_whoever_hosts_it(tmp_path, first, second):
    """Hosted by ``host_main`` the namespace is ``__main__``, in a library a module of its own."""
    _, made = run(tmp_path, *DEFINITIONS, host=first)
    assert [ok for ok, *_ in made] == [True] * 8 + [False]
    assert [epoch for *_, epoch in made] == list(range(1, 10))
    opened = ask(tmp_path, epoch=None, host=second)
    assert opened == ["open", 9, 9, opened[3]]
    assert list(opened[3]) == ["lock"]
    # What was restored is kept like what was made; an older epoch is as it was.
    _, results = run(tmp_path, "import inspect; inspect.getsource(Shape)", "area('x')", host=first)
    assert "kind = " in results[0][1]
    assert ANSWERS["area('x')"] in results[1][1]
    assert ask(tmp_path, epoch=9, host=first)[1:3] == [23, 9]


@pytest.mark.slow
def test_a_kill_in_the_midst_of_a_cell_leaves_the_cells_before_it(tmp_path):
    process = start(
        tmp_path,
        "x = 1\ndef f(): return x",
        "x = 2\n_ = 5",
        "x = 3\nimport os, sys, time\nos.write(1, b'\"in\"\\n')\ntime.sleep(60)",
    )
    lines = []
    for line in process.stdout:
        lines.append(json.loads(line))
        if lines[-1] == "in":
            process.send_signal(signal.SIGKILL)
            break
    process.communicate(timeout=30)
    opened, results = run(tmp_path, "f(), x")
    assert opened == ["open", 2, 2, {}]
    assert results == [[True, "(2, 2)", "kept-c3", 3]]


@pytest.mark.slow
def test_a_kill_after_a_cell_is_told_never_loses_it(tmp_path):
    """Once ``run`` has returned with an epoch, that epoch is on disk."""
    count = 0
    for told in (1, 3, 2):
        process = start(
            tmp_path, *(["n = globals().get('n', 0) + 1"] * 5), "import time; time.sleep(60)"
        )
        process.stdout.readline()
        for _ in range(told):
            ok, _, _, epoch = json.loads(process.stdout.readline())
            assert ok
            assert epoch
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
        opened, results = run(tmp_path, "n")
        assert results[0][0]
        assert int(results[0][1]) >= count + told
        count = int(results[0][1])
        assert opened[1] >= count


async def test_a_session_in_use_is_refused_by_name(tmp_path):
    async with pyrepl3.open_session("busy", store=tmp_path):
        with pytest.raises(SessionInUseError, match="'busy' is in use"):
            async with pyrepl3.open_session("busy", store=tmp_path):
                pass
        async with pyrepl3.open_session("other", store=tmp_path) as session:
            assert (await session.run("1")).epoch == 1
    async with pyrepl3.open_session("busy", store=tmp_path) as session:
        assert session.count == 0


async def test_epochs_on_disk_go_back_and_forth(tmp_path):
    async with pyrepl3.open_session("kept", store=tmp_path) as session:
        await session.run("items = [1]")
        await session.run("items.append(2)\nclass C:\n    x = 1")
        await session.run("del C; items.append(3)")
        await session.restore(2)
        assert (await session.run("items, C.x")).value == ([1, 2], 1)
        await session.restore(1)
        outcome = await session.run("items, 'C' in dir()")
        assert outcome.value == ([1], False)
        assert [epoch.epoch for epoch in await session.history()] == [1, 5]
    async with pyrepl3.open_session("kept", store=tmp_path) as session:
        assert (await session.fetch("items"), session.count) == ([1], 5)
        # The audit at the end may have amended the last one: another number, the same cell.
        history = await session.history()
        assert [epoch.receipt.cell.n for epoch in history] == [1, 5]
        assert session.epoch == history[-1].epoch >= 5


def test_two_processes_have_a_session_each_of_one_store_at_the_same_time(tmp_path):
    program = """if True:
    import asyncio, sys
    import pyrepl3

    async def main(name):
        async with pyrepl3.open_session(name, store=sys.argv[2]) as session:
            print("open", flush=True)
            input()
            for n in range(20):
                (await session.run(f"from pyrepl3 import step; x = step(pow, {n}, 2)")).unwrap()
            print("done", session.epoch, flush=True)
            input()

    asyncio.run(main(sys.argv[1]))
    """
    pair = [
        subprocess.Popen(
            [sys.executable, "-c", program, name, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    for told in ("open\n", "done 20\n"):
        assert [process.stdout.readline() for process in pair] == [told, told]
        for process in pair:
            process.stdin.write("\n")
            process.stdin.flush()
    for process in pair:
        process.communicate(timeout=60)
    assert [process.returncode for process in pair] == [0, 0]


async def test_many_cells_of_many_sessions_at_once_on_disk(tmp_path):
    async def work(name):
        async with pyrepl3.open_session(name, store=tmp_path) as session:
            for n in range(5):
                await session.run(f"x = [*globals().get('x', []), ({name!r}, {n})]")
        async with pyrepl3.open_session(name, store=tmp_path) as session:
            return await session.fetch("x")

    found = await asyncio.gather(*(work(f"s{n}") for n in range(4)))
    assert found == [[(f"s{i}", n) for n in range(5)] for i in range(4)]
