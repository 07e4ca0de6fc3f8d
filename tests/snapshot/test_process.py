"""What cells change in the process comes back where the session owns it, and is left alone elsewhere."""

from __future__ import annotations

import importlib
import json
import os
import random
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import pyrepl3
from pyrepl3.records import Notice
from pyrepl3.snapshot.process import Process, merge_path
from pyrepl3.testing.fakes import Seen

# what: (cell, an expression that must have the same value in the next process)
STATE = {
    "random": ("import random; random.seed(5); random.random()", "random.random()"),
    "numpy": (
        "import numpy as np; np.random.seed(5); np.random.rand(3)",
        "float(np.random.rand())",
    ),
    "a generator of numpy": (
        "import numpy as np; rng = np.random.default_rng(5); rng.random()",
        "rng.random()",
    ),
    "decimal": (
        "import decimal; decimal.getcontext().prec = 5",
        "str(decimal.Decimal(1) / 3)",
    ),
    "environment": (
        "import os; os.environ['H5_NEW'] = 'x'; os.environ.pop('H5_OLD', None)",
        "(os.environ.get('H5_NEW'), os.environ.get('H5_OLD'))",
    ),
    "directory": ("import os; os.makedirs('below', exist_ok=True); os.chdir('below')", "os.getcwd()"),
    "path": ("import sys; sys.path.insert(0, '/somewhere')", "sys.path[0]"),
    "a module by that path": (
        "import os, sys; os.makedirs('lib', exist_ok=True)\n"
        "open('lib/h5mod.py', 'w').write('class T:\\n    x = 1\\n')\n"
        "sys.path.append(os.path.abspath('lib'))\nimport h5mod; t = h5mod.T()",
        "(t.x, type(t).__module__)",
    ),
    "warnings": (
        "import warnings; warnings.filterwarnings('error', 'h5 .*')",
        "warnings.filters[0][0], warnings.filters[0][1].pattern",
    ),
    "recursion": ("import sys; sys.setrecursionlimit(4321)", "sys.getrecursionlimit()"),
    "modules": (
        "import importlib; importlib.import_module('colorsys')\nimport sys",
        "'colorsys' in sys.modules",
    ),
    "a module without a name": ("import this_is_h5 as h; del h", "'this_is_h5' in __import__('sys').modules"),
    "locale": (
        "import locale; locale.setlocale(locale.LC_ALL, 'C.UTF-8')",
        "locale.setlocale(locale.LC_ALL, None)",
    ),
}  # fmt: skip

_LIFE = """
import asyncio, json, os, sys
import pyrepl3

async def main(path, source, text):
    async with pyrepl3.open_session("s", store=path, process=True) as session:
        if source:
            outcome = await session.run(source)
            assert outcome.ok, outcome
        else:
            outcome = await session.run(text)
            assert outcome.ok, outcome
            print(json.dumps(outcome.text))
            return

asyncio.run(main(*json.loads(sys.stdin.read())))
"""


def live(tmp_path, source, text=""):
    done = subprocess.run(
        [sys.executable, "-c", _LIFE],
        input=json.dumps([str(tmp_path / "store"), source, text]),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "H5_OLD": "old", "PYTHONPATH": str(tmp_path), "LC_ALL": "C"},
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_process_state_comes_back_in_a_new_process(tmp_path):
    """All in one session: each cell changes one thing, the next process looks at all of them."""
    (tmp_path / "this_is_h5.py").write_text("")
    cells = "\n".join(source for what, (source, _) in STATE.items() if what != "directory")
    expect = ", ".join(f"({text})" for _, text in STATE.values())
    live(tmp_path, f"{cells}\n{STATE['directory'][0]}\nimport locale, warnings, sys, os")
    found = live(tmp_path, "", f"[{expect}]")
    again = live(tmp_path, "", "1")
    assert json.loads(again) == "1"
    values = dict(zip(STATE, eval(json.loads(found)), strict=True))
    rng = random.Random(5)
    rng.random()
    assert values["random"] == rng.random()

    old = np.random.RandomState(5)
    old.rand(3)
    assert values["numpy"] == float(old.rand())
    new = np.random.default_rng(5)
    new.random()
    assert values["a generator of numpy"] == new.random()
    assert values["decimal"] == "0.33333"
    assert values["environment"] == ("x", None)
    assert values["directory"] == str(tmp_path / "below")
    assert values["path"] == "/somewhere"
    assert values["a module by that path"] == (1, "h5mod")
    assert values["warnings"] == ("error", "h5 .*")
    assert values["recursion"] == 4321
    assert values["modules"] is True
    assert values["a module without a name"] is True
    assert values["locale"] == "C.UTF-8"


