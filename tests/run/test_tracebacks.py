"""Tracebacks show the user's lines, columns and carets, and no frame of ours."""

from __future__ import annotations

import asyncio
import sys
import textwrap
import traceback

import pytest

import pyrepl3
from pyrepl3.config import ExecutorConfig
from pyrepl3.errors import CompilationError
from pyrepl3.records import Failed, Interrupted
from pyrepl3.run.points import is_ours
from pyrepl3.run.text import LONGEST
from pyrepl3.run.tracebacks import format_error, trim, trimmed
from pyrepl3.session.mailbox import part_size
from pyrepl3.testing.fakes import Seen


@pytest.fixture
async def session():
    async with pyrepl3.open_session() as session:
        yield session


def dedent(text: str) -> str:
    return textwrap.dedent(text).strip("\n") + "\n"


def without_carets(text: str) -> str:
    """Lines of carets differ between Python versions where a whole line is at fault."""
    lines = text.splitlines()
    return "\n".join(line for line in lines if not line.strip() or set(line) - set("~^ ")) + "\n"


def our_frames(error: BaseException) -> list[str]:
    """Files of ours in the traceback of ``error`` and of all that it carries."""
    found, rest, seen = [], [error], set()
    while rest:
        one = rest.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        files = [frame.filename for frame in traceback.extract_tb(one.__traceback__)]
        found += [file for file in files if is_ours(file)]
        rest += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
    return found


# --- what is shown ----------------------------------------------------------------------------------


async def test_lines_columns_and_carets_across_cells(session):
    await session.run("def ratio(a, b):\n    # a comment\n    return a + (a / b)")
    await session.run("def call(n):\n    return ratio(n, 0) + 1")
    outcome = await session.run("x = 1\ny = 2 + call(x) * 3")
    expected = dedent("""
        Traceback (most recent call last):
          File "<session cell 3>", line 2, in <module>
            y = 2 + call(x) * 3
                    ~~~~^^^
          File "<session cell 2>", line 2, in call
            return ratio(n, 0) + 1
                   ~~~~~^^^^^^
          File "<session cell 1>", line 3, in ratio
            return a + (a / b)
                        ~~^~~
        ZeroDivisionError: division by zero
        """)
    if sys.version_info < (3, 13):  # which marks a call by its whole length
        expected = expected.replace("~~~~^^^\n", "^^^^^^^\n").replace("~~~~~^^^^^^", "^" * 11)
    assert outcome.traceback == expected


WAYS = {
    "plain": "f()",
    "awaited": "import asyncio; await asyncio.sleep(0)\nf()",
    "async function": "async def g():\n    f()\nawait g()",
    "task": "import asyncio\nasync def g():\n    f()\nawait asyncio.create_task(g())",
    "gather": "import asyncio\nasync def g():\n    f()\nawait asyncio.gather(g(), g())",
    "blocking": "import time; time.sleep(0)\nf()",
    "to_thread": "import asyncio\nawait asyncio.to_thread(f)",
    "pool": (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor() as pool:\n    pool.submit(f).result()"
    ),
    "executor": "import asyncio\nawait asyncio.get_running_loop().run_in_executor(None, f)",
    "decorator": "def deco(fn):\n    fn()\n    return fn\n@deco\ndef g():\n    f()",
    "comprehension": "[f() for _ in range(2)]",
    "generator": "list(f() for _ in range(2))",
    "lambda": "(lambda: f())()",
    "class body": "class C:\n    f()",
    "property": "class C:\n    @property\n    def p(self):\n        return f()\nC().p",
    "exec": "exec('f()')",
    "eval": "eval('f()')",
    "return": "if True:\n    return f()",
    "redirect": "import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()):\n    f()",
    "sorted": "sorted([1, 2], key=lambda _: f())",
    "__del__ free": "try:\n    f()\nfinally:\n    pass",
    "run": "import asyncio\nasync def g():\n    f()\nasyncio.run(g())",
    "nested session frames": "import warnings\nwith warnings.catch_warnings():\n    f()",
}


