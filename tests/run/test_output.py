"""Output goes to the cell that caused it, whole, in order, from whatever it started."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import subprocess
import sys
import textwrap
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pyrepl3
from pyrepl3.config import Limits
from pyrepl3.records import Display, Failed, Finished, Notice, Output
from pyrepl3.testing.fakes import Seen


@pytest.fixture
def seen():
    return Seen()


@pytest.fixture
async def session(seen):
    async with pyrepl3.open_session(observe=seen) as session:
        yield session


@pytest.fixture
def shown_warnings(monkeypatch):
    """Warnings go to sys.stderr, as everywhere but under a test runner that collects them."""

    def show(message, category, filename, lineno, file=None, line=None):
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        monkeypatch.setattr(warnings, "showwarning", show)
        yield


def cell(text: str) -> str:
    return textwrap.dedent(text).strip()


# --- which cell ---------------------------------------------------------------------------------

WRITERS = {
    "print": "print('one')",
    "write": "import sys; _ = sys.stdout.write('one\\n')",
    "writelines": "import sys; sys.stdout.writelines(['on', 'e\\n'])",
    "bytes": "import sys; _ = sys.stdout.buffer.write(b'one\\n')",
    "async": "import asyncio; await asyncio.sleep(0); print('one')",
    "task": "import asyncio\nasync def f(): print('one')\nawait asyncio.create_task(f())",
    "thread": "import threading\nt = threading.Thread(target=print, args=('one',)); t.start(); t.join()",
    "timer": "import threading\nt = threading.Timer(0, print, ('one',)); t.start(); t.join()",
    "pool": (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor() as pool: pool.submit(print, 'one').result()"
    ),
    "map": (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor() as pool: list(pool.map(print, ['one']))"
    ),
    "to_thread": "import asyncio; await asyncio.to_thread(print, 'one')",
    "run_in_executor": (
        "import asyncio; await asyncio.get_running_loop().run_in_executor(None, print, 'one')"
    ),
    "call_soon": (
        "import asyncio\ndone = asyncio.Event()\nloop = asyncio.get_running_loop()\n"
        "loop.call_later(0, lambda: (print('one'), done.set()))\nawait done.wait()"
    ),
    "call_soon_threadsafe": (
        "import asyncio, threading\ndone = asyncio.Event()\nloop = asyncio.get_running_loop()\n"
        "def work(): loop.call_soon_threadsafe(lambda: (print('one'), done.set()))\n"
        "threading.Thread(target=work).start()\nawait done.wait()"
    ),
    "run_coroutine_threadsafe": (
        "import asyncio, threading\nloop = asyncio.get_running_loop()\nasync def f(): print('one')\n"
        "await asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(f(), loop).result())"
    ),
    "a loop in a thread": (
        "import asyncio, threading\nasync def f(): print('one')\n"
        "t = threading.Thread(target=lambda: asyncio.run(f())); t.start(); t.join()"
    ),
    "a thread of a thread": (
        "import threading\ndef outer():\n    t = threading.Thread(target=print, args=('one',))\n"
        "    t.start(); t.join()\nt = threading.Thread(target=outer); t.start(); t.join()"
    ),
    "blocking": "import time; time.sleep(0); print('one')",
    "__del__": "class D:\n    def __del__(self): print('one')\nd = D(); del d",
    "generator": "def g():\n    print('one')\n    yield\nlist(g());",
}


@pytest.mark.parametrize("source", WRITERS.values(), ids=WRITERS)
async def test_what_a_cell_writes_belongs_to_it(session, seen, source):
    await session.run("print('before')")
    outcome = await session.run(source)
    assert outcome.ok, outcome
    await session.run("print('after')")
    assert seen.text(outcome.cell.id) == "one\n"
    assert seen.text() == "before\none\nafter\n"


ERRORS = {
    "stderr": "import sys; print('oh', file=sys.stderr)",
    # As where no handler is set up at all; the test runner has set one up.
    "last resort": "import logging\nlogging.lastResort.handle(logging.makeLogRecord({'msg': 'oh', 'levelno': 30}))",
    "handler": (
        "import logging\nlog = logging.getLogger('cells'); log.propagate = False\n"
        "log.addHandler(logging.StreamHandler()); log.error('oh')"
    ),
    "root handler": (
        "import logging\nroot = logging.getLogger(); handler = logging.StreamHandler()\n"
        "root.addHandler(handler)\nlogging.getLogger('x').error('oh')\nroot.removeHandler(handler)"
    ),
    "warning": "import warnings; warnings.warn('oh')",
    "print_exc": "import traceback\ntry: raise ValueError('oh')\nexcept ValueError: traceback.print_exc()",
    "excepthook": "import sys\ntry: raise ValueError('oh')\nexcept ValueError as e: sys.excepthook(type(e), e, None)",
    "thread": "import threading\ndef f(): raise ValueError('oh')\n"
    "t = threading.Thread(target=f); t.start(); t.join()",
}


@pytest.mark.parametrize("source", ERRORS.values(), ids=ERRORS)
async def test_stderr_of_logging_warnings_and_threads_belongs_to_the_cell(
    session, seen, source, capsys, shown_warnings
):
    outcome = await session.run(source)
    assert outcome.ok, outcome
    assert "oh" in seen.text(outcome.cell.id, "stderr")
    assert seen.text(outcome.cell.id, "stdout") == ""
    assert capsys.readouterr() == ("", "")


async def test_a_handler_made_in_one_cell_writes_to_the_cell_that_logs(session, seen):
    await session.run("import logging; log = logging.getLogger('two'); log.propagate = False")
    await session.run("log.addHandler(logging.StreamHandler()); log.warning('first')")
    outcome = await session.run("log.warning('second')")
    assert seen.text(outcome.cell.id) == "second\n"


async def test_a_thread_that_dies_is_told_to_its_cell_with_the_lines_of_the_cell(session, seen):
    outcome = await session.run(
        "import threading\ndef f():\n    1 / 0\nt = threading.Thread(target=f, name='w'); t.start(); t.join()"
    )
    text = seen.text(outcome.cell.id, "stderr")
    assert text.startswith("Exception in thread w:\nTraceback (most recent call last):\n")
    assert f'File "{outcome.cell.filename}", line 3, in f\n    1 / 0\n' in text
    assert "src/pyrepl3" not in text


async def test_a_warning_is_shown_with_its_line_once_in_each_cell(session, seen, shown_warnings):
    source = "import warnings\nfor _ in range(3): warnings.warn('oh')"
    for _ in range(2):
        outcome = await session.run(source)
        text = seen.text(outcome.cell.id, "stderr")
        assert text.count("oh") == 2, "message and line, once"
        assert text.startswith(f"{outcome.cell.filename}:2: UserWarning: oh\n")


# --- when ---------------------------------------------------------------------------------------


async def test_a_background_task_prints_to_its_cell_after_it_ended_and_while_others_run(
    session, seen
):
    first = await session.run(
        cell("""
        import asyncio
        gate, heard = asyncio.Event(), asyncio.Event()
        async def late():
            await gate.wait()
            print("late")
            heard.set()
        task = asyncio.create_task(late())
        """)
    )
    second = await session.run("gate.set(); print('a'); await heard.wait(); print('b')")
    assert seen.text(first.cell.id) == "late\n"
    assert seen.text(second.cell.id) == "a\nb\n"


async def test_a_pool_that_cells_share_writes_to_the_cell_that_submits(session, seen):
    await session.run("from concurrent.futures import ThreadPoolExecutor")
    made = await session.run("pool = ThreadPoolExecutor(1); pool.submit(print, 'x').result()")
    used = await session.run("pool.submit(print, 'y').result()")
    assert seen.text(made.cell.id) == "x\n"
    assert seen.text(used.cell.id) == "y\n"
    await session.run("pool.shutdown()")


async def test_the_host_may_use_a_pool_whose_workers_a_cell_started(session, seen, capsys):
    await session.run(
        "from concurrent.futures import ThreadPoolExecutor; pool = ThreadPoolExecutor(1)"
    )
    await session.run("pool.submit(int).result();")
    pool = await session.fetch("pool")
    await asyncio.wrap_future(pool.submit(print, "host"))
    assert seen.text() == ""
    assert capsys.readouterr().out == "host\n"
    pool.shutdown()


async def test_two_sessions_that_print_at_once_do_not_mix(seen):
    other = Seen()
    source = "import time\nfor i in range(200):\n    print(who, i)\n    time.sleep(0)"
    async with (
        pyrepl3.open_session(observe=seen) as one,
        pyrepl3.open_session(observe=other) as two,
    ):
        await one.run("who = 'one'")
        await two.run("who = 'two'")
        await asyncio.gather(one.run(source), two.run(source))
    assert seen.text() == "".join(f"one {i}\n" for i in range(200))
    assert other.text() == "".join(f"two {i}\n" for i in range(200))


async def test_a_background_cell_and_the_foreground_print_each_to_its_own(session, seen):
    await session.run("import asyncio; a, b = asyncio.Event(), asyncio.Event()")
    beside = asyncio.create_task(
        session.run("print('b1'); a.set(); await b.wait(); print('b2')", background=True)
    )
    front = await session.run("await a.wait(); print('f1'); b.set()")
    assert seen.text(front.cell.id) == "f1\n"
    assert seen.text((await beside).cell.id) == "b1\nb2\n"


async def test_the_host_s_own_prints_go_where_they_went(session, seen, capsys):
    await session.run("print('cell')")
    print("host")
    print("oh", file=sys.stderr)
    assert seen.text() == "cell\n"
    assert capsys.readouterr() == ("host\n", "oh\n")


@pytest.mark.parametrize("start", ["", "t.start()"], ids=["cell", "thread of a cell"])
async def test_what_an_observer_prints_is_the_host_s(capsys, start):
    """A thread of a cell speaks for it, but not while it tells the host of an event."""

    def observe(event):
        if isinstance(event, Output):
            print("host saw", event.text.strip())

    async with pyrepl3.open_session(observe=observe) as session:
        if start:
            await session.run(
                "import threading\nt = threading.Thread(target=print, args=('x',))\nt.start(); t.join()"
            )
        else:
            await session.run("print('x')")
    assert capsys.readouterr().out == "host saw x\n"


# --- order and pieces ---------------------------------------------------------------------------


def shape(events):
    return [
        (event.stream, event.text) if isinstance(event, Output) else event.data["text/plain"]
        for event in events
        if isinstance(event, (Output, Display))
    ]


async def test_stdout_stderr_and_display_come_in_the_order_written(session, seen):
    await session.run(
        "import sys\nprint('a', end='')\nprint('b', file=sys.stderr, end='')\nprint('c', end='')\n"
        "display(1)\nprint('d')\nsys.stderr.write('e');"
    )
    assert shape(seen.events) == [
        ("stdout", "a"),
        ("stderr", "b"),
        ("stdout", "c"),
        "1",
        ("stdout", "d\n"),
        ("stderr", "e"),
    ]


async def test_a_line_is_one_event_although_print_writes_twice(session, seen):
    await session.run("for i in range(3): print(i)")
    assert shape(seen.events) == [("stdout", f"{i}\n") for i in range(3)]


async def test_text_without_an_end_of_line_appears_while_the_cell_runs(session, seen):
    """No line ends and nothing is flushed: the watchdog shows it."""
    running = asyncio.create_task(
        session.run("import threading\ngo = threading.Event()\nprint('wait', end='')\ngo.wait();")
    )
    await seen.until_text("wait")
    (await session.fetch("go")).set()
    assert (await running).ok
    assert seen.text() == "wait"


@pytest.mark.slow
async def test_a_burst_of_lines_is_told_in_few_events_whole_and_in_order(session, seen):
    outcome = await session.run("for n in range(50_000): print('line', n)")
    assert seen.text(outcome.cell.id) == "".join(f"line {n}\n" for n in range(50_000))
    assert len(seen.of(Output)) < 25_000


async def test_in_a_burst_streams_and_displays_keep_their_order(session, seen):
    source = """
        import sys
        for n in range(500):
            print('out', n)
            if n % 100 == 99:
                print('err', n, file=sys.stderr)
                display(n)
        """
    await session.run(cell(source))
    told = [
        event.text if isinstance(event, Output) else event.data["text/plain"] + " shown\n"
        for event in seen.events
        if isinstance(event, Output | Display)
    ]
    expected = [
        f"out {n}\n" + (f"err {n}\n{n} shown\n" if n % 100 == 99 else "") for n in range(500)
    ]
    assert "".join(told) == "".join(expected)


@pytest.mark.parametrize("wait", ["while True: pass", "import asyncio; await asyncio.sleep(60)"])
async def test_the_end_of_a_burst_is_shown_while_the_cell_runs_on(session, seen, wait):
    running = asyncio.create_task(
        session.run("for n in range(1000): print(n)\nprint('half', end='')\n" + wait)
    )
    await seen.until_text("999\nhalf")
    session.interrupt()
    await running


@pytest.mark.slow
async def test_of_a_burst_that_is_interrupted_nothing_is_lost(session, seen):
    running = asyncio.create_task(
        session.run("n = 0\nwhile True:\n    n += 1\n    print(n, flush=n == 2999)")
    )
    await seen.until_text("2999\n")
    session.interrupt()
    outcome = await running
    last = (await session.run("n")).value
    lines = seen.text(outcome.cell.id).split()
    assert [int(line) for line in lines] == list(range(1, len(lines) + 1))
    assert last - 1 <= len(lines) <= last


async def test_flush_and_carriage_returns_pass_as_they_are(session, seen):
    await session.run(
        "import sys\nfor i in range(3):\n    print(f'\\r{i}', end='', file=sys.stderr, flush=True)"
    )
    assert shape(seen.events) == [("stderr", f"\r{i}") for i in range(3)]


async def test_bytes_may_end_inside_a_character(session, seen):
    await session.run(
        "import sys\nfor byte in 'é€😀'.encode() + b'\\xff':\n    sys.stdout.buffer.write(bytes([byte]))"
    )
    assert seen.text() == "é€😀\ufffd"
    outcome = await session.run("sys.stdout.buffer.write('é'.encode()[:1]);")
    assert seen.text(outcome.cell.id) == "\ufffd", "half a character is shown when the cell is over"


async def test_output_is_valid_unicode(session, seen):
    await session.run("print('a\\ud800b')")
    await session.run("import sys; sys.stderr.write('\\udcff' * 3)")
    assert seen.text() == "a\\ud800b\n" + "\\udcff" * 3


@pytest.mark.slow
async def test_a_huge_print_comes_in_pieces(session):
    seen = Seen()
    await session.run("print('x' * 5_000_000)", observe=seen)
    sizes = [len(event.text) for event in seen.of(Output)]
    assert sum(sizes) == 5_000_001
    assert max(sizes) <= 256 * 1024


CHARACTERS = st.text(st.sampled_from("ab\nré😀\r\x0c\x00"), min_size=1, max_size=12)


@pytest.mark.slow
@settings(max_examples=25)
@given(st.lists(st.lists(CHARACTERS, max_size=12), min_size=1, max_size=4))
def test_nothing_is_lost_or_doubled_whoever_writes(plan):
    """Each writer (the cell, a task, threads) has characters of its own, so order can be checked too."""

    async def scenario():
        seen = Seen()
        async with pyrepl3.open_session(observe=seen) as session:
            await session.run(
                cell("""
                import asyncio, sys, threading
                def write(who, texts):
                    for text in texts:
                        sys.stdout.write("".join(f"{who}{c}" for c in text))
                async def gently(who, texts):
                    for text in texts:
                        write(who, [text])
                        await asyncio.sleep(0)
                async def everything(plan):
                    threads = [
                        threading.Thread(target=write, args=(str(n), texts))
                        for n, texts in enumerate(plan) if n % 2
                    ]
                    for thread in threads: thread.start()
                    await asyncio.gather(*(
                        gently(str(n), texts) for n, texts in enumerate(plan) if not n % 2
                    ))
                    for thread in threads: await asyncio.to_thread(thread.join)
                """)
            )
            outcome = await session.run(f"await everything({plan!r})")
            return seen.text(outcome.cell.id)

    text = asyncio.run(scenario())
    pairs = [text[i : i + 2] for i in range(0, len(text), 2)]
    for n, texts in enumerate(plan):
        assert "".join(pair[1] for pair in pairs if pair[0] == str(n)) == "".join(texts)
    assert len(pairs) == sum(len(text) for texts in plan for text in texts)


# --- limits and slow or broken observers ----------------------------------------------------------


async def test_what_exceeds_the_limit_is_dropped_and_the_cell_stopped(seen):
    async with pyrepl3.open_session(observe=seen, limits=Limits(output=100)) as session:
        outcome = await session.run("while True: print('é' * 10)")
        assert isinstance(outcome, Failed)
        assert isinstance(outcome.error, pyrepl3.LimitExceededError)
        assert len(seen.text().encode()) == 100
        assert (await session.run("print('again')")).ok, "each cell has its own"


async def test_clean_up_of_a_cell_over_the_limit_runs_and_what_it_prints_is_dropped(seen):
    async with pyrepl3.open_session(observe=seen, limits=Limits(output=5)) as session:
        outcome = await session.run(
            "done = []\ntry:\n    while True: print('x')\nfinally:\n    print('bye'); done.append(1)"
        )
        assert isinstance(outcome.error, pyrepl3.LimitExceededError)
        assert await session.fetch("done") == [1]
        assert seen.text() == "x\nx\nx"


async def test_a_late_task_over_the_limit_fails_by_itself(seen):
    """Nothing that would stop the loop is raised in a task of a cell that is over."""
    async with pyrepl3.open_session(observe=seen, limits=Limits(output=5)) as session:
        await session.run(
            "import asyncio\ngate = asyncio.Event()\n"
            "async def late():\n    await gate.wait()\n    print('x' * 10)\n"
            "task = asyncio.create_task(late())"
        )
        await session.run("gate.set(); await asyncio.wait([task]);")
        outcome = await session.run("type(task.exception()).__name__")
        assert outcome.value == "LimitExceededError"


async def test_an_observer_that_raises_is_reported_once_and_the_session_lives(capsys):
    calls = []

    def broken(event):
        calls.append(event)
        raise ValueError("the host's own fault")

    seen = Seen()
    async with pyrepl3.open_session(observe=broken) as session:
        outcome = await session.run("print(1); print(2)\n3", observe=seen)
        assert outcome.ok
        assert outcome.value == 3
        await session.run("print(4)")
    assert seen.text() == "1\n2\n", "the other observer is told of everything"
    assert [notice.kind for notice in seen.of(Notice)] == ["observer-failed"]
    assert len(calls) == 4 + 3, "it is told of later events all the same"
    assert capsys.readouterr().err.count("ValueError: the host's own fault") == 1


async def test_an_observer_may_interrupt_the_cell(seen):
    def observe(event):
        seen(event)
        if isinstance(event, Output):
            session.interrupt()

    async with pyrepl3.open_session(observe=observe) as session:
        outcome = await session.run("while True: print('x')")
        assert isinstance(outcome, pyrepl3.Interrupted)


# --- the process's streams ----------------------------------------------------------------------


RESTORED = """
import asyncio, sys, threading
import pyrepl3

