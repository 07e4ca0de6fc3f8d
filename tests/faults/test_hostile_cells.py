"""Odd and hostile cells have a clear outcome each, and the session lives on."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import pyrepl3
from pyrepl3.errors import CompilationError, WorkerDiedError
from pyrepl3.records import Done, Failed, Interrupted, Notice
from pyrepl3.testing.fakes import Seen


@pytest.fixture
def seen():
    return Seen()


@pytest.fixture
async def session(seen):
    async with pyrepl3.open_session(observe=seen) as session:
        await session.run("import asyncio; kept = 'kept'")
        yield session


async def check_alive(session, seen):
    """Values, errors, output, await and threads work, and what there was is there."""
    assert (await session.run("kept + '!'")).value == "kept!"
    outcome = await session.run("print('alive')")
    assert seen.text(outcome.cell.id) == "alive\n"
    assert isinstance((await session.run("1 / 0")).error, ZeroDivisionError)
    assert (await session.run("await asyncio.sleep(0, 5)")).value == 5
    assert (await session.run("import time; time.sleep(0); 6")).value == 6


# --- leaving ------------------------------------------------------------------------------------

EXITS = {
    "sys.exit()": (None, SystemExit),
    "sys.exit('text')": ("text", SystemExit),
    "sys.exit(3)": (3, SystemExit),
    "exit()": (None, SystemExit),
    "quit(4)": (4, SystemExit),
    "raise SystemExit": (None, SystemExit),
    "raise KeyboardInterrupt('mine')": (None, KeyboardInterrupt),
    "raise GeneratorExit": (None, GeneratorExit),
    "raise StopIteration(5)": (None, StopIteration),
    "raise StopAsyncIteration": (None, StopAsyncIteration),
    "raise asyncio.CancelledError": (None, asyncio.CancelledError),
    "class B(BaseException): pass\nraise B": (None, BaseException),
}


@pytest.mark.parametrize("source", EXITS)
@pytest.mark.parametrize(
    "prefix",
    ["", "await asyncio.sleep(0)\n", "import time; time.sleep(0)\n"],
    ids=["plain", "awaited", "blocking"],
)
@pytest.mark.parametrize("background", [False, True], ids=["front", "beside"])
async def test_what_would_end_the_process_fails_the_cell(session, seen, source, prefix, background):
    code, kind = EXITS[source]
    if "Iteration" in source and prefix.startswith("await"):
        kind = (kind, RuntimeError)  # PEP 479: a coroutine cannot let StopIteration out
    outcome = await session.run(f"import sys\n{prefix}{source}", background=background)
    assert isinstance(outcome, Failed), outcome
    assert isinstance(outcome.error, kind)
    if kind is SystemExit:
        assert outcome.error.code == code
    assert outcome.traceback.startswith("Traceback")
    await check_alive(session, seen)


IN_TASKS = {
    "awaited": "async def f(): raise {0}\nawait asyncio.create_task(f())",
    "group": "async def f(): raise {0}\nasync with asyncio.TaskGroup() as g: g.create_task(f())",
    "gather": "async def f(): raise {0}\nawait asyncio.gather(f(), asyncio.sleep(0))",
    "callback": (
        "done = asyncio.Event()\ndef f():\n    loop.call_soon(done.set)\n    raise {0}\n"
        "loop = asyncio.get_running_loop(); loop.call_soon(f); await done.wait(); 'over'"
    ),
    "forgotten": "async def f(): raise {0}\ntask = asyncio.create_task(f())\nawait asyncio.sleep(0)",
    "to_thread": "def f(): raise {0}\nawait asyncio.to_thread(f)",
}


@pytest.mark.parametrize("how", IN_TASKS)
@pytest.mark.parametrize("error", ["SystemExit(3)", "KeyboardInterrupt"])
async def test_an_exit_in_a_task_or_callback_ends_neither_loop_nor_session(
    session, seen, how, error
):
    outcome = await session.run(IN_TASKS[how].format(error))
    assert isinstance(outcome, (Done, Failed)), outcome
    await check_alive(session, seen)


async def test_an_exit_in_a_thread_ends_that_thread(session, seen):
    outcome = await session.run(
        "import threading, sys\nt = threading.Thread(target=sys.exit)\n"
        "t.start(); t.join(); t.is_alive()"
    )
    assert outcome.value is False
    await check_alive(session, seen)


@pytest.mark.slow
def test_os_exit_ends_the_process_and_nothing_pretends_otherwise():
    program = textwrap.dedent("""
        import asyncio, pyrepl3
        async def main():
            async with pyrepl3.open_session() as session:
                await session.run('import os; os._exit(7)')
        asyncio.run(main())
        """)
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=100)
    assert done.returncode == 7


# --- the loop is not the cell's -----------------------------------------------------------------

LOOP = {
    "stop": "asyncio.get_running_loop().stop()",
    "close": "asyncio.get_running_loop().close()",
    "run_forever": "asyncio.get_running_loop().run_forever()",
    "run_until_complete": "asyncio.get_running_loop().run_until_complete(asyncio.Future())",
    "set_event_loop": "asyncio.set_event_loop(None)",
    "new loop": "loop = asyncio.new_event_loop(); asyncio.set_event_loop(loop); loop.close()",
    "policy": "asyncio.set_event_loop_policy(None)",
    "cancel all": "for t in asyncio.all_tasks(): t.cancel()",
    "wait for all": "await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})",
    "another loop inside": (
        "other = asyncio.new_event_loop(); other.call_soon(other.stop)\n"
        "try: other.run_forever()\nfinally: other.close()"
    ),
    "cancel itself": "asyncio.current_task().cancel()\nawait asyncio.sleep(1)",
    "exception handler": "asyncio.get_running_loop().set_exception_handler(None)",
    "task factory": "asyncio.get_running_loop().set_task_factory(None)",
    "eager tasks": "asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)",
    "debug": "asyncio.get_running_loop().set_debug(True)",
}


@pytest.mark.parametrize("source", LOOP.values(), ids=LOOP)
async def test_a_cell_cannot_stop_close_or_replace_the_loop(session, seen, source):
    for prefix in ("", "await asyncio.sleep(0)\n"):
        outcome = await session.run(prefix + source)
        assert isinstance(outcome, (Done, Failed)), outcome
        await check_alive(session, seen)


# --- text -----------------------------------------------------------------------------------------

TEXTS = {
    "empty": ("", None),
    "blank": ("  \n\t\n", None),
    "comment": ("# nothing", None),
    "comments": ("\n\n# a\n   # b\n", None),
    "semicolon only": (";", SyntaxError),
    "null byte": ("x = '\x00'", CompilationError),
    "null byte alone": ("\x00", CompilationError),
    "lone surrogate": ("x = '\ud800'", CompilationError),
    "surrogate name": ("\udcff = 1", CompilationError),
    "byte order mark": ("\ufeff1 + 1", 2),
    "two marks": ("\ufeff\ufeff1", SyntaxError),
    "tabs": ("if True:\n\tx = 1\n\tif x:\n\t\tx = 2\nx", 2),
    "tabs and spaces": ("if True:\n\tx = 1\n        x = 2", SyntaxError),
    "crlf": ("if True:\r\n    x = 3\r\nx\r\n", 3),
    "cr": ("x = 4\rx", 4),
    "form feed": ("x = 5\n\x0c\nx", 5),
    "vertical tab": ("x = 1\x0b", SyntaxError),
    "no-break space": ("x\xa0= 1", SyntaxError),
    "bidi": ("x = '\u202e'; len(x)", 1),
    "emoji": ("'\U0001f600'", "\U0001f600"),
    "unicode name": ("größe = 6; größe", 6),
    "ligature name": ("\ufb01x = 7; fix", 7),
    "line continuation": ("x = 1 + \\\n  7\nx", 8),
    "continuation at the end": ("x = 1 \\", SyntaxError),
    "coding cookie": ("# -*- coding: latin-1 -*-\n'é'", "é"),
    "unclosed string": ("'''abc", SyntaxError),
    "only indent": ("    x = 1", SyntaxError),
    "deep brackets": ("(" * 5000 + ")" * 5000, CompilationError),
    "deep unary": ("-" * 20_000 + "1", CompilationError),
    "deep attributes": ("x" + ".a" * 100_000, CompilationError),
    "deep additions": ("+".join(["1"] * 20_000), ...),
    "deep blocks": ("\n".join(" " * n + "if 1:" for n in range(120)), CompilationError),
    "huge number": ("9" * 5000, SyntaxError),
    "many arguments": ("dict(" + ",".join(f"a{n}={n}" for n in range(3000)) + ")['a7']", 7),
    "long line": ("x = '" + "y" * 1_000_000 + "'; len(x)", 1_000_000),
}


@pytest.mark.parametrize("name", TEXTS)
async def test_any_text_is_a_cell_with_a_clear_outcome(session, seen, name):
    source, expected = TEXTS[name]
    outcome = await session.run(source)
    text = getattr(outcome, "traceback", "")
    text.encode()
    assert len(text) < 10_000
    if isinstance(expected, type):
        assert isinstance(outcome.error, expected), outcome
        assert "SyntaxError" in text
    elif expected is not ...:
        assert outcome.ok, outcome
        assert outcome.value == expected
    await check_alive(session, seen)


@pytest.mark.slow
async def test_ten_megabytes_of_source_run(session, seen):
    lines = "x = 1  # " + "y" * 90 + "\n"
    outcome = await session.run(lines * 100_000 + "x")
    assert outcome.value == 1
    outcome = await session.run(lines * 100_000 + "x = = 1")
    assert isinstance(outcome.error, CompilationError)
    assert outcome.error.lineno == 100_001
    await check_alive(session, seen)


# --- mischief in the process ------------------------------------------------------------------------

MISCHIEF = {
    "builtins deleted in the namespace": "del __builtins__",
    "print deleted": "import builtins; del builtins.print",
    "len deleted": "import builtins; del builtins.len",
    "print rebound": "print = None; del print",
    "name rebound": "__name__ = 'other'",
    "name deleted": "del __name__",
    "display rebound": "display = 5; del display",
    "everything deleted": (
        "for name in [n for n in globals() if n not in ('kept', 'asyncio')]: del globals()[name]"
    ),
    "modules cleared": "import sys; sys.modules.clear()",
    "modules replaced": "import sys; sys.modules = {}",
    "our modules dropped": (
        "import sys\nfor name in [n for n in sys.modules if n.startswith(('pyrepl3', 'asyncio'))]:\n"
        "    del sys.modules[name]"
    ),
    "recursion limit small": "import sys; sys.setrecursionlimit(200)",
    "stdout None": "import sys; sys.stdout = sys.stderr = None",
    "stdout closed": "import sys; sys.stdout.close(); sys.stderr.close(); sys.stdin.close()",
    "stdout replaced": "import sys, io; sys.stdout = io.StringIO()",
    "excepthook": "import sys; sys.excepthook = sys.unraisablehook = 5",
    "displayhook": "import sys; sys.displayhook = None; del sys.displayhook",
    "settrace": "import sys; sys.settrace(lambda *a: None)",
    "settrace raising": (
        "import sys\ndef t(*a): raise ValueError('from trace')\nsys.settrace(t)\nx = (lambda: 1)()"
    ),
    "setprofile": "import sys; sys.setprofile(lambda *a: None)",
    "warnings as errors": "import warnings; warnings.simplefilter('error')",
    "linecache cleared": "import linecache; linecache.clearcache(); linecache.cache = {}",
    "traceback broken": "import traceback; traceback.TracebackException.format = None",
    "inspect broken": "import inspect; inspect.getfile = None",
    "environment cleared": "import os; os.environ.clear()",
    "directory gone": (
        "import os, tempfile\nwith tempfile.TemporaryDirectory() as place: os.chdir(place)"
    ),
}


# Each time in a process of its own: some of it would harm the test runner.
PROGRAM = """
import asyncio, sys
import pyrepl3
from pyrepl3.testing.fakes import Seen

