"""The type checker: its promises, its places, its end, and what is said where there is none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

import pyrepl3
from pyrepl3.check import ty
from pyrepl3.check.server import LanguageServer
from pyrepl3.check.ty import TyChecker
from pyrepl3.errors import CheckerError, MissingExtraError
from pyrepl3.records import Looked
from pyrepl3.testing.looking import checker_checks

pytestmark = pytest.mark.slow


@pytest.fixture
def checker():
    checker = TyChecker()
    yield checker
    checker.close()


@pytest.mark.parametrize("check", checker_checks(), ids=lambda check: check.name)
def test_ty_keeps_the_promises_of_the_port(check, checker):
    check.run(checker)


CELL = """
import enum, dataclasses, typing
class C:
    kind = "a"
    def __init__(self, v: int): self.v = v
    async def work(self, q: "C", *more, z: typing.Optional[int] = None): ...
    @property
    def p(self) -> int: return 1
class Colour(enum.Enum):
    RED = 1
@dataclasses.dataclass
class Point:
    x: int
    y: int = 0
class Odd:
    def __getattr__(self, name): return 1
def f(a, /, b: int, *, c: int = 3) -> str: return "x"
c, red, point, odd, items = C(1), Colour.RED, Point(1), Odd(), [1, 2]
c.extra = 1
"""

FINE = """
c.v.anything; c.extra = "other"; c.extra; c.new = 1; c.kind = None; c.p + 1; Colour.RED; red.value
Point(1, 2); Point(x=1).y; odd.whatever(); items.append("text"); f(1, 2).upper(); f(1, b=2, c=3)
async def g(): await odd.work(c, 1, 2, z=3)
await c.work(c, 1, 2, z=3)
c = 1; c + 1; f = None; class_ = C
def Point(): ...
Point()
await g()
[].append(1); (lambda q: q.nothing)(1)
for item in items: print(item)
"""

WRONG = {
    "c.nothing": ("type", 0),
    "C()": ("wrong-arguments", 0),
    "C(1, 2)": ("wrong-arguments", 5),
    "f(1)": ("wrong-arguments", 0),
    "f(1, 2, d=4)": ("wrong-arguments", 8),
    "f(1, 'two')": ("wrong-arguments", 5),
    "Point(1, 2, 3)": ("wrong-arguments", 12),
    "Colour.GREEN": ("type", 0),
    "items.push(1)": ("type", 0),
    "point.x + 'text'": ("type", 0),
    "'é' + point.z": ("type", 6),
    "x: int = 'text'": ("type", 9),
}


@pytest.mark.parametrize("isolation", ["none", "process"])
async def test_a_cell_is_checked_against_live_values(isolation):
    async with pyrepl3.open_session(isolation=isolation) as session:
        assert (await session.run(CELL)).ok
        report = await session.check(FINE)
        assert report.diagnostics == ()
        assert report.ok
        assert report.engine.startswith("ty ")
        for source, (kind, column) in WRONG.items():
            report = await session.check(source, types=True)
            assert [(one.kind, one.column) for one in report.diagnostics] == [(kind, column)], (
                source
            )
            assert not report.ok
        assert await session.types("a = f(1, 2); b = point.x; c = [1.5]") == {
            "a": "str",
            "b": "int",
            "c": "list[float]",
        }
        types = await session.types()
        assert (types["c"], types["items"], types["Point"]) == ("C", "list[int]", "type[Point]")
        assert types["f"] == "(a, /, b: int, *, c: int = ...) -> str"


async def test_a_name_that_is_bound_anew_is_only_a_warning_in_functions():
    async with pyrepl3.open_session() as session:
        assert (await session.run(CELL)).ok
        report = await session.check("def g(): return c.v\nc = 1")
        assert [(one.severity, one.line) for one in report.diagnostics] == [("warning", 1)]


async def test_what_is_no_python_is_not_asked_about():
    async with pyrepl3.open_session() as session:
        report = await session.check("if x\n    y")
        assert [one.kind for one in report.diagnostics] == ["syntax"]
        assert report.unchecked == "it does not compile"
        with pytest.raises(CheckerError, match="does not compile"):
            await session.types("if x\n    y")


async def test_without_the_extra_the_rest_is_found_and_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(ty, "find_ty", lambda: None)
    async with pyrepl3.open_session() as session:
        report = await session.check("missing")
        assert [one.kind for one in report.diagnostics] == ["undefined-name"]
        assert "pip install 'pyrepl3[check]'" in report.unchecked
        with pytest.raises(MissingExtraError, match=r"pyrepl3\[check\]"):
            await session.check("missing", types=True)
        with pytest.raises(ImportError, match=r"pyrepl3\[check\]"):
            await session.types("x = 1")
        assert (await session.run("x, y = 1, [1, 2.5]\ny.append('text')")).ok
        assert await session.types() == {"x": "int", "y": "list[int | float | str]"}
        report = await session.check("missing", types=False)
        assert report.unchecked == "not asked for"


def test_a_server_that_dies_is_replaced(checker):
    looked = Looked(stub="def f(): ...\n", names=("f",))
    assert checker.check("f(1)", looked).diagnostics
    first = ty._shared.server
    os.kill(first.pid, signal.SIGKILL)
    first._process.wait()
    assert checker.check("f(1)", looked).diagnostics
    assert ty._shared.server.pid != first.pid


def test_the_last_to_close_ends_the_server_and_its_files(checker):
    other = TyChecker()
    checker.check("1", Looked())
    other.check("1", Looked())
    server, root = ty._shared.server, ty._shared.root
    checker.close()
    assert server.alive
    other.close()
    assert not server.alive
    assert not root.exists()


OWNER = """
import os, signal
from pyrepl3.check import ty
from pyrepl3.records import Looked
ty.TyChecker().check("1", Looked())
print(ty._shared.server.pid, flush=True)
if os.fork() == 0:  # a child of the user's must not keep it
    signal.pause()
    os._exit(0)
signal.pause()
"""


def test_the_server_dies_with_its_owner_however_that_dies():
    owner = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", OWNER],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        pid = int(owner.stdout.readline())
        watch = os.pidfd_open(pid)
        owner.kill()
        owner.wait()
        import select

        assert select.select([watch], [], [], 60)[0], "the server outlived its owner"
        os.close(watch)
    finally:
        os.killpg(owner.pid, signal.SIGKILL)
        owner.stdout.close()


@pytest.mark.parametrize(
    "script",
    [
        "pass",
        "print('Content-Length: 99999999999\\r\\n\\r\\n')",
        "print('Content-Length: 3\\r\\n\\r\\n{]}')",
        "import sys; sys.stdin.read(1); sys.stdout.write('nonsense')",
    ],
)
def test_a_server_that_speaks_nonsense_is_ended(tmp_path, script):
    with pytest.raises(CheckerError, match="no answer"):
        LanguageServer([sys.executable, "-c", script], tmp_path)


def test_a_program_that_is_not_there_is_told(tmp_path):
    with pytest.raises(CheckerError, match="could not be started"):
        LanguageServer([str(tmp_path / "nothing")], tmp_path)


def test_a_stub_of_a_worker_is_bounded_and_only_text(checker):
    with pytest.raises(CheckerError, match="too much text"):
        checker.check("1", Looked(stub="#" * 3_000_000))
    evil = Looked(stub="}{ not python \x00\x1b[31m", names=("x",), imports="import os")
    assert all(one.text.isprintable() for one in checker.check("x.y", evil).diagnostics)