@pytest.fixture
def own_process(monkeypatch, tmp_path):
    """This process, to be changed and put back."""
    monkeypatch.chdir(tmp_path)
    state, limit, path = random.getstate(), sys.getrecursionlimit(), list(sys.path)
    environ = dict(os.environ)
    with warnings.catch_warnings():
        yield
    random.setstate(state)
    sys.setrecursionlimit(limit)
    sys.path[:] = path
    os.environ.clear()
    os.environ.update(environ)


@pytest.mark.usefixtures("own_process")
def test_nothing_is_kept_of_what_did_not_change():
    process = Process()
    assert process.changes() == {}


@pytest.mark.usefixtures("own_process")
def test_going_back_undoes_what_was_changed_since(tmp_path):
    process = Process()
    before = (
        random.getstate(),
        sys.getrecursionlimit(),
        list(sys.path),
        dict(os.environ),
        Path.cwd(),
    )
    random.random()
    sys.setrecursionlimit(2345)
    sys.path.append("x")
    os.environ["H5"] = "1"
    (tmp_path / "d").mkdir()
    os.chdir(tmp_path / "d")
    state = process.changes()
    assert process.prepare({}) == process.resume({}) == []
    assert (
        random.getstate(),
        sys.getrecursionlimit(),
        list(sys.path),
        dict(os.environ),
        Path.cwd(),
    ) == before
    assert process.prepare(state) == process.resume(state) == []
    assert process.changes().keys() == state.keys()
    assert os.environ["H5"] == "1"
    assert Path.cwd() == tmp_path / "d"


@pytest.mark.usefixtures("own_process")
def test_what_cannot_be_brought_back_is_told(tmp_path):
    process = Process()
    (tmp_path / "gone").mkdir()
    os.chdir(tmp_path / "gone")
    state = process.changes() | {"process:modules": {"now": ["h5_not_installed"]}}
    os.chdir(tmp_path)
    (tmp_path / "gone").rmdir()
    (note,) = process.prepare(state)
    assert note.startswith("working directory could not be restored: ")
    (note,) = process.resume(state)
    assert "'h5_not_installed'" in note


def test_a_path_that_begins_otherwise_keeps_what_is_its_own():
    merged = merge_path(["new", "lib"], ["old", "lib"], ["added", "old", "lib", "more"])
    assert merged == ["added", "lib", "more", "new"]


@pytest.mark.usefixtures("own_process")
async def test_a_library_leaves_the_process_of_its_host_alone(tmp_path):
    async with pyrepl3.open_session("s", store=tmp_path, process=True) as session:
        assert (await session.run("import os; os.environ['H5'] = 'changed'")).ok
    del os.environ["H5"]
    seen = Seen()
    async with pyrepl3.open_session("s", store=tmp_path, observe=seen):
        assert "H5" not in os.environ
        (notice,) = [event for event in seen.of(Notice) if event.kind == "restored"]
        assert "environment" in notice.text
        assert "process=True" in notice.text
    async with pyrepl3.open_session("s", store=tmp_path, process=True):
        assert os.environ["H5"] == "changed"


@pytest.mark.usefixtures("own_process")
async def test_a_session_of_a_library_stores_nothing_of_the_process(tmp_path):
    async with pyrepl3.open_session("s", store=tmp_path) as session:
        assert (await session.run("import os; os.environ['H5'] = 'changed'")).ok
        assert b"changed" not in session._store.load().engine


def test_what_the_engine_loads_between_cells_is_no_module_of_the_session(tmp_path, monkeypatch):
    for name in ("h5_cell", "h5_engine", "h5_task"):
        (tmp_path / f"{name}.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    process = Process()
    before = process.changes()
    process.saw({"globals"})  # from here on anything may be loaded by name
    importlib.import_module("h5_cell")
    cell = process.changes()
    assert cell == {**before, "process:modules": {"now": ["h5_cell"]}}
    importlib.import_module("h5_engine")
    assert process.changes() == cell
    del sys.modules["h5_engine"]
    importlib.import_module("h5_task")  # as many modules as before
    assert process.changes(busy=True)["process:modules"] == {"now": ["h5_cell", "h5_task"]}
    process.saw({"x"})
    assert process.changes()["process:modules"] == {"now": ["h5_cell", "h5_task"]}