async def main():
    seen = Seen()
    async with pyrepl3.open_session(observe=seen) as session:
        await session.run("import asyncio; kept = 'kept'")
        await session.run(sys.argv[1])
        assert (await session.run("kept + '!'")).value == "kept!"
        outcome = await session.run("print('alive')")
        assert seen.text(outcome.cell.id) == "alive\\n", seen.events
        error = await session.run("1 / 0")
        assert type(error.error) is ZeroDivisionError, error
        assert "ZeroDivisionError" in error.traceback, error.traceback
        assert (await session.run("await asyncio.sleep(0, 5)")).value == 5
        assert (await session.run("import time; time.sleep(0); 6")).value == 6
    print("closed")

asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", MISCHIEF)
def test_mischief_in_the_process_leaves_a_session_that_works(name):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, MISCHIEF[name]],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.stdout == "closed\n", done.stderr
    assert "Traceback" not in done.stderr


PUT_BACK = {
    "builtins": "import builtins; del builtins.print, builtins.sorted",
    "sys.modules": "import sys; sys.modules = dict(sys.modules)",
    "the recursion limit": "import sys; sys.setrecursionlimit(400)",
    "sys.stdout": "import sys; sys.stdout = None",
}


@pytest.mark.parametrize("what", PUT_BACK)
async def test_what_others_need_is_put_back_and_the_cell_told(session, seen, what):
    modules, limit = set(sys.modules), sys.getrecursionlimit()
    outcome = await session.run(PUT_BACK[what])
    assert outcome.ok, outcome
    (notice,) = seen.of(Notice)
    assert notice.kind == "put-back"
    assert notice.cell_id == outcome.cell.id
    assert what in notice.text
    assert sys.getrecursionlimit() == limit
    assert modules <= sys.modules.keys()
    await check_alive(session, seen)
    assert len(seen.of(Notice)) == 1


