"""Cells that no thread could survive: each has a clear outcome, and the session goes on with its state."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import pyrepl3
from pyrepl3.errors import LimitExceededError, WorkerDiedError
from pyrepl3.records import Failed, Interrupted, Notice
from pyrepl3.run.usage import cpu_seconds
from pyrepl3.testing.busy import run_in_time
from pyrepl3.testing.fakes import Seen

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks at workers through /proc"),
]


def busy_in_c(pid, before):
    """Whether a process has computed for a while since it said that it is up."""
    return cpu_seconds(pid) > before + 0.1


def stopped(pid, before):
    """Whether a process is stopped by a signal."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def at_once(pid, before):
    """It is where it should be when it says so."""
    return True


UNSTOPPABLE = {
    "c-code-that-holds-the-gil": ("print('up', flush=True); sum(range(10**12))", busy_in_c),
    "a-loop-that-swallows-all": (
        "n = 0\nwhile True:\n    try:\n        n += 1\n        if n == 1: print('up', flush=True)\n"
        "        while True: pass\n    except BaseException: pass",
        at_once,
    ),
    "a-stop-of-itself": (
        "import os, signal; print('up', flush=True); os.kill(os.getpid(), signal.SIGSTOP)",
        stopped,
    ),
}


@pytest.mark.parametrize(("source", "is_there"), UNSTOPPABLE.values(), ids=UNSTOPPABLE.keys())
async def test_what_cannot_be_stopped_is_stopped_and_the_state_is_there(source, is_there):
    seen = Seen()
    async with pyrepl3.open_session(isolation="process", observe=seen) as session:
        pid = int((await session.run("import os; kept = [1, 2]; os.getpid()")).text)
        task = asyncio.create_task(session.run(source, id="to-stop"))
        await seen.until_text("up", "to-stop")
        before = cpu_seconds(pid)
        while not is_there(pid, before):
            await asyncio.sleep(0.01)
        assert session.interrupt()
        outcome = await task
        assert isinstance(outcome, Interrupted)
        assert outcome.forced
        assert (await session.run("kept")).text == "[1, 2]"


async def test_a_gentle_interrupt_keeps_the_worker():
    seen = Seen()
    async with pyrepl3.open_session(isolation="process", observe=seen) as session:
        pid = (await session.run("import os, time; os.getpid()")).text
        for wait in (
            "time.sleep(60)",
            "import asyncio; await asyncio.sleep(60)",
            "while True: pass",
        ):
            task_seen = Seen()
            task = asyncio.create_task(
                session.run(f"print('up', flush=True)\n{wait}", observe=task_seen)
            )
            await task_seen.until_text("up")
            session.interrupt()
            outcome = await task
            assert isinstance(outcome, Interrupted)
            assert not outcome.forced
        assert (await session.run("os.getpid()")).text == pid


DEADLY = {
    "segfault": ("import ctypes; ctypes.string_at(0)", signal.SIGSEGV, None),
    "exit": ("import os; os._exit(3)", None, 3),
    "sigkill": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", signal.SIGKILL, None),
    "abort": ("import os; os.abort()", signal.SIGABRT, None),
}


@pytest.mark.parametrize(("source", "number", "status"), DEADLY.values(), ids=DEADLY.keys())
async def test_a_worker_that_dies_in_a_cell_fails_that_cell_and_is_replaced(source, number, status):
    seen = Seen()
    async with pyrepl3.open_session(isolation="process", observe=seen) as session:
        assert (await session.run("kept = {'a': 1}")).ok
        outcome = await session.run(f"print('last words', flush=True)\n{source}")
        assert isinstance(outcome, Failed)
        assert isinstance(outcome.error, WorkerDiedError)
        assert (outcome.error.signal, outcome.error.status) == (number, status)
        assert outcome.error.output == "last words\n"
        assert "last words" in str(outcome.error)
        assert (await session.run("kept")).text == "{'a': 1}"
        assert [n for n in seen.of(Notice) if n.kind == "worker-replaced"]


