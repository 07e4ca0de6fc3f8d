"""Stopping cells: what is asked is hit, once, and nothing else is; also where the means are few."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import threading
import time

import pytest

import pyrepl3
from pyrepl3.errors import CancellationError
from pyrepl3.records import Cell, Done, Failed, Interrupted, Notice, Output, Started
from pyrepl3.run.aim import MONITOR
from pyrepl3.run.cancel import ExecutionCancellation, _excuse, free_loop
from pyrepl3.run.execution import Execution, Group, Stop
from pyrepl3.run.executor import AsyncExecutor
from pyrepl3.run.stuck import look

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(autouse=True)
async def _bound():
    async with asyncio.timeout(100):
        yield


class Watch:
    """An observer: ``up`` is set when a cell prints so."""

    def __init__(self):
        self.up = threading.Event()
        self.events = []

    def __call__(self, event):
        self.events.append(event)
        if isinstance(event, Output) and "up" in event.text:
            self.up.set()

    async def wait(self, line=None):
        """Until a cell has printed so, and is at ``line``: None: it may still say so."""
        assert await asyncio.to_thread(self.up.wait, 60)
        cell = next(event.cell for event in self.events if isinstance(event, Started))
        while line is not None and line not in lines_of(cell.filename):
            await asyncio.sleep(0.001)


def lines_of(filename):
    """Where threads are in the code of one cell."""
    for top in sys._current_frames().values():
        frame = top
        while frame is not None and frame.f_code.co_filename != filename:
            frame = frame.f_back
        if frame is not None:
            yield frame.f_lineno


async def interrupted(session, source, *, times=1, line=None):
    """The outcome of a cell that is interrupted once it has printed ``up`` and is at ``line``."""
    watch = Watch()
    running = asyncio.ensure_future(session.run(source, observe=watch))
    await watch.wait(line)
    for _ in range(times):
        assert session.interrupt()
    return await running


def is_off():
    return not MONITOR.armed and not sys.monitoring.get_events(MONITOR.tool)


# --- what is not asked is not hit -------------------------------------------------------------------

QUICK = [
    "x = 1",
    "for i in range(300): pass",
    "await asyncio.sleep(0)",
    "sum(range(100))",
    "async def f(): return 1\nawait asyncio.create_task(f())",
]
SLOWER = [
    *QUICK,
    "time.sleep(0.002)",
    "with lock:\n    for i in range(3000): pass",
    "async with alock: await asyncio.sleep(0.0005)",
    "try:\n    for i in range(9000): pass\nfinally: left += 1",
    "await asyncio.to_thread(sum, range(1000))",
    "import inspect, json; inspect.getsource(json.loads)",
    "async def f():\n    for i in range(5000): pass\nawait asyncio.create_task(f())",
    "print('a'); print('b')",
    "raise ValueError(1)",
]
SETUP = """
import asyncio, time, threading
lock, alock, left, ticks = threading.Lock(), asyncio.Lock(), 0, 0
async def ticker():
    global ticks
    while True:
        ticks += 1
        await asyncio.sleep(0.001)
task = asyncio.create_task(ticker())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "source",
    ["print('up')\nwhile True: pass", "print('up'); await asyncio.sleep(60)"],
    ids=["loop", "await"],
)
async def test_no_interrupt_hits_the_cells_after_the_one_that_was_asked(source):
    async with pyrepl3.open_session() as session:
        (await session.run(SETUP)).unwrap()
        for n in range(500):
            if n % 20 == 0:
                assert isinstance(await interrupted(session, source), Interrupted)
                assert is_off()
            assert (await session.run(QUICK[n % len(QUICK)])).ok


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_interrupts_at_random_moments_stop_what_they_name_or_come_too_late(seed):
    """Each cell is asked at most once, at a moment that varies from before its start to its end."""
    rnd = random.Random(seed)
    current: list[str] = []
    asked: set[str] = set()
    closing = threading.Event()

    def observe(event):
        if isinstance(event, Started):
            current[:] = [event.cell.id]

    async with pyrepl3.open_session(observe=observe) as session:
        (await session.run(SETUP)).unwrap()

        def storm():
            while not closing.wait(rnd.random() * 0.004):
                for cell in current:
                    if cell not in asked:
                        asked.add(cell)
                        session.interrupt(cell)

        thread = threading.Thread(target=storm)
        thread.start()
        try:
            kinds = []
            for _ in range(300):
                outcome = await session.run(rnd.choice(SLOWER))
                kinds.append(type(outcome))
                if isinstance(outcome, Interrupted):
                    assert outcome.cell.id in asked
                    assert not outcome.forced
                elif isinstance(outcome, Failed):
                    assert repr(outcome.error) == "ValueError(1)", outcome.traceback
        finally:
            closing.set()
            thread.join()
        assert {Done, Interrupted} <= set(kinds)
        held = await session.run("lock.locked(), alock.locked(), task.done()")
        assert held.value == (False, False, False)
        async with asyncio.timeout(60):
            while not is_off():  # an interrupt that came too late waits for the loop to answer
                await asyncio.sleep(0)