async def test_a_raised_recursion_limit_and_the_working_directory_stay(session, seen, tmp_path):
    limit, place = sys.getrecursionlimit(), Path.cwd()
    try:
        await session.run(
            f"import sys, os; sys.setrecursionlimit({limit + 50}); os.chdir({str(tmp_path)!r})"
        )
        outcome = await session.run("sys.getrecursionlimit(), os.getcwd()")
        assert outcome.value == (limit + 50, str(tmp_path))
        assert seen.of(Notice) == []
    finally:
        sys.setrecursionlimit(limit)
        os.chdir(place)


# --- recursion, endless things, things left open ----------------------------------------------------

DEEP = {
    "plain": "def f(): f()\nf()",
    "mutual": "def f(): g()\ndef g(): f()\nf()",
    "lambda": "f = lambda: f()\nf()",
    "comprehension": "def f(): return [f() for _ in [1]]\nf()",
    "async": "async def f(): await f()\nawait f()",
    "generator": "def f(): yield from f()\nlist(f())",
    "repr": "class R:\n    def __repr__(self): return repr(self)\nrepr(R())",
    "eq": "a, b = [], []\na.append(b); b.append(a)\na == b",
    "getattr": "class G:\n    def __getattr__(self, name): return getattr(self, name)\nG().x",
    "exec": "def f(): exec('f()')\nf()",
    "print": "class P:\n    def __str__(self): print(self)\nprint(P())",
    "pickle": "import pickle\nx = []\nfor _ in range(100_000): x = [x]\npickle.dumps(x)",
    "json": "import json\nx = []\nfor _ in range(100_000): x = [x]\njson.dumps(x)",
}