@pytest.mark.parametrize("source", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("background", [False, True], ids=["front", "beside"])
async def test_no_frame_of_ours_whatever_way_the_error_came(session, source, background):
    await session.run("def f():\n    raise ValueError('oh')")
    outcome = await session.run(source, background=background)
    assert isinstance(outcome, Failed), outcome
    assert isinstance(outcome.error, ValueError)
    assert our_frames(outcome.error) == []
    assert "src/pyrepl3" not in outcome.traceback
    lines = outcome.traceback.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert f'  File "{outcome.cell.filename}", line ' in lines[1]
    assert '  File "<session cell 1>", line 2, in f' in lines
    assert lines[-1] == "ValueError: oh"


async def test_the_bare_executor_raises_with_the_user_s_frames_only():
    executor = pyrepl3.AsyncExecutor(None, pyrepl3.NamespaceManager(name="bare"), "bare")
    await executor.execute("def f():\n    1 / 0")
    for source in ("f()", "import asyncio; await asyncio.sleep(0); f()", "import time; f()"):
        with pytest.raises(ZeroDivisionError) as caught:
            await executor.execute(source)
        frames = traceback.extract_tb(caught.value.__traceback__)
        assert [frame.name for frame in frames if frame.filename.startswith("<bare")] == [
            "<module>",
            "f",
        ]
        assert caught.value is executor.namespace.namespace["_last_exception"]
    await executor.aclose()


async def test_causes_contexts_and_notes_are_whole(session):
    outcome = await session.run(
        dedent("""
        def inner():
            raise KeyError("a")
        try:
            try:
                inner()
            except KeyError as error:
                error.add_note("noted")
                raise TypeError("b") from error
        except TypeError:
            raise ValueError("c")
        """)
    )
    text = outcome.traceback
    assert our_frames(outcome.error) == []
    order = [
        "KeyError: 'a'\nnoted\n",
        "The above exception was the direct cause",
        "TypeError: b\n",
        "During handling of the above exception",
        "ValueError: c\n",
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert text.count("line 5, in <module>") == 1
    assert text.count("line 2, in inner") == 1


async def test_exception_groups_are_whole(session):
    outcome = await session.run(
        dedent("""
        import asyncio
        async def f(n):
            raise ValueError(n)
        async def g():
            async with asyncio.TaskGroup() as group:
                group.create_task(f(1))
                group.create_task(f(2))
        await g()
        """)
    )
    assert isinstance(outcome.error, ExceptionGroup)
    assert our_frames(outcome.error) == []
    text = outcome.traceback
    assert "ExceptionGroup: unhandled errors in a TaskGroup (2 sub-exceptions)" in text
    assert text.count("line 3, in f") == 2
    assert "ValueError: 1" in text
    assert "ValueError: 2" in text


@pytest.mark.slow
async def test_recursion_to_the_limit_is_shown_collapsed_and_the_session_lives(session):
    outcome = await session.run("def f(n):\n    return f(n + 1)\nf(0)")
    assert isinstance(outcome.error, RecursionError)
    assert "more times]" in outcome.traceback
    assert len(outcome.traceback) < 2000
    outcome = await session.run("import sys; sys.setrecursionlimit(30_000)\nf(0)")
    assert isinstance(outcome.error, RecursionError)
    assert len(outcome.traceback) < 2000
    await session.run("sys.setrecursionlimit(1000)")
    assert (await session.run("1 + 1")).value == 2


async def test_source_that_does_not_compile_is_shown_as_python_shows_it(session):
    outcome = await session.run("x = 1\ny = = 2")
    assert isinstance(outcome.error, CompilationError)
    assert outcome.traceback.splitlines() == [
        '  File "<session cell 1>", line 2',
        "    y = = 2",
        "        ^",
        "SyntaxError: invalid syntax",
    ]


async def test_a_syntax_error_in_code_that_a_cell_compiles_names_both(session):
    outcome = await session.run("exec('a\\nb c')")
    assert type(outcome.error) is SyntaxError
    assert without_carets(outcome.traceback) == without_carets(
        dedent("""
        Traceback (most recent call last):
          File "<session cell 1>", line 1, in <module>
            exec('a\\nb c')
          File "<string>", line 2
            b c
        SyntaxError: invalid syntax
        """)
    )


async def test_an_error_in_a_module_that_a_cell_imports_is_shown_with_its_lines(
    session, tmp_path, monkeypatch
):
    (tmp_path / "broken_module.py").write_text("x = 1\nraise ValueError('in module')\n")
    (tmp_path / "broken_syntax.py").write_text("def f(:\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    outcome = await session.run("import broken_module")
    assert 'broken_module.py", line 2, in <module>\n    raise ValueError' in outcome.traceback
    assert "importlib" not in outcome.traceback
    outcome = await session.run("import broken_syntax")
    assert 'broken_syntax.py", line 1\n    def f(:' in outcome.traceback


async def test_cells_of_a_file_show_its_name_and_lines(session):
    await session.run("def f():\n    return 1 / 0\n", filename="/nowhere/job.py", first_line=3)
    outcome = await session.run("\nf()", filename="/nowhere/job.py", first_line=7)
    assert '  File "/nowhere/job.py", line 8, in <module>\n    f()\n' in outcome.traceback
    assert '  File "/nowhere/job.py", line 4, in f\n    return 1 / 0\n' in outcome.traceback


LINES = ["form feed\x0c", "\x1c", "\x85", "\u2028"]


@pytest.mark.parametrize("odd", LINES, ids=repr)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=repr)
async def test_lines_are_counted_as_the_compiler_counts_them(session, odd, end):
    outcome = await session.run(f"\ufeffx = '{odd}'{end}{end}1 / 0  # here{end}")
    assert "line 3, in <module>\n    1 / 0  # here\n" in outcome.traceback


async def test_without_verbose_errors_only_the_last_line_is_shown():
    config = ExecutorConfig(verbose_errors=False, denied_modules=None)
    async with pyrepl3.open_session(config=config) as session:
        assert (await session.run("def f(): 1 / 0\nf()")).traceback == (
            "ZeroDivisionError: division by zero\n"
        )
        assert (await session.run("x = = 1")).traceback.endswith("SyntaxError: invalid syntax\n")
        outcome = await session.run("raise ExceptionGroup('g', [ValueError(1)])")
        assert outcome.traceback == "ExceptionGroup: g (1 sub-exception)\n"


# --- odd exceptions -----------------------------------------------------------------------------

ODD = {
    "str raises": "class E(Exception):\n    def __str__(self): 1 / 0\nraise E",
    "str exits": "class E(Exception):\n    def __str__(self): raise SystemExit\nraise E",
    "str is no str": "class E(Exception):\n    def __str__(self): return 5\nraise E",
    "repr raises": "class E(Exception):\n    def __repr__(self): 1 / 0\nraise E(E())",
    "traceback is a property": (
        "class E(Exception):\n    @property\n    def __traceback__(self): 1 / 0\nraise E"
    ),
    "context is a property": (
        "class E(Exception):\n    __cause__ = __context__ = property(lambda self: 1 / 0)\nraise E"
    ),
    "traceback cannot be set": (
        "class E(Exception):\n    def with_traceback(self, tb): 1 / 0\nraise E"
    ),
    "getattribute raises": (
        "class E(Exception):\n    def __getattribute__(self, name): 1 / 0\nraise E"
    ),
    "class lies": "class E(Exception):\n    __class__ = property(lambda self: 1 / 0)\nraise E",
    "notes are no list": "e = Exception('x'); e.__notes__ = 5\nraise e",
    "a note raises": (
        "class N:\n    def __str__(self): 1 / 0\ne = Exception('x'); e.__notes__ = [N()]\nraise e"
    ),
    "its own cause": "e = Exception('x'); e.__cause__ = e\nraise e",
    "a ring of causes": (
        "a, b = Exception('a'), Exception('b'); a.__cause__, b.__cause__ = b, a\nraise a"
    ),
    "a group of itself": (
        "class G(ExceptionGroup):\n    exceptions = property(lambda self: [self])\n"
        "raise G('g', [ValueError()])"
    ),
    "equality raises": (
        "class E(Exception):\n    def __eq__(self, other): 1 / 0\n    __hash__ = None\nraise E from E()"
    ),
    "metaclass": (
        "class M(type):\n    @property\n    def __name__(cls): 1 / 0\n"
        "class E(Exception, metaclass=M): pass\nraise E"
    ),
    "surrogates": "raise Exception('a\\ud800b')",
    "no arguments of a syntax error": "raise SyntaxError",
    "strange syntax error": "raise SyntaxError('x', (5, 'a', None, 7))",
}


@pytest.mark.parametrize("source", ODD.values(), ids=ODD)
@pytest.mark.parametrize(
    "prefix", ["", "await __import__('asyncio').sleep(0)\n"], ids=["plain", "await"]
)
async def test_an_odd_exception_is_a_failure_like_any_other(session, source, prefix):
    outcome = await session.run(prefix + source)
    assert type(outcome) is Failed
    assert outcome.traceback.endswith("\n")
    outcome.traceback.encode()
    assert (await session.run("1 + 1")).value == 2


async def test_a_text_of_an_error_that_never_ends_can_be_interrupted():
    """It is made as a part of the cell, which is over only then."""
    seen = Seen()
    async with pyrepl3.open_session(observe=seen) as session:
        source = (
            "class E(Exception):\n    def __str__(self):\n        print('begun')\n"
            "        while True: pass\nraise E"
        )
        running = asyncio.create_task(session.run(source))
        await seen.until_text("begun")
        session.interrupt()
        assert isinstance(await running, (Failed, Interrupted))
        assert (await session.run("1 + 1")).value == 2


async def test_a_huge_message_is_cut_in_its_middle(session):
    outcome = await session.run("raise ValueError('a' + 'x' * 5_000_000 + 'b')")
    assert len(outcome.traceback) < LONGEST + 100
    assert outcome.traceback.endswith("xxb\n")
    assert "characters left out" in outcome.traceback


# --- the functions ---------------------------------------------------------------------------------


def test_a_traceback_without_frames_of_ours_stays_the_same_object():
    with pytest.raises(ValueError, match="x") as caught:
        raise ValueError("x")
    error, before = caught.value, caught.value.__traceback__
    assert trimmed(before) is before
    assert trim(error) is error
    assert error.__traceback__ is before
    assert trimmed(None) is None


def test_frames_of_ours_are_taken_out_of_the_middle():
    class Loud:
        def __repr__(self):
            raise ValueError("user")

    def outer():
        part_size(Loud())  # any function of ours that calls the user's code

    with pytest.raises(ValueError, match="user") as caught:
        outer()
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names[1:] == ["outer", "part_size", "__repr__"]
    trim(caught.value)
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names[1:] == ["outer", "__repr__"]


def test_format_error_of_an_error_never_raised():
    assert format_error(ValueError("x")) == "ValueError: x\n"
    assert format_error(ValueError("x"), verbose=False) == "ValueError: x\n"