@pytest.mark.slow
async def test_of_two_sessions_only_the_one_that_was_asked_stops():
    async with pyrepl3.open_session() as one, pyrepl3.open_session() as two:
        watch = Watch()
        loop = "n = 0\nprint('up')\nwhile not stop: time.sleep(0.001)\n1"
        await two.run("stop = False; import time")
        other = asyncio.ensure_future(two.run(loop, observe=watch))
        await watch.wait()
        for _ in range(5):
            assert isinstance(await interrupted(one, "print('up')\nwhile True: pass"), Interrupted)
            assert not one.interrupt()
        assert (await two.run("stop = True", background=True)).ok
        assert (await other).ok


async def test_a_background_cell_is_stopped_by_its_id_and_the_foreground_is_not():
    async with pyrepl3.open_session() as session:
        watch, front = Watch(), Watch()
        await session.run("import asyncio, threading; go = threading.Event()")
        beside = asyncio.ensure_future(
            session.run("print('up')\nwhile True: pass", background=True, observe=watch)
        )
        await watch.wait()
        before = asyncio.ensure_future(session.run("print('up'); go.wait(); 1", observe=front))
        await front.wait()
        cell = next(event.cell for event in watch.events if isinstance(event, Started))
        assert session.interrupt(cell.id)
        assert isinstance(await beside, Interrupted)
        assert not before.done()
        (await session.fetch("go")).set()
        assert (await before).value == 1


async def test_interrupting_what_does_not_run_is_false():
    async with pyrepl3.open_session() as session:
        assert session.interrupt() is False
        assert session.interrupt("nobody") is False
        assert (await session.run("1")).value == 1


async def test_an_interrupt_right_after_the_order_is_not_lost():
    async with pyrepl3.open_session() as session:
        await session.run("import time, asyncio")
        for source in ["time.sleep(60)", "await asyncio.sleep(60)", "while True: pass"] * 5:
            running = asyncio.ensure_future(session.run(source))
            await asyncio.sleep(0)  # the order is given, and no more
            assert session.interrupt()
            assert isinstance(await running, Interrupted)
        # A cell that had not begun is over before its loop, which was to be freed, has answered.
        assert (await session.run("1")).value == 1
        assert is_off()


# --- what it does ------------------------------------------------------------------------------------


async def test_a_second_request_is_more_urgent_and_the_outcome_says_so():
    async with pyrepl3.open_session() as session:
        source = "try:\n    print('up')\n    while True: pass\nfinally:\n    while True: pass"
        outcome = await interrupted(session, source, times=2)
        assert outcome.forced


async def test_a_limit_that_comes_second_does_not_cut_the_clean_up():
    for wall in (0.4, 10):  # the limit comes first where others hold the cell up that long
        async with pyrepl3.open_session(limits=pyrepl3.Limits(wall=wall)) as session:
            source = (
                "import asyncio\ntry: print('up'); await asyncio.sleep(60)\n"
                f"finally:\n    await asyncio.sleep({wall + 0.2}); clean = 1"
            )
            watch = Watch()
            running = asyncio.ensure_future(session.run(source, observe=watch))
            await watch.wait()
            session.interrupt()
            outcome = await running
            if wall < 1 and isinstance(outcome, Failed):
                continue
            assert isinstance(outcome, Interrupted)
            assert not outcome.forced
            assert await session.fetch("clean") == 1
            break


async def test_what_the_clean_up_raises_is_the_outcome():
    async with pyrepl3.open_session() as session:
        source = (
            "try:\n    print('up')\n    while True: pass\nfinally: raise ValueError('in clean-up')"
        )
        outcome = await interrupted(session, source)
        assert isinstance(outcome, Failed)
        assert isinstance(outcome.error, ValueError)


