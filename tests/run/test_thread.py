"""ThreadRunner: the port's promises, the caller's cancellation, and an end that nothing holds up."""

from __future__ import annotations

import asyncio
import gc
import linecache
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import pytest

import pyrepl3
from pyrepl3.errors import CancellationError, WorkerDiedError
from pyrepl3.records import Cell, Finished, Interrupted, Output, Started, Tasks, Variables
from pyrepl3.run.executor import AsyncExecutor
from pyrepl3.run.namespace import NamespaceManager
from pyrepl3.run.thread import ThreadRunner
from pyrepl3.testing.runner import runner_checks

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(autouse=True)
async def _bound():
    async with asyncio.timeout(110):
        yield


async def open_thread_runner():
    return ThreadRunner(NamespaceManager(name="check"))


async def open_executor():
    return AsyncExecutor(namespace_manager=NamespaceManager(name="check"))


@pytest.mark.parametrize("open_runner", [open_thread_runner, open_executor])
@pytest.mark.parametrize("check", runner_checks(), ids=lambda check: check.name)
async def test_the_runner_keeps_the_promises_of_its_port(check, open_runner):
    await check.run(open_runner)


class Up:
    """An observer that says when a cell has printed ``up``."""

    def __init__(self):
        self.events = []
        self._set = threading.Event()

    def __call__(self, event):
        self.events.append(event)
        if isinstance(event, Output) and "up" in event.text:
            self._set.set()

    async def wait(self):
        assert await asyncio.to_thread(self._set.wait, 60)


# --- the caller's cancellation --------------------------------------------------------------------------