async def test_a_death_while_idle_is_told_at_once_and_again_by_the_next_cell():
    seen = Seen()
    async with pyrepl3.open_session(isolation="process", observe=seen) as session:
        pid = int((await session.run("import os; x = 41; os.getpid()")).text)
        await session.flush()
        os.kill(pid, signal.SIGKILL)
        told = await seen.until(lambda e: isinstance(e, Notice) and e.kind == "worker-died")
        assert "SIGKILL" in told.text
        outcome = await session.run("x + 1")
        assert outcome.text == "42"
        (notice,) = [n for n in seen.of(Notice) if n.kind == "worker-replaced"]
        assert notice.cell_id == outcome.cell.id
        assert "epoch 1" in notice.text


async def test_a_kept_session_survives_its_worker(tmp_path):
    async with pyrepl3.open_session("kept", store=tmp_path, isolation="process") as session:
        assert (await session.run("def f(n): return n + base\nbase = 1")).ok
        assert not (await session.run("import os; os._exit(1)")).ok
        assert (await session.run("f(1)")).text == "2"
        assert (await session.undo()) == {}
        assert await session.fetch("base") == 1
    async with pyrepl3.open_session("kept", store=tmp_path) as session:  # the same store, no worker
        assert (await session.run("f(2)")).text == "3"


async def test_big_arrays_survive_their_worker():
    pytest.importorskip("numpy")
    async with pyrepl3.open_session(isolation="process") as session:
        assert (await session.run("import numpy as np; a = np.arange(2_000_000); b = a[10:20]")).ok
        assert (await session.run("a[7] = -1")).ok
        assert not (await session.run("import os; os._exit(1)")).ok
        assert (await session.run("b[0] = 5; int(a[7]), int(a[10]), int(a.sum())")).text == (
            "(-1, 5, 1999998999987)"
        )
        assert (await session.fetch("b")).tolist() == [5, *range(11, 20)]


async def test_a_flood_of_output_is_bounded_and_arrives_whole():
    size = 0
    async with pyrepl3.open_session(isolation="process") as session:
        async for event in session.stream("for i in range(300): print('x' * 99_999)"):
            size += len(getattr(event, "text", ""))
        assert size == 300 * 100_000
        limits = pyrepl3.Limits(output=10_000)
    async with pyrepl3.open_session(isolation="process", limits=limits) as session:
        outcome = await session.run("while True: print('x' * 100)")
        assert isinstance(outcome, Failed)
        assert isinstance(outcome.error, LimitExceededError)
        assert outcome.error.limit == "output"


LIMITS = {
    "wall-of-c-code": (pyrepl3.Limits(wall=0.3), "sum(range(10**12))", "wall"),
    "wall": (pyrepl3.Limits(wall=0.3), "while True: pass", "wall"),
    "cpu": (pyrepl3.Limits(cpu=0.3), "while True: pass", "cpu"),
    "cpu-of-c-code": (pyrepl3.Limits(cpu=0.3), "sum(range(10**12))", "cpu"),
    "memory": (
        pyrepl3.Limits(memory=64 * pyrepl3.MiB),
        "import time\nx = bytearray(120 << 20)\nwhile True: time.sleep(0.01)",
        "memory",
    ),
}


@pytest.mark.parametrize(("limits", "source", "name"), LIMITS.values(), ids=LIMITS.keys())
async def test_a_limit_holds_and_the_session_goes_on(limits, source, name):
    async with pyrepl3.open_session(isolation="process", limits=limits) as session:
        assert (await run_in_time(session, "kept = 7; kept")).text == "7"
        outcome = await session.run(source)
        assert isinstance(outcome, Failed), outcome
        assert isinstance(outcome.error, LimitExceededError), outcome.error
        assert outcome.error.limit == name
        assert (await run_in_time(session, "kept")).text == "7"


async def test_address_space_open_files_and_file_sizes_are_the_kernel_s(tmp_path):
    limits = pyrepl3.Limits(memory=64 * pyrepl3.MiB, open_files=64, file_size=1000)
    async with pyrepl3.open_session(isolation="process", limits=limits) as session:
        outcome = await session.run("bytearray(2 << 30)")
        assert isinstance(outcome.error, MemoryError)
        outcome = await session.run("files = [open('/dev/null') for _ in range(100)]")
        assert isinstance(outcome.error, OSError)
        source = f"with open({str(tmp_path / 'f')!r}, 'wb') as f: f.write(b'x' * 2000)"
        outcome = await session.run(source)
        assert isinstance(outcome.error, OSError)
        outcome = await session.run("big = [bytes([n]) * 20_000 for n in range(200)]")
        assert outcome.epoch == 4  # kept though shared memory cannot be had under that limit
        assert (tmp_path / "f").stat().st_size <= 1000