async def test_the_traceback_of_an_interrupted_cell_shows_where_it_was():
    async with pyrepl3.open_session() as session:
        outcome = await interrupted(
            session, "def f():\n    print('up'); [0 for _ in iter(int, 1)]\nf()"
        )
        assert "line 2, in f" in outcome.traceback
        assert "pyrepl3/run" not in outcome.traceback


async def test_a_task_of_an_earlier_cell_that_holds_the_loop_is_what_stops():
    """And tasks that hold nothing go on."""
    async with pyrepl3.open_session() as session:
        (await session.run(SETUP)).unwrap()
        hog = (
            "go = asyncio.Event()\nasync def hog():\n    await go.wait()\n    print('up')\n"
            "    while True: pass\nheld = asyncio.create_task(hog())"
        )
        watch = Watch()
        (await session.run(hog, observe=watch)).unwrap()
        running = asyncio.ensure_future(session.run("go.set(); await asyncio.sleep(60)"))
        await watch.wait()
        assert session.interrupt()
        outcome = await running
        assert isinstance(outcome, Interrupted)
        assert (await session.run("held.done(), task.done()")).value == (True, False)


@pytest.mark.parametrize("swallows", [False, True])
async def test_a_loop_that_is_held_while_no_cell_runs_is_freed_for_the_next(swallows):
    """A cell is ordered but cannot begin: an interrupt then stops what is in its way."""
    async with pyrepl3.open_session() as session:
        (await session.run(SETUP)).unwrap()
        body = "    while True: pass\n"
        if swallows:
            body = "    while True:\n        try:\n            while True: pass\n        except BaseException: pass\n"
        hog = (
            f"async def hog():\n    await asyncio.sleep(0)\n    print('up')\n{body}"
            "held = asyncio.create_task(hog())"
        )
        watch = Watch()
        (await session.run(hog, observe=watch)).unwrap()
        await watch.wait()
        running = asyncio.ensure_future(session.run("1"))
        await asyncio.sleep(0)
        assert session.interrupt()
        assert isinstance(await running, Interrupted)
        assert (await session.run("held.done(), task.done()")).value == (True, False)
        assert is_off()


async def test_a_loop_that_is_stuck_in_a_call_while_no_cell_runs_is_left_behind():
    async with pyrepl3.open_session() as session:
        (await session.run(SETUP)).unwrap()
        hog = (
            "async def hog():\n    await asyncio.sleep(0)\n    print('up')\n    time.sleep(60)\n"
            "held = asyncio.create_task(hog())"
        )
        watch = Watch()
        (await session.run(hog, observe=watch)).unwrap()
        await watch.wait(4)
        running = asyncio.ensure_future(session.run("1"))
        await asyncio.sleep(0)
        assert session.interrupt()
        assert isinstance(await running, Interrupted)
        assert (await session.run("ticks > 0")).value is True
        assert [e.kind for e in watch.events if isinstance(e, Notice)] == ["abandoned"]


@pytest.mark.parametrize("who", ["finaliser", "collector"])
async def test_an_interrupt_waits_for_code_whose_exceptions_nobody_would_get(who):
    async with pyrepl3.open_session() as session:
        go = (await session.run("import threading; go = threading.Event(); go")).value
        await session.run("here = threading.current_thread()")
        # Any thread collects: the one of this test must not wait for itself.
        late = "    if threading.current_thread() is here: print('up')\n"
        late += "    while threading.current_thread() is here and not go.is_set(): pass\n"
        source = {
            "finaliser": f"class D:\n  def __del__(self):\n{late}D()\nwhile True: pass",
            "collector": f"import gc\ndef late(phase, info):\n{late}gc.callbacks.append(late)\n"
            "try:\n    gc.collect()\n    while True: pass\nfinally: gc.callbacks.remove(late)",
        }[who]
        watch = Watch()
        running = asyncio.ensure_future(session.run(source, observe=watch))
        await watch.wait()
        assert session.interrupt()
        for _ in range(3):
            await asyncio.sleep(0.01)  # it may come in there
        go.set()
        outcome = await running
        assert isinstance(outcome, Interrupted)
        assert not outcome.forced
        assert "ignored" not in "".join(e.text for e in watch.events if isinstance(e, Output))