def streams():
    return sys.stdout, sys.stderr, sys.stdin, input, threading.Thread.start, threading.excepthook

async def main():
    before = streams()
    one = pyrepl3.open_session()
    session = await one.__aenter__()
    await session.run("1")
    async with pyrepl3.open_session() as other:
        await other.run("import getpass, contextlib")
    assert sys.stdout is not before[0]
    await one.__aexit__(None, None, None)
    assert streams() == before

asyncio.run(main())
"""


@pytest.mark.slow
def test_streams_are_restored_when_the_last_session_closes():
    """In a process of its own: an executor that another test never closed routes for ever."""
    done = subprocess.run(
        [sys.executable, "-c", RESTORED], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


async def test_a_stream_that_the_host_puts_there_between_cells_is_the_host_s(session, seen):
    await session.run("print(1)")
    mine = io.StringIO()
    with contextlib.redirect_stdout(mine):
        print("host")
        await session.run("print(2)")
        print("host again")
    await session.run("print(3)")
    assert seen.text() == "1\n2\n3\n"
    assert mine.getvalue() == "host\nhost again\n"


async def test_streams_replaced_while_sessions_close_are_left_alone(seen):
    before, mine = sys.stdout, io.StringIO()
    try:
        async with pyrepl3.open_session(observe=seen) as session:
            await session.run("print(1)")
            sys.stdout = mine
        assert sys.stdout is mine
    finally:
        sys.stdout = before


async def test_a_stream_kept_for_later_still_writes_after_the_session(capsys):
    async with pyrepl3.open_session() as session:
        await session.run("import sys; kept = sys.stdout")
        kept = await session.fetch("kept")
    print("x", file=kept)
    assert capsys.readouterr().out == "x\n"
    kept.original = io.StringIO()
    kept.original.close()
    print(end="", file=kept)  # its stream is closed, the process's own takes over


REPLACEMENTS = {
    "StringIO": "import io, sys; mine = sys.stdout = io.StringIO(); print('in')",
    "None": "import sys; sys.stdout = None; print('nowhere')",
    "wrapper": (
        "import io, sys; sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding='utf-8'); print('in')"
    ),
    "deleted": "import sys; del sys.stdout",
    "stdin": "import io, sys; sys.stdin = io.StringIO('typed\\n'); line = input()",
    "all": "import sys; sys.stdin = sys.stdout = sys.stderr = 5",
}


@pytest.mark.parametrize("source", REPLACEMENTS.values(), ids=REPLACEMENTS)
async def test_what_a_cell_puts_in_place_of_a_stream_counts_until_it_ends(session, seen, source):
    first = await session.run(source)
    assert first.ok, first
    kinds = [notice.kind for notice in seen.of(Notice)]
    assert kinds == ["put-back"], "it is told so"
    second = await session.run("print('next')")
    assert seen.text(second.cell.id) == "next\n"
    if "TextIOWrapper" in source:
        assert seen.text(first.cell.id) == "in\n", "what the wrapper held is not lost"
    if "StringIO()" in source:
        assert (await session.fetch("mine")).getvalue() == "in\n"
    if "input" in source:
        assert await session.fetch("line") == "typed"


async def test_closing_or_detaching_stdout_harms_nobody(session, seen):
    outcome = await session.run(
        "import sys\nsys.stdout.close(); sys.stdout.buffer.close()\nraw = sys.stdout.detach()\n"
        "with sys.stderr: print('x')\nraw.write(b'y\\n'); print(sys.stdout.closed)"
    )
    assert outcome.ok, outcome
    assert seen.text() == "x\ny\nFalse\n"
    outcome = await session.run(
        "sys.stdout.reconfigure(encoding='ascii', errors='strict'); print('é')"
    )
    assert outcome.ok, outcome
    assert seen.text(outcome.cell.id) == "é\n"


async def test_a_cell_s_stdout_is_a_utf8_text_file_and_no_terminal(session):
    outcome = await session.run(
        "import sys\nf = sys.stdout\n"
        "(f.isatty(), f.encoding, f.writable(), f.readable(), f.closed, f.name, f.write('ab'), f.flush())"
    )
    assert outcome.value == (False, "utf-8", True, False, False, "<stdout>", 2, None)
    for source in (
        "print(file=sys.stdout, end=b'')",
        "sys.stdout.write(b'x')",
        "sys.stdout.write(1)",
    ):
        outcome = await session.run(source)
        assert isinstance(outcome.error, TypeError)
    assert isinstance((await session.run("sys.stdout.no_such")).error, AttributeError)


# --- redirecting inside cells ---------------------------------------------------------------------


async def test_redirect_stdout_in_a_cell_redirects_that_cell_only(seen):
    other = Seen()
    async with (
        pyrepl3.open_session(observe=seen) as one,
        pyrepl3.open_session(observe=other) as two,
    ):
        running = asyncio.create_task(
            one.run(
                cell("""
                import contextlib, io, asyncio, sys
                mine = io.StringIO()
                inside, leave = asyncio.Event(), asyncio.Event()
                with contextlib.redirect_stdout(mine):
                    print("in")
                    await asyncio.to_thread(print, "thread")
                    print("ready", file=sys.stderr)
                    await leave.wait()
                    await asyncio.create_task(asyncio.to_thread(print, "task"))
                print("out")
                """)
            )
        )
        await seen.until_text("ready")
        await two.run("print('other')")
        print("host", end="")
        await one.run("leave.set()", background=True)
        assert (await running).ok
        assert (await one.fetch("mine")).getvalue() == "in\nthread\ntask\n"
        assert seen.text(stream="stdout") == "out\n"
        assert other.text() == "other\n"


async def test_redirects_nest_and_a_tee_writes_on_to_what_it_found(session, seen):
    outcome = await session.run(
        cell("""
        import contextlib, io, sys
        class Tee(io.StringIO):
            def __init__(self):
                super().__init__()
                self.old = sys.stdout
            def write(self, text):
                self.old.write(text.upper())
                return super().write(text)
        outer, inner = Tee(), io.StringIO()
        with contextlib.redirect_stdout(outer):
            print("a")
            with contextlib.redirect_stdout(inner), contextlib.redirect_stderr(inner):
                print("b")
                print("c", file=sys.stderr)
                size = len(sys.stdout.getvalue())
            print("d")
        print("e")
        outer.getvalue(), inner.getvalue(), size
        """)
    )
    assert outcome.value == ("a\nd\n", "b\nc\n", 4)
    assert seen.text() == "A\nD\ne\n"


async def test_redirecting_stderr_to_stdout_and_to_a_file(session, seen, tmp_path):
    outcome = await session.run(
        f"import contextlib, sys\nwith contextlib.redirect_stderr(sys.stdout): print('x', file=sys.stderr)\n"
        f"with open({str(tmp_path / 'log')!r}, 'w') as f, contextlib.redirect_stdout(f): print('y')"
    )
    assert outcome.ok, outcome
    assert shape(seen.events) == [("stdout", "x\n")]
    assert (tmp_path / "log").read_text() == "y\n"


async def test_redirect_stdout_outside_of_cells_is_the_standard_one(session):
    mine = io.StringIO()
    with contextlib.redirect_stdout(mine):
        print("x")
        assert sys.stdout is mine
    assert mine.getvalue() == "x\n"


# --- background failures ------------------------------------------------------------------------


async def test_a_task_that_fails_unseen_is_told_to_its_cell(session, seen):
    outcome = await session.run(
        "import asyncio, gc\nasync def f():\n    1 / 0\ntask = asyncio.create_task(f())\nNone"
    )
    await session.run("await asyncio.wait([task]); del task; gc.collect();")
    notice = await seen.until(lambda event: isinstance(event, Notice))
    assert notice.kind == "task-failed"
    assert notice.cell_id == outcome.cell.id
    assert f'File "{outcome.cell.filename}", line 3, in f' in notice.text
    assert "src/pyrepl3" not in notice.text


async def test_a_coroutine_never_awaited_is_reported_with_the_line_that_made_it(
    session, seen, shown_warnings
):
    outcome = await session.run("async def f(): pass\nx = 1\nf()\nx = 2")
    text = seen.text(outcome.cell.id, "stderr")
    name = outcome.cell.filename
    assert text == f"{name}:3: RuntimeWarning: coroutine 'f' was never awaited\n  f()\n"


async def test_so_is_one_that_was_the_value_of_an_earlier_cell(session, seen, shown_warnings):
    made = (await session.run("async def f(): pass\nf()")).cell
    seen.events.clear()  # they hold the value, and so does the handle that our loop is in
    await asyncio.sleep(0)
    dropped = (await session.run("_ = None")).cell
    text = seen.text(dropped.id, "stderr")
    assert text == f"{made.filename}:2: RuntimeWarning: coroutine 'f' was never awaited\n  f()\n"


# --- forks --------------------------------------------------------------------------------------

FORK = """
import asyncio, os, sys, pyrepl3
from pyrepl3.testing.fakes import Seen
async def main():
    seen = Seen()
    async with pyrepl3.open_session(observe=seen) as session:
        outcome = await session.run('''
import os, sys
pid = os.fork()
if pid == 0:
    print("child", flush=True)
    os._exit(0)
os.waitpid(pid, 0)
print("parent")
''')
        assert outcome.ok, outcome
        assert seen.text() == "parent\\n", seen.text()
asyncio.run(main())
"""


@pytest.mark.slow
def test_a_forked_child_writes_to_the_process_s_own_stdout():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.stdout == "child\n"


async def test_a_finished_cell_s_last_event_is_finished_and_all_text_comes_before(session):
    events = [event async for event in session.stream("print('x', end='')\n1")]
    assert isinstance(events[-1], Finished)
    assert shape(events) == [("stdout", "x")]
    assert os.getpid()


@pytest.mark.parametrize(
    "config", [None, pyrepl3.ExecutorConfig(max_output=100)], ids=["plain", "limit"]
)
@pytest.mark.parametrize("observe", [None, print], ids=["unseen", "observed"])
async def test_a_closed_executor_routes_nothing_again(config, observe):
    before = sys.stdout
    executor = pyrepl3.AsyncExecutor(config=config, observe=observe)
    await executor.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await executor.execute("1")
    assert sys.stdout is before
