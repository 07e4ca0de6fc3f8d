"""A host's loop is nobody's to stop, and its one thread is where all of a session's code runs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

import pyrepl3
from pyrepl3.errors import AsyncContextError
from pyrepl3.records import Done, Failed, Notice, Output
from pyrepl3.run.host import LoopHost


@pytest.fixture(autouse=True)
async def _bound():
    async with asyncio.timeout(110):
        yield


@pytest.fixture
async def session():
    async with pyrepl3.open_session() as session:
        yield session


async def value(session, source):
    return (await session.run(source)).unwrap()


# --- one thread, one loop, one context ----------------------------------------------------------------

MODES = {
    "plain": "{0}",
    "await": "import asyncio\nawait asyncio.sleep(0)\n{0}",
    "blocking": "import time\ntime.sleep(0)\n{0}",
}


@pytest.mark.parametrize("there", MODES)
@pytest.mark.parametrize("here", MODES)
async def test_a_sqlite_connection_of_one_mode_works_in_the_others(session, here, there):
    made = "import sqlite3\ndb = sqlite3.connect(':memory:')\n_ = db.execute('create table t (n)')"
    await value(session, MODES[here].format(made))
    used = "_ = db.execute('insert into t values (1)')\ndb.execute('select n from t').fetchone()[0]"
    assert await value(session, MODES[there].format(used)) == 1
    await value(session, MODES[here].format("db.close()"))


@pytest.mark.parametrize("there", MODES)
@pytest.mark.parametrize("here", MODES)
async def test_a_context_variable_set_in_one_mode_is_seen_in_the_others(session, here, there):
    await value(session, "import contextvars\nvariable = contextvars.ContextVar('v', default=0)")
    await value(session, MODES[here].format("_ = variable.set(7)"))
    assert await value(session, MODES[there].format("variable.get()")) == 7


async def test_every_mode_runs_on_the_same_thread(session):
    threads = {
        await value(session, source.format("import threading\nthreading.get_ident()"))
        for source in MODES.values()
    }
    assert len(threads) == 1
    assert threading.get_ident() not in threads


async def test_background_tasks_go_on_while_a_cell_blocks(session):
    """The cell waits, off the loop, until the task has ticked: no time is measured."""
    setup = (
        "import asyncio, threading\nticked = threading.Semaphore(0)\nasync def tick():\n"
        "    while True:\n        ticked.release()\n        await asyncio.sleep(0)\n"
        "task = asyncio.create_task(tick())"
    )
    await value(session, setup)
    outcome = await session.run("[ticked.acquire() for _ in range(100)][-1]")
    assert outcome.unwrap() is True
    assert outcome.placement == "thread"
    assert await value(session, "task.done()") is False


async def test_a_blocking_cell_may_hand_work_to_the_loop_and_wait_for_it(session):
    await value(session, "import asyncio, time\nloop = asyncio.get_running_loop()")
    source = (
        "async def f():\n    await asyncio.sleep(0)\n    return 5\n"
        "time.sleep(0); asyncio.run_coroutine_threadsafe(f(), loop).result()"
    )
    assert await value(session, source) == 5


# --- what a cell may do to the loop --------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "asyncio.get_running_loop().stop()",
        "asyncio.get_running_loop().call_soon(asyncio.get_running_loop().stop)",
        "asyncio.get_running_loop().stop(); await asyncio.sleep(0.01)",
        "import time; loop.call_soon_threadsafe(loop.stop); time.sleep(0.01)",
        "for _ in range(100): loop.stop(); await asyncio.sleep(0)",
        "asyncio.set_event_loop(None)",
        "other = asyncio.new_event_loop(); asyncio.set_event_loop(other); other.close()",
        "import time; time.sleep(0); asyncio.set_event_loop(None)",
        "loop.set_task_factory(None)",
        "loop.set_exception_handler(None)",
        "loop.set_debug(True)",
    ],
)
async def test_no_cell_stops_or_replaces_the_loop(session, source):
    await value(session, "import asyncio, time\nloop = asyncio.get_running_loop()")
    await value(session, source)
    assert await value(session, "await asyncio.sleep(0.001, 1)") == 1
    assert await value(session, "asyncio.get_running_loop() is loop") is True
    assert await value(session, "time.sleep(0); 2") == 2


@pytest.mark.parametrize("source", ["loop.close()", "import time; time.sleep(0); loop.close()"])
async def test_closing_the_loop_is_refused_with_what_to_do(session, source):
    await value(session, "import asyncio\nloop = asyncio.get_running_loop()")
    for _ in range(20):  # a blocking cell may come before the stand-in has the loop running
        outcome = await session.run(source)
        assert isinstance(outcome, Failed)
        assert isinstance(outcome.error, (AsyncContextError, RuntimeError))
        assert "new_event_loop" in str(outcome.error)
    assert await value(session, "await asyncio.sleep(0, 1)") == 1


async def test_asyncio_run_works_in_a_cell_that_needs_no_other_loop(session):
    source = "import asyncio\nasync def main(): return 3\nasyncio.run(main())"
    assert await value(session, source) == 3
    assert await value(session, "await asyncio.sleep(0, 4)") == 4
    assert await value(session, "asyncio.run(main())") == 3


async def test_asyncio_run_in_a_cell_that_awaits_says_what_to_write(session):
    source = "import asyncio\nasync def main(): return 3\nawait asyncio.sleep(0)\n"
    outcome = await session.run(source + "coro = main(); asyncio.run(coro)")
    assert isinstance(outcome.error, AsyncContextError)
    assert "await" in str(outcome.error)
    assert await value(session, "await coro") == 3


async def test_get_event_loop_in_a_blocking_cell_is_the_session_s(session):
    await value(session, "import asyncio, time\nloop = asyncio.get_running_loop()")
    assert await value(session, "time.sleep(0)\nasyncio.get_event_loop() is loop") is True


@pytest.mark.parametrize("error", ["SystemExit(3)", "KeyboardInterrupt()"])
async def test_what_a_task_raises_to_end_the_process_ends_the_task(session, error):
    setup = (
        "import asyncio\nasync def go():\n    await asyncio.sleep(0)\n"
        f"    raise {error}\ntask = asyncio.create_task(go())\nother = asyncio.create_task(asyncio.sleep(60))"
    )
    await value(session, setup)
    assert await value(session, "await asyncio.sleep(0.01)\ntask.done(), other.done()") == (
        True,
        False,
    )
    outcome = await session.run("await task")
    assert isinstance(outcome, Failed)
    assert repr(outcome.error) == error
    assert await value(session, "1") == 1


async def test_sys_exit_in_a_cell_is_its_error_in_every_mode(session):
    for source in MODES.values():
        outcome = await session.run(source.format("import sys\nsys.exit(3)"))
        assert isinstance(outcome.error, SystemExit)
    assert await value(session, "1") == 1


async def test_signal_handlers_belong_to_the_main_thread_and_the_error_says_so(session):
    outcome = await session.run("import signal\nsignal.signal(signal.SIGUSR1, lambda *_: None)")
    assert isinstance(outcome.error, AsyncContextError)
    assert "main thread" in str(outcome.error)


async def test_the_failure_of_a_callback_is_told_to_the_cell_that_scheduled_it():
    events = []
    async with pyrepl3.open_session(observe=events.append) as session:
        await value(
            session, "import asyncio\n_ = asyncio.get_running_loop().call_later(0, lambda: 1 / 0)"
        )
        await value(session, "await asyncio.sleep(0.01)")
        notice = next(event for event in events if isinstance(event, Notice))
        assert notice.kind == "task-failed"
        assert "ZeroDivisionError" in notice.text
        assert "pyrepl3/" not in notice.text
        assert notice.cell_id.endswith("c1")


async def test_the_failure_of_a_task_is_told_to_the_cell_that_started_it():
    events = []

    def observe(event):
        if isinstance(event, Notice):  # Finished would hold the task
            events.append(event)

    async with pyrepl3.open_session(observe=observe) as session:
        source = (
            "import asyncio\nasync def fails():\n    raise ValueError('why')\n"
            "_ = asyncio.create_task(fails(), name='mine')"
        )
        await value(session, source)
        async with asyncio.timeout(60):
            while not events:  # the outcome, which has the task, may still be on its way to us
                await value(
                    session, "await asyncio.sleep(0); _ = None; import gc; _ = gc.collect()"
                )
        notice = next(event for event in events if isinstance(event, Notice))
        assert "'mine' of cell 1" in notice.text
        assert "ValueError: why" in notice.text


async def test_threads_that_a_cell_starts_outlive_it_and_speak_for_it():
    events = []
    async with pyrepl3.open_session(observe=events.append) as session:
        source = (
            "import threading\ngo = threading.Event()\ndef work():\n    go.wait(); print('late')\n"
            "thread = threading.Thread(target=work, daemon=True); thread.start()"
        )
        await value(session, source)
        await value(session, "go.set(); thread.join()")
        late = next(e for e in events if isinstance(e, Output) and "late" in e.text)
        assert late.cell_id.endswith("c1")


async def test_tasks_of_cells_keep_their_names(session):
    source = "import asyncio\nt = asyncio.create_task(asyncio.sleep(0)); t.get_name()"
    assert (await value(session, source)).startswith("Task-")
    source = "t = asyncio.create_task(asyncio.sleep(0), name='mine'); t.get_name()"
    assert await value(session, source) == "mine"


async def test_a_task_that_nobody_holds_is_not_collected(session):
    source = (
        "import asyncio, gc\nasync def wait():\n    future = asyncio.Future()\n    await future\n"
        "for _ in range(10): asyncio.create_task(wait())\nawait asyncio.sleep(0)\n"
        "gc.collect(); len(asyncio.all_tasks())"
    )
    assert await value(session, source) >= 10


# --- the host itself -----------------------------------------------------------------------------------


async def test_a_host_ends_its_tasks_and_closes_its_loop():
    host = LoopHost("test")
    ended = threading.Event()
    host.when_ended = ended.set
    cleaned = []

    async def task():
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            cleaned.append(1)

    async def refuses():
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cleaned.append(2)

    host.start()
    for coro in (task(), refuses()):
        asyncio.run_coroutine_threadsafe(coro, host.loop)
    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asyncio.sleep(0), host.loop))
    host.stop()
    host.stop()
    assert await asyncio.to_thread(ended.wait, 60)
    assert host.loop.is_closed()
    assert 1 in cleaned
    host.stop()


async def test_a_loop_that_was_never_served_can_be_closed():
    LoopHost("unused").loop.close()


@pytest.mark.slow
async def test_cells_on_the_main_thread_may_set_signal_handlers():
    script = """
import asyncio, os, signal
from pyrepl3.engine.main import host_main

async def main(open_session):
    async with open_session() as session:
        source = "import os, signal, time; seen = []; _ = signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))"
        (await session.run(source)).unwrap()
        (await session.run("os.kill(os.getpid(), signal.SIGUSR1); time.sleep(0); seen")).unwrap()
        assert (await session.run("seen")).value == [1]
        assert (await session.run("import threading; threading.current_thread() is threading.main_thread()")).value
        assert (await session.run("__name__")).value == "__main__"
    return 7

raise SystemExit(host_main(main))
"""
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script], capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stderr) == (7, "")


async def test_the_outcome_of_a_plain_cell_is_done(session):
    assert isinstance(await session.run("x = 1"), Done)