async def test_a_thread_left_behind_ends_at_its_next_line_and_lets_go_of_its_locks():
    async with pyrepl3.open_session() as session:
        await session.run(
            "import threading, time\nlock, go, out = threading.Lock(), threading.Event(), []"
        )
        source = (
            "with lock:\n    thread = threading.current_thread(); print('up')\n"
            "    go.wait()\n    out.append('next line')"
        )
        outcome = await interrupted(session, source, line=3)
        assert outcome.abandoned
        # Same names, another thread, while the old one waits: nothing of it is hit.
        assert (await session.run("def f(): return go.is_set()\nf()")).value is False
        (await session.fetch("go")).set()
        thread = await session.fetch("thread")
        await asyncio.to_thread(thread.join, 60)
        assert not thread.is_alive()
        assert (await session.run("out, lock.locked()")).value == ([], False)


async def test_a_thread_left_behind_that_swallows_its_end_ends_all_the_same():
    async with pyrepl3.open_session() as session:
        await session.run("import threading\ngo, out = threading.Event(), []")
        source = (
            "thread = threading.current_thread()\nprint('up')\nwhile True:\n"
            "    try: go.wait()\n    except BaseException: pass\n    out.append(1)"
        )
        assert (await interrupted(session, source, line=4)).abandoned
        (await session.fetch("go")).set()
        thread = await session.fetch("thread")
        await asyncio.to_thread(thread.join, 60)
        assert not thread.is_alive()
        assert await session.fetch("out") == []


async def test_what_belongs_to_the_thread_left_behind_is_named():
    async with pyrepl3.open_session() as session:
        setup = (
            "import sqlite3, threading, time\nown = threading.local()\n"
            "db = sqlite3.connect(':memory:', check_same_thread=False)"
        )
        await session.run(setup)
        outcome = await interrupted(session, "print('up')\ntime.sleep(60)", line=2)
        assert outcome.abandoned
        assert {"db", "own"} <= set(outcome.lost)
        assert "threading" not in outcome.lost
        (await session.fetch("db")).close()


# --- with other means, beside others ------------------------------------------------------------------


OLDER_MEANS = """
import asyncio, json, sys, threading
for tool in range(6):
    sys.monitoring.use_tool_id(tool, "someone else")
import pyrepl3
from pyrepl3.records import Output
from pyrepl3.run.aim import MONITOR
setup, rows = json.load(sys.stdin)

async def main():
    for source in rows:
        up = threading.Event()
        def observe(event):
            if isinstance(event, Output) and "up" in event.text:
                up.set()
        async with asyncio.timeout(60), pyrepl3.open_session() as session:
            (await session.run(setup)).unwrap()
            running = asyncio.ensure_future(session.run(source, observe=observe))
            await asyncio.to_thread(up.wait)
            assert session.interrupt()
            outcome = await running
            fine = [(await session.run("x = 1")).ok for _ in range(20)]
            fine.append((await session.run("task.done()")).value is False)
            print(json.dumps([type(outcome).__name__, all(fine), MONITOR.tool]), flush=True)

asyncio.run(main())
"""

ROWS = {
    "loop": "print('up')\nwhile True: pass",
    "await": "print('up'); await asyncio.sleep(60)",
    "coroutine": "async def f():\n    print('up')\n    while True: pass\nawait f()",
    "sub-task": "async def f():\n    print('up')\n    while True: pass\n"
    "await asyncio.create_task(f())",
    "swallows": "print('up')\nfor _ in range(20_000):\n    try: time.sleep(0.002)\n"
    "    except BaseException: pass",
    "call": "print('up'); time.sleep(60)",
}


