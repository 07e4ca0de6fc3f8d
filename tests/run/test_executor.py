"""AsyncExecutor: modes and placements at work, contexts, nesting, the caller's cancellation."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import sys
import threading
import time
import weakref

import msgspec
import pytest

from pyrepl3 import (
    AsyncContextError,
    AsyncExecutor,
    Blocked,
    CancellationError,
    ExecutorConfig,
    Line,
    NamespaceManager,
    Notice,
    Started,
)
from pyrepl3.config import unlimited


@pytest.fixture
async def executor():
    made = AsyncExecutor()
    yield made
    await made.aclose()


async def test_blocking_cells_leave_the_loop_free(executor):
    """No ticks are counted by the clock: the cell waits for the loop to tick."""
    ticked = threading.Event()
    executor.namespace.update_namespace({"ticked": ticked})
    asyncio.get_running_loop().call_later(0.01, ticked.set)
    assert await executor.execute("import time; time.sleep(0); ticked.wait(20)") is True


async def test_a_closed_executor_that_raised_is_collected():
    async def use():
        executor = AsyncExecutor()
        with contextlib.suppress(ZeroDivisionError):
            await executor.execute("1 / 0")
        await executor.aclose()
        return weakref.ref(executor), weakref.ref(executor.namespace)

    left = await use()
    gc.collect()
    assert [each() for each in left] == [None, None]


async def test_a_connection_made_in_one_blocking_cell_works_in_later_ones(executor):
    await executor.execute("import sqlite3\nbase = sqlite3.connect(':memory:')")
    await executor.execute("base.execute('create table t (x)')")  # its text shows no import
    await executor.execute("base.execute('insert into t values (7)')")
    assert await executor.execute("base.execute('select x from t').fetchone()[0]") == 7
    await executor.execute("base.close()")


async def test_context_variables_flow_from_cell_to_cell_in_every_mode(executor):
    await executor.execute("import contextvars, time, asyncio\nv = contextvars.ContextVar('v')")
    await executor.execute("token = v.set('plain')")
    assert await executor.execute("await asyncio.sleep(0)\nv.get()") == "plain"
    await executor.execute("await asyncio.sleep(0)\nv.set('awaited')")
    assert await executor.execute("time.sleep(0); v.get()") == "awaited"
    await executor.execute("time.sleep(0); v.set('thread')")
    assert await executor.execute("v.get()") == "thread"
    variable = executor.namespace.namespace["v"]
    assert isinstance(variable, contextvars.ContextVar)
    assert variable.get(None) is None  # nothing leaks to the caller


async def test_a_plain_cell_that_blocked_goes_to_the_thread_next_time():
    seen = []
    executor = AsyncExecutor(observe=seen.append)
    source = "clock.sleep(0.15)"  # nothing in the text or in the type tells

    class Clock:
        sleep = staticmethod(time.sleep)

    executor.namespace.update_namespace({"clock": Clock()})
    report = executor.explain_mode(source)
    if report.placement == "loop":
        await executor.execute(source)
        blocked = [event for event in seen if isinstance(event, Blocked)]
        assert [event.seconds >= 0.1 for event in blocked] == [True]
    source = "sum(i for i in range(3_000_000))"
    await executor.execute(source)
    while not any(isinstance(e, Blocked) and e.cell_id == seen[-1].outcome.cell.id for e in seen):
        source = source.replace("000_000", "0000_000", 1)  # a fast machine
        await executor.execute(source)
    await executor.execute(source)
    started = [event for event in seen if isinstance(event, Started)]
    assert [event.placement for event in started[-2:]] == ["loop", "thread"]
    assert "blocked_before" in {reason.kind for reason in executor.explain_mode(source).reasons}
    await executor.aclose()


async def test_a_cell_that_needs_the_loop_stays_on_it_even_if_it_blocks(executor):
    task = await executor.execute(
        "import asyncio, time\ntime.sleep(0)\ntask = asyncio.create_task(asyncio.sleep(0, 3))"
    )
    assert await task == 3


async def test_a_cell_may_run_a_cell(executor):
    executor.namespace.update_namespace({"me": executor})
    assert await executor.execute("await me.execute('1 + 1') + 1") == 3


async def test_executors_on_one_namespace_take_turns():
    manager = NamespaceManager()
    first, second = AsyncExecutor(None, manager, "a"), AsyncExecutor(None, manager, "b")
    await first.execute("import asyncio\nlog = []")
    source = "log.append(('in', {0}))\nawait asyncio.sleep(0)\nlog.append(('out', {0}))"
    await asyncio.gather(*((first, second)[n % 2].execute(source.format(n)) for n in range(6)))
    expected = [(way, n) for n in range(6) for way in ("in", "out")]
    assert manager.namespace["log"] == expected
    await first.aclose()


SWALLOWS = {
    "await": "import asyncio\nawait asyncio.sleep(60)",
    "swallowed once": (
        "import asyncio\ntry:\n    await asyncio.sleep(60)\nexcept BaseException:\n    pass\n'done'"
    ),
    "swallowed for ever": (
        "import asyncio\nwhile True:\n    try:\n        await asyncio.sleep(60)\n"
        "    except BaseException:\n        pass"
    ),
    "blocking": "import time\ntime.sleep(60)",
}


@pytest.mark.slow
@pytest.mark.parametrize("source", SWALLOWS.values(), ids=SWALLOWS)
async def test_the_callers_cancellation_comes_out_as_the_callers(executor, source):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await executor.execute(source)
    task = asyncio.ensure_future(executor.execute(source))
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not executor.namespace.turn.held
    assert await executor.execute("1 + 1") == 2


async def test_a_caller_that_gives_up_waiting_for_its_turn_disturbs_nobody(executor):
    await executor.execute("import asyncio\nevent = asyncio.Event()")
    running = asyncio.ensure_future(executor.execute("await event.wait()\n'first'"))
    await asyncio.sleep(0)
    waiting = asyncio.ensure_future(executor.execute("'never'"))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    executor.namespace.namespace["event"].set()
    assert await running == "first"


async def test_asyncio_run_works_in_a_plain_cell_and_says_what_to_write_in_one_that_awaits(
    executor,
):
    await executor.execute("import asyncio\nasync def f(): return 5")
    assert await executor.execute("asyncio.run(f())") == 5
    with pytest.raises(AsyncContextError, match="await") as caught:
        await executor.execute("await asyncio.sleep(0)\ncoro = f()\nasyncio.run(coro)")
    assert isinstance(caught.value.__cause__, RuntimeError)
    await executor.execute("coro.close()")


async def test_signals_off_the_main_thread_get_an_error_that_names_the_cure(executor):
    with pytest.raises(AsyncContextError, match="main thread"):
        await executor.execute(
            "import signal, time\ntime.sleep(0)\nsignal.signal(signal.SIGUSR1, signal.SIG_DFL)"
        )


async def test_a_coroutine_of_one_cell_is_awaited_in_a_later_one(executor):
    await executor.execute("import asyncio\ncoro = asyncio.sleep(0, 'late')")
    assert await executor.execute("await coro") == "late"


async def test_background_tasks_live_on_are_listed_and_end_with_the_executor():
    executor = AsyncExecutor()
    await executor.execute(
        "import asyncio\ntask = asyncio.create_task(asyncio.sleep(60), name='mine')"
    )
    from pyrepl3.records import Tasks

    (info,) = await executor.ask(Tasks())
    assert info.name == "mine"
    assert info.cell_id.endswith("-c1")
    task = executor.namespace.namespace["task"]
    await executor.aclose()
    assert task.cancelled()
    with pytest.raises(RuntimeError, match="closed"):
        await executor.execute("1")


async def test_future_imports_hold_for_later_cells(executor):
    await executor.execute("from __future__ import annotations")
    await executor.execute("def f(x: not_there): pass")
    assert await executor.execute("f.__annotations__") == {"x": "not_there"}


async def test_code_that_is_nobodys_interrupt_raises_what_it_raises(executor):
    for source, kind in (
        ("raise SystemExit(3)", SystemExit),
        ("raise KeyboardInterrupt", KeyboardInterrupt),
        ("import asyncio\nawait asyncio.sleep(0)\nraise SystemExit(3)", SystemExit),
        ("import asyncio\nraise asyncio.CancelledError", asyncio.CancelledError),
    ):
        with pytest.raises(kind):
            await executor.execute(source)
    assert await executor.execute("1") == 1


async def test_stages_stand_around_each_cell_in_order():
    log = []

    def stage(name):
        @contextlib.contextmanager
        def around(cell, code):
            log.append((name, "in", cell.n, code.co_name))
            try:
                yield
            finally:
                log.append((name, "out", cell.n, code.co_name))

        return around

    executor = AsyncExecutor(stages=[stage("a"), stage("b")])
    with pytest.raises(ZeroDivisionError):
        await executor.execute("1 / 0")
    assert log == [
        (name, way, 1, "<module>")
        for name, way in (("a", "in"), ("b", "in"), ("b", "out"), ("a", "out"))
    ]
    await executor.aclose()


async def test_tracing_reports_the_lines_that_run():
    seen = []
    config = ExecutorConfig(
        trace_execution=True, max_execution_time=None, max_memory_usage=None, denied_modules=None
    )
    executor = AsyncExecutor(config=config, observe=seen.append)
    await executor.execute("x = 1\nif x > 1:\n    x = 2\ndef f():\n    return 5\nf()")
    assert [event.line for event in seen if isinstance(event, Line)] == [1, 2, 4, 6, 5]
    await executor.aclose()


async def test_tracing_reports_tasks_and_threads_and_ends_at_its_limit():
    seen = []
    config = msgspec.structs.replace(unlimited(), trace_execution=True, max_trace_events=50)
    executor = AsyncExecutor(config=config, observe=seen.append)

    def lines():
        found = [event.line for event in seen if isinstance(event, Line)]
        seen.clear()
        return found

    await executor.execute(
        "import asyncio, threading\nasync def f():\n    await asyncio.sleep(0)\n    return 1\n"
        "def g():\n    return 2\nawait asyncio.create_task(f())\n"
        "t = threading.Thread(target=g)\nt.start()\nt.join()"
    )
    found = lines()
    assert found[:8] == [1, 2, 5, 7, 3, 4, 8, 9]
    assert sorted(found[8:]) == [6, 10]
    await executor.execute("for i in range(1000):\n    pass")
    told = [event.text for event in seen if isinstance(event, Notice)]
    assert len(told) == 1
    assert "max_trace_events" in told[0]
    assert len(lines()) == 50
    await executor.execute("for i in range(1000):\n    pass")  # the same code, perhaps
    assert len(lines()) == 50
    assert await executor.execute("i + 1") == 1000
    assert lines() == [1]
    await executor.aclose()
    with pytest.raises(ValueError, match="max_trace_events"):
        ExecutorConfig(max_trace_events=0)


async def test_without_statistics_nothing_is_counted_and_without_a_cache_all_is_compiled():
    config = unlimited()
    executor = AsyncExecutor(config=config)
    await executor.execute("1")
    await executor.execute("1")
    assert executor.cache is not None
    assert executor.cache.hits == 1
    import msgspec

    bare = AsyncExecutor(
        config=msgspec.structs.replace(config, collect_stats=False, enable_compilation_cache=False)
    )
    await bare.execute("1")
    assert bare.cache is None
    assert bare.stats["executions"] == 0
    await executor.aclose()
    await bare.aclose()


# --- in the caller's task -----------------------------------------------------------------------------


async def test_an_awaiting_cell_runs_in_its_callers_task_and_in_the_sessions_context():
    executor = AsyncExecutor()
    await executor.execute("import asyncio, contextvars\nvariable = contextvars.ContextVar('v')")
    await executor.execute("await asyncio.sleep(0); variable.set(5)")
    assert await executor.execute("asyncio.current_task()") is asyncio.current_task()
    task = await executor.execute("await asyncio.sleep(0); asyncio.current_task()")
    assert task is asyncio.current_task()
    assert await executor.execute("variable.get()") == 5
    assert contextvars.copy_context().get(await executor.execute("variable")) is None


async def test_overlapping_cells_leave_the_origin_tracking_of_the_thread_as_it_was():
    before = sys.get_coroutine_origin_tracking_depth()
    first, second = AsyncExecutor(), AsyncExecutor()
    inner = (
        "import asyncio, sys\nawait asyncio.sleep({})\nsys.get_coroutine_origin_tracking_depth()"
    )
    depths = await asyncio.gather(
        first.execute(inner.format(0.01)), second.execute(inner.format(0.02))
    )
    assert depths == [1, 1]
    assert sys.get_coroutine_origin_tracking_depth() == before


async def test_an_interrupt_leaves_no_cancellation_with_the_caller():
    executor = AsyncExecutor()
    loop = asyncio.get_running_loop()
    for source in ("await asyncio.sleep(60)", "while True: await asyncio.sleep(0)"):
        loop.call_later(0.05, executor.interrupt)
        with pytest.raises(CancellationError):
            await executor.execute(f"import asyncio\n{source}")
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(0)
    assert await executor.execute("await asyncio.sleep(0, 3)") == 3


@pytest.mark.parametrize(
    "handler", ["pass", "raise ValueError('from clean-up')", "await asyncio.sleep(0)"]
)
async def test_a_cancelled_caller_gets_its_cancellation_whatever_the_cell_makes_of_it(handler):
    executor = AsyncExecutor()
    up = asyncio.Event()
    executor.namespace.update_namespace({"up": up})
    source = (
        "import asyncio\ntry:\n    up.set(); await asyncio.sleep(60)\n"
        f"except BaseException:\n    {handler}\nreached = True"
    )
    caller = asyncio.ensure_future(executor.execute(source))
    await up.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert await executor.execute("globals().get('reached', False)") is ("raise" not in handler)


@pytest.mark.slow
async def test_a_cell_that_swallows_every_cancellation_does_not_hold_its_caller():
    executor = AsyncExecutor()
    source = (
        "import asyncio\nwhile True:\n    try:\n        await asyncio.sleep(60)\n"
        "    except BaseException: pass"
    )
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await executor.execute(source)
    assert await executor.execute("1 + 1") == 2


@pytest.mark.parametrize(
    "inner",
    ["while True: pass", "await asyncio.sleep(60)", "await asyncio.sleep(0)\nwhile True: pass"],
)
async def test_a_cell_that_awaits_another_in_its_own_task_stops_with_it(inner):
    executor, up = AsyncExecutor(), threading.Event()
    executor.namespace.update_namespace({"executor": executor, "asyncio": asyncio, "up": up})
    inner = f"up.set()\n{inner}"
    outer = asyncio.ensure_future(executor.execute(f"await executor.execute({inner!r})"))
    thread = threading.Thread(target=lambda: up.wait(60) and executor.interrupt())
    thread.start()  # this one's loop may be held
    with pytest.raises(CancellationError):
        await outer
    thread.join()
    assert await executor.execute("1 + 1") == 2