@pytest.mark.filterwarnings(
    "ignore::RuntimeWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.slow
@pytest.mark.parametrize("source", DEEP.values(), ids=DEEP)
async def test_recursion_to_the_limit_is_an_error_of_the_cell(session, seen, source):
    await recurse(session, seen, source)
    gc.collect()  # the last coroutine of a chain was never awaited, and says so when it goes


async def recurse(session, seen, source):
    outcome = await session.run(source)
    assert isinstance(outcome.error, RecursionError), outcome
    assert len(outcome.traceback) < 200_000
    await check_alive(session, seen)


@pytest.mark.slow
async def test_deep_structures_can_be_shown_and_die(session, seen):
    outcome = await session.run("x = []\nfor _ in range(100_000): x = [x]\nx")
    assert outcome.ok
    assert "RecursionError" in outcome.text
    assert (await session.run("del x, _; 1")).ok
    await check_alive(session, seen)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_destructor_that_recurses_or_raises_is_no_error_of_the_cell(session, seen):
    outcome = await session.run(
        "class D:\n    def __del__(self): f()\ndef f(): f()\nd = D(); del d; 'after'"
    )
    assert outcome.value == "after"
    outcome = await session.run(
        "class E:\n    def __del__(self): raise SystemExit\ne = E(); del e; 'on'"
    )
    assert outcome.value == "on"
    await check_alive(session, seen)


LEFT_OPEN = {
    "generator": "def g():\n    try: yield 1\n    finally: print('shut')\nleft = g(); next(left)",
    "async generator": (
        "async def g():\n    try: yield 1\n    finally: await asyncio.sleep(0); print('shut')\n"
        "left = g(); await anext(left)"
    ),
    "file": "import tempfile; left = tempfile.TemporaryFile(); left.write(b'x')",
    "thread": (
        "import threading; go = threading.Event()\n"
        "left = threading.Thread(target=go.wait, args=(20,), daemon=True); left.start()"
    ),
    "task": "left = asyncio.create_task(asyncio.sleep(60))",
    "stubborn task": (
        "async def f():\n    for _ in range(3):\n        try: await asyncio.sleep(60)\n"
        "        except asyncio.CancelledError: pass\nleft = asyncio.create_task(f())"
    ),
    "context manager": (
        "import contextlib, io\nleft = contextlib.redirect_stdout(io.StringIO()); left.__enter__()"
    ),
    "lock": "import threading; left = threading.Lock(); left.acquire()",
    "pool": (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "left = ThreadPoolExecutor(2); left.submit(int)"
    ),
    "future": "left = asyncio.get_running_loop().create_future()",
    "coroutine": "async def f(): pass\nleft = f()",
    "cycle": "class C: pass\nleft = C(); left.me = left",
}


@pytest.mark.filterwarnings(
    "ignore::RuntimeWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("source", LEFT_OPEN.values(), ids=LEFT_OPEN)
async def test_what_a_cell_leaves_open_harms_neither_later_cells_nor_closing(seen, source):
    await leave_open(seen, source)
    gc.collect()  # what complains of being left complains here, where that is expected


async def leave_open(seen, source):
    async with pyrepl3.open_session(observe=seen) as session:
        await session.run("import asyncio; kept = 'kept'")
        outcome = await session.run(source)
        assert outcome.ok, outcome
        await check_alive(session, seen)


async def test_a_task_that_holds_the_loop_between_cells_does_not_stop_the_next(session, seen):
    await session.run("async def f():\n    print('hold')\n    while True: pass\nx = 1")
    running = asyncio.create_task(
        session.run("task = asyncio.create_task(f()); await asyncio.sleep(0)")
    )
    await seen.until_text("hold")
    while not running.done():
        session.interrupt()
        await asyncio.wait([running], timeout=0.05)
    assert isinstance(await running, (Interrupted, Done))
    await check_alive(session, seen)


# --- huge things ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_print_of_200_megabytes_needs_little_memory_beside_the_text():
    program = textwrap.dedent("""
        import asyncio, resource, pyrepl3
        async def main():
            async with pyrepl3.open_session() as session:
                await session.run("text = 'x' * 200_000_000")
                before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                total = pieces = 0
                async for event in session.stream("print(text)"):
                    if isinstance(event, pyrepl3.Output):
                        total += len(event.text)
                        pieces += 1
                grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
                print(total, pieces > 100, grown < 60_000)
        asyncio.run(main())
        """)
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=100
    )
    assert (done.stdout, done.stderr) == ("200000001 True True\n", "")


@pytest.mark.slow
async def test_a_kept_session_survives_huge_values_messages_and_reprs(tmp_path):
    async with pyrepl3.open_session("huge", store=tmp_path) as session:
        for source in (
            "print('x' * 20_000_000)",
            "'y' * 20_000_000",
            "raise ValueError('z' * 20_000_000)",
            "display('\\ud800' * 2_000_000)",
            "class H:\n    def _repr_html_(self): return 'h' * 20_000_000\nH()",
        ):
            outcome = await session.run(source)
            assert outcome.epoch, outcome
        history = await session.history()
        assert all(len(epoch.receipt.text) < 2_000_000 for epoch in history)
        assert sum(epoch.receipt.cut for epoch in history) >= 2
    async with pyrepl3.open_session("huge", store=tmp_path) as session:
        assert session.count == 5


# --- the same elsewhere -----------------------------------------------------------------------------

HARMLESS_TO_A_CALLER = {  # the others stop or break a loop, and a bare executor's is its caller's: documented
    name: source
    for name, source in LOOP.items()
    if name not in ("stop", "run_forever", "run_until_complete", "cancel all", "cancel itself")
}
EVERYWHERE = {
    **{f"exit: {source}": f"import sys\n{source}" for source in EXITS},
    **{f"exit, awaited: {s}": f"import sys\nawait asyncio.sleep(0)\n{s}" for s in EXITS},
    **{f"exit, blocking: {s}": f"import sys, time\ntime.sleep(0)\n{s}" for s in EXITS},
    **{f"text: {name}": source for name, (source, _) in TEXTS.items()},
    **{f"deep: {name}": DEEP[name] for name in ("plain", "async", "repr")},
    **{
        f"left open: {name}": LEFT_OPEN[name]
        for name in ("file", "thread", "async generator", "pool")
    },
    "repr": "class R:\n    def __repr__(self): 1 / 0\nR()",
    "repr that exits": "class R:\n    def __repr__(self): raise SystemExit\nR()",
}
quietly = pytest.mark.filterwarnings(
    "ignore::RuntimeWarning",
    "ignore::ResourceWarning",
    "ignore::DeprecationWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)


@quietly
@pytest.mark.slow
async def test_a_bare_executor_raises_what_it_must_and_runs_on():
    rows = EVERYWHERE | {f"loop: {name}": s for name, s in HARMLESS_TO_A_CALLER.items()}
    for name, source in rows.items():
        executor = pyrepl3.AsyncExecutor()
        await executor.execute("import asyncio; kept = 'kept'")
        failure = None
        try:
            await executor.execute(source)
        except BaseException as error:  # what it is, the tests of sessions say
            failure = error
        kind, _, _ = name.partition(":")
        if kind.startswith("exit"):
            assert failure is not None, name
        elif kind == "deep":
            assert isinstance(failure, RecursionError), (name, failure)
        elif kind == "text":
            assert isinstance(failure, (CompilationError, type(None))), (name, failure)
        elif kind == "left open":
            assert failure is None, (name, failure)
        assert await executor.execute("kept + '!'") == "kept!", name
        assert await executor.execute("await asyncio.sleep(0, 5)") == 5, name
        assert await executor.execute("import time; time.sleep(0); 6") == 6, name
        with pytest.raises(ZeroDivisionError):
            await executor.execute("1 / 0")
        await executor.aclose()
    gc.collect()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked")
async def test_in_a_worker_each_has_a_clear_outcome_and_the_process_lives():
    rows = {f"loop: {name}": source for name, source in LOOP.items()} | EVERYWHERE
    async with pyrepl3.open_session(isolation="process", store=None) as session:
        pid = (await session.run("import asyncio, os; kept = 'kept'; os.getpid()")).text
        for name, source in rows.items():
            outcome = await session.run(source)
            assert isinstance(outcome, (Done, Failed)), (name, outcome)
            if name.startswith(("exit", "deep")):
                assert isinstance(outcome, Failed), (name, outcome)
                assert outcome.traceback, name
            elif name.startswith("left open"):
                assert outcome.ok, (name, outcome)
            elif name.startswith("text") and not outcome.ok:
                assert isinstance(outcome.error, CompilationError), (name, outcome)
            assert not isinstance(outcome.error if not outcome.ok else None, WorkerDiedError), name
            alive = await session.run("await asyncio.sleep(0)\nprint(end=''); kept, os.getpid()")
            assert alive.text == f"('kept', {pid})", (name, alive)
            assert (await session.run("import time; time.sleep(0); 6")).text == "6", name


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked")
async def test_mischief_in_a_worker_leaves_a_session_that_works():
    """By itself, or in the worker that takes its place; the host is the same."""
    with pyrepl3.Pool(warm=2) as pool:
        for name, source in MISCHIEF.items():
            seen = Seen()
            async with pyrepl3.open_session(
                isolation="process", pool=pool, observe=seen
            ) as session:
                await session.run("import asyncio; kept = 'kept'")
                await session.run(source)
                assert (await session.run("kept + '!'")).text == "'kept!'", name
                outcome = await session.run("print('alive')")
                assert seen.text(outcome.cell.id) == "alive\n", name
                assert isinstance((await session.run("1 / 0")).error, ZeroDivisionError), name
                assert (await session.run("await asyncio.sleep(0, 5)")).text == "5", name