@pytest.mark.slow
def test_without_a_tool_at_sys_monitoring_cells_stop_by_older_means():
    """Profilers and debuggers may hold all six; the older means are swallowed by ``except``."""
    done = subprocess.run(
        [sys.executable, "-c", OLDER_MEANS],
        input=json.dumps([SETUP, list(ROWS.values())]),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    found = dict(zip(ROWS, map(json.loads, done.stdout.splitlines()), strict=False))
    assert found == {name: ["Interrupted", True, None] for name in ROWS}, done.stderr
    assert done.stderr == ""


async def test_a_tracer_of_somebody_else_goes_on_undisturbed():
    """As a debugger, or coverage before Python 3.12."""
    seen = []

    def tracer(frame, event, _argument):
        seen.append(event)
        return tracer

    async with pyrepl3.open_session() as session:
        await session.run("import sys\ndef put(f):\n    global tracer\n    tracer = f")
        (await session.fetch("put"))(tracer)
        (await session.run("sys.settrace(tracer)")).unwrap()
        outcome = await interrupted(session, "print('up')\nwhile True: pass")
        assert isinstance(outcome, Interrupted)
        assert (await session.run("def g(): return 1\ng()")).value == 1
        assert (await session.run("sys.settrace(None)")).ok
    assert "line" in seen


async def test_another_tool_at_sys_monitoring_goes_on_undisturbed():
    lines = []
    tool = sys.monitoring.COVERAGE_ID
    sys.monitoring.use_tool_id(tool, "coverage")
    sys.monitoring.register_callback(
        tool, sys.monitoring.events.LINE, lambda code, line: lines.append(line)
    )
    sys.monitoring.set_events(tool, sys.monitoring.events.LINE)
    try:
        async with pyrepl3.open_session() as session:
            assert isinstance(
                await interrupted(session, "print('up')\nwhile True:\n    x = 1"), Interrupted
            )
            lines.clear()
            assert (await session.run("y = 1")).ok
            assert lines
    finally:
        sys.monitoring.set_events(tool, 0)
        sys.monitoring.free_tool_id(tool)


# --- for whoever holds an executor --------------------------------------------------------------------


async def test_execution_cancellation_stops_what_runs_and_calls_back():
    executor = AsyncExecutor()
    cancellation = ExecutionCancellation(executor)
    called = []
    with cancellation.cancellable_execution() as same:
        assert same is cancellation
        cancellation.add_cancel_callback(lambda: called.append(1))
        cancellation.check_cancelled()
        running = asyncio.ensure_future(executor.execute("import asyncio; await asyncio.sleep(60)"))
        await asyncio.sleep(0)
        cancellation.cancel_execution()
        with pytest.raises(CancellationError):
            await running
        assert called == [1]
        with pytest.raises(asyncio.CancelledError):
            cancellation.check_cancelled()
    cancellation.check_cancelled()
    assert await executor.execute("1") == 1
    await executor.aclose()


async def test_a_callback_that_raises_does_not_keep_the_others_from_being_called(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: told.append(error[1]))
    cancellation = ExecutionCancellation(AsyncExecutor())
    called = []
    cancellation.add_cancel_callback(lambda: 1 / 0)
    cancellation.add_cancel_callback(lambda: called.append(1))
    cancellation.cancel_execution()
    assert called == [1]
    assert isinstance(told[0], ZeroDivisionError)


def test_a_cell_that_ends_while_it_is_looked_at_leaves_nothing_to_the_next_one():
    execution = Execution(Cell(id="c1", n=1, source="", filename="<c1>"), Group())
    execution.thread = threading.get_ident()
    stop = execution.stop = Stop()
    execution.finished = True  # and so it is not armed any more
    done: list[bool] = []

    def looking() -> None:
        time.sleep(0.05)  # until this thread is in the loop below
        look(execution, stop, time.monotonic())
        done.append(True)

    threading.Thread(target=looking).start()
    while not done:
        pass  # what is thrown hits here
    assert sum(1 for _ in range(1000)) == 1000
    assert not stop.thrown


def test_time_in_which_the_process_had_no_processor_brings_the_next_stage_no_nearer():
    now, used = time.monotonic(), time.process_time()
    stop = Stop()
    stop.due, stop.ticked = now + 1, (now - 5, used)  # the machine stood still
    _excuse(stop, now)
    assert stop.due - now > 5
    stop.due, stop.ticked = (
        now + 1,
        (now - 5, used - 5),
    )  # it was in one call of C for all that time
    _excuse(stop, now)
    assert stop.due == now + 1


@pytest.mark.parametrize("asked", [False, True])
async def test_a_loop_that_is_closed_before_it_answers_is_free(asked):
    loop = asyncio.new_event_loop()
    if not asked:
        loop.close()
    guard = free_loop(loop, Group(), abandon=None, on_main=False)
    loop.close()
    while not guard.finished:
        await asyncio.sleep(0.001)
    assert guard not in MONITOR.armed


async def test_an_interrupt_that_hits_while_it_is_asked_for_says_so(monkeypatch):
    arm = MONITOR.arm

    def arm_and_wait(execution):
        arm(execution)
        while not execution.finished:
            time.sleep(0)

    watch = Watch()
    async with pyrepl3.open_session() as session:
        running = asyncio.ensure_future(
            session.run("print('up', flush=True)\nwhile True: pass", observe=watch)
        )
        await watch.wait()
        monkeypatch.setattr(MONITOR, "arm", arm_and_wait)
        assert session._runner.executor.interrupt()
        assert isinstance(await running, Interrupted)