FORGED = {
    "garbage": "os.write(fd, b'garbage' * 100)",
    "an-end-of-its-own": (
        "import msgspec\n"
        "from pyrepl3.isolate import frames, messages as m\n"
        "from pyrepl3.records import ExecutionMode\n"
        "end = m.Ended(key=bytes(16), status='done', mode=ExecutionMode.SIMPLE_SYNC,\n"
        "              placement='loop', shown=True, text='forged')\n"
        "head = m.encode(end)\n"
        "os.write(fd, frames.header(len(head)) + head)"
    ),
    "too-long": "from pyrepl3.isolate import frames\nos.write(fd, frames._HEADER.pack(b'P3', 1, 0, 2**31, 0))",
    "closed": "os.close(fd)",
}
FIND = (
    "import gc, os, time\n"
    "from pyrepl3.isolate.channel import Channel\n"
    "fd = next(one for one in gc.get_objects() if type(one) is Channel).fileno()\n"
)


@pytest.mark.parametrize("source", FORGED.values(), ids=FORGED.keys())
async def test_code_that_writes_to_the_pipe_forges_nothing(source):
    async with pyrepl3.open_session(isolation="process") as session:
        assert (await session.run("kept = 7")).ok
        outcome = await session.run(f"{FIND}{source}\ntime.sleep(30)")
        assert isinstance(outcome, Failed), outcome
        assert isinstance(outcome.error, WorkerDiedError), outcome.error
        assert (await session.run("kept")).text == "7"


async def test_steps_of_worker_cells_are_kept_by_the_host(tmp_path):
    source = (
        "from pyrepl3 import step\n"
        "def make(n): print('made'); return n * 2\n"
        "found = step(make, 21)\n"
        "import sys; found, 'resonate' in sys.modules"
    )
    async with pyrepl3.open_session("steps", store=tmp_path, isolation="process") as session:
        outcome = await session.run(source)
        assert outcome.text == "(42, False)"
        asking = asyncio.create_task(session.run("from pyrepl3 import ask\nask('go on?')"))
        while not (questions := await session.asked()):
            await asyncio.sleep(0.01)
        assert await session.answer(questions[0].id, "yes")
        assert (await asking).text == "'yes'"


async def test_input_is_asked_of_the_host():
    def answer(prompt, password):
        if prompt == "no":
            raise EOFError
        if prompt == "half":
            return "\udcff"  # a byte that is no UTF-8, as Python reads it
        return f"{prompt}!{password}"

    async with pyrepl3.open_session(isolation="process", ask=answer) as session:
        assert (await session.run("input('who')")).text == "'who!False'"
        assert isinstance((await session.run("input('no')")).error, EOFError)
        assert (await session.run("input('half')")).text == repr("\\udcff")
        odd = await session.run("1 / 0", filename="\udcff.py")
        assert '"\\udcff.py", line 1' in odd.traceback
        got = await session.run("import getpass; getpass.getpass('pw')")
        assert got.text == "'pw!True'"


async def test_errors_come_back_as_themselves_or_say_what_they_were():
    async with pyrepl3.open_session(isolation="process") as session:
        outcome = await session.run("{}['a']")
        assert repr(outcome.error) == "KeyError('a')"
        assert "line 1" in outcome.traceback
        outcome = await session.run("class Mine(Exception): pass\nraise Mine('x', [1])")
        assert isinstance(outcome.error, pyrepl3.RemoteError)
        assert (outcome.error.kind, outcome.error.shown) == ("Mine", "Mine('x', [1])")
        outcome = await session.run("if")
        assert isinstance(outcome.error, pyrepl3.CompilationError)
        assert outcome.error.lineno == 1