SOURCES = {
    "await": "print('up'); await asyncio.sleep(60)",
    "loop": "print('up')\nwhile True: pass",
    "call": "print('up'); time.sleep(60)",
    "swallows": "print('up')\nwhile True:\n    try: await asyncio.sleep(60)\n"
    "    except BaseException: pass",
    "ends well all the same": "print('up')\ntry: await asyncio.sleep(60)\n"
    "except BaseException: pass",
    "raises in clean-up": "print('up')\ntry: await asyncio.sleep(60)\nfinally: 1 / 0",
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
@pytest.mark.parametrize("around", ["cancel", "cancel twice", "timeout", "wait_for", "task group"])
async def test_the_caller_s_cancellation_comes_out_as_the_caller_s(source, around):
    async with pyrepl3.open_session() as session:
        await session.run("import asyncio, time; kept = 1")
        up = Up()
        run = session.run(source, observe=up)
        if around.startswith("cancel"):
            task = asyncio.ensure_future(run)
            await up.wait()
            task.cancel()
            if around == "cancel twice":
                await asyncio.sleep(0.01)
                task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert task.cancelled()
        elif around == "timeout":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await run
        elif around == "wait_for":
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(run, 0.05)
        else:
            with pytest.raises(ExceptionGroup) as caught:
                async with asyncio.TaskGroup() as group:
                    group.create_task(run)
                    await up.wait()
                    raise ValueError(1)
            assert len(caught.value.exceptions) == 1
        began = sum(isinstance(event, Started) for event in up.events)
        assert began == sum(isinstance(event, Finished) for event in up.events)
        assert began == 1 or around in ("timeout", "wait_for")  # these may be over before it begins
        assert (await session.run("kept")).value == 1
        assert asyncio.current_task().cancelling() == 0


async def test_cancelling_a_cell_that_waits_for_its_turn_leaves_the_queue_whole():
    async with pyrepl3.open_session() as session:
        await session.run("import asyncio; go = asyncio.Event()")
        up = Up()
        first = asyncio.ensure_future(session.run("print('up'); await go.wait(); 1", observe=up))
        await up.wait()
        waiting = [asyncio.ensure_future(session.run(str(n))) for n in range(5)]
        await asyncio.sleep(0)
        for task in waiting[::2]:
            task.cancel()
        await session.run("go.set()", background=True)
        done = await asyncio.gather(first, *waiting, return_exceptions=True)
        assert [getattr(one, "value", type(one)) for one in done] == [
            1,
            asyncio.CancelledError,
            1,
            asyncio.CancelledError,
            3,
            asyncio.CancelledError,
        ]


async def test_cancelling_an_order_whose_loop_is_held_by_a_task_frees_the_loop():
    async with pyrepl3.open_session() as session:
        source = (
            "import asyncio\nasync def hog():\n    await asyncio.sleep(0)\n    print('up')\n"
            "    while True: pass\nheld = asyncio.create_task(hog())"
        )
        up = Up()
        await session.run(source, observe=up)
        await up.wait()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await session.run("never = 1")
        assert (await session.run("held.done(), 'never' in globals()")).value == (True, False)


# --- questions ------------------------------------------------------------------------------------------


async def test_what_is_asked_of_a_loop_that_is_left_behind_is_answered_by_the_next():
    runner = await open_thread_runner()
    up = Up()
    cell = Cell(
        id="c1",
        n=1,
        filename="<c1>",
        source="import time\nasync def f():\n    print('up'); time.sleep(60)\nawait f()",
    )
    running = asyncio.ensure_future(runner.run(cell, up))
    await up.wait()
    asked = [asyncio.ensure_future(runner.ask(question)) for question in (Variables(), Tasks())]
    await asyncio.sleep(0)
    assert runner.interrupt()
    outcome = await running
    assert isinstance(outcome, Interrupted)
    assert outcome.abandoned
    names, tasks = await asyncio.gather(*asked)
    assert "f" in names
    assert tasks == ()
    await runner.aclose()


async def test_a_cell_that_goes_down_with_another_one_s_loop_is_told_so():
    runner = await open_thread_runner()
    beside, stuck = Up(), Up()
    waits = Cell(
        id="c1",
        n=1,
        filename="<c1>",
        background=True,
        source="import asyncio; print('up'); await asyncio.sleep(60)",
    )
    other = asyncio.ensure_future(runner.run(waits, beside))
    await beside.wait()
    source = "import time\nasync def f():\n    print('up'); time.sleep(60)\nawait f()"
    running = asyncio.ensure_future(
        runner.run(Cell(id="c2", n=2, filename="<c2>", source=source), stuck)
    )
    await stuck.wait()
    assert runner.interrupt("c2")
    for outcome in await asyncio.gather(running, other):
        assert isinstance(outcome, Interrupted)
        assert outcome.abandoned
    assert any("another cell's call" in getattr(event, "text", "") for event in beside.events)
    for up in (beside, stuck):
        assert len([event for event in up.events if isinstance(event, Finished)]) == 1
    await runner.aclose()


async def test_a_question_that_its_answerer_took_down_raises():
    """A ``__reduce__`` that never returns holds the loop while a snapshot is made."""
    runner = await open_thread_runner()
    entered = threading.Event()
    runner.namespace.get_for_execution()["entered"] = entered
    source = (
        "import time\nclass Slow:\n    def __reduce__(self):\n        entered.set(); time.sleep(60)\n"
        "slow = Slow()"
    )
    assert (await runner.run(Cell(id="c1", n=1, filename="<c1>", source=source), Up())).ok
    asked = asyncio.ensure_future(runner.snapshot())
    assert await asyncio.to_thread(entered.wait, 20)
    later = asyncio.ensure_future(runner.run(Cell(id="c2", n=2, filename="<c2>", source="1"), Up()))
    await asyncio.sleep(0)
    assert runner.interrupt()
    with pytest.raises((WorkerDiedError, CancellationError)):
        await asked
    assert isinstance(await later, Interrupted)
    again = await runner.run(Cell(id="c3", n=3, filename="<c3>", source="2"), Up())
    assert again.value == 2
    await runner.aclose()


# --- the end --------------------------------------------------------------------------------------------

HELD = {
    "nothing": "1",
    "await": "print('up'); await asyncio.sleep(1000)",
    "loop": "print('up')\nwhile True: pass",
    "call": "print('up'); time.sleep(1000)",
    "call on the loop": "async def f():\n    time.sleep(1000)\nprint('up'); await f()",
    "task in a call": "async def f():\n    print('up'); time.sleep(1000)\n_ = asyncio.create_task(f())",
    "task that loops": "async def f():\n    print('up')\n    while True: pass\n_ = asyncio.create_task(f())",
    "task that refuses": "async def f():\n    print('up')\n    while True:\n"
    "        try: await asyncio.sleep(1000)\n        except BaseException: pass\n_ = asyncio.create_task(f())",
    "task whose clean-up loops": "async def f():\n    print('up')\n    try: await asyncio.sleep(1000)\n"
    "    finally:\n        while True: pass\n_ = asyncio.create_task(f())",
    "task whose clean-up is in a call": "async def f():\n    print('up')\n    try: await asyncio.sleep(1000)\n"
    "    finally: time.sleep(1000)\n_ = asyncio.create_task(f())",
    "generator that hangs": "async def g():\n    try: yield 1\n    finally: await asyncio.sleep(1000)\n"
    "it = g(); await anext(it)",
    "swallows": "print('up')\nwhile True:\n    try:\n        while True: pass\n    except BaseException: pass",
}

CLOSE = """
import asyncio, sys, threading
import pyrepl3
from pyrepl3.records import Output

async def main():
    up = threading.Event()
    def observe(event):
        if isinstance(event, Output) and "up" in event.text:
            up.set()
    opening = pyrepl3.open_session()
    session = await opening.__aenter__()
    (await session.run("import asyncio, time")).unwrap()
    running = asyncio.ensure_future(session.run(sys.argv[1], observe=observe))
    if "up" in sys.argv[1]:
        assert await asyncio.to_thread(up.wait, 60)
    else:
        await running
    await session.aclose()
    await running
    print("closed")

asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("source", HELD.values(), ids=HELD)
async def test_closing_returns_and_the_process_ends_whatever_holds_the_session(source):
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", CLOSE, source],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "closed\n"), done.stderr
    assert done.stderr == ""


async def test_closing_twice_at_once_is_fine():
    session = await pyrepl3.open_session().__aenter__()
    await asyncio.gather(session.aclose(), session.aclose())


async def test_many_sessions_share_a_loop_and_stay_apart():
    async with asyncio.TaskGroup() as group:
        results = [group.create_task(use_one(n)) for n in range(12)]
    assert [result.result() for result in results] == [n * 3 for n in range(12)]


async def use_one(n):
    async with pyrepl3.open_session() as session:
        await session.run(f"import asyncio, time; x = {n}")
        await session.run("await asyncio.sleep(0.001); x += n if (n := x) else 0")
        await session.run(f"time.sleep(0.001); x += {n}")
        return (await session.run("x")).value


def in_use():
    """What sessions could leave behind: threads, files, modules, cached lines."""
    gc.collect()
    return (
        threading.active_count(),
        sum(1 for _ in Path("/proc/self/fd").iterdir()),
        len(sys.modules),
        sum(name.startswith("<") for name in linecache.cache),
    )


@pytest.mark.slow
async def test_opening_and_closing_leaves_nothing_behind():
    async def one(n):
        async with pyrepl3.open_session() as session:
            await session.run("import asyncio, time\nclass C: pass\nc = C()\ndef f(): return c")
            await session.run(
                "await asyncio.sleep(0); task = asyncio.create_task(asyncio.sleep(60))"
            )
            await session.run("time.sleep(0)")
            if n % 10 == 0:
                running = asyncio.ensure_future(session.run("await asyncio.sleep(60)"))
                await asyncio.sleep(0)
                session.interrupt()
                await running

    for n in range(20):
        await one(n)
    stretches = []
    for _ in range(4):  # what others do meanwhile shows in one, a leak in each
        before = in_use()
        for n in range(50):
            await one(n)
        stretches.append([now - then for now, then in zip(in_use(), before, strict=True)])
    grown = [min(each) for each in zip(*stretches, strict=True)]
    # What the last session had to spare: it may be on its way out.
    assert all(much <= spare for much, spare in zip(grown, [2, 3, 0, 4], strict=True)), stretches


@pytest.mark.parametrize("source", ["C()", "await asyncio.sleep(0)\nC()", "time.sleep(0); C()"])
async def test_nothing_holds_the_value_of_a_cell_until_the_collector_comes(source):
    async with pyrepl3.open_session() as session:
        await session.run("import asyncio, time\nclass C: pass")
        gc.collect()
        gc.disable()
        try:
            outcome = await session.run(source)
            value = weakref.ref(outcome.value)
            del outcome
            await asyncio.sleep(0)  # the handle that our loop is in holds it
            await session.run("_ = None")
            assert value() is None
        finally:
            gc.enable()