async def test_values_are_fetched_by_a_safe_codec():
    async with pyrepl3.open_session(isolation="process") as session:
        await session.run("v = {'a': [1, 2.5, None], ('k', 1): {1, 2}, 'big': 10**30, 'b': b'x'}")
        assert await session.fetch("v") == {
            "a": [1, 2.5, None],
            ("k", 1): {1, 2},
            "big": 10**30,
            "b": b"x",
        }
        await session.run("class C: pass\nc = C()\nloop = []; loop.append(loop)")
        for name in ("c", "loop", "missing"):
            with pytest.raises(pyrepl3.NamespaceError, match=name):
                await session.fetch(name)


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ValueError, match="none"):
        pyrepl3.open_session(isolation="jail")
    with pytest.raises(ValueError, match="stages"):
        pyrepl3.open_session(isolation="process", stages=[lambda cell, code: None])
    with pytest.raises(ValueError, match=r"Limits\.cpu"):
        pyrepl3.open_session(limits=pyrepl3.Limits(cpu=1))


def test_the_command_line_runs_cells_in_a_process_of_their_own(tmp_path):
    file = tmp_path / "job.py"
    file.write_text(
        "# %%\nimport os\nprint(__name__, os.path.basename(__file__), os.getppid())\n"
        "# %%\nimport ctypes; ctypes.string_at(0)\n# %%\n'went on'\n"
    )
    command = [sys.executable, "-m", "pyrepl3", "run", "--isolation", "process", "--keep-going"]
    done = subprocess.run(
        [*command, str(file)], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "__main__ job.py" in done.stdout
    assert "SIGSEGV" in done.stdout + done.stderr
    assert "'went on'" in done.stdout


async def test_a_limit_that_does_not_hold_is_told():
    seen = Seen()
    limits = pyrepl3.Limits(processes=4)
    source = (
        "import os\nresult = 'all'\nfor _ in range(12):\n    try: pid = os.fork()\n"
        "    except OSError: result = 'fewer'; break\n"
        "    if not pid: import time; time.sleep(300)\nresult"
    )
    async with pyrepl3.open_session(isolation="process", limits=limits, observe=seen) as session:
        outcome = await session.run(source)
    told = [notice.text for notice in seen.of(Notice) if notice.kind == "limit-unheld"]
    assert outcome.text == ("'all'" if told else "'fewer'")
    assert not told or "Limits.processes" in told[0]


@pytest.mark.parametrize("when", ["_start", "_bring_back"])
async def test_a_worker_that_dies_as_it_comes_fails_one_cell_and_the_next_one_finds_all(when):
    async with asyncio.timeout(100), pyrepl3.open_session(isolation="process") as session:
        await session.run("kept = 41")
        runner = session._runner
        before, do = runner._link, getattr(runner, when)

        async def and_dies(*args, **options):
            setattr(runner, when, do)
            link = await do(*args, **options) or args[0]
            link.worker.kill()
            await link.gone.wait()
            return link

        setattr(runner, when, and_dies)
        before.worker.kill()
        await before.gone.wait()
        outcome = await session.run("kept + 1")
        assert isinstance(outcome.error, WorkerDiedError)
        assert (await session.run("kept + 1")).text == "42"


HOST = """
import asyncio, sys
import pyrepl3
from pyrepl3.testing.fakes import Seen

events, watching = [], False
def hook(name, arguments):
    if watching and (name == "pickle.find_class" or name == "open"):
        events.append((name, str(arguments[:2])))
sys.addaudithook(hook)

CELLS = [
    "raise ValueError('x')",
    "exec(compile('1 / 0', sys.argv[0] or '/etc/hosts', 'exec'))",
    "exec(compile('def f(): 1 / 0', '/etc/passwd', 'exec')); f()",
    "class Mine(Exception):\\n    def __reduce__(self): return (print, ('harm',))\\nraise Mine",
    "x = {'a': [1, {2}], 'b': b'c'}; print(x); x",
    "import linecache; linecache.getlines('/etc/passwd'); kept = Mine()",
]

async def main():
    global watching
    async with pyrepl3.open_session(isolation="process") as session:
        for again in range(2):  # the first time modules are loaded
            watching = bool(again)
            for cell in ("import sys", *CELLS):
                await session.run(cell)
            await session.fetch("x")
            watching = False
    print(events)

asyncio.run(main())
"""


def test_the_host_reads_no_file_and_no_pickle_of_what_a_worker_sends():
    """Not for its errors and tracebacks, whatever files these name, nor for values and epochs."""
    done = subprocess.run(
        [sys.executable, "-c", HOST], capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
